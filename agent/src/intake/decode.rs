//! One ring record to one event: pure and total. A record that does not decode is an error of ours, and is
//! counted as such; it can never panic.

use super::event::{
    Body, ConnectionId, Context, Direction, Endpoint, Event, ExceptionId, Gap, Greenlet, Io, Left, Library,
    LookedUp, Native, OffCpu, Sequence, StackId, StackPart, StackStatus, Statement, StatementStep, Step,
};
use super::exception;
use super::task::{TaskBegun, TaskDone, TaskLeft};
use bytemuck::Pod;
use pyapm_wire::event::{self as wire, kind};
use pyapm_wire::exception::Passed;
use pyapm_wire::greenlet as made;
use pyapm_wire::python::{ENTRIES, Frame, INNER_FRAMES, status};
use pyapm_wire::scope::Scope;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DecodeError {
    #[error("record of {0} bytes is shorter than its kind needs")]
    Short(usize),
    #[error("unknown record kind {0}")]
    Kind(u16),
    #[error("unknown stack status {0}")]
    Status(u16),
    #[error("unknown client library {0}")]
    Library(u16),
    #[error("unknown step of a statement {0}")]
    Step(u32),
    #[error("unknown relation of exceptions {0}")]
    Relation(u16),
}

/// # Errors
/// When the record is shorter than its own fields say, or says something this version does not know.
pub fn decode(record: &[u8]) -> Result<Event<'_>, DecodeError> {
    let (header, _) = split::<wire::Header>(record)?;
    let mut scope = Scope::default();
    let body = match header.kind {
        kind::FORK => Body::Fork { child: split::<wire::Fork>(record)?.0.child_tgid },
        kind::EXEC => Body::Exec,
        kind::EXIT => Body::Exit,
        kind::STARTED => Body::Started,
        kind::LISTENS => Body::Listens,
        kind::CONNECTION_OPENED => {
            let (opened, _) = split::<wire::ConnectionOpened>(record)?;
            Body::ConnectionOpened {
                connection: ConnectionId(opened.connection),
                fd: opened.fd,
                local: Endpoint::new(opened.family, opened.local_address, opened.local_port),
                peer: Endpoint::new(opened.family, opened.peer_address, opened.peer_port),
                sequence: (header.flags & wire::opened::SEQUENCE != 0)
                    .then_some(Sequence { sent: opened.sent, received: opened.received }),
                unread_ns: (header.flags & wire::opened::UNREAD != 0)
                    .then_some(u64::from(opened.unread_us) * 1_000),
            }
        }
        kind::CONNECTION_CLOSED => {
            let (closed, _) = split::<wire::ConnectionClosed>(record)?;
            Body::ConnectionClosed { connection: ConnectionId(closed.connection) }
        }
        kind::TLS_SESSION => {
            let (session, _) = split::<wire::TlsSession>(record)?;
            Body::TlsSession {
                session: ConnectionId(session.connection),
                carrier: (session.carrier != 0).then_some(ConnectionId(session.carrier)),
            }
        }
        kind::IO => {
            let (fixed, payload) = split::<wire::Io>(record)?;
            scope = fixed.scope;
            Body::Io(io(&fixed, payload, record)?)
        }
        kind::STATEMENT => {
            let (fixed, payload) = split::<wire::Statement>(record)?;
            scope = fixed.scope;
            Body::Statement(statement(&fixed, payload, record)?)
        }
        kind::STATEMENT_STEP => Body::StatementStep(statement_step(&split(record)?.0)?),
        kind::SAMPLE => {
            let (sample, _) = split::<wire::Sample>(record)?;
            scope = sample.scope;
            Body::Sample {
                stack: stack_id(sample.stack),
                status: stack_status(sample.stack_status)?,
                holds_gil: sample.header.flags & wire::gil::HOLDS != 0,
            }
        }
        kind::CONTEXT => {
            let (made, _) = split::<wire::Context>(record)?;
            Body::Context(Context {
                context: made.context,
                parent: made.parent,
                grandparent: made.grandparent,
                empty: made.header.flags & wire::context::EMPTY != 0,
            })
        }
        kind::GREENLET => {
            let (greenlet, _) = split::<made::Greenlet>(record)?;
            Body::Greenlet(Greenlet {
                greenlet: greenlet.greenlet,
                maker: greenlet.maker,
                is_thread: greenlet.header.flags & made::flag::THREAD != 0,
            })
        }
        kind::WRITE_QUEUED => {
            let (queued, _) = split::<wire::Queued>(record)?;
            scope = queued.scope;
            Body::Queued { connection: ConnectionId(queued.connection) }
        }
        kind::LOOP_SEEN => Body::LoopSeen,
        kind::LOOP_BLOCKED => {
            Body::LoopBlocked { started_ns: split::<wire::LoopBlocked>(record)?.0.started_ns }
        }
        kind::CONNECTED => {
            let (connected, _) = split::<wire::Connected>(record)?;
            Body::Connected {
                started_ns: connected.started_ns,
                fd: connected.fd,
                peer: Endpoint::new(connected.family, connected.address, connected.port),
            }
        }
        kind::LOOKED_UP => Body::LookedUp(looked_up(&split(record)?.0)),
        kind::HANDED_BACK => Body::HandedBack,
        kind::TASK_BEGUN => Body::TaskBegun(Box::new(TaskBegun::of(&split(record)?.0))),
        kind::TASK_DONE => Body::TaskDone(Box::new(TaskDone::of(&split(record)?.0))),
        kind::TASK_LEFT => Body::TaskLeft(Box::new(TaskLeft::of(&split(record)?.0))),
        kind::STACK => stack(record)?,
        kind::NATIVE => {
            let (native, rest) = split::<wire::Native>(record)?;
            let (stack, _) = take(rest, native.copied, record)?;
            let cut = header.flags & wire::native::CUT != 0;
            Body::Native(Native { ip: native.ip, sp: native.sp, bp: native.bp, stack, cut })
        }
        kind::OFF_CPU => {
            let (away, _) = split::<wire::OffCpu>(record)?;
            scope = away.scope;
            Body::OffCpu(OffCpu {
                duration_ns: (away.duration_ns != 0).then_some(away.duration_ns),
                queued_ns: away.queued_ns,
                left: left(&away)?,
            })
        }
        kind::EXCEPTION => {
            let (exception, who) = exception::decode(record)?;
            scope = who;
            Body::Exception(Box::new(exception))
        }
        kind::EXCEPTION_PASSED => {
            let (passed, _) = split::<Passed>(record)?;
            Body::ExceptionPassed { id: ExceptionId(passed.id), frame: passed.frame }
        }
        other => return Err(DecodeError::Kind(other)),
    };
    Ok(Event { time_ns: header.time_ns, pid: header.tgid, tid: header.tid, scope, body })
}

