//! One connection of a target: what it speaks, told by its bytes, and how much of them is still wanted.

use super::clients::detect;
use super::connecting::Setup;
use super::http::{Likeness, Part, RequestHead, Requests, Server, Sink, packet_likeness, request_likeness};
use super::joining::CallKey;
use super::settings::Hint;
use super::spans::{Client, SpanId};
use super::tasks::{Deliveries, Results, WANT_RESULT, WANT_TASK};
use super::thread::ThreadKey;
use super::tls::Tls;
use super::work::{OpenTask, Work};
use crate::intake::{ConnectionId, Direction, Endpoint, Io, Sequence};
use pyapm_model::line::Outcome;
use pyapm_wire::connection::MAX_CAPTURE;

/// Calls with other bytes after which a connection is taken not to be HTTP. More than one, because a
/// connection that is older than the attach may be in the middle of a body.
const MOST_MISSES_IN: u8 = 8;
const MOST_MISSES_OUT: u8 = 64;
/// A hint is worth its system call from so many bytes on.
const WORTH_SKIPPING: u64 = 16 * 1024;
/// What is wanted of each call on a database connection that cannot be read: enough to see that it cannot.
const WANT_DATABASE: (u32, u32) = (0, 64);

#[derive(Debug)]
pub enum Speaks {
    Undecided {
        /// The start of what may become a request line, and when it began.
        start: Vec<u8>,
        started_ns: u64,
        misses_in: u8,
        misses_out: u8,
    },
    Http(Box<Server<Work>>),
    /// A database whose bytes cannot be read: what its client library is called with is all there is.
    Mysql(Database),
    Client(Client),
    /// A pipe by which tasks come in.
    Tasks(Box<Tasks>),
    /// A pipe by which the process tells what became of them.
    Results(Results),
    /// Not followed.
    Nothing,
}

/// The tasks of one process.
#[derive(Debug, Default)]
pub struct Tasks {
    deliveries: Deliveries,
    /// One at a time.
    pub server: Server<Work>,
    /// The frame that runs it, of one that came by no pipe.
    pub frame: Option<u64>,
}

impl Speaks {
    /// What comes in here to be worked on, requests or tasks.
    #[must_use]
    pub fn server(&self) -> Option<&Server<Work>> {
        match self {
            Self::Http(server) => Some(server),
            Self::Tasks(tasks) => Some(&tasks.server),
            _ => None,
        }
    }

    pub fn server_mut(&mut self) -> Option<&mut Server<Work>> {
        match self {
            Self::Http(server) => Some(server),
            Self::Tasks(tasks) => Some(&mut tasks.server),
            _ => None,
        }
    }

    /// A pipe has one direction, and says by it what it is for.
    fn pipe(direction: Direction) -> Self {
        match direction {
            Direction::In => Self::Tasks(Box::default()),
            Direction::Out => Self::Results(Results::default()),
        }
    }
}

impl Tasks {
    /// The one task that this frame runs.
    pub fn of_frame(frame: u64) -> Self {
        Self { frame: Some(frame), ..Self::default() }
    }

    /// Bytes of the pipe; a task begins when its message is whole.
    fn inbound(&mut self, time_ns: u64, io: &Io<'_>, lost: u64, sink: &mut Sink<'_, Work>) {
        let lost = (lost > 0).then_some((Part::Lost(lost), false));
        let Self { deliveries, server, .. } = self;
        for (part, first) in lost.into_iter().chain(parts(io, true)) {
            deliveries.follow(time_ns, part, first, |delivery, started_ns, bytes| {
                // The word of the end of the one before was lost.
                server.give_up(started_ns, sink);
                let head = RequestHead { trace: delivery.trace.clone(), ..RequestHead::none() };
                if server.take_up(head, started_ns, bytes, sink)
                    && let Some(exchange) = server.current()
                {
                    exchange.work.task = Some(Box::new(OpenTask { delivery, finished: None }));
                }
            });
        }
    }
}

/// A connection to a database, as far as its current statement goes.
#[derive(Debug, Default)]
pub struct Database {
    pub handle: Option<u64>,
    pub live: Option<Live>,
}

