//! One connection: where it stands in its opening, what its client waits for, which statements it has prepared.

use super::messages::{self, GSS_REQUEST, HEADER, OPENING_HEADER, SSL_REQUEST};
use crate::transactions::clients::calls::{CallResult, ended};
use crate::transactions::clients::frames::{Frames, follow};
use crate::transactions::clients::{Call, Calls, Protocol, Wants};
use crate::transactions::http::Part;
use foldhash::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;

/// `db.system.name`.
pub(super) const SYSTEM: &str = "postgresql";
/// Calls in flight on one connection.
pub(super) const MOST_WAITING: usize = 4096;
/// Prepared statements, and open portals, that are remembered for one connection.
pub(super) const MOST_NAMED: usize = 512;
/// What is wanted of each call: a statement with room for what is sent in front of it, and of replies the
/// first messages (an error's code); their last ones are at the end of a call, which is always copied.
const WANT_SENT: u32 = 4096;
const WANT_RECEIVED: u32 = 1024;

#[derive(Debug)]
pub struct Postgresql {
    stage: Stage,
    saw_opening: bool,
    sent: Frames,
    received: Frames,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The next message from the client has no type.
    Opening,
    /// The client has asked for encryption and waits for one byte.
    Asked,
    Messages,
    /// Encrypted, or not PostgreSQL.
    Opaque,
}

/// What the two directions have in common.
#[derive(Debug, Default)]
pub(super) struct State {
    pub waiting: VecDeque<Waiting>,
    pub statements: HashMap<Box<[u8]>, Text>,
    /// The statement of a portal; `None` when it was prepared before anyone looked.
    pub portals: HashMap<Box<[u8]>, Option<Text>>,
    /// Statements parsed since the last synchronisation and not yet run.
    pub parsed: Vec<Text>,
    /// An error has been answered, and the server skips what comes before the next synchronisation.
    pub failed: bool,
    /// Rows of the current result that have gone by, unless some were not seen.
    pub rows: u64,
    pub rows_unknown: bool,
    /// The server reads rows (`COPY ... FROM STDIN`).
    pub copies_in: bool,
    /// Too much is waited for; nothing more is, until the server is ready.
    pub overflowed: bool,
}

/// A statement as far as it was captured, and the length of all of it.
#[derive(Clone, Debug)]
pub(super) struct Text {
    pub text: Arc<[u8]>,
    pub length: u32,
}

/// What the client waits for, in the order of the answers.
#[derive(Clone, Debug, Default)]
pub(super) struct Waiting {
    pub what: What,
    /// Its first message has come.
    pub answered: bool,
    /// So far: a simple query's statements answer one after the other.
    pub result: CallResult,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum What {
    /// Over when the server is ready for the next.
    #[default]
    Query,
    Execute,
    Prepare,
    /// No call: the point up to which the server skips after an error.
    Sync,
}

impl Postgresql {
    /// From the first byte of a connection.
    #[must_use]
    pub fn opening() -> Self {
        Self::at(Stage::Opening)
    }

    /// From a message's start, in the middle of a connection.
    #[must_use]
    pub fn in_the_middle() -> Self {
        Self::at(Stage::Messages)
    }

    fn at(stage: Stage) -> Self {
        Self {
            stage,
            saw_opening: stage == Stage::Opening,
            sent: Frames::default(),
            received: Frames::default(),
            state: State::default(),
        }
    }

    fn open(&mut self, part: Part<'_>, calls: &mut Calls) {
        let Part::Bytes(mut bytes) = part else {
            // What is missing is the rest of the settings, or was lost with what came behind them.
            self.stage = Stage::Messages;
            self.sent.lose();
            return;
        };
        while let Some(frame) = self.sent.next(&mut bytes, OPENING_HEADER, messages::opening) {
            match messages::opening_code(frame.payload) {
                Some(SSL_REQUEST | GSS_REQUEST) => self.stage = Stage::Asked,
                Some(_) => {
                    self.stage = Stage::Messages;
                    return self.sent(Part::Bytes(bytes), false, calls);
                }
                None => self.stage = Stage::Opaque,
            }
            if self.stage != Stage::Opening {
                return;
            }
        }
        if self.sent.is_lost() {
            self.stage = Stage::Opaque;
        }
    }

    /// The server's one byte: whether the connection goes on encrypted.
    fn decided(&mut self, part: Part<'_>, calls: &mut Calls) {
        self.stage = match part {
            Part::Bytes([b'N']) => Stage::Opening,
            // A server that does not know the question.
            Part::Bytes([b'E', ..]) => Stage::Messages,
            _ => Stage::Opaque,
        };
        if self.stage == Stage::Messages {
            self.received(part, true, calls);
        }
    }
}

impl Protocol for Postgresql {
    fn sent(&mut self, mut part: Part<'_>, first: bool, calls: &mut Calls) {
        match self.stage {
            Stage::Opening => return self.open(part, calls),
            Stage::Messages => {}
            Stage::Asked | Stage::Opaque => return,
        }
        if self.received.is_lost() && first {
            // A client that does not pipeline asks for the next thing when it has the last.
            if !self.state.waiting.is_empty() {
                calls.push(Call::Lost);
            }
            self.state.abandon(calls);
            self.received.restart();
        }
        let was_lost = self.sent.is_lost();
        if let Part::Bytes(bytes) = &mut part {
            if was_lost && first && bytes.get(..HEADER).and_then(messages::request).is_some() {
                self.sent.restart();
            }
            self.sent.recover(bytes, HEADER, messages::request, |_| true);
        }
        let state = &mut self.state;
        follow(&mut self.sent, part, HEADER, messages::request, |frame| state.request(&frame, calls));
        if self.sent.is_lost() && !was_lost {
            calls.push(Call::Lost);
        }
    }

    fn received(&mut self, mut part: Part<'_>, _first: bool, calls: &mut Calls) {
        match self.stage {
            Stage::Asked => return self.decided(part, calls),
            Stage::Messages => {}
            Stage::Opening | Stage::Opaque => return,
        }
        if let Part::Bytes(bytes) = &mut part {
            self.received.recover(bytes, HEADER, messages::reply, |last| last.first() == Some(&b'Z'));
        }
        let state = &mut self.state;
        follow(&mut self.received, part, HEADER, messages::reply, |frame| state.reply(&frame, calls));
        // The end of the answer may still be found; then nothing but the number of rows is missing.
        state.rows_unknown |= self.received.is_lost();
    }

    fn wants(&self) -> Wants {
        let opaque = self.is_opaque();
        Wants {
            received: if opaque { 0 } else { WANT_RECEIVED },
            sent: if opaque { 0 } else { WANT_SENT },
            indifferent_received: 0,
            indifferent_sent: 0,
            stacks: !opaque,
        }
    }

    fn closed(&mut self, calls: &mut Calls) {
        self.state.abandon(calls);
    }

    fn system(&self) -> &'static str {
        SYSTEM
    }

    fn saw_opening(&self) -> bool {
        self.saw_opening
    }

    fn is_opaque(&self) -> bool {
        self.stage == Stage::Opaque
    }
}

impl State {
    /// Nothing is known any more of what is waited for.
    fn abandon(&mut self, calls: &mut Calls) {
        let waiting = self.waiting.drain(..).filter(|waiting| waiting.what != What::Sync);
        calls.extend(waiting.map(|_| ended(CallResult::unseen())));
        self.parsed.clear();
        self.failed = false;
        self.overflowed = false;
        self.rows = 0;
        self.rows_unknown = false;
        self.copies_in = false;
    }
}
