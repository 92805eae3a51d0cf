//! What a server's messages say of the calls that wait for them.

use super::client::{State, What};
use super::messages::string;
use crate::transactions::clients::calls::{CallResult, Calls, ended};
use crate::transactions::clients::frames::Frame;

/// What libpq calls a call that the server skipped because one before it had failed (`PGRES_PIPELINE_ABORTED`).
const SKIPPED: &str = "pipeline_aborted";

impl State {
    /// One message from the server.
    pub(super) fn reply(&mut self, frame: &Frame<'_>, calls: &mut Calls) {
        match frame.header.first() {
            // What comes unasked says nothing about any call.
            Some(b'A' | b'N' | b'S' | b'K' | b'R' | b'v') | None => {}
            Some(b'1' | b't') => {
                if let Some(front) = self.waiting.front_mut() {
                    front.answered = true;
                }
            }
            Some(b'D') => self.rows += 1,
            Some(b'G') => {
                self.copies_in = true;
                self.end_prepared(calls);
            }
            Some(b'C') => self.completed(frame.payload, calls),
            Some(b'I') => self.over(CallResult::default(), calls),
            // The rest of the rows is there for another call to fetch.
            Some(b's') => {
                let rows = (!self.rows_unknown).then_some(self.rows);
                self.over(CallResult { rows, ..CallResult::default() }, calls);
            }
            Some(b'E') => self.refused(frame.payload, calls),
            Some(b'Z') => self.ready(calls),
            Some(_) => self.end_prepared(calls),
        }
    }

    /// Statements that were only prepared are over with what comes next.
    fn end_prepared(&mut self, calls: &mut Calls) {
        while self.waiting.front().is_some_and(|front| front.what == What::Prepare && front.answered) {
            self.waiting.pop_front();
            calls.push(ended(CallResult::default()));
        }
    }

    fn completed(&mut self, tag: &[u8], calls: &mut Calls) {
        let tag = string(tag).map_or(tag, |(tag, _)| tag);
        let mut words = tag.split(|byte| *byte == b' ');
        let (operation, count) = (words.next().unwrap_or_default(), words.next_back().and_then(number));
        let mut result = CallResult::default();
        match operation {
            b"COPY" if self.copies_in => result.affected_rows = count,
            b"SELECT" | b"FETCH" | b"MOVE" | b"COPY" => result.rows = count,
            b"INSERT" | b"UPDATE" | b"DELETE" | b"MERGE" => result.affected_rows = count,
            _ => {}
        }
        self.over(result, calls);
    }

    /// One statement has been answered.
    fn over(&mut self, result: CallResult, calls: &mut Calls) {
        self.end_prepared(calls);
        (self.rows, self.rows_unknown, self.copies_in) = (0, false, false);
        let Some(front) = self.waiting.front_mut() else { return };
        match front.what {
            What::Execute => {
                self.waiting.pop_front();
                calls.push(ended(result));
            }
            What::Query => {
                front.answered = true;
                let so_far = &mut front.result;
                so_far.rows = sum(so_far.rows, result.rows);
                so_far.affected_rows = sum(so_far.affected_rows, result.affected_rows);
            }
            What::Prepare | What::Sync => {}
        }
    }

    fn refused(&mut self, fields: &[u8], calls: &mut Calls) {
        self.end_prepared(calls);
        (self.rows, self.rows_unknown, self.copies_in) = (0, false, false);
        let Some(front) = self.waiting.front_mut() else { return };
        let error = code(fields).unwrap_or_else(|| "_OTHER".to_owned());
        match front.what {
            What::Query => {
                front.answered = true;
                front.result.error = Some(error);
            }
            What::Execute | What::Prepare => {
                self.waiting.pop_front();
                self.failed = true;
                calls.push(ended(CallResult::error(error)));
            }
            // Of a message that makes no call: a Bind, a Describe.
            What::Sync => {}
        }
    }

    /// The server is ready for the next query: what was sent before it is over.
    fn ready(&mut self, calls: &mut Calls) {
        while let Some(front) = self.waiting.pop_front() {
            let result = match front.what {
                What::Sync => break,
                What::Query => {
                    let result = CallResult { unseen: !front.answered, ..front.result };
                    calls.push(ended(result));
                    break;
                }
                What::Prepare if front.answered => CallResult::default(),
                What::Prepare | What::Execute if self.failed => CallResult::error(SKIPPED),
                What::Prepare | What::Execute => CallResult::unseen(),
            };
            calls.push(ended(result));
        }
        self.failed = false;
        self.overflowed &= !self.waiting.is_empty();
    }
}

fn sum(before: Option<u64>, more: Option<u64>) -> Option<u64> {
    match (before, more) {
        (Some(before), Some(more)) => Some(before.saturating_add(more)),
        (before, more) => before.or(more),
    }
}

/// SQLSTATE, from an error's fields (chapter 55.8): five characters, and they come before the message.
fn code(mut fields: &[u8]) -> Option<String> {
    while let Some((field, rest)) = fields.split_first() {
        let (value, behind) = string(rest)?;
        if *field == b'C' {
            let valid = value.len() == 5 && value.iter().all(u8::is_ascii_alphanumeric);
            return valid.then(|| String::from_utf8_lossy(value).into_owned());
        }
        fields = behind;
    }
    None
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}
