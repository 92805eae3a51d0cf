//! What a server's packets say of the commands that wait for them.
//!
//! Whether column definitions end with a packet of their own was agreed on when the connection began
//! (`CLIENT_DEPRECATE_EOF`), perhaps before anyone looked. It shows: such a packet has five bytes, what ends
//! rows where there is none has at least seven, and a row's first byte is 0xfe only in packets of 16 MB.

use super::client::{MOST_PREPARED, Stage, State, What};
use super::packets::{CONTINUED, number};
use crate::transactions::clients::calls::{CallResult, ended};
use crate::transactions::clients::frames::Frame;
use crate::transactions::clients::{Call, Calls};

/// More results follow this one (`SERVER_MORE_RESULTS_EXISTS`).
const MORE_RESULTS: u16 = 0x0008;
/// Payload of the packet that ends column definitions.
const EOF: u64 = 5;

/// Where in the answer to the oldest command the next packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    First,
    /// So many column definitions are still to come.
    Columns(u64),
    /// `first` that no packet has come since the columns.
    Rows {
        rows: u64,
        first: bool,
        unknown: bool,
    },
    /// Definitions of parameters, then of columns, of a statement that was prepared.
    Definitions {
        left: u64,
        then: u64,
    },
}

impl State {
    /// One packet from the server.
    pub(super) fn reply(&mut self, frame: &Frame<'_>, calls: &mut Calls) {
        if std::mem::replace(&mut self.continued, frame.length == CONTINUED) {
            return;
        }
        let payload = frame.payload;
        if let Stage::Opening { compressed } = self.stage {
            if payload.first() == Some(&0) {
                self.stage = if compressed { Stage::Opaque } else { Stage::Commands };
            }
            return;
        }
        // MariaDB's progress reports come as error 65535, ahead of the reply (ERR_Packet in its manual).
        if matches!(payload, [0xff, 0xff, 0xff, ..]) {
            return;
        }
        let Some(front) = self.waiting.front() else { return };
        match (&front.what, self.reading) {
            (What::Results | What::Fetch | What::Prepare(_) | What::Columns, _)
                if payload.first() == Some(&0xff) =>
            {
                self.refused(payload, calls);
            }
            (What::Results, Reading::First) => self.first(frame, calls),
            (What::Fetch, Reading::First) => {
                self.reading = Reading::Rows { rows: 0, first: false, unknown: false };
                self.row(frame, calls);
            }
            (What::Prepare(_), Reading::First) => self.prepared(payload, calls),
            (What::Packet, _) => self.over(CallResult::default(), calls),
            (What::Columns, _) if is_end(frame) => self.over(CallResult::default(), calls),
            (What::Login, _) if matches!(payload.first(), Some(0 | 0xff)) => {
                self.over(CallResult::default(), calls);
            }
            (What::Columns | What::Login, _) => {}
            (_, Reading::Columns(left)) => {
                self.reading = match left.saturating_sub(1) {
                    0 => Reading::Rows { rows: 0, first: true, unknown: false },
                    left => Reading::Columns(left),
                };
            }
            (_, Reading::Rows { .. }) => self.row(frame, calls),
            (_, Reading::Definitions { left, then }) => self.definition(frame, left, then, calls),
        }
    }

    /// The first packet of a result: there is none, or so many columns, or a file is wanted.
    fn first(&mut self, frame: &Frame<'_>, calls: &mut Calls) {
        match frame.payload {
            [0, rest @ ..] => {
                let Some((affected, rest)) = number(rest) else {
                    return self.over(CallResult::default(), calls);
                };
                let state = number(rest).and_then(|(_, rest)| rest.get(..2)).map(state_of);
                let result = CallResult { affected_rows: Some(affected), ..CallResult::default() };
                self.result(&result, state, calls);
            }
            // The file's bytes go out, and the answer comes in again.
            [0xfb, ..] => {}
            payload => {
                let columns = number(payload);
                if let Some(front) = self.waiting.front_mut()
                    && !std::mem::replace(&mut front.accepted, true)
                {
                    calls.push(Call::Accepted { tag: 0, result: CallResult::default() });
                }
                self.reading = match columns {
                    // MariaDB: the columns are those of last time (`MARIADB_CLIENT_CACHE_METADATA`).
                    Some((1.., [0])) => Reading::Rows { rows: 0, first: true, unknown: false },
                    Some((count @ 1.., _)) => Reading::Columns(count),
                    _ => Reading::First,
                };
            }
        }
    }

