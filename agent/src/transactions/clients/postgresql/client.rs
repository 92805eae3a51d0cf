//! One connection: where it stands in its opening, what its client waits for, which statements it has prepared.

use super::messages::{self, GSS_REQUEST, HEADER, OPENING_HEADER, SSL_REQUEST};
use crate::transactions::clients::call::{Call, Calls, CallResult, Client, Part, Statement};
use crate::transactions::clients::frames::{Frames, follow};
use std::collections::{HashMap, VecDeque};

/// Calls in flight on one connection.
pub(super) const MOST_WAITING: usize = 4096;
/// Prepared statements, and open portals, that are remembered for one connection.
pub(super) const MOST_NAMED: usize = 512;
/// What is wanted of each call: a statement with room for what is sent in front of it, and of replies the
/// first messages (an error's code); their last ones are at the end of a call, which is always copied.
const WANTS: (u32, u32) = (1024, 4096);

#[derive(Debug)]
pub struct Postgresql {
    stage: Stage,
    sent: Frames,
    received: Frames,
    pub(super) state: State,
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
    pub statements: HashMap<Box<[u8]>, Statement>,
    /// The statement of a portal; `None` when it was prepared before anyone looked.
    pub portals: HashMap<Box<[u8]>, Option<Statement>>,
    /// Statements parsed since the last synchronisation and not yet run.
    pub parsed: Vec<Statement>,
    /// An error has been answered, and the server skips what comes before the next synchronisation.
    pub failed: bool,
}

/// What the client waits for, in the order of the answers.
#[derive(Clone, Debug, Default)]
pub(super) struct Waiting {
    pub what: What,
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
    pub fn new() -> Self {
        Self::at(Stage::Opening)
    }

    /// From a message's start, in the middle of a connection.
    #[must_use]
    pub fn in_the_middle() -> Self {
        Self::at(Stage::Messages)
    }

    fn at(stage: Stage) -> Self {
        Self { stage, sent: Frames::default(), received: Frames::default(), state: State::default() }
    }

    fn open(&mut self, part: Part<'_>) {
        let Part::Bytes(mut bytes) = part else {
            // Settings are short: what is missing is more than them, or they were lost.
            self.stage = Stage::Messages;
            self.sent.lose();
            return;
        };
        while let Some(frame) = self.sent.next(&mut bytes, OPENING_HEADER, messages::opening) {
            match messages::opening_code(frame.payload) {
                Some(SSL_REQUEST | GSS_REQUEST) => self.stage = Stage::Asked,
                Some(_) => self.stage = Stage::Messages,
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
}

impl Default for Postgresql {
    fn default() -> Self {
        Self::new()
    }
}

impl Client for Postgresql {
    fn sent(&mut self, part: Part<'_>, calls: &mut Calls) {
        if self.stage == Stage::Opening {
            return self.open(part);
        }
        if self.stage != Stage::Messages {
            return;
        }
        if self.received.is_lost() {
            // A client that does not pipeline asks for the next thing when it has the last.
            self.state.abandon(calls);
            self.received.restart();
        }
        let mut part = part;
        if let Part::Bytes(bytes) = &mut part
            && !self.sent.recover(bytes, HEADER, messages::request, |_| true)
        {
            return;
        }
        let was_lost = self.sent.is_lost();
        let state = &mut self.state;
        follow(&mut self.sent, part, HEADER, messages::request, |frame| state.request(&frame, calls));
        if self.sent.is_lost() && !was_lost {
            calls.lost += 1;
        }
    }

    fn received(&mut self, part: Part<'_>, calls: &mut Calls) {
        match (self.stage, part) {
            (Stage::Asked, Part::Bytes([answer, rest @ ..])) => {
                self.stage = match answer {
                    b'N' => Stage::Opening,
                    b'E' => Stage::Messages,
                    _ => Stage::Opaque,
                };
                if self.stage == Stage::Messages {
                    self.received(part, calls);
                } else if !rest.is_empty() {
                    self.stage = Stage::Opaque;
                }
                return;
            }
            (Stage::Asked, _) => {
                self.stage = Stage::Opaque;
                return;
            }
            (Stage::Messages, _) => {}
            _ => return,
        }
        let mut part = part;
        if let Part::Bytes(bytes) = &mut part
            && !self.received.recover(bytes, HEADER, messages::reply, |last| last.first() == Some(&b'Z'))
        {
            return;
        }
        let was_lost = self.received.is_lost();
        let state = &mut self.state;
        follow(&mut self.received, part, HEADER, messages::reply, |frame| state.reply(&frame, calls));
        if self.received.is_lost() && !was_lost {
            calls.lost += 1;
        }
    }

    fn wants(&self) -> (u32, u32) {
        WANTS
    }

    fn is_opaque(&self) -> bool {
        self.stage == Stage::Opaque
    }
}

impl State {
    /// Nothing is known of what is waited for any more.
    fn abandon(&mut self, calls: &mut Calls) {
        for waiting in self.waiting.drain(..) {
            if waiting.what != What::Sync {
                calls.abandoned(0);
            }
        }
        self.parsed.clear();
        self.failed = false;
    }

    /// The oldest call that is waited for has been answered in part.
    pub(super) fn answered(&mut self, calls: &mut Calls) {
        if let Some(front) = self.waiting.front_mut()
            && front.what != What::Sync
            && !front.answered
        {
            front.answered = true;
            calls.list.push(Call::Answered { tag: 0 });
        }
    }
}
