//! Native and Python frames to one stack. Each call of the interpreter's loop runs one group of Python frames: the one
//! that C code called, and those that it called without C code in between. Loops and groups come in the same order, and
//! where there are as many of one as of the other, every group has its place. Where there are not, the Python frames are
//! right, and of the native ones those inward of the innermost loop: the others have no known place.

use super::unwinder::NativeStack;
use pyapm_model::line::Frame;

/// A Python stack, as the interpreter's loops ran it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PythonStack {
    /// Innermost first, within and without. A loop whose only frame has just ended has an empty group.
    groups: Vec<Vec<Frame>>,
    /// The outermost frames are there.
    is_whole: bool,
}

impl PythonStack {
    /// Of a thread without Python frames.
    #[must_use]
    pub fn none() -> Self {
        Self { groups: Vec::new(), is_whole: true }
    }

    /// From names of the frames, innermost first, `None` for one that is not shown, and how often the interpreter was
    /// entered inward of each.
    #[must_use]
    pub fn new(names: impl IntoIterator<Item = Option<Frame>>, entries: &[u8], is_whole: bool) -> Self {
        let mut groups = Vec::new();
        for (name, entries) in names.into_iter().zip(entries) {
            if groups.is_empty() {
                groups.push(Vec::new());
            }
            groups.extend((0..*entries).map(|_| Vec::new()));
            if let Some(last) = groups.last_mut() {
                last.extend(name);
            }
        }
        Self { groups, is_whole }
    }
}

/// What a join gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Joined<'a> {
    /// Innermost first.
    pub frames: Vec<&'a Frame>,
    /// Loops and groups did not match.
    pub is_mismatch: bool,
}

/// Puts both together.
#[must_use]
pub fn join<'a>(native: &'a NativeStack, python: &'a PythonStack) -> Joined<'a> {
    // What lies between two loops, innermost first; one more than there are loops.
    let segments: Vec<_> = native.frames.split(|frame| frame.is_evaluation).collect();
    let loops = segments.len() - 1;
    let begins_in_loop = native.frames.first().is_some_and(|frame| frame.is_evaluation);
    let groups = &python.groups;
    let mut frames = Vec::new();
    let mut segments = segments.into_iter();
    let first = segments.next().unwrap_or_default();
    frames.extend(first.iter().map(|frame| &frame.frame));

    let is_whole = native.is_whole && python.is_whole;
    // The loop has just been called and has no frame yet, or has none any more.
    let without_frame = is_whole && begins_in_loop && loops == groups.len() + 1;
    // From the innermost outwards as far as both go; in its first or last instructions a loop has no frame, so that only
    // one that has called something is known to have.
    let is_prefix = !is_whole && (native.is_whole || native.is_cut) && !begins_in_loop;
    if !(is_whole && loops == groups.len() || without_frame || is_prefix) {
        frames.extend(groups.iter().flatten());
        return Joined { frames, is_mismatch: is_whole || !native.is_cut };
    }
    if without_frame {
        frames.extend(segments.next().unwrap_or_default().iter().map(|frame| &frame.frame));
    }
    let mut has_python = false;
    for group in groups {
        frames.extend(group);
        has_python |= !group.is_empty();
        let Some(segment) = segments.next() else { continue };
        let is_last = segments.len() == 0;
        let is_hidden = has_python && !is_last && segment.iter().all(|frame| frame.is_plumbing);
        if !is_hidden {
            frames.extend(segment.iter().map(|frame| &frame.frame));
        }
    }
    Joined { frames, is_mismatch: false }
}

#[cfg(test)]
mod tests {
    use super::super::unwinder::NativeFrame;
    use super::*;
    use std::sync::Arc;

    fn frame(function: &str) -> Frame {
        Frame { function: function.into(), file: "f".into(), line: None }
    }

    /// `E` is the loop, `p...` plumbing, everything else foreign; innermost first.
    fn native(words: &str) -> NativeStack {
        let frames = words
            .split_whitespace()
            .map(|word| {
                Arc::new(NativeFrame {
                    frame: frame(word),
                    is_evaluation: word == "E",
                    is_plumbing: word.starts_with('p'),
                    is_entry: false,
                    is_covered: true,
                    realigned: None,
                })
            })
            .collect();
        NativeStack { frames, is_whole: true, is_cut: false }
    }

    /// Frames with the number of entries before each: `a b/1 c` is `a` called by `b` through C code.
    fn python(words: &str) -> PythonStack {
        let parts = words.split_whitespace().map(|word| word.split_once('/').unwrap_or((word, "0")));
        let entries: Vec<u8> = parts.clone().map(|(_, entries)| entries.parse().unwrap()).collect();
        PythonStack::new(parts.map(|(name, _)| Some(frame(name))), &entries, true)
    }

    fn joined(native: &NativeStack, python: &PythonStack) -> (String, bool) {
        let joined = join(native, python);
        let names: Vec<_> = joined.frames.iter().map(|frame| frame.function.as_str()).collect();
        (names.join(" "), joined.is_mismatch)
    }

    fn good(native_words: &str, python_words: &str, expected: &str) {
        assert_eq!(
            joined(&native(native_words), &python(python_words)),
            (expected.to_owned(), false),
            "{native_words} and {python_words}"
        );
    }

    #[test]
    fn every_group_finds_its_loop() {
        good("crc p1 E main", "a b", "crc p1 a b main");
        good("E p1 p2 E main", "a b/1 c", "a b c main");
        good("E p1 sort p2 E main", "a b/1 c", "a p1 sort p2 b c main");
        good("E p1 E p2 E main", "a b/1 c/1", "a b c main");
        good("E main", "a b c", "a b c main");
        good("crc main", "", "crc main");
        // Plumbing is hidden between Python frames alone.
        good("p1 E p2", "a", "p1 a p2");
    }

    #[test]
    fn loops_without_a_frame() {
        // Called just now.
        good("E p1 E main", "a", "p1 a main");
        // The frame has ended, and what it held is given up: its shim is still there.
        good("free E p1 E main", "a/1", "free p1 a main");
        good("E p0 free E p1 E main", "del a/2", "del p0 free a main");
    }

    #[test]
    fn what_does_not_match_keeps_the_python_frames() {
        assert_eq!(joined(&native("crc E p E p E main"), &python("a b")), ("crc a b".to_owned(), true));
        assert_eq!(joined(&native("crc E main"), &python("a b/1")), ("crc a b".to_owned(), true));
        let broken = NativeStack { is_whole: false, ..native("crc E x") };
        assert_eq!(joined(&broken, &python("a b/1")), ("crc a b".to_owned(), true));
    }

    #[test]
    fn what_is_cut_is_joined_as_far_as_it_goes() {
        let cut = NativeStack { is_whole: false, is_cut: true, ..native("crc E p E sort p") };
        assert_eq!(joined(&cut, &python("a b/1 c/1 d/1")), ("crc a b sort p c d".to_owned(), false));
        let cut = NativeStack { is_whole: false, is_cut: true, ..native("E p E sort p") };
        assert_eq!(joined(&cut, &python("a b/1 c/1 d/1")), ("a b c d".to_owned(), false));
        let part = PythonStack { is_whole: false, ..python("a b/1") };
        assert_eq!(joined(&native("crc E sort E p E main"), &part), ("crc a sort b".to_owned(), false));
    }
}
