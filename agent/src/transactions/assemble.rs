//! Puts requests, calls and samples together. Whose they are, `correlation.rs` says.
//!
//! A pipelined request that another thread takes up without reading (gunicorn's gthread has it in
//! its buffer by then) is that thread's from its first write on; what it asks before that is unplaced.

use super::clients::Calls;
use super::connecting::Connecting;
use super::connection::{Connection, Speaks};
use super::correlation::{Lineages, Lingering, Pools};
use super::errors::Errors;
use super::finish::Finisher;
use super::http::{Ended, Exchange, Sink};
use super::ids::Ids;
use super::joining::Made;
use super::naming::Naming;
use super::spans::{Caller, Embedded, Spans};
use super::sql::Statements;
use super::tasks::Sent;
use super::thread::{Thread, ThreadKey};
use super::tls::{Session, Tls};
use super::trace_context::TraceContext;
use super::work::Work;
use super::{Clock, Counts, Limits, Output, Settings};
use crate::frameworks::RouteTable;
use crate::intake::{Body, ConnectionId, Direction, Endpoint, Event, Io, Library};
use foldhash::{HashMap, HashMapExt, HashSet, HashSetExt};
use pyapm_model::line::Outcome;
use pyapm_model::snapshot::{Active, Doing};
use pyapm_model::stack::Stack;

/// What is said to have waited longer was read wrongly: nobody's client is that patient.
const LONGEST_UNREAD_NS: u64 = 300_000_000_000;

/// The transactions of one application, over all its processes.
#[derive(Debug)]
pub struct Transactions {
    pub(super) limits: Limits,
    pub(super) connections: HashMap<ConnectionId, Connection>,
    pub(super) spans: Spans,
    /// Which connection a descriptor has, to notice when the record of a close was lost.
    descriptors: HashMap<(u32, u32), ConnectionId>,
    pub(super) threads: HashMap<ThreadKey, Thread>,
    /// Which connection a client library's handle sends on.
    pub(super) handles: HashMap<(u32, u64), ConnectionId>,
    pub(super) embedded: Embedded,
    /// Processes that hand requests on to workers of the same application: uWSGI's HTTP router.
    pub(super) gateways: HashSet<u32>,
    pub(super) statements: Statements,
    pub(super) finisher: Finisher,
    pub(super) errors: Errors,
    pub(super) counts: Counts,
    /// Exchanges open over all connections.
    pub(super) open: usize,
    /// Kept between events so that ending an exchange allocates nothing.
    pub(super) ended: Vec<Ended<Work>>,
    pub(super) calls: Calls,
    pub(super) lineages: Lineages,
    pub(super) pools: Pools,
    pub(super) lingering: Lingering,
    pub(super) connecting: Connecting,
    /// Calls that nobody outside has been told of yet.
    pub(super) made: Vec<Made>,
}

