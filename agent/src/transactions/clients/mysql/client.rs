//! One connection: where it stands in its opening, what its client waits for, which statements it has prepared.

use super::packets::{self, HEADER};
use super::replies::Reading;
use crate::transactions::clients::calls::{CallResult, ended};
use crate::transactions::clients::frames::{Frames, follow};
use crate::transactions::clients::{Call, Calls, Protocol, Wants};
use crate::transactions::http::Part;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// `db.system.name`. MariaDB speaks the same, and connections that are older than the attach do not tell.
pub(super) const SYSTEM: &str = "mysql";
/// Commands in flight on one connection: clients send one at a time, or a statement to prepare and run.
pub(super) const MOST_WAITING: usize = 256;
/// Prepared statements that are remembered for one connection.
pub(super) const MOST_PREPARED: usize = 512;
/// What is wanted of each call: a statement, and of answers enough to count the rows of most; where the last
/// ones end is at the end of a call, which is always copied.
const WANT_SENT: u32 = 4096;
const WANT_RECEIVED: u32 = 8192;

#[derive(Debug)]
pub struct Mysql {
    saw_opening: bool,
    sent: Frames,
    received: Frames,
    state: State,
}

#[derive(Debug)]
pub(super) struct State {
    pub stage: Stage,
    pub waiting: VecDeque<Waiting>,
    pub reading: Reading,
    pub prepared: HashMap<u32, Text>,
    /// The statement prepared last, under whatever number.
    pub latest: Option<Text>,
    /// The packet before goes on in the next.
    pub continued: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Greetings and passwords; `compressed` once both have agreed on it.
    Opening {
        compressed: bool,
    },
    Commands,
    /// Encrypted, compressed, or a stream of the server's log.
    Opaque,
}

/// A statement as far as it was captured, and the length of all of it.
#[derive(Clone, Debug)]
pub(super) struct Text {
    pub text: Arc<[u8]>,
    pub length: u32,
}

/// A command that has not been answered.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub what: What,
    /// So far: statements in one text answer one after the other.
    pub result: CallResult,
    /// Its first packet has come, and it was no error.
    pub accepted: bool,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    /// Results, one or more.
    Results,
    /// Rows of a result whose columns are known.
    Fetch,
    /// To prepare this.
    Prepare(Text),
    /// One packet, and no call of its own: a ping.
    Packet,
    /// Columns, and no call of its own.
    Columns,
    /// Another login, and no call of its own.
    Login,
}

impl Mysql {
    /// From the first byte of a connection.
    #[must_use]
    pub fn opening() -> Self {
        Self::at(Stage::Opening { compressed: false })
    }

    /// From a command's start, in the middle of a connection.
    #[must_use]
    pub fn in_the_middle() -> Self {
        Self::at(Stage::Commands)
    }

    fn at(stage: Stage) -> Self {
        let state = State {
            stage,
            waiting: VecDeque::new(),
            reading: Reading::First,
            prepared: HashMap::new(),
            latest: None,
            continued: false,
        };
        Self {
            saw_opening: stage != Stage::Commands,
            sent: Frames::default(),
            received: Frames::default(),
            state,
        }
    }
}

impl Protocol for Mysql {
    fn sent(&mut self, mut part: Part<'_>, first: bool, calls: &mut Calls) {
        if self.is_opaque() {
            return;
        }
        if let Part::Bytes(bytes) = &mut part
            && first
        {
            let begins_command = bytes.get(3) == Some(&0);
            // Answers are read to their end before the next command, or this is not their end.
            if begins_command && (self.received.is_lost() || self.state.is_answering()) {
                self.give_up(calls);
            }
            if begins_command && self.sent.is_lost() {
                self.sent.restart();
            }
        }
        let was_lost = self.sent.is_lost();
        let state = &mut self.state;
        follow(&mut self.sent, part, HEADER, packets::request, |frame| state.request(&frame, calls));
        if self.sent.is_lost() && !was_lost {
            calls.push(Call::Lost);
        }
    }

    fn received(&mut self, mut part: Part<'_>, _first: bool, calls: &mut Calls) {
        if self.is_opaque() {
            return;
        }
        if let Part::Bytes(bytes) = &mut part
            && self.received.is_lost()
            && self.received.recover(bytes, HEADER, packets::reply, packets::ends_answer)
        {
            self.state.skip_to_end();
        }
        let state = &mut self.state;
        follow(&mut self.received, part, HEADER, packets::reply, |frame| state.reply(&frame, calls));
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
        for waiting in self.state.waiting.drain(..).filter(|waiting| waiting.what.is_call()) {
            let result = match waiting.accepted {
                true => CallResult { earlier: true, rows: None, ..waiting.result },
                false => CallResult::unseen(),
            };
            calls.push(ended(result));
        }
        self.state.reading = Reading::First;
    }

    fn system(&self) -> &'static str {
        SYSTEM
    }

    fn saw_opening(&self) -> bool {
        self.saw_opening
    }

    fn is_opaque(&self) -> bool {
        self.state.stage == Stage::Opaque
    }
}

impl Mysql {
    /// The client goes on, so it has its answer, although its end was not found.
    fn give_up(&mut self, calls: &mut Calls) {
        if self.state.waiting.iter().any(|waiting| waiting.what.is_call() && !waiting.accepted) {
            calls.push(Call::Lost);
        }
        self.closed(calls);
        self.received.restart();
        self.state.continued = false;
    }
}

impl State {
    /// The answer to the oldest command has begun and not ended.
    fn is_answering(&self) -> bool {
        self.reading != Reading::First || self.waiting.front().is_some_and(|front| front.accepted)
    }
}

impl What {
    pub(super) fn is_call(&self) -> bool {
        matches!(self, Self::Results | Self::Fetch | Self::Prepare(_))
    }
}