    fn row(&mut self, frame: &Frame<'_>, calls: &mut Calls) {
        let Reading::Rows { rows, first, unknown } = self.reading else { return };
        if !is_end(frame) {
            self.reading = Reading::Rows { rows: rows.saturating_add(1), first: false, unknown };
            return;
        }
        let payload = frame.payload;
        if first && frame.length == EOF && !unknown {
            // The end of the columns, or of a result without rows that only a cursor holds.
            let opened_cursor = payload.get(3..5).map(state_of).is_some_and(|state| state & 0x0040 != 0);
            if !opened_cursor {
                self.reading = Reading::Rows { rows: 0, first: false, unknown };
                return;
            }
        }
        let state = if frame.length == EOF {
            payload.get(3..5)
        } else {
            payload
                .get(1..)
                .and_then(number)
                .and_then(|(_, rest)| number(rest))
                .and_then(|(_, rest)| rest.get(..2))
        };
        let rows = (!unknown).then_some(rows);
        self.result(&CallResult { rows, ..CallResult::default() }, state.map(state_of), calls);
    }

    /// One result is over; `state` says whether there are more.
    fn result(&mut self, result: &CallResult, state: Option<u16>, calls: &mut Calls) {
        let Some(front) = self.waiting.front_mut() else { return };
        let so_far = &mut front.result;
        so_far.rows = sum(so_far.rows, result.rows);
        so_far.affected_rows = sum(so_far.affected_rows, result.affected_rows);
        self.reading = Reading::First;
        if state.is_some_and(|state| state & MORE_RESULTS != 0) {
            return;
        }
        let result = std::mem::take(&mut front.result);
        self.over(result, calls);
    }

    fn refused(&mut self, payload: &[u8], calls: &mut Calls) {
        let (code, sqlstate) = match payload {
            [0xff, low, high, rest @ ..] => {
                let state = rest.strip_prefix(b"#").and_then(|rest| rest.get(..5));
                let state = state.filter(|state| state.iter().all(u8::is_ascii_alphanumeric));
                let state = state.map(|state| String::from_utf8_lossy(state).into_owned());
                (u16::from_le_bytes([*low, *high]).to_string(), state)
            }
            _ => ("_OTHER".to_owned(), None),
        };
        let so_far =
            self.waiting.front_mut().map(|front| std::mem::take(&mut front.result)).unwrap_or_default();
        self.over(CallResult { error: Some(code), sqlstate, ..so_far }, calls);
    }

    /// `OK` for a statement to prepare: its number, columns and parameters.
    fn prepared(&mut self, payload: &[u8], calls: &mut Calls) {
        let [0, i0, i1, i2, i3, c0, c1, p0, p1, ..] = payload else {
            return self.over(CallResult::default(), calls);
        };
        let id = u32::from_le_bytes([*i0, *i1, *i2, *i3]);
        let columns = u64::from(u16::from_le_bytes([*c0, *c1]));
        let parameters = u64::from(u16::from_le_bytes([*p0, *p1]));
        if let Some(What::Prepare(text)) = self.waiting.front().map(|front| front.what.clone()) {
            if self.prepared.len() >= MOST_PREPARED {
                calls.push(Call::Overflow);
            } else {
                self.prepared.insert(id, text);
            }
        }
        self.reading = Reading::Definitions { left: parameters, then: columns };
        self.definitions_ended(parameters, columns, calls);
    }

    fn definition(&mut self, frame: &Frame<'_>, left: u64, then: u64, calls: &mut Calls) {
        if is_end(frame) {
            return;
        }
        // Parameters first, then columns; what ends either is no definition.
        let (left, then) = if left > 0 { (left - 1, then) } else { (0, then.saturating_sub(1)) };
        self.reading = Reading::Definitions { left, then };
        self.definitions_ended(left, then, calls);
    }

    /// The packet that may end the definitions comes with them, and nobody waits for it any more then.
    fn definitions_ended(&mut self, left: u64, then: u64, calls: &mut Calls) {
        if left == 0 && then == 0 {
            self.over(CallResult::default(), calls);
        }
    }

    /// The oldest command has been answered.
    fn over(&mut self, result: CallResult, calls: &mut Calls) {
        self.reading = Reading::First;
        if let Some(front) = self.waiting.pop_front()
            && front.what.is_call()
        {
            calls.push(ended(result));
        }
    }

    /// Packets were missed, and the next one ends the answer.
    pub(super) fn skip_to_end(&mut self) {
        self.continued = false;
        self.reading = Reading::Rows { rows: 0, first: false, unknown: true };
    }
}

/// What ends columns and rows (`EOF_Packet`, or `OK_Packet` with this first byte).
fn is_end(frame: &Frame<'_>) -> bool {
    frame.payload.first() == Some(&0xfe) && frame.length < CONTINUED
}

fn state_of(bytes: &[u8]) -> u16 {
    match bytes {
        [low, high] => u16::from_le_bytes([*low, *high]),
        _ => 0,
    }
}

fn sum(before: Option<u64>, more: Option<u64>) -> Option<u64> {
    match (before, more) {
        (Some(before), Some(more)) => Some(before.saturating_add(more)),
        (before, more) => before.or(more),
    }
}