/// The statement whose reply is awaited or being read.
#[derive(Clone, Copy, Debug)]
pub struct Live {
    pub span: Option<SpanId>,
    /// Bytes have come back.
    pub replied: bool,
}

#[derive(Debug)]
pub struct Connection {
    pub id: ConnectionId,
    pub pid: u32,
    /// `None` when the record of its opening was lost, and for a TLS session.
    pub fd: Option<u32>,
    pub peer: Option<Endpoint>,
    pub local: Option<Endpoint>,
    pub sequence: Option<Sequence>,
    /// Offset of the first byte that was offered to its parser, in the direction in which requests go.
    followed_from: u64,
    /// When its first call was seen; of a connection that is older than the attach, not when it was made.
    pub opened_ns: Option<u64>,
    /// How long its first bytes had waited to be read, where that is known.
    pub unread_ns: Option<u64>,
    /// How it came to be, until the call that it was made for has it.
    pub setup: Option<Setup>,
    pub speaks: Speaks,
    /// What it has to do with TLS.
    pub tls: Tls,
    /// The process hands requests on here, by the uwsgi protocol.
    pub passes_on: bool,
    /// The thread that serves its current request.
    pub owner: Option<ThreadKey>,
    /// Position of the next byte in each direction; `None` when the record of the opening was lost and
    /// nothing has moved yet: then the first record says where the stream stands.
    in_at: Option<u64>,
    out_at: Option<u64>,
    hinted: Option<Hint>,
}

impl Connection {
    #[must_use]
    pub fn new(id: ConnectionId, pid: u32, opening_seen: bool) -> Self {
        let start = opening_seen.then_some(0);
        let speaks = Speaks::Undecided { start: Vec::new(), started_ns: 0, misses_in: 0, misses_out: 0 };
        Self {
            id,
            pid,
            fd: None,
            peer: None,
            local: None,
            sequence: None,
            followed_from: 0,
            opened_ns: None,
            unread_ns: None,
            setup: None,
            speaks,
            tls: Tls::default(),
            passes_on: false,
            owner: None,
            in_at: start,
            out_at: start,
            hinted: None,
        }
    }

    /// Follows one call's bytes; returns how many bytes were lost before them, or `None` when the record
    /// is older than what has been seen and was not used.
    pub fn io(&mut self, time_ns: u64, io: &Io<'_>, sink: &mut Sink<'_, Work>) -> Option<u64> {
        let at = match io.direction {
            Direction::In => &mut self.in_at,
            Direction::Out => &mut self.out_at,
        };
        let Some(lost) = io.offset.checked_sub(at.unwrap_or(io.offset)) else {
            sink.counts.late += 1;
            return None;
        };
        if lost > 0 {
            sink.counts.gap += 1;
        }
        *at = Some(io.offset.saturating_add(u64::from(io.moved)));
        if self.tls.begins(io, matches!(self.speaks, Speaks::Undecided { .. })) {
            self.tls = Tls::Carrier { session: None };
        }
        if let Tls::Carrier { .. } = self.tls {
            // What it said in clear before waits for the session, which goes on with it.
            return Some(lost);
        }
        if self.peer == Some(Endpoint::Pipe)
            && io.moved > 0
            && matches!(self.speaks, Speaks::Undecided { .. })
        {
            self.speaks = Speaks::pipe(io.direction);
        }
        if let Speaks::Tasks(tasks) = &mut self.speaks {
            tasks.inbound(time_ns, io, lost, sink);
        } else if let Speaks::Undecided { .. } = self.speaks {
            self.decide(time_ns, io, lost, sink);
        } else if let Speaks::Http(server) = &mut self.speaks {
            feed(server, time_ns, io, lost, sink);
        }
        if let Speaks::Http(server) = &mut self.speaks
            && io.failed
        {
            server.finish(time_ns, Outcome::Aborted, false, sink);
        }
        Some(lost)
    }

