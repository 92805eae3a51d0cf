//! Puts requests, statements and samples together by the thread that made them.
//!
//! The thread that reads a request owns it until its response ends; a thread that writes the response
//! takes it over. A thread that owns requests of several connections at once (an event loop) cannot tell
//! which of them a statement belongs to: it stays unplaced and is counted, because wrong is worse than
//! unknown.

use super::connection::{Connection, Database, Live, Speaks};
use super::finish::Finisher;
use super::http::{Ended, Exchange, Likeness, Sink, request_likeness};
use super::ids::Ids;
use super::mysql::{Reply, Verdict, carries_statement};
use super::name::{self, Names};
use super::sql::Statements;
use super::thread::{Asked, Place, Thread, ThreadKey};
use super::work::{OpenSpan, Work};
use super::{Clock, Counts, Limits, Output, Settings};
use crate::intake::{
    Body, ConnectionId, Direction, Endpoint, Event, Io, StackId, Statement as StatementEvent,
};
use pyapm_model::line::{Frame, Outcome};
use pyapm_model::snapshot::{Active, Doing};
use std::collections::HashMap;
use std::sync::Arc;

/// The transactions of one application, over all its processes.
#[derive(Debug)]
pub struct Transactions {
    limits: Limits,
    connections: HashMap<ConnectionId, Connection>,
    /// Which connection a descriptor has, to notice when the record of a close was lost.
    descriptors: HashMap<(u32, u32), ConnectionId>,
    threads: HashMap<ThreadKey, Thread>,
    /// Which connection a client library's handle sends on.
    handles: HashMap<(u32, u64), ConnectionId>,
    statements: Statements,
    finisher: Finisher,
    counts: Counts,
    /// Exchanges open over all connections.
    open: usize,
    /// Kept between events so that ending an exchange allocates nothing.
    ended: Vec<Ended<Work>>,
}

