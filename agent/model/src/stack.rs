//! A named stack, shared: the same few stacks come with thousands of spans and samples.

use crate::line::Frame;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};

/// Frames, innermost first. Reads, compares and serialises as a list of them; a copy costs a counter.
///
/// What every copy would find out again is found out once for all of them: [`Self::cut`], and the text in JSON. It
/// is to be serialised as JSON alone, as all that leaves the daemon with stacks in it is.
#[derive(Clone, Debug)]
pub struct Stack {
    shared: Arc<Shared>,
    /// Frames that are left out at the inner end.
    first: usize,
}

#[derive(Debug, Default)]
struct Shared {
    frames: Box<[Frame]>,
    cut: OnceLock<usize>,
    /// It has been written. What is written once only, as most stacks of samples, keeps no text.
    is_written: AtomicBool,
    /// In JSON, from the frame on with which it was written again.
    text: OnceLock<(usize, Box<RawValue>)>,
}

impl Stack {
    /// The same stack without its innermost `count` frames.
    #[must_use]
    pub fn without_innermost(self, count: usize) -> Self {
        Self { first: (self.first + count).min(self.shared.frames.len()), shared: self.shared }
    }

    /// The same stack without so many of its innermost frames as `count` says of the whole of it. Whoever has a copy
    /// asks the same: the answer is kept for all.
    #[must_use]
    pub fn cut(self, count: impl FnOnce(&[Frame]) -> usize) -> Self {
        let count = *self.shared.cut.get_or_init(|| count(&self.shared.frames));
        Self { first: self.first.max(count).min(self.shared.frames.len()), shared: self.shared }
    }
}

impl Deref for Stack {
    type Target = [Frame];

    fn deref(&self) -> &[Frame] {
        self.shared.frames.get(self.first..).unwrap_or_default()
    }
}

impl Default for Stack {
    fn default() -> Self {
        static EMPTY: LazyLock<Arc<Shared>> = LazyLock::new(Arc::default);
        Self { shared: Arc::clone(&EMPTY), first: 0 }
    }
}

impl From<Vec<Frame>> for Stack {
    fn from(frames: Vec<Frame>) -> Self {
        Self { shared: Arc::new(Shared { frames: frames.into(), ..Shared::default() }), first: 0 }
    }
}

impl FromIterator<Frame> for Stack {
    fn from_iter<I: IntoIterator<Item = Frame>>(frames: I) -> Self {
        frames.into_iter().collect::<Vec<_>>().into()
    }
}

impl PartialEq for Stack {
    fn eq(&self, other: &Self) -> bool {
        let is_same = Arc::ptr_eq(&self.shared, &other.shared) && self.first == other.first;
        is_same || self.deref() == other.deref()
    }
}

impl Eq for Stack {}

impl Hash for Stack {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.deref().hash(state);
    }
}

impl Serialize for Stack {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Shared { is_written, text, .. } = &*self.shared;
        if !self.is_empty() && is_written.swap(true, Ordering::Relaxed) && text.get().is_none() {
            // Whoever is quicker has made the same; what cannot be written fails below.
            let _made = to_raw_value(self.deref()).map(|made| text.set((self.first, made)));
        }
        match text.get() {
            Some((first, text)) if *first == self.first => text.serialize(serializer),
            _ => self.deref().serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Stack {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(|frames: Vec<Frame>| frames.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(name: &str) -> Frame {
        Frame { function: name.into(), file: "a.py".into(), line: None }
    }

    #[test]
    fn reads_like_a_list() {
        let stack = Stack::from(vec![frame("driver"), frame("view")]);
        let outer = stack.clone().without_innermost(1);
        assert_eq!(&*outer, [frame("view")]);
        assert_eq!(outer, Stack::from(vec![frame("view")]));
        assert_eq!(stack.clone().without_innermost(9).len(), 0);
        let text = serde_json::to_string(&outer).unwrap();
        assert_eq!(text, r#"[{"function":"view","file":"a.py","line":null}]"#);
        assert_eq!(serde_json::from_str::<Stack>(&text).unwrap(), outer);
    }

    #[test]
    fn text_is_the_same_each_time_wherever_it_begins_and_whatever_it_is_part_of() {
        let frames = [frame("dr\"iv\ner"), frame("view"), frame("\u{2028}main")];
        let stack = Stack::from(frames.to_vec());
        for _ in 0..4 {
            for first in [1, 0, 3, 2] {
                let part = stack.clone().without_innermost(first);
                assert_eq!(
                    serde_json::to_string(&(1, &part)).unwrap(),
                    serde_json::to_string(&(1, &frames[first..])).unwrap()
                );
                assert_eq!(
                    serde_json::to_value(&part).unwrap(),
                    serde_json::to_value(&frames[first..]).unwrap()
                );
            }
        }
        let kept = stack.shared.text.get().map(|(first, text)| (*first, text.get().to_owned()));
        assert_eq!(kept, Some((1, serde_json::to_string(&frames[1..]).unwrap())));
    }

    #[test]
    fn what_is_written_once_keeps_no_text() {
        let stack = Stack::from(vec![frame("view")]);
        serde_json::to_string(&stack).unwrap();
        serde_json::to_string(&Stack::default()).unwrap();
        serde_json::to_string(&Stack::default()).unwrap();
        assert!(stack.shared.text.get().is_none() && Stack::default().shared.text.get().is_none());
    }

    #[test]
    fn is_cut_once_for_all_copies() {
        let stack = Stack::from(vec![frame("driver"), frame("view"), frame("main")]);
        assert_eq!(&*stack.clone().cut(|_| 1), [frame("view"), frame("main")]);
        assert_eq!(stack.clone().cut(|_| panic!("it is known")).len(), 2);
        assert_eq!(stack.clone().without_innermost(2).cut(|_| 0).len(), 1);
        assert_eq!(Stack::from(vec![frame("view")]).cut(|_| 9).len(), 0);
    }
}