    /// Looks at one call's bytes to tell what the connection speaks.
    fn decide(&mut self, time_ns: u64, io: &Io<'_>, lost: u64, sink: &mut Sink<'_, Work>) {
        let is_one_sided = self.is_one_sided();
        let Speaks::Undecided { start, started_ns, misses_in, misses_out } = &mut self.speaks else { return };
        if io.moved == 0 {
            return;
        }
        let outbound = io.direction == Direction::Out;
        if start.is_empty()
            && let Some(protocol) = detect(io.head, io.moved, io.direction, io.offset == 0)
        {
            self.followed_from = if outbound { io.offset - lost } else { self.next_out() };
            self.speaks = Speaks::Client(Client::new(protocol));
            return;
        }
        if outbound && packet_likeness(io.head) == Likeness::Yes {
            self.passes_on = true;
            self.speaks = Speaks::Nothing;
            return;
        }
        if outbound {
            *misses_out += 1;
        } else {
            if lost > 0 {
                start.clear();
            }
            if start.is_empty() {
                *started_ns = time_ns;
            }
            let before = start.len();
            // The usual case copies nothing: the first call carries the whole request line.
            let head = if before == 0 {
                io.head
            } else {
                start.extend_from_slice(io.head);
                start.as_slice()
            };
            let (likeness, requests) = match (request_likeness(head), packet_likeness(head)) {
                (_, Likeness::Yes) => (Likeness::Yes, Requests::Uwsgi),
                (Likeness::No, likeness) => (likeness, Requests::Uwsgi),
                (likeness, _) => (likeness, Requests::Http),
            };
            match likeness {
                Likeness::Yes => {
                    let mut server = Box::new(Server::new(requests));
                    start.truncate(before);
                    self.followed_from = io.offset.saturating_sub(before as u64);
                    server.inbound(*started_ns, Part::Bytes(start), true, sink);
                    feed_bytes(&mut server, time_ns, io, before == 0, sink);
                    self.speaks = Speaks::Http(server);
                    return;
                }
                Likeness::Maybe if io.head.len() as u64 == u64::from(io.moved) => {
                    if before == 0 {
                        start.extend_from_slice(io.head);
                    }
                    return;
                }
                Likeness::Maybe | Likeness::No => {
                    start.clear();
                    *misses_in += 1;
                }
            }
        }
        if is_one_sided {
            (*misses_in, *misses_out) = (0, 0);
        }
        if *misses_in >= MOST_MISSES_IN || *misses_out >= MOST_MISSES_OUT {
            sink.counts.not_http += 1;
            self.speaks = Speaks::Nothing;
        }
    }

    /// A session of which one direction alone has been seen. Its library may just be about to be followed, function by function,
    /// and what it reads says nothing as long as what it asked for goes by unseen.
    fn is_one_sided(&self) -> bool {
        matches!(self.tls, Tls::Session(_)) && (self.next_in() == 0 || self.next_out() == 0)
    }

    /// Where the other end may meet the request that was sent at this position.
    #[must_use]
    pub fn call_sent(&self, position: u64) -> Option<CallKey> {
        CallKey::new(self.local?, self.peer?, self.sequence?.sent, self.followed_from + position)
    }

    /// The same of a request that was received.
    #[must_use]
    pub fn call_received(&self, position: u64) -> Option<CallKey> {
        CallKey::new(self.peer?, self.local?, self.sequence?.received, self.followed_from + position)
    }

    /// Where the next byte from the peer will stand.
    #[must_use]
    pub fn next_in(&self) -> u64 {
        self.in_at.unwrap_or(0)
    }

    /// Where the next byte to the peer will stand.
    #[must_use]
    pub fn next_out(&self) -> u64 {
        self.out_at.unwrap_or(0)
    }

