//! The two pipes of one worker process: tasks come in by one, what became of them goes out by the other. Each message
//! is its length, four bytes in network order, and a pickle (billiard 4 `connection.py`).

use super::messages::{Delivery, Finished};
use crate::transactions::clients::frames::{Frames, Shape, follow};
use crate::transactions::http::Part;

/// Bytes of the length.
const HEADER: usize = 4;
/// Longest message that is believed.
const LONGEST: u32 = 1 << 30;
/// Bytes of a message that are looked at: all that comes before its arguments, if its headers are not long.
pub const WANT_TASK: u32 = 16 * 1024;
/// The beginning of a result tells how it went.
pub const WANT_RESULT: u32 = 1024;
/// Messages that are none of a pool's, after which the pipe is left alone.
const MOST_OTHERS: u32 = 16;

/// The pipe by which a process is handed its tasks.
#[derive(Debug, Default)]
pub struct Deliveries {
    frames: Frames,
    /// When the message that is being read began.
    started_ns: u64,
    others: u32,
}

/// The pipe by which it tells of them.
#[derive(Debug, Default)]
pub struct Results {
    frames: Frames,
    others: u32,
}

impl Deliveries {
    /// Follows a run of bytes. `each` gets tasks, when their first byte was read, and their messages' sizes.
    pub fn follow(
        &mut self,
        time_ns: u64,
        part: Part<'_>,
        first: bool,
        mut each: impl FnMut(Delivery, u64, u64),
    ) {
        // The length is read by a call of its own, and whoever reads waits there between two messages.
        if let (true, true, Part::Bytes(bytes)) = (first, self.frames.is_lost(), part)
            && bytes.len() == HEADER
        {
            self.frames.restart();
        }
        if self.frames.is_between() {
            self.started_ns = time_ns;
        }
        let (started_ns, others) = (&mut self.started_ns, &mut self.others);
        follow(
            &mut self.frames,
            part,
            HEADER,
            |header| shape(header, WANT_TASK),
            |frame| {
                match Delivery::parse(frame.payload) {
                    Some(delivery) => {
                        *others = 0;
                        each(delivery, *started_ns, HEADER as u64 + frame.length);
                    }
                    None => *others += 1,
                }
                *started_ns = time_ns;
            },
        );
    }

    /// It is some other pipe.
    #[must_use]
    pub fn is_other(&self) -> bool {
        self.others >= MOST_OTHERS
    }
}

impl Results {
    pub fn follow(&mut self, part: Part<'_>, first: bool, mut each: impl FnMut(Finished, u64)) {
        // A message begins with a call.
        if let (true, true, Part::Bytes(bytes)) = (first, self.frames.is_lost(), part)
            && shape(bytes.get(..HEADER).unwrap_or_default(), 0).is_some()
        {
            self.frames.restart();
        }
        let others = &mut self.others;
        follow(
            &mut self.frames,
            part,
            HEADER,
            |header| shape(header, WANT_RESULT),
            |frame| {
                match Finished::parse(frame.payload) {
                    Some(finished) => {
                        *others = 0;
                        each(finished, HEADER as u64 + frame.length);
                    }
                    // Each task is acknowledged, too.
                    None => *others += 1,
                }
            },
        );
        if self.frames.is_lost() {
            self.others += 1;
        }
    }

    #[must_use]
    pub fn is_other(&self) -> bool {
        self.others >= MOST_OTHERS
    }
}

fn shape(header: &[u8], keep: u32) -> Option<Shape> {
    let length = u32::from_be_bytes(header.try_into().ok()?);
    (1..=LONGEST).contains(&length).then_some(Shape { length: u64::from(length), keep: keep as usize })
}