impl Transactions {
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let Settings { application, clock, seed, limits, sql, waits } = settings;
        Self {
            limits,
            connections: HashMap::new(),
            descriptors: HashMap::new(),
            threads: HashMap::new(),
            handles: HashMap::new(),
            embedded: Embedded::default(),
            gateways: HashSet::new(),
            statements: Statements::new(limits.statements, sql),
            finisher: Finisher {
                application,
                clock,
                ids: Ids::new(seed),
                naming: Naming::new(limits.names),
                warn: limits.warn,
                waits,
                sent: Sent::default(),
            },
            errors: Errors::new(limits.errors),
            counts: Counts::default(),
            open: 0,
            ended: Vec::new(),
            calls: Calls::new(),
            spans: Spans::default(),
            lineages: Lineages::new(),
            pools: Pools::new(),
            lingering: Lingering::default(),
            connecting: Connecting::default(),
            made: Vec::new(),
        }
    }

    /// The wall clock may be set while the application runs.
    pub fn set_clock(&mut self, clock: Clock) {
        self.finisher.clock = clock;
    }

    /// The routes of the application, as far as they are known by now.
    pub fn set_routes(&mut self, routes: Option<RouteTable>) {
        self.finisher.naming.set_routes(routes);
    }

    /// Requests that none of the known routes took.
    #[must_use]
    pub fn routes_missed(&self) -> u64 {
        self.finisher.naming.missed()
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

    /// Open connections that went over to another protocol.
    #[must_use]
    pub fn upgraded(&self) -> usize {
        let upgraded =
            |one: &&Connection| matches!(&one.speaks, Speaks::Http(server) if server.is_upgraded());
        self.connections.values().filter(upgraded).count()
    }

    /// Takes one event, in the order of the ring. `stack` are the frames of the stack that the event
    /// names, innermost first; `None` when it names none or they are not known.
    pub fn observe(&mut self, event: &Event<'_>, stack: Option<Stack>, out: &mut Output) {
        let thread = ThreadKey { pid: event.pid, tid: event.tid };
        let caller = |stack| Caller { time_ns: event.time_ns, thread, scope: event.scope, stack };
        if self.finisher.waits {
            self.shows(&caller(None), &event.body);
        }
        match &event.body {
            Body::Io(io) => {
                let caller = self.asker(caller(stack), io);
                self.io(&caller, io, out);
            }
            Body::Queued { connection } => self.write_queued(&caller(stack), *connection),
            Body::Statement(statement) => match statement.library {
                Library::Mysql => self.statement(&caller(stack), statement),
                Library::Sqlite => self.embedded_begins(&caller(stack), statement),
            },
            Body::StatementStep(step) => self.embedded_step(event.time_ns, event.pid, step),
            Body::Sample { stack: id, .. } => self.place_sample(&caller(stack), *id),
            Body::ConnectionOpened { connection, fd, peer, local, sequence, unread_ns } => {
                self.opened(event.time_ns, event.pid, *connection, *fd, *peer, out);
                if let Some(connection) = self.connections.get_mut(connection) {
                    connection.local = Some(*local);
                    connection.sequence = *sequence;
                    connection.unread_ns = unread_ns.filter(|unread_ns| *unread_ns <= LONGEST_UNREAD_NS);
                }
            }
            Body::ConnectionClosed { connection } => {
                self.closed(event.time_ns, *connection, Outcome::Aborted, out);
            }
            Body::TlsSession { session, carrier } => {
                self.tls_session(event.pid, *session, *carrier);
            }
            Body::Exit | Body::Exec => self.process_ended(event.time_ns, event.pid, out),
            Body::OffCpu(away) => self.off_cpu(&caller(None), away),
            Body::Connected { started_ns, fd, peer } => {
                self.connected(&caller(None), *fd, *started_ns, *peer);
            }
            Body::LookedUp(told) => self.looked_up(&caller(None), told),
            Body::HandedBack => self.handed_back(&caller(None)),
            Body::Context(made) => self.context_made(&caller(stack), made),
            Body::Greenlet(made) => self.greenlet_made(&caller(None), made),
            Body::TaskBegun(begun) => self.task_begun(&caller(None), begun, out),
            Body::TaskDone(done) => self.task_told(&caller(None), done, out),
            Body::TaskLeft(left) => self.task_left(&caller(None), left, out),
            Body::Fork { .. }
            | Body::Stack { .. }
            | Body::StackPart(_)
            | Body::Native(_)
            | Body::Started
            | Body::Listens
            // Of loops, not of requests.
            | Body::LoopSeen
            | Body::LoopBlocked { .. }
            // Exceptions come in with their names: see `errors`.
            | Body::Exception(_)
            | Body::ExceptionPassed { .. } => {}
        }
    }

    /// The transactions in flight, longest elapsed first.
    #[must_use]
    pub fn active(&self, now_ns: u64) -> Vec<Active> {
        let mut active: Vec<Active> = Vec::with_capacity(self.open);
        for connection in self.connections.values() {
            let Some(server) = connection.speaks.server() else { continue };
            if self.gateways.contains(&connection.pid) {
                continue;
            }
            active.extend(server.open().map(|exchange| self.in_flight(connection.pid, exchange, now_ns)));
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
        let setup = self.connecting.take(pid, fd, peer);
        let Some(connection) = self.connection(pid, id, true) else { return };
        connection.setup = setup;
        connection.fd = Some(fd);
        connection.peer = Some(peer);
        connection.opened_ns = Some(time_ns);
        self.descriptors.insert((pid, fd), id);
    }

    /// The connection, made when it is new; `None` when there are too many.
    pub(super) fn connection(
        &mut self,
        pid: u32,
        id: ConnectionId,
        opening_seen: bool,
    ) -> Option<&mut Connection> {
        if self.connections.len() >= self.limits.connections && !self.connections.contains_key(&id) {
            self.counts.connections_overflow += 1;
            return None;
        }
        Some(self.connections.entry(id).or_insert_with(|| Connection::new(id, pid, opening_seen)))
    }

    pub(super) fn closed(&mut self, time_ns: u64, id: ConnectionId, outcome: Outcome, out: &mut Output) {
        let Some(mut connection) = self.connections.remove(&id) else { return };
        self.connection_gone(connection.pid, id);
        match connection.tls {
            Tls::Carrier { session: Some(session) } => self.closed(time_ns, session, outcome, out),
            Tls::Session(Session { carrier: Some(carrier), .. }) => self.session_ended(carrier),
            _ => {}
        }
        if let Some(fd) = connection.fd
            && self.descriptors.get(&(connection.pid, fd)) == Some(&id)
        {
            self.descriptors.remove(&(connection.pid, fd));
        }
        match &mut connection.speaks {
            Speaks::Http(_) | Speaks::Tasks(_) => {
                let Some(server) = connection.speaks.server_mut() else { return };
                let mut sink =
                    Sink { ended: &mut self.ended, counts: &mut self.counts, room: 0, room_here: 0 };
                server.finish(time_ns, outcome, outcome != Outcome::WorkerExited, &mut sink);
                self.deliver(&connection, out);
                self.release(connection.owner, id);
            }
            Speaks::Mysql(database) => {
                let (handle, span) = (database.handle, database.live.and_then(|live| live.span));
                if let Some(handle) = handle {
                    self.handles.remove(&(connection.pid, handle));
                }
                if let Some(span) = span.and_then(|span| self.spans.get_mut(span)) {
                    span.closed = true;
                }
            }
            Speaks::Client(client) => self.client_closed(time_ns, client),
            Speaks::Undecided { .. } | Speaks::Results(_) | Speaks::Nothing => {}
        }
    }

    fn process_ended(&mut self, time_ns: u64, pid: u32, out: &mut Output) {
        let mut gone: Vec<ConnectionId> =
            self.connections.values().filter(|connection| connection.pid == pid).map(|c| c.id).collect();
        gone.sort_unstable();
        // Requests first: a database connection's end must not close the span that was waiting.
        let is_http = |id: &ConnectionId, connections: &HashMap<ConnectionId, Connection>| {
            connections.get(id).is_some_and(|connection| connection.speaks.server().is_some())
        };
        let (http, rest): (Vec<_>, Vec<_>) = gone.into_iter().partition(|id| is_http(id, &self.connections));
        for id in http.into_iter().chain(rest) {
            self.closed(time_ns, id, Outcome::WorkerExited, out);
        }
        self.forget_lineage(pid, out);
        self.threads.retain(|thread, _| thread.pid != pid);
        self.handles.retain(|(owner, _), _| *owner != pid);
        self.embedded.forget(pid);
        self.connecting.forget(pid);
        self.gateways.remove(&pid);
        self.descriptors.retain(|(owner, _), _| *owner != pid);
    }

    pub(super) fn io(&mut self, caller: &Caller, io: &Io<'_>, out: &mut Output) {
        let Caller { time_ns, thread, .. } = *caller;
        let Some(connection) = self.connection(thread.pid, io.connection, false) else { return };
        let enciphered = matches!(connection.tls, Tls::Carrier { session: Some(_) });
        if io.direction == Direction::Out && io.moved > 0 && !enciphered {
            self.send(time_ns, thread, io);
        }
        self.tls_step(thread, io);
        if let Some(asked) = self.threads.get_mut(&thread).and_then(|thread| thread.asked.as_mut()) {
            asked.moved = true;
        }
        let (current, latest) = (self.current(io.connection), self.latest(io.connection));
        if io.direction == Direction::Out
            && io.moved > 0
            && let Some(current) = current
        {
            self.answers(caller, current);
        }
        let (room, room_here) =
            (self.limits.active.saturating_sub(self.open), self.limits.active_per_connection);
        let Some(connection) = self.connections.get_mut(&io.connection) else { return };
        let mut sink = Sink { ended: &mut self.ended, counts: &mut self.counts, room, room_here };
        let lost = connection.io(time_ns, io, &mut sink);
        self.open += room - sink.room;
        out.hints.extend(connection.hint());
        if std::mem::take(&mut connection.passes_on) {
            self.gateways.insert(thread.pid);
        }
        if io.direction == Direction::In && io.moved > 0 {
            match &connection.speaks {
                Speaks::Http(_) => self.was_read(caller, io.connection, latest),
                _ => self.was_read_elsewhere(caller),
            }
        }
        let Some(connection) = self.connections.get_mut(&io.connection) else { return };
        if let Tls::Carrier { session } = connection.tls {
            if let Some(session) = session.filter(|_| io.moved == 0) {
                self.carrier_ended(caller, session, io, out);
            }
            if !matches!(self.speaks(io.connection), Some(Speaks::Mysql(_))) {
                return;
            }
        }
        self.note_call(io.connection);
        // Of the first request on it, and of no other.
        let unread_ns = latest.is_none().then(|| self.unread_ns(io.connection)).flatten();
        let Some(connection) = self.connections.get_mut(&io.connection) else { return };
        match &mut connection.speaks {
            Speaks::Http(_) | Speaks::Tasks(_) => {
                let Some(server) = connection.speaks.server_mut() else { return };
                // Whoever moves the connection's bytes has its current request; those behind it are this
                // thread's until another takes them up. To see the peer go says nothing of that kind.
                for (index, exchange) in server.open_mut().enumerate() {
                    if exchange.sequence == 0 && exchange.work.tid == 0 {
                        exchange.work.unread_ns = unread_ns;
                    }
                    if (index == 0 && io.moved > 0) || exchange.work.tid == 0 {
                        exchange.work.taken_by(thread.tid, index);
                    }
                }
                for ended in &mut self.ended {
                    let work = &mut ended.exchange.work;
                    if io.direction == Direction::Out || work.tid == 0 {
                        work.taken_by(thread.tid, 0);
                    }
                }
                let (serving, owner) = (server.open().len() > 0, connection.owner);
                if !self.ended.is_empty() {
                    self.deliver_from(io.connection, out);
                }
                if serving {
                    let reads_for_others = io.direction == Direction::In && self.only_reads(thread.pid);
                    if io.moved > 0 && !reads_for_others {
                        self.serve(thread, owner, io.connection);
                    }
                } else {
                    self.release(owner, io.connection);
                    if let Some(connection) = self.connections.get_mut(&io.connection) {
                        connection.owner = None;
                    }
                }
            }
            Speaks::Mysql(_) if io.direction == Direction::In && lost.is_some() => self.receive(time_ns, io),
            Speaks::Client(_) => self.client(caller, io, lost),
            Speaks::Results(_) => self.results(caller, io, lost, out),
            _ => {}
        }
    }

    /// How long the first bytes of a connection had waited to be read; of a TLS session, those that began its handshake.
    fn unread_ns(&self, id: ConnectionId) -> Option<u64> {
        let connection = self.connections.get(&id)?;
        match &connection.tls {
            Tls::Session(Session { carrier: Some(carrier), .. }) => self.connections.get(carrier)?.unread_ns,
            _ => connection.unread_ns,
        }
    }

    /// The thread's state, made when it is new; `None` when there are too many.
    pub(super) fn thread(&mut self, key: ThreadKey) -> Option<&mut Thread> {
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

    pub(super) fn deliver_from(&mut self, id: ConnectionId, out: &mut Output) {
        let Some(connection) = self.connections.get(&id) else { return };
        let (pid, peer) = (connection.pid, connection.peer);
        self.deliver_as(id, pid, peer, out);
    }

    fn deliver(&mut self, connection: &Connection, out: &mut Output) {
        self.deliver_as(connection.id, connection.pid, connection.peer, out);
    }

    fn in_flight(&self, pid: u32, exchange: &Exchange<Work>, now_ns: u64) -> Active {
        let work = &exchange.work;
        let waiting =
            work.spans.iter().rev().filter_map(|id| self.spans.get(*id)).find(|span| span.is_waiting());
        let doing = match (waiting, &work.last_frame) {
            (Some(span), _) => Doing::Statement {
                text: span.asking.text().into(),
                elapsed_ns: now_ns.saturating_sub(span.started_ns),
            },
            (None, Some(frame)) => Doing::Function(frame.clone()),
            (None, None) => Doing::Unknown,
        };
        let request = &exchange.request;
        Active {
            name: match &work.task {
                Some(task) => task.delivery.name.clone(),
                None => self.finisher.naming.provisional(&request.method, request.path.as_deref()),
            },
            path: exchange.request.path.clone(),
            pid,
            tid: work.tid,
            elapsed_ns: now_ns.saturating_sub(exchange.started_ns),
            trace_id: match (&work.trace, &exchange.request.trace) {
                (Some(trace), _) => Some(trace.trace_id.clone()),
                (None, caller) => caller.as_ref().map(TraceContext::trace_id),
            },
            doing,
            calls: work.spans.len() as u64,
            state: None,
            stack: Stack::default(),
            place: None,
        }
    }
}
