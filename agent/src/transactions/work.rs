//! What happened inside one transaction while it was open: spans and samples, not yet in the model's form.

use super::ids::Trace;
use super::joining::CallKey;
use super::spans::SpanId;
use super::tasks::{Delivery, Finished};
use super::waits::OpenWaits;
use crate::intake::{ExceptionId, StackId};
use pyapm_model::line::Frame;
use pyapm_model::stack::Stack;
use std::collections::VecDeque;

/// Rides along with an exchange.
#[derive(Debug, Default)]
pub struct Work {
    /// The thread that has it now, or had it last; 0 before any.
    pub tid: u32,
    /// In the order in which they began.
    pub spans: Vec<SpanId>,
    pub samples: Vec<OpenSamples>,
    /// In the order in which they left the frames that raised them; the latest of too many.
    pub errors: VecDeque<ExceptionId>,
    /// Of the latest sample that had one.
    pub last_frame: Option<Frame>,
    pub waits: OpenWaits,
    /// How long the first bytes of its connection had waited to be read, of the first request on one.
    pub unread_ns: Option<u64>,
    /// Where the call may be met that this request is; `None` where that cannot be known, or before it was looked for.
    pub call: Option<CallKey>,
    /// What it is, where it is a task.
    pub task: Option<Box<OpenTask>>,
    /// Where it stands in its trace, once that has been asked for.
    pub trace: Option<Trace>,
}

/// A task that a worker has been handed.
#[derive(Debug)]
pub struct OpenTask {
    pub delivery: Delivery,
    /// What the worker says became of it.
    pub finished: Option<Finished>,
}

/// Samples with one stack.
#[derive(Debug)]
pub struct OpenSamples {
    id: Option<StackId>,
    pub count: u64,
    pub stack: Option<Stack>,
}

impl Work {
    /// Counts a sample; false when its stack would be one too many.
    pub fn sample(&mut self, id: Option<StackId>, stack: Option<Stack>, most: usize) -> bool {
        if let Some(frame) = stack.as_ref().and_then(|stack| stack.first()) {
            // Unchanged in most cases: the strings are copied only when they differ.
            if self.last_frame.as_ref() != Some(frame) {
                self.last_frame = Some(frame.clone());
            }
        }
        if let Some(known) = self.samples.iter_mut().find(|known| known.id == id) {
            known.count += 1;
            return true;
        }
        if self.samples.len() >= most {
            return false;
        }
        self.samples.push(OpenSamples { id, count: 1, stack });
        true
    }
}
