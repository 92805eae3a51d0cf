//! Tasks that a thread tells of by the frame that runs them.

use pyapm_wire::task::{self as wire, text};
use std::time::Duration;

/// A thread begins with a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskBegun {
    /// Unique for the life of the daemon, among connections too.
    pub task: u64,
    /// Address of its frame.
    pub frame: u64,
    pub id: String,
    pub name: String,
    pub routing_key: Option<String>,
    pub traceparent: Option<String>,
    pub retries: Option<u32>,
    /// It is told of at its end, because its beginning was not seen.
    pub is_late: bool,
    /// When it began, on the kernel's monotonic clock; `None` for now, or where that is not known.
    pub started_ns: Option<u64>,
}

/// An exception has left a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskLeft {
    /// Empty where it is not known.
    pub id: String,
}

/// A thread has done with a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskDone {
    pub frame: u64,
    /// In the worker's words.
    pub state: Option<String>,
    /// Class of the exception that it came to, without its module.
    pub class: Option<String>,
}

impl TaskBegun {
    pub(super) fn of(record: &wire::TaskBegun) -> Self {
        let text = |place: usize| printable(record.texts.get(place)?, *record.lengths.get(place)?);
        Self {
            task: record.task,
            frame: record.frame,
            id: text(text::ID).unwrap_or_default(),
            name: text(text::NAME).unwrap_or_default(),
            routing_key: text(text::ROUTING_KEY),
            traceparent: text(text::TRACEPARENT),
            retries: (record.retries != wire::NOT_KNOWN).then_some(record.retries),
            is_late: record.header.flags & wire::LATE != 0,
            started_ns: nanoseconds(f64::from_bits(record.started)),
        }
    }
}

impl TaskLeft {
    pub(super) fn of(record: &wire::TaskLeft) -> Self {
        Self { id: printable(&record.id, record.length).unwrap_or_default() }
    }
}

/// Seconds of `time.monotonic()`; `None` for what that cannot give.
fn nanoseconds(seconds: f64) -> Option<u64> {
    Duration::try_from_secs_f64(seconds).ok().filter(|time| !time.is_zero())?.as_nanos().try_into().ok()
}

impl TaskDone {
    pub(super) fn of(record: &wire::TaskDone) -> Self {
        let length = record.class.iter().position(|byte| *byte == 0);
        // One that fills its room may have been cut.
        let class = length.and_then(|length| printable(&record.class, u32::try_from(length).ok()?));
        Self {
            frame: record.frame,
            state: printable(&record.state, record.length),
            class: class.and_then(|class| Some(class.rsplit('.').next()?.to_owned())),
        }
    }
}

/// The first `length` bytes as a text that may be shown; `None` for none, and for anything else.
fn printable(bytes: &[u8], length: u32) -> Option<String> {
    let bytes = bytes.get(..usize::try_from(length).ok()?).filter(|bytes| !bytes.is_empty())?;
    let text = std::str::from_utf8(bytes).ok()?;
    (!text.chars().any(char::is_control)).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytemuck::Zeroable as _;

    #[test]
    fn texts_are_as_long_as_they_say() {
        let mut record = wire::TaskBegun::zeroed();
        record.texts[text::ID][..4].copy_from_slice(b"abcd");
        record.texts[text::NAME][..4].copy_from_slice(b"a\nbc");
        record.lengths = [3, 4, u32::MAX, 0];
        record.retries = wire::NOT_KNOWN;
        let begun = TaskBegun::of(&record);
        assert_eq!((begun.id.as_str(), begun.name.as_str()), ("abc", ""));
        assert_eq!((begun.routing_key, begun.traceparent, begun.retries), (None, None, None));
        assert_eq!((begun.is_late, begun.started_ns), (false, None));
    }

    #[test]
    fn a_beginning_that_is_told_late() {
        let mut record = wire::TaskBegun::zeroed();
        record.header.flags = wire::LATE;
        for (seconds, nanoseconds) in
            [(2.5, Some(2_500_000_000)), (-1.0, None), (f64::NAN, None), (1e300, None)]
        {
            record.started = seconds.to_bits();
            let begun = TaskBegun::of(&record);
            assert_eq!((begun.is_late, begun.started_ns), (true, nanoseconds));
        }
        let mut record = wire::TaskLeft::zeroed();
        record.id[..4].copy_from_slice(b"abcd");
        for (length, id) in [(3, "abc"), (0, ""), (u32::MAX, "")] {
            record.length = length;
            assert_eq!(TaskLeft::of(&record).id, id);
        }
    }

    #[test]
    fn an_end_that_says_little() {
        let mut record = wire::TaskDone::zeroed();
        let nothing = TaskDone { frame: 0, state: None, class: None };
        assert_eq!(TaskDone::of(&record), nothing);
        record.class[..12].copy_from_slice(b"decimal.Odd\0");
        record.state[..7].copy_from_slice(b"FAILURE");
        record.length = 7;
        let told = TaskDone::of(&record);
        assert_eq!((told.state.as_deref(), told.class.as_deref()), (Some("FAILURE"), Some("Odd")));
        record.class = [b'x'; wire::CLASS];
        record.length = 99;
        assert_eq!(TaskDone::of(&record), nothing);
    }
}
