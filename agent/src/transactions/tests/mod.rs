//! Exchanges written out as bytes, driven through [`super::Transactions`] as the kernel would tell them.

mod bounds;
mod clients;
mod exchanges;
mod garbage;
mod joining;
mod losses;
mod places;
mod spans;
mod tasks;
mod tls;
mod uwsgi;
mod waits;

use super::sql::Mode;
use super::{Clock, Limits, Output, Settings, Transactions};
use crate::intake::{
    Body, ConnectionId, Direction, Endpoint, Event, Io, Library, StackId, StackStatus, Statement,
};
use pyapm_model::line::{Frame, Outcome, Transaction};
use pyapm_model::stack::Stack;
use pyapm_wire::scope::Scope;
use std::collections::HashMap;

pub const OFFSET: i64 = 1_000_000_000_000;
pub const PID: u32 = 100;
/// Server connection and database connection of most tests.
pub const WEB: u64 = 1;
pub const DB: u64 = 2;

/// Plays events, keeping streams' positions; every step is one microsecond later than the one before.
pub struct Player {
    pub transactions: Transactions,
    pub out: Output,
    pub now_ns: u64,
    pub tid: u32,
    pub positions: HashMap<(u64, bool), u64>,
    /// Of the call to come.
    pub stack: Option<Stack>,
    /// Of all events to come.
    pub scope: Scope,
}

impl Player {
    pub fn new() -> Self {
        Self::with(Limits::default())
    }

    pub fn with(limits: Limits) -> Self {
        let clock = Clock { monotonic_to_wall_offset_ns: OFFSET };
        let settings =
            Settings { application: "shop".into(), clock, seed: 1, limits, sql: Mode::Digest, waits: true };
        Self {
            transactions: Transactions::new(settings),
            out: Output::default(),
            now_ns: 1_000,
            tid: PID,
            positions: HashMap::new(),
            stack: None,
            scope: Scope::default(),
        }
    }

    pub fn event(&mut self, body: Body<'_>, stack: Option<Stack>) {
        let event = Event { time_ns: self.now_ns, pid: PID, tid: self.tid, scope: self.scope, body };
        self.transactions.observe(&event, stack, &mut self.out);
    }

    pub fn step(&mut self) {
        self.now_ns += 1_000;
    }

    pub fn open(&mut self, connection: u64) {
        let peer = Endpoint::Inet { address: [127, 0, 0, 1].into(), port: 3306 };
        self.open_with(connection, peer);
    }

    pub fn open_with(&mut self, connection: u64, peer: Endpoint) {
        let local = Endpoint::Inet { address: [127, 0, 0, 1].into(), port: 8000 };
        let fd = u32::try_from(connection).unwrap() + 10;
        let connection = ConnectionId(connection);
        self.event(
            Body::ConnectionOpened { connection, fd, local, peer, sequence: None, unread_ns: None },
            None,
        );
    }

    pub fn close(&mut self, connection: u64) {
        self.step();
        self.event(Body::ConnectionClosed { connection: ConnectionId(connection) }, None);
    }

    /// One call that moved `bytes`, of which only the first `captured` and the last `tail` are there.
    pub fn call(
        &mut self,
        connection: u64,
        direction: Direction,
        bytes: &[u8],
        captured: usize,
        tail: usize,
    ) {
        let position = self.positions.entry((connection, direction == Direction::In)).or_default();
        let offset = *position;
        *position += bytes.len() as u64;
        let head = &bytes[..captured.min(bytes.len())];
        let tail = &bytes[bytes.len() - tail.min(bytes.len() - head.len())..];
        let io = Io {
            connection: ConnectionId(connection),
            direction,
            offset,
            moved: u32::try_from(bytes.len()).unwrap(),
            head,
            tail,
            end_of_stream: false,
            failed: false,
            stack: None,
            status: StackStatus::NotAsked,
        };
        let stack = self.stack.clone();
        self.event(Body::Io(io), stack);
    }