fn looked_up(told: &wire::LookedUp) -> LookedUp {
    let name = told.name.split(|byte| *byte == 0).next().and_then(|name| std::str::from_utf8(name).ok());
    // An IPv6 address may have a zone.
    let name = name.map(|name| name.split_once('%').map_or(name, |(address, _zone)| address));
    let count = usize::try_from(told.addresses).unwrap_or(usize::MAX);
    let found = told.found.iter().zip(told.families).take(count);
    let addresses = found.filter_map(|(address, family)| match Endpoint::new(family, *address, 0) {
        Endpoint::Inet { address, .. } => Some(address),
        _ => None,
    });
    LookedUp {
        started_ns: told.started_ns,
        literal: name.is_some_and(|name| name.parse::<std::net::IpAddr>().is_ok()),
        addresses: if told.result == 0 { addresses.collect() } else { Vec::new() },
    }
}

fn io<'a>(io: &wire::Io, payload: &'a [u8], record: &[u8]) -> Result<Io<'a>, DecodeError> {
    let (head, rest) = take(payload, io.head, record)?;
    let (tail, _) = take(rest, io.tail, record)?;
    let flagged = |flag| io.header.flags & flag != 0;
    Ok(Io {
        connection: ConnectionId(io.connection),
        direction: if flagged(wire::io::OUT) { Direction::Out } else { Direction::In },
        offset: io.offset,
        moved: io.moved,
        head,
        tail,
        end_of_stream: flagged(wire::io::END_OF_STREAM),
        failed: flagged(wire::io::FAILED),
        stack: stack_id(io.stack),
        status: stack_status(io.stack_status)?,
    })
}

