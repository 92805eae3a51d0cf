//! What happened inside one transaction while it was open: spans and samples, not yet in the model's form.

use super::mysql::Verdict;
use super::sql::Normalised;
use crate::intake::{Endpoint, StackId};
use pyapm_model::line::Frame;
use std::sync::Arc;

/// Rides along with an exchange.
#[derive(Debug, Default)]
pub struct Work {
    /// The thread that has it now, or had it last; 0 before any.
    pub tid: u32,
    pub spans: Vec<OpenSpan>,
    pub samples: Vec<OpenSamples>,
    /// Of the latest sample that had one.
    pub last_frame: Option<Frame>,
}

/// A statement that was asked for inside the transaction.
#[derive(Debug)]
pub struct OpenSpan {
    pub statement: Arc<Normalised>,
    pub started_ns: u64,
    pub stack: Option<Arc<[Frame]>>,
    pub server: Option<Endpoint>,
    /// Latest byte of the statement or its reply; the start when there was none.
    pub last_io_ns: u64,
    /// Reply bytes have come, readable or not.
    pub replied: bool,
    pub verdict: Verdict,
    /// Nothing more can come: another statement has begun, or the connection has gone.
    pub closed: bool,
}

/// Samples with one stack.
#[derive(Debug)]
pub struct OpenSamples {
    id: Option<StackId>,
    pub count: u64,
    pub stack: Option<Arc<[Frame]>>,
}

impl Work {
    /// The statement being waited for now.
    #[must_use]
    pub fn waiting(&self) -> Option<&OpenSpan> {
        self.spans.last().filter(|span| !span.closed && !span.replied)
    }

    /// Counts a sample; false when its stack would be one too many.
    pub fn sample(&mut self, id: Option<StackId>, stack: Option<Arc<[Frame]>>, most: usize) -> bool {
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