impl Transactions {
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let Settings { application, clock, seed, limits } = settings;
        Self {
            limits,
            connections: HashMap::new(),
            descriptors: HashMap::new(),
            threads: HashMap::new(),
            handles: HashMap::new(),
            statements: Statements::new(limits.statements),
            finisher: Finisher { application, clock, ids: Ids::new(seed), names: Names::new(limits.names) },
            counts: Counts::default(),
            open: 0,
            ended: Vec::new(),
        }
    }

    /// The wall clock may be set while the application runs.
    pub fn set_clock(&mut self, clock: Clock) {
        self.finisher.clock = clock;
    }

    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Transactions in flight.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open
    }

    /// Takes one event, in the order of the ring. `stack` are the frames of the stack that the event
    /// names, innermost first; `None` when it names none or they are not known.
    pub fn observe(&mut self, event: &Event<'_>, stack: Option<Arc<[Frame]>>, out: &mut Output) {
        let thread = ThreadKey { pid: event.pid, tid: event.tid };
        match &event.body {
            Body::Io(io) => self.io(event.time_ns, thread, io, out),
            Body::Statement(statement) => self.statement(event.time_ns, thread, statement, stack),
            Body::Sample { stack: id, .. } => self.sample(thread, *id, stack),
            Body::ConnectionOpened { connection, fd, peer, .. } => {
                self.opened(event.time_ns, event.pid, *connection, *fd, *peer, out);
            }
            Body::ConnectionClosed { connection } => {
                self.closed(event.time_ns, *connection, Outcome::Aborted, out);
            }
            Body::Exit | Body::Exec => self.process_ended(event.time_ns, event.pid, out),
            Body::Fork { .. } | Body::Stack { .. } => {}
        }
    }

    /// The transactions in flight, longest elapsed first.
    #[must_use]
    pub fn active(&self, now_ns: u64) -> Vec<Active> {
        let mut active: Vec<Active> = Vec::with_capacity(self.open);
        for connection in self.connections.values() {
            let Speaks::Http(server) = &connection.speaks else { continue };
            active.extend(server.open().map(|exchange| in_flight(connection.pid, exchange, now_ns)));
        }
        active.sort_by_key(|active| std::cmp::Reverse(active.elapsed_ns));
        active
    }

    fn opened(
        &mut self,
        time_ns: u64,
        pid: u32,
        id: ConnectionId,
        fd: u32,
        peer: Endpoint,
        out: &mut Output,
    ) {
        if let Some(before) = self.descriptors.get(&(pid, fd)).copied().filter(|before| *before != id) {
            // The descriptor has been closed and used again, and nobody told: the end was not seen.
            self.counts.gap += 1;
            self.closed(time_ns, before, Outcome::Incomplete, out);
        }
        let Some(connection) = self.connection(pid, id, 0, 0) else { return };
        connection.fd = Some(fd);
        connection.peer = Some(peer);
        self.descriptors.insert((pid, fd), id);
    }

    /// The connection, made when it is new; `None` when there are too many.
    fn connection(&mut self, pid: u32, id: ConnectionId, in_at: u64, out_at: u64) -> Option<&mut Connection> {
        if !self.connections.contains_key(&id) && self.connections.len() >= self.limits.connections {
            self.counts.connections_overflow += 1;
            return None;
        }
        Some(self.connections.entry(id).or_insert_with(|| Connection::new(id, pid, in_at, out_at)))
    }

    fn closed(&mut self, time_ns: u64, id: ConnectionId, outcome: Outcome, out: &mut Output) {
        let Some(mut connection) = self.connections.remove(&id) else { return };
        if let Some(fd) = connection.fd
            && self.descriptors.get(&(connection.pid, fd)) == Some(&id)
        {
            self.descriptors.remove(&(connection.pid, fd));
        }
        match &mut connection.speaks {
            Speaks::Http(server) => {
                let mut sink =
                    Sink { ended: &mut self.ended, counts: &mut self.counts, room: 0, room_here: 0 };
                server.finish(time_ns, outcome, outcome != Outcome::WorkerExited, &mut sink);
                self.deliver(&connection, out);
                self.release(connection.owner, id);
            }
            Speaks::Mysql(database) => {
                let (handle, place) = (database.handle, database.live.and_then(|live| live.place));
                if let Some(handle) = handle {
                    self.handles.remove(&(connection.pid, handle));
                }
                if let Some(span) = self.span(place) {
                    span.closed = true;
                }
            }
            Speaks::Undecided { .. } | Speaks::Nothing => {}
        }
    }

    fn process_ended(&mut self, time_ns: u64, pid: u32, out: &mut Output) {
        let mut gone: Vec<ConnectionId> =
            self.connections.values().filter(|connection| connection.pid == pid).map(|c| c.id).collect();
        gone.sort_unstable();
        // Requests first: a database connection's end must not close the span that was waiting.
        let is_http = |id: &ConnectionId, connections: &HashMap<ConnectionId, Connection>| {
            matches!(connections.get(id).map(|connection| &connection.speaks), Some(Speaks::Http(_)))
        };
        let (http, rest): (Vec<_>, Vec<_>) = gone.into_iter().partition(|id| is_http(id, &self.connections));
        for id in http.into_iter().chain(rest) {
            self.closed(time_ns, id, Outcome::WorkerExited, out);
        }
        self.threads.retain(|thread, _| thread.pid != pid);
        self.handles.retain(|(owner, _), _| *owner != pid);
        self.descriptors.retain(|(owner, _), _| *owner != pid);
    }

    fn io(&mut self, time_ns: u64, thread: ThreadKey, io: &Io<'_>, out: &mut Output) {
        // The first record of a connection whose opening was lost says where its stream stands.
        let (in_at, out_at) = match io.direction {
            Direction::In => (io.offset, 0),
            Direction::Out => (0, io.offset),
        };
        if io.direction == Direction::Out && io.moved > 0 {
            self.send(time_ns, thread, io);
        }
        if let Some(asked) = self.threads.get_mut(&thread).and_then(|thread| thread.asked.as_mut()) {
            asked.moved = true;
        }
        let (room, room_here) =
            (self.limits.active.saturating_sub(self.open), self.limits.active_per_connection);
        if self.connection(thread.pid, io.connection, in_at, out_at).is_none() {
            return;
        }
        let Some(connection) = self.connections.get_mut(&io.connection) else { return };
        let mut sink = Sink { ended: &mut self.ended, counts: &mut self.counts, room, room_here };
        let lost = connection.io(time_ns, io, &mut sink);
        self.open += room - sink.room;
        out.hints.extend(connection.hint());
        let mut reply = None;
        match &mut connection.speaks {
            Speaks::Http(server) => {
                // Whoever touches the connection has its current request; those behind it are this
                // thread's until another takes them up.
                for (index, exchange) in server.open_mut().enumerate() {
                    if index == 0 || exchange.work.tid == 0 {
                        exchange.work.tid = thread.tid;
                    }
                }
                for ended in &mut self.ended {
                    let work = &mut ended.exchange.work;
                    if io.direction == Direction::Out || work.tid == 0 {
                        work.tid = thread.tid;
                    }
                }
                let (serving, owner) = (server.open().len() > 0, connection.owner);
                if !self.ended.is_empty() {
                    self.deliver_from(io.connection, out);
                }
                if serving {
                    self.serve(thread, owner, io.connection);
                } else {
                    self.release(owner, io.connection);
                    if let Some(connection) = self.connections.get_mut(&io.connection) {
                        connection.owner = None;
                    }
                }
                return;
            }
            Speaks::Mysql(database) if io.direction == Direction::In => {
                reply = lost.and_then(|lost| read_reply(database, io, lost));
            }
            _ => {}
        }
        if let Some((place, verdict)) = reply
            && let Some(span) = self.span(Some(place))
        {
            if io.moved > 0 {
                span.last_io_ns = time_ns;
                span.replied = true;
                span.verdict = verdict;
            } else {
                span.closed = true;
            }
        }
    }

    /// Outbound bytes of a thread: they may be the statement it has asked for.
    fn send(&mut self, time_ns: u64, thread: ThreadKey, io: &Io<'_>) {
        let Some(asked) = self.threads.get_mut(&thread).and_then(|thread| thread.asked.as_mut()) else {
            return self.send_unasked(io);
        };
        if asked.connection.is_some() {
            let (here, place) = (asked.connection == Some(io.connection), asked.place);
            self.send_unasked(io);
            if here
                && let Some(span) = self.span(place)
                && !span.replied
            {
                span.last_io_ns = time_ns;
            }
            return;
        }
        let known = self.handles.get(&(thread.pid, asked.handle));
        let Some(connection) = self.connections.get_mut(&io.connection) else { return };
        if matches!(connection.speaks, Speaks::Http(_)) {
            return;
        }
        let carries = carries_statement(io.head, asked.text_len);
        // Encrypted and compressed statements, and those of which nothing was captured, are known by the
        // handle, or by being the first thing that the thread sends after asking.
        let plausible = known == Some(&io.connection)
            || (known.is_none() && (io.head.is_empty() || is_wrapped(io.head, io.moved)));
        if !carries && (!plausible || request_likeness(io.head) == Likeness::Yes) {
            return self.send_unasked(io);
        }
        asked.connection = Some(io.connection);
        let (handle, place, peer) = (asked.handle, asked.place, connection.peer);
        let opaque = !carries && !io.head.is_empty();
        let live = Live { place, reply: Reply::default(), opaque, replied: false };
        let database = match &mut connection.speaks {
            Speaks::Mysql(database) => database,
            other => {
                *other = Speaks::Mysql(Database::default());
                let Speaks::Mysql(database) = other else { return };
                database
            }
        };
        database.live = Some(live);
        let before = database.handle.replace(handle);
        if let Some(before) = before.filter(|before| *before != handle) {
            self.handles.remove(&(thread.pid, before));
        }
        self.handles.insert((thread.pid, handle), io.connection);
        if let Some(span) = self.span(place) {
            span.last_io_ns = time_ns;
            span.server = peer;
        }
    }

    /// Outbound bytes on a database connection that belong to no statement's event: after a reply they
    /// begin another command (a ping, a quit), and what comes back is not that statement's.
    fn send_unasked(&mut self, io: &Io<'_>) {
        let Some(Speaks::Mysql(database)) = self.connections.get_mut(&io.connection).map(|c| &mut c.speaks)
        else {
            return;
        };
        let Some(live) = &mut database.live else { return };
        if live.replied {
            if !live.opaque && live.reply.verdict() == Verdict::LocalInfile {
                // The file's bytes; the statement's own reply comes after them.
                live.reply = Reply::default();
                live.replied = false;
            } else {
                database.live = None;
            }
        }
    }

    fn statement(
        &mut self,
        time_ns: u64,
        thread: ThreadKey,
        statement: &StatementEvent<'_>,
        stack: Option<Arc<[Frame]>>,
    ) {
        let key = self.statements.key(statement.text, statement.text_len);
        let Some(state) = self.thread(thread) else { return };
        let (asked, current) = (state.asked.take(), state.current());
        if let Some(before) = asked
            && !before.moved
            && (before.handle, before.key) == (statement.handle, key)
        {
            // One library function calling another: `mysql_real_query` is `mysql_send_query` and a read.
            state.asked = asked;
            self.counts.statement_nested += 1;
            return;
        }
        if let Some(before) = asked {
            self.detach(before);
        }
        let place = self.open_span(time_ns, current, key, statement, stack);
        let (handle, text_len) = (statement.handle, statement.text_len);
        if let Some(state) = self.threads.get_mut(&thread) {
            state.asked = Some(Asked { handle, key, text_len, place, connection: None, moved: false });
        }
    }

    /// Nothing that comes now belongs to this statement.
    fn detach(&mut self, asked: Asked) {
        if let Some(id) = asked.connection
            && let Some(Speaks::Mysql(database)) = self.connections.get_mut(&id).map(|c| &mut c.speaks)
            && database.live.is_some_and(|live| live.place == asked.place)
        {
            database.live = None;
        }
        if let Some(span) = self.span(asked.place) {
            span.closed = true;
        }
    }

    fn open_span(
        &mut self,
        time_ns: u64,
        current: Option<ConnectionId>,
        key: u64,
        statement: &StatementEvent<'_>,
        stack: Option<Arc<[Frame]>>,
    ) -> Option<Place> {
        let exchange = current.and_then(|id| current_exchange(&mut self.connections, id));
        let (Some(connection), Some(exchange)) = (current, exchange) else {
            self.counts.span_unplaced += 1;
            return None;
        };
        if exchange.work.spans.len() >= self.limits.spans_per_transaction {
            self.counts.spans_overflow += 1;
            return None;
        }
        let (normalised, fresh) = self.statements.get(key, statement.text, statement.text_len);
        if fresh && normalised.scanned {
            self.counts.sql_scanned += 1;
        }
        exchange.work.spans.push(OpenSpan {
            statement: normalised,
            started_ns: time_ns,
            stack,
            server: None,
            last_io_ns: time_ns,
            replied: false,
            verdict: Verdict::Unseen,
            closed: false,
        });
        Some(Place { connection, sequence: exchange.sequence, span: exchange.work.spans.len() - 1 })
    }

    fn sample(&mut self, thread: ThreadKey, id: Option<StackId>, stack: Option<Arc<[Frame]>>) {
        let current = self.threads.get(&thread).and_then(Thread::current);
        match current.and_then(|id| current_exchange(&mut self.connections, id)) {
            Some(exchange) => {
                if !exchange.work.sample(id, stack, self.limits.stacks_per_transaction) {
                    self.counts.samples_overflow += 1;
                }
            }
            None => self.counts.sample_unplaced += 1,
        }
    }

    fn span(&mut self, place: Option<Place>) -> Option<&mut OpenSpan> {
        let place = place?;
        match &mut self.connections.get_mut(&place.connection)?.speaks {
            Speaks::Http(server) => server.exchange(place.sequence)?.work.spans.get_mut(place.span),
            _ => None,
        }
    }

    /// The thread's state, made when it is new; `None` when there are too many.
    fn thread(&mut self, key: ThreadKey) -> Option<&mut Thread> {
        if !self.threads.contains_key(&key) && self.threads.len() >= self.limits.threads {
            // Threads end without an event; what they leave behind is idle. Looking through all of them
            // for every event of a thread too many would be the greater evil.
            if self.counts.threads_overflow.is_multiple_of(1024) {
                self.threads.retain(|_, thread| !thread.is_idle());
            }
            if self.threads.len() >= self.limits.threads {
                self.counts.threads_overflow += 1;
                return None;
            }
        }
        Some(self.threads.entry(key).or_default())
    }

    /// `thread` has the connection's current request from now on.
    fn serve(&mut self, thread: ThreadKey, before: Option<ThreadKey>, id: ConnectionId) {
        if before == Some(thread) {
            return;
        }
        self.release(before, id);
        let owner = self.thread(thread).map(|state| {
            state.serving.push(id);
            thread
        });
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.owner = owner;
        }
    }

    fn release(&mut self, owner: Option<ThreadKey>, id: ConnectionId) {
        if let Some(state) = owner.and_then(|owner| self.threads.get_mut(&owner)) {
            state.serving.retain(|serving| *serving != id);
        }
    }

    fn deliver_from(&mut self, id: ConnectionId, out: &mut Output) {
        let Some(connection) = self.connections.get(&id) else { return };
        let (pid, peer) = (connection.pid, connection.peer);
        self.deliver_as(pid, peer, out);
    }

    fn deliver(&mut self, connection: &Connection, out: &mut Output) {
        self.deliver_as(connection.pid, connection.peer, out);
    }

    fn deliver_as(&mut self, pid: u32, peer: Option<Endpoint>, out: &mut Output) {
        self.open = self.open.saturating_sub(self.ended.len());
        for ended in self.ended.drain(..) {
            out.finished.push(self.finisher.finish(ended, pid, peer, &mut self.counts));
        }
    }
}