    pub fn read(&mut self, connection: u64, bytes: &[u8]) {
        self.step();
        self.call(connection, Direction::In, bytes, bytes.len(), 0);
    }

    /// A write of which the kernel took the Python stack.
    pub fn write_from(&mut self, connection: u64, bytes: &[u8], stack: Stack) {
        self.step();
        self.stack = Some(stack);
        self.call(connection, Direction::Out, bytes, bytes.len(), 0);
        self.stack = None;
    }

    pub fn write(&mut self, connection: u64, bytes: &[u8]) {
        self.step();
        self.call(connection, Direction::Out, bytes, bytes.len(), 0);
    }

    /// A call that moved nothing: end of stream, or failure.
    pub fn ended(&mut self, connection: u64, direction: Direction, failed: bool) {
        self.step();
        let offset = self.positions.get(&(connection, direction == Direction::In)).copied().unwrap_or(0);
        let io = Io {
            connection: ConnectionId(connection),
            direction,
            offset,
            moved: 0,
            head: &[],
            tail: &[],
            end_of_stream: !failed,
            failed,
            stack: None,
            status: StackStatus::NotAsked,
        };
        self.event(Body::Io(io), None);
    }

    /// Bytes whose record was lost.
    pub fn lose(&mut self, connection: u64, direction: Direction, count: u64) {
        self.step();
        *self.positions.entry((connection, direction == Direction::In)).or_default() += count;
    }

    pub fn statement(&mut self, handle: u64, text: &str, stack: Option<Stack>) {
        self.step();
        let statement = Statement {
            library: Library::Mysql,
            handle,
            text: text.as_bytes(),
            text_len: u32::try_from(text.len()).unwrap(),
            stack: stack.as_ref().map(|_| StackId(1)),
            status: StackStatus::Complete,
        };
        self.event(Body::Statement(statement), stack);
    }

    /// A statement with its packet and the reply's, as mysqlclient makes them.
    pub fn query(&mut self, text: &str, reply: &[u8], stack: Option<Stack>) {
        self.statement(7, text, stack);
        self.write(DB, &command(text));
        self.read(DB, reply);
    }

    pub fn sample(&mut self, id: u64, stack: Option<Stack>) {
        let id = stack.as_ref().map(|_| StackId(id));
        self.event(Body::Sample { stack: id, status: StackStatus::Complete, holds_gil: false }, stack);
    }

    pub fn finished(&self) -> Vec<&Transaction> {
        self.out.finished.iter().map(|finished| &finished.transaction).collect()
    }

    pub fn only(&self) -> &Transaction {
        let finished = self.finished();
        assert_eq!(finished.len(), 1, "{finished:#?}");
        finished[0]
    }

    pub fn summary(&self) -> Vec<(String, Option<u16>, Outcome)> {
        self.finished()
            .iter()
            .map(|t| {
                let path = t.path.clone().unwrap_or_default();
                (format!("{} {path}", t.method.as_deref().unwrap_or("?")), t.status, t.outcome)
            })
            .collect()
    }
}

pub fn command(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len() + 1).unwrap().to_le_bytes();
    let mut packet = vec![length[0], length[1], length[2], 0, 3];
    packet.extend_from_slice(text.as_bytes());
    packet
}

pub const ROWS: &[u8] = b"\x01\0\0\x01\x03\x27\0\0\x02\x03def";
pub const OK: &[u8] = b"\x07\0\0\x01\0\0\0\x02\0\0\0";
pub const ERROR_1146: &[u8] = b"\x2a\0\0\x01\xff\x7a\x04#42S02Table 'shop.nosuch' doesn't exist";

pub fn frames(files: &[(&str, &str, u32)]) -> Stack {
    files
        .iter()
        .map(|(function, file, line)| Frame {
            function: (*function).into(),
            file: (*file).into(),
            line: Some(*line),
        })
        .collect()
}

/// Pseudo-random numbers that are the same in every run (xorshift64, Marsaglia 2003).
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).unwrap()
    }
}
