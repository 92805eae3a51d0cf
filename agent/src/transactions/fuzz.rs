//! What is fuzzed: every parser of hostile bytes behind one function of bytes. `tests/fuzz` hands them to libFuzzer; a
//! fixed number of damaged recordings runs with the other tests. Not part of what the program does.
//!
//! Exchanges are written as runs of a connection, so that a fuzzer that knows nothing can cut, lose and reorder them:
//! one byte of control (bit 0 sent by the client; bits 1 and 2: 2 moved but not captured, 3 lost, else bytes; bit 3 not
//! at the start of a call; bit 4 and on are ignored), the length as two bytes, low byte first, and then as many bytes,
//! or what there is of them.

#[cfg(test)]
mod tests;

use super::Counts;
use super::clients::{self, Call, Calls, Protocol};
use super::http::{Part, Requests, Server, Sink};
use super::sql::{Dialect, normalise};
use super::tasks::{Deliveries, Results};
use crate::intake::{Direction, decode};
use pyapm_model::line::Outcome;
use std::collections::HashMap;

/// What was promised and did not hold.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Broken {
    #[error("no fuzzing target is called `{0}`")]
    Target(String),
    #[error("a call ended that had not begun (tag {0})")]
    EndedTwice(u64),
    #[error("a call never ended (tag {0})")]
    NeverEnded(u64),
    #[error("{given} bytes of SQL became {made}")]
    Grew { given: usize, made: usize },
    #[error("{opened} exchanges are open, and {allowed} may be")]
    TooMany { opened: usize, allowed: usize },
}

/// Names of all targets.
pub const TARGETS: [&str; 18] = [
    "amqp",
    "amqp-middle",
    "mysql",
    "mysql-middle",
    "postgresql",
    "postgresql-middle",
    "redis",
    "memcached",
    "mongodb",
    "kafka",
    "celery",
    "http-client",
    "http2-client",
    "http2-client-middle",
    "detect",
    "http-server",
    "sql",
    "records",
];

/// Runs one target on one input. Panicking is what must not happen.
///
/// # Errors
/// When something else does that must not.
pub fn run(target: &str, input: &[u8]) -> Result<(), Broken> {
    match target {
        "detect" => detected(input),
        "http-server" => server(input),
        "sql" => sql(input),
        "celery" => {
            pool(input);
            Ok(())
        }
        "records" => {
            let _errors_are_fine = decode(input);
            Ok(())
        }
        name => client(clients::named(name).ok_or_else(|| Broken::Target(name.to_owned()))?, input),
    }
}

/// One run of a connection's bytes.
struct Run<'a> {
    sent: bool,
    first: bool,
    part: Part<'a>,
}

struct Runs<'a>(&'a [u8]);

impl<'a> Iterator for Runs<'a> {
    type Item = Run<'a>;

    fn next(&mut self) -> Option<Run<'a>> {
        let [control, low, high, rest @ ..] = self.0 else { return None };
        let length = usize::from(u16::from_le_bytes([*low, *high]));
        let (part, rest) = match (control >> 1) & 3 {
            2 => (Part::Absent(length as u64), rest),
            3 => (Part::Lost(length as u64), rest),
            _ => {
                let (bytes, rest) = rest.split_at_checked(length).unwrap_or((rest, &[]));
                (Part::Bytes(bytes), rest)
            }
        };
        self.0 = rest;
        Some(Run { sent: control & 1 != 0, first: control & 8 == 0, part })
    }
}

fn client(mut protocol: Box<dyn Protocol>, input: &[u8]) -> Result<(), Broken> {
    let mut calls = Calls::new();
    for Run { sent, first, part } in Runs(input) {
        if sent {
            protocol.sent(part, first, &mut calls);
        } else {
            protocol.received(part, first, &mut calls);
        }
        let _any_is_fine = protocol.wants();
    }
    protocol.closed(&mut calls);
    let mut open: HashMap<u64, u64> = HashMap::new();
    for call in &calls {
        match call {
            Call::Began { tag, .. } => *open.entry(*tag).or_default() += 1,
            Call::Ended { tag, .. } => {
                let open = open.entry(*tag).or_default();
                *open = open.checked_sub(1).ok_or(Broken::EndedTwice(*tag))?;
            }
            Call::Answering { .. }
            | Call::Accepted { .. }
            | Call::Checked
            | Call::Undecoded
            | Call::Lost
            | Call::Overflow => {}
        }
    }
    open.into_iter().find(|(_, left)| *left > 0).map_or(Ok(()), |(tag, _)| Err(Broken::NeverEnded(tag)))
}

/// The protocol is told by the first bytes.
fn detected(input: &[u8]) -> Result<(), Broken> {
    for (position, Run { sent, part, .. }) in Runs(input).enumerate() {
        let Part::Bytes(bytes) = part else { continue };
        let direction = if sent { Direction::Out } else { Direction::In };
        let moved = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        if let Some(protocol) = clients::detect(bytes, moved, direction, position == 0) {
            return client(protocol, input);
        }
    }
    Ok(())
}

/// The first bit says which of the two protocols requests come in.
fn server(input: &[u8]) -> Result<(), Broken> {
    const ROOM: usize = 16;
    let Some((kind, input)) = input.split_first() else { return Ok(()) };
    let requests = if kind & 1 == 0 { Requests::Http } else { Requests::Uwsgi };
    let mut server: Server<()> = Server::new(requests);
    let (mut ended, mut counts) = (Vec::new(), Counts::default());
    for (time_ns, Run { sent, first, part }) in Runs(input).enumerate() {
        let room = ROOM.saturating_sub(server.open().len());
        let mut sink = Sink { ended: &mut ended, counts: &mut counts, room, room_here: room };
        if sent {
            server.inbound(time_ns as u64, part, first, &mut sink);
        } else {
            server.outbound(time_ns as u64, part, first, &mut sink);
        }
        let opened = server.open().len();
        if opened > ROOM {
            return Err(Broken::TooMany { opened, allowed: ROOM });
        }
        let _any_is_fine = server.indifferent();
    }
    let mut sink = Sink { ended: &mut ended, counts: &mut counts, room: 0, room_here: 0 };
    server.finish(u64::MAX, Outcome::Aborted, true, &mut sink);
    Ok(())
}

/// The two pipes of a process of Celery's pool: what is sent are results.
fn pool(input: &[u8]) {
    let (mut deliveries, mut results) = (Deliveries::default(), Results::default());
    for (time_ns, Run { sent, first, part }) in Runs(input).enumerate() {
        if sent {
            results.follow(part, first, |_finished, _bytes| {});
        } else {
            deliveries.follow(time_ns as u64, part, first, |_delivery, _began_ns, _bytes| {});
        }
        let _any_is_fine = deliveries.is_other() || results.is_other();
    }
}

/// The first byte says the dialect, and how many bytes of the text are left out.
fn sql(input: &[u8]) -> Result<(), Broken> {
    let Some((choice, text)) = input.split_first() else { return Ok(()) };
    let dialect = match choice & 3 {
        0 => Dialect::Sqlite,
        1 => Dialect::Postgresql,
        _ => Dialect::Mysql,
    };
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX).saturating_add(u32::from(choice >> 2));
    let normalised = normalise(text, length, dialect);
    // A byte that is no UTF-8 becomes a character of three, and each lexeme may get a space before it.
    let (given, made) = (text.len(), normalised.text.len());
    if made > given.saturating_mul(6).saturating_add(16) {
        return Err(Broken::Grew { given, made });
    }
    Ok(())
}