fn statement<'a>(
    statement: &wire::Statement,
    payload: &'a [u8],
    record: &[u8],
) -> Result<Statement<'a>, DecodeError> {
    let (text, _) = take(payload, statement.captured, record)?;
    Ok(Statement {
        library: match statement.library {
            wire::library::MYSQL => Library::Mysql,
            wire::library::SQLITE => Library::Sqlite,
            other => return Err(DecodeError::Library(other)),
        },
        handle: statement.handle,
        text,
        text_len: statement.text_len,
        stack: stack_id(statement.stack),
        status: stack_status(statement.stack_status)?,
    })
}

fn statement_step(told: &wire::StatementStep) -> Result<StatementStep, DecodeError> {
    /// `SQLITE_DONE` of SQLite's `sqlite3.h`.
    const DONE: u32 = 101;
    let step = match told.step {
        wire::step::ROW => Step::Row,
        wire::step::OVER if told.result == DONE => Step::Done { changes: u64::try_from(told.changes).ok() },
        wire::step::OVER => Step::Failed { code: told.result },
        wire::step::LEFT => Step::Left,
        other => return Err(DecodeError::Step(other)),
    };
    Ok(StatementStep { handle: told.handle, rows: told.rows, step })
}

/// What a record, or an entry of the map of sleepers, says of the moment in which the thread left.
///
/// # Errors
/// When it says something that this version does not know.
pub fn left(away: &wire::OffCpu) -> Result<Left, DecodeError> {
    Ok(Left {
        stack: stack_id(away.stack),
        status: stack_status(away.stack_status)?,
        state: away.state,
        call: u64::try_from(away.call).ok(),
        arguments: away.arguments,
        fd: u32::try_from(away.fd).ok(),
        mode: away.mode,
        holds_gil: away.header.flags & wire::gil::HOLDS != 0,
        waits_for_gil: away.header.flags & wire::gil::WAITS != 0,
    })
}

fn stack(record: &[u8]) -> Result<Body<'_>, DecodeError> {
    let (fixed, rest) = split::<wire::Stack>(record)?;
    let bytes = (fixed.frames as usize).saturating_mul(size_of::<Frame>());
    let (frames, _) = take(rest, u32::try_from(bytes).unwrap_or(u32::MAX), record)?;
    let stack = stack_id(fixed.stack).ok_or(DecodeError::Short(record.len()))?;
    let frames = frames.chunks_exact(size_of::<Frame>()).map(bytemuck::pod_read_unaligned::<Frame>);
    let entries: Vec<u8> =
        frames.clone().map(|frame| u8::try_from(frame.code & ENTRIES).unwrap_or(u8::MAX)).collect();
    // What the kernel half adds to the code object's address is not part of it.
    let frames = frames.map(|frame| Frame { code: frame.code & !ENTRIES, ..frame }).collect();
    let status = stack_status(fixed.stack_status)?;
    let gap = (fixed.left_out > 0).then_some(Gap { after: INNER_FRAMES, frames: fixed.left_out });
    let top_entries = u8::try_from(fixed.top_entries).unwrap_or(u8::MAX);
    let (before, kept) = (fixed.before as usize, fixed.kept as usize);
    let part = StackPart { stack, frames, entries, top_entries, before, kept, gap, status };
    if fixed.before == 0 && fixed.kept == fixed.frames {
        return Ok(part.whole());
    }
    Ok(Body::StackPart(part))
}