/// The exchange that is being worked on on this connection.
fn current_exchange(
    connections: &mut HashMap<ConnectionId, Connection>,
    id: ConnectionId,
) -> Option<&mut Exchange<Work>> {
    match &mut connections.get_mut(&id)?.speaks {
        Speaks::Http(server) => server.current(),
        _ => None,
    }
}

/// One inbound call on a database connection: the span it is for, and what the reply says so far.
fn read_reply(database: &mut Database, io: &Io<'_>, lost: u64) -> Option<(Place, Verdict)> {
    let live = database.live.as_mut()?;
    let mut verdict = Verdict::Unknown;
    if !live.opaque {
        if lost > 0 {
            live.reply.lose();
        }
        live.reply.read(io.head, u64::from(io.moved));
        verdict = live.reply.verdict();
    }
    live.replied |= io.moved > 0;
    Some((live.place?, verdict))
}

/// A TLS record of application data (RFC 8446 section 5.1), or a compressed packet of the MySQL protocol:
/// seven bytes of header, sequence number 0.
fn is_wrapped(head: &[u8], moved: u32) -> bool {
    match head {
        [0x17, 0x03, ..] => true,
        [l0, l1, l2, 0, ..] => u32::from_le_bytes([*l0, *l1, *l2, 0]).checked_add(7) == Some(moved),
        _ => false,
    }
}

fn in_flight(pid: u32, exchange: &Exchange<Work>, now_ns: u64) -> Active {
    let work = &exchange.work;
    let doing = match (work.waiting(), &work.last_frame) {
        (Some(span), _) => Doing::Statement {
            text: span.statement.text.clone(),
            elapsed_ns: now_ns.saturating_sub(span.started_ns),
        },
        (None, Some(frame)) => Doing::Function(frame.clone()),
        (None, None) => Doing::Unknown,
    };
    Active {
        name: name::of_request(&exchange.request.method, exchange.request.path.as_deref(), None),
        path: exchange.request.path.clone(),
        pid,
        tid: work.tid,
        elapsed_ns: now_ns.saturating_sub(exchange.started_ns),
        doing,
    }
}
