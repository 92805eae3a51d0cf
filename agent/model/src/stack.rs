//! A named stack, shared: the same few stacks come with thousands of spans and samples.

use crate::line::Frame;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::ops::Deref;
use std::sync::Arc;

/// Frames, innermost first. Reads, compares and serialises as a list of them; a copy costs a counter.
#[derive(Clone, Debug)]
pub struct Stack {
    frames: Arc<[Frame]>,
    /// Frames of `frames` that are left out at the inner end.
    first: usize,
}

impl Stack {
    /// The same stack without its innermost `count` frames.
    #[must_use]
    pub fn without_innermost(self, count: usize) -> Self {
        Self { first: (self.first + count).min(self.frames.len()), frames: self.frames }
    }
}

impl Deref for Stack {
    type Target = [Frame];

    fn deref(&self) -> &[Frame] {
        self.frames.get(self.first..).unwrap_or_default()
    }
}

impl Default for Stack {
    fn default() -> Self {
        Self { frames: Arc::new([]), first: 0 }
    }
}

impl From<Arc<[Frame]>> for Stack {
    fn from(frames: Arc<[Frame]>) -> Self {
        Self { frames, first: 0 }
    }
}

impl From<Vec<Frame>> for Stack {
    fn from(frames: Vec<Frame>) -> Self {
        Self { frames: frames.into(), first: 0 }
    }
}

impl PartialEq for Stack {
    fn eq(&self, other: &Self) -> bool {
        self.deref() == other.deref()
    }
}

impl Serialize for Stack {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.deref().serialize(serializer)
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

    #[test]
    fn reads_like_a_list() {
        let frame = |name: &str| Frame { function: name.into(), file: "a.py".into(), line: None };
        let stack = Stack::from(vec![frame("driver"), frame("view")]);
        let outer = stack.clone().without_innermost(1);
        assert_eq!(&*outer, [frame("view")]);
        assert_eq!(outer, Stack::from(vec![frame("view")]));
        assert_eq!(stack.clone().without_innermost(9).len(), 0);
        let text = serde_json::to_string(&outer).unwrap();
        assert_eq!(text, r#"[{"function":"view","file":"a.py","line":null}]"#);
        assert_eq!(serde_json::from_str::<Stack>(&text).unwrap(), outer);
    }
}