/// The fixed part at the start, and what follows it.
pub(super) fn split<T: Pod>(record: &[u8]) -> Result<(T, &[u8]), DecodeError> {
    let (fixed, rest) = record.split_at_checked(size_of::<T>()).ok_or(DecodeError::Short(record.len()))?;
    Ok((bytemuck::pod_read_unaligned(fixed), rest))
}

fn take<'a>(bytes: &'a [u8], length: u32, record: &[u8]) -> Result<(&'a [u8], &'a [u8]), DecodeError> {
    bytes.split_at_checked(length as usize).ok_or(DecodeError::Short(record.len()))
}

fn stack_id(id: u64) -> Option<StackId> {
    (id != 0).then_some(StackId(id))
}

fn stack_status(value: u16) -> Result<StackStatus, DecodeError> {
    Ok(match value {
        status::COMPLETE => StackStatus::Complete,
        status::NO_LAYOUT => StackStatus::NoLayout,
        status::NO_THREAD_STATE => StackStatus::NoThreadState,
        status::NO_FRAME => StackStatus::NoFrame,
        status::UNREADABLE => StackStatus::Unreadable,
        status::TRUNCATED => StackStatus::Truncated,
        status::NOT_ASKED => StackStatus::NotAsked,
        other => return Err(DecodeError::Status(other)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytemuck::Zeroable;

    fn header(kind: u16) -> wire::Header {
        wire::Header { kind, flags: 0, len: 0, time_ns: 5, tgid: 7, tid: 8 }
    }

    fn bytes_of<T: Pod>(value: &T, rest: &[u8]) -> Vec<u8> {
        [bytemuck::bytes_of(value), rest].concat()
    }

    #[test]
    fn greenlets_that_stand_for_threads() {
        for (flags, is_thread) in [(0, false), (made::flag::THREAD, true)] {
            let header = wire::Header { flags, ..header(kind::GREENLET) };
            let record = bytes_of(&made::Greenlet { header, greenlet: 0xa0, maker: 0xb0 }, b"");
            let event = decode(&record).unwrap();
            assert_eq!(event.body, Body::Greenlet(Greenlet { greenlet: 0xa0, maker: 0xb0, is_thread }));
            assert_eq!(decode(&record[..39]).unwrap_err(), DecodeError::Short(39));
        }
    }

    #[test]
    fn io_with_head_and_tail() {
        let io = wire::Io {
            header: wire::Header { flags: wire::io::OUT, ..header(kind::IO) },
            connection: 9,
            offset: 100,
            moved: 1000,
            head: 3,
            tail: 2,
            ..wire::Io::zeroed()
        };
        let record = bytes_of(&io, b"abcyz");
        let event = decode(&record).unwrap();
        let Body::Io(io) = event.body else { panic!("not an io event: {event:?}") };
        assert_eq!((event.time_ns, event.pid, event.tid), (5, 7, 8));
        assert_eq!((io.head, io.tail, io.direction), (&b"abc"[..], &b"yz"[..], Direction::Out));
        assert_eq!((io.offset, io.moved, io.connection), (100, 1000, ConnectionId(9)));
    }

    #[test]
    fn stack_frames() {
        let frame = Frame { code: 0x1000, instruction: -2, identity: 3 };
        let entered = Frame { code: frame.code | 2, ..frame };
        let stack = wire::Stack {
            header: header(kind::STACK),
            stack: 11,
            frames: 2,
            kept: 2,
            top_entries: 1,
            ..wire::Stack::zeroed()
        };
        let record = bytes_of(&stack, &[bytemuck::bytes_of(&entered), bytemuck::bytes_of(&frame)].concat());
        let body = decode(&record).unwrap().body;
        assert_eq!(
            body,
            Body::Stack {
                stack: StackId(11),
                frames: vec![frame, frame],
                entries: vec![1, 2],
                gap: None,
                status: StackStatus::Complete,
            }
        );
    }

    #[test]
    fn times_away() {
        let away = wire::OffCpu {
            header: wire::Header { flags: wire::gil::WAITS, ..header(kind::OFF_CPU) },
            duration_ns: 70,
            queued_ns: 20,
            arguments: [1, 2, 3],
            call: 202,
            state: 1,
            fd: -1,
            ..wire::OffCpu::zeroed()
        };
        let record = bytes_of(&away, &[]);
        let Body::OffCpu(told) = decode(&record).unwrap().body else { panic!() };
        assert_eq!((told.duration_ns, told.queued_ns), (Some(70), 20));
        assert_eq!((told.left.call, told.left.arguments, told.left.fd), (Some(202), [1, 2, 3], None));
        assert_eq!((told.left.waits_for_gil, told.left.holds_gil), (true, false));
        let outside = wire::OffCpu { call: wire::call::NONE, fd: 7, duration_ns: 0, ..away };
        let record = bytes_of(&outside, &[]);
        let Body::OffCpu(told) = decode(&record).unwrap().body else { panic!() };
        assert_eq!((told.duration_ns, told.left.call, told.left.fd), (None, None, Some(7)));
    }

    #[test]
    fn steps_of_a_statement() {
        let told = |step, result, changes| {
            let header = header(kind::STATEMENT_STEP);
            let record = wire::StatementStep { header, handle: 3, rows: 2, changes, step, result };
            match decode(&bytes_of(&record, &[])).map(|event| event.body) {
                Ok(Body::StatementStep(StatementStep { handle: 3, rows: 2, step })) => Ok(step),
                other => Err(format!("{other:?}")),
            }
        };
        assert_eq!(told(wire::step::ROW, 100, -1), Ok(Step::Row));
        assert_eq!(told(wire::step::OVER, 101, -1), Ok(Step::Done { changes: None }));
        assert_eq!(told(wire::step::OVER, 101, 4), Ok(Step::Done { changes: Some(4) }));
        assert_eq!(told(wire::step::OVER, 2067, -1), Ok(Step::Failed { code: 2067 }));
        assert_eq!(told(wire::step::LEFT, 0, -1), Ok(Step::Left));
        assert!(told(9, 0, 0).is_err());
    }

    /// Every prefix of a good record, and every single-byte change of it, decodes or fails; none panics.
    #[test]
    fn hostile_records() {
        let io = wire::Io { header: header(kind::IO), head: 3, tail: 2, ..wire::Io::zeroed() };
        let statement = wire::Statement {
            header: header(kind::STATEMENT),
            captured: 5,
            library: 1,
            ..wire::Statement::zeroed()
        };
        let step = wire::StatementStep {
            header: header(kind::STATEMENT_STEP),
            step: 1,
            ..wire::StatementStep::zeroed()
        };
        let stack = wire::Stack { header: header(kind::STACK), stack: 1, frames: 1, ..wire::Stack::zeroed() };
        let native = wire::Native { header: header(kind::NATIVE), copied: 3, ..wire::Native::zeroed() };
        let away = wire::OffCpu { header: header(kind::OFF_CPU), ..wire::OffCpu::zeroed() };
        for record in [
            bytes_of(&io, b"abcyz"),
            bytes_of(&statement, b"abcyz"),
            bytes_of(&step, &[]),
            bytes_of(&stack, &[0; 16]),
            bytes_of(&native, b"abc"),
            bytes_of(&away, &[]),
        ] {
            assert!(decode(&record).is_ok());
            for end in 0..record.len() {
                assert_eq!(decode(&record[..end]), Err(DecodeError::Short(end)));
            }
            for index in 0..record.len() {
                for value in [0, 1, 0x7f, 0xff] {
                    let mut changed = record.clone();
                    changed[index] = value;
                    let _no_panic = decode(&changed);
                }
            }
        }
    }
}