    /// A hint when the kernel should be told something new.
    pub fn hint(&mut self) -> Option<Hint> {
        let all = (MAX_CAPTURE, MAX_CAPTURE);
        let skip = |at: Option<u64>, ahead| match at {
            Some(at) if ahead >= WORTH_SKIPPING => at.saturating_add(ahead),
            _ => 0,
        };
        let ((skip_in, skip_out), (want_in, want_out), stacks) = match &self.speaks {
            // How much moves is all that matters; a statement that was asked for may go out here unseen.
            Speaks::Mysql(_) if matches!(self.tls, Tls::Carrier { .. }) => ((0, 0), WANT_DATABASE, false),
            _ if matches!(self.tls, Tls::Carrier { .. }) => ((0, 0), (0, 0), false),
            Speaks::Undecided { .. } => return None,
            Speaks::Http(server) if server.is_ignored() => ((0, 0), (0, 0), false),
            Speaks::Http(server) => {
                let (ahead_in, ahead_out) = server.indifferent();
                ((skip(self.in_at, ahead_in), skip(self.out_at, ahead_out)), all, false)
            }
            Speaks::Mysql(_) => ((0, 0), WANT_DATABASE, false),
            Speaks::Client(client) => {
                let wants = client.protocol.wants();
                let ahead =
                    (skip(self.in_at, wants.indifferent_received), skip(self.out_at, wants.indifferent_sent));
                (ahead, (wants.received, wants.sent), wants.stacks && !client.sites_known)
            }
            Speaks::Tasks(tasks) if tasks.deliveries.is_other() => ((0, 0), (0, 0), false),
            Speaks::Tasks(_) => ((0, 0), (WANT_TASK, 0), false),
            Speaks::Results(results) if results.is_other() => ((0, 0), (0, 0), false),
            Speaks::Results(_) => ((0, 0), (0, WANT_RESULT), false),
            Speaks::Nothing => ((0, 0), (0, 0), false),
        };
        let hint = Hint { connection: self.id, skip_in, skip_out, want_in, want_out, stacks };
        let needed = match self.hinted {
            None => hint.skip_in > 0 || hint.skip_out > 0 || (want_in, want_out) != all,
            // A position that has been passed needs no taking back.
            Some(before) => {
                (before.want_in, before.want_out, before.stacks) != (want_in, want_out, stacks)
                    || (skip_in > 0 && skip_in != before.skip_in)
                    || (skip_out > 0 && skip_out != before.skip_out)
            }
        };
        if needed {
            self.hinted = Some(hint);
        }
        needed.then_some(hint)
    }
}

/// One call's bytes, and what was lost before them, into the server's streams.
fn feed(server: &mut Server<Work>, time_ns: u64, io: &Io<'_>, lost: u64, sink: &mut Sink<'_, Work>) {
    if lost > 0 {
        match io.direction {
            Direction::In => server.inbound(time_ns, Part::Lost(lost), false, sink),
            Direction::Out => server.outbound(time_ns, Part::Lost(lost), false, sink),
        }
    }
    feed_bytes(server, time_ns, io, true, sink);
}

/// Head, gap and tail of one call. `first` says that the head is where a message may begin.
fn feed_bytes(server: &mut Server<Work>, time_ns: u64, io: &Io<'_>, first: bool, sink: &mut Sink<'_, Work>) {
    for (part, first) in parts(io, first) {
        match io.direction {
            Direction::In => server.inbound(time_ns, part, first, sink),
            Direction::Out => server.outbound(time_ns, part, first, sink),
        }
    }
}

/// What one call moved, in runs: the bytes at its start, those that were not captured, and its last ones.
/// `first` goes with the run at the start.
pub fn parts<'a>(io: &Io<'a>, first: bool) -> impl Iterator<Item = (Part<'a>, bool)> + use<'a> {
    // Lengths are clamped: a record that claims more bytes than moved must not shift the stream.
    let moved = usize::try_from(io.moved).unwrap_or(usize::MAX);
    let head = &io.head[..io.head.len().min(moved)];
    let tail = &io.tail[io.tail.len() - io.tail.len().min(moved - head.len())..];
    let absent = (moved - head.len() - tail.len()) as u64;
    let parts = [(Part::Bytes(head), first), (Part::Absent(absent), false), (Part::Bytes(tail), false)];
    parts.into_iter().filter(|(part, _)| !matches!(part, Part::Bytes([]) | Part::Absent(0)))
}
