//! TLS sessions, and the connections that carry them. A session is a connection of its own, whose plaintext the
//! kernel half sees at the library's calls; what is on the carrier below is not looked into. The carrier lends
//! the session its peer, the beginning that it may have had in clear (PostgreSQL and MySQL ask for TLS in their
//! own protocol first), and its end.
//!
//! Which connection carries a session is known for certain where the library itself moves the bytes. With
//! memory in between (asyncio), a thread that has just received something hands it to the session and reads the
//! plaintext, and what it writes to a session goes out next; each with a little more on the connection than in
//! the session. A step that does not fit tells nothing.

use super::Transactions;
use super::connection::Speaks;
use super::spans::Caller;
use super::thread::ThreadKey;
use super::{Output, clients};
use crate::intake::{ConnectionId, Direction, Io};

/// Least that a record has beyond its content: 5 bytes of header, 16 of authentication, and one of type (RFC
/// 8446 section 5.2); TLS 1.2 adds 8 of nonce in place of the last one (RFC 5288 section 3).
const LEAST_OVERHEAD: u64 = 22;
/// Most of it: header, CBC's vector, padding and digest (RFC 5246 section 6.2.3.2).
const MOST_OVERHEAD: u64 = 5 + 16 + 256 + 48;
/// Most content of one record (RFC 8446 section 5.1).
const MOST_CONTENT: u64 = 1 << 14;

/// What a connection has to do with TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tls {
    /// Nothing that was seen.
    #[default]
    None,
    /// Its bytes are those of TLS.
    Carrier { session: Option<ConnectionId> },
    /// It is a session: its bytes are plaintext.
    Session { carrier: Option<ConnectionId> },
}

impl Tls {
    /// Whether these bytes are where TLS begins: a hello, or, where nothing else is known, a record of content.
    pub fn begins(self, io: &Io<'_>, undecided: bool) -> bool {
        self == Self::None && (is_hello(io.head) || (undecided && is_content(io.head, io.moved)))
    }
}

/// A handshake record (RFC 8446 section 5.1) with a client's or server's hello in it (section 4).
fn is_hello(head: &[u8]) -> bool {
    matches!(head, [0x16, 3, 0..=4, _, _, 1 | 2, ..])
}

/// A record of application data.
fn is_content(head: &[u8], moved: u32) -> bool {
    match head {
        [0x17, 3, 1..=3, high, low, ..] => {
            let length = u32::from(u16::from_be_bytes([*high, *low]));
            (17..=16_640).contains(&length) && moved > 5
        }
        _ => false,
    }
}

/// The last that a thread moved.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trail {
    /// It received so many bytes on this carrier, and nothing on another connection since.
    received: Option<(ConnectionId, u64)>,
    /// It wrote so many bytes to this session, and nothing has gone out since.
    written: Option<(ConnectionId, u64)>,
}

impl Transactions {
    pub(super) fn tls_session(&mut self, pid: u32, session: ConnectionId, carrier: Option<ConnectionId>) {
        let Some(connection) = self.connection(pid, session, true) else { return };
        if connection.tls == Tls::None {
            connection.tls = Tls::Session { carrier: None };
        }
        if let Some(carrier) = carrier {
            self.carry(session, carrier);
        }
    }

    /// `carrier` is known to carry `session`.
    fn carry(&mut self, session: ConnectionId, carrier: ConnectionId) {
        let Some(below) = self.connections.get_mut(&carrier) else { return };
        let earlier = match below.tls {
            Tls::Session { .. } => return,
            Tls::Carrier { session } => session,
            Tls::None => None,
        };
        below.tls = Tls::Carrier { session: Some(session) };
        let nothing = Speaks::Nothing;
        let spoken = std::mem::replace(&mut below.speaks, nothing);
        let (pid, peer) = (below.pid, below.peer);
        if let Some(earlier) = earlier.filter(|earlier| *earlier != session)
            && let Some(earlier) = self.connections.get_mut(&earlier)
        {
            earlier.tls = Tls::Session { carrier: None };
        }
        let Some(above) = self.connections.get_mut(&session) else { return };
        if let Tls::Session { carrier: Some(before) } = above.tls
            && before != carrier
            && let Some(before) = self.connections.get_mut(&before)
        {
            before.tls = Tls::Carrier { session: None };
        }
        let Some(above) = self.connections.get_mut(&session) else { return };
        above.tls = Tls::Session { carrier: Some(carrier) };
        above.peer = peer;
        if !matches!(above.speaks, Speaks::Undecided { .. }) {
            return;
        }
        match spoken {
            Speaks::Mysql(mut database) => {
                // What was asked for has gone out as TLS already, and is answered in the session.
                if let Some(live) = &mut database.live {
                    live.opaque = false;
                }
                if let Some(handle) = database.handle {
                    self.handles.insert((pid, handle), session);
                }
                above.speaks = Speaks::Mysql(database);
                for thread in self.threads.values_mut() {
                    if let Some(asked) = &mut thread.asked
                        && asked.connection == Some(carrier)
                    {
                        asked.connection = Some(session);
                    }
                }
            }
            // A tunnel's end (`CONNECT`) is no beginning of what goes through it.
            Speaks::Client(client) if goes_on(client.protocol.wants()) => {
                above.speaks = Speaks::Client(client)
            }
            _ => {}
        }
    }

    /// The session is gone; the carrier's bytes are TLS still.
    pub(super) fn session_ended(&mut self, carrier: ConnectionId) {
        if let Some(below) = self.connections.get_mut(&carrier) {
            below.tls = Tls::Carrier { session: None };
        }
    }

    /// A call on the carrier moved nothing, because the connection has ended.
    pub(super) fn carrier_ended(
        &mut self,
        caller: &Caller,
        session: ConnectionId,
        io: &Io<'_>,
        out: &mut Output,
    ) {
        let Some(above) = self.connections.get(&session) else { return };
        let offset = if io.direction == Direction::In { above.next_in() } else { above.next_out() };
        let ended = Io { connection: session, offset, head: &[], tail: &[], ..*io };
        self.io(caller, &ended, out);
    }

    pub(super) fn speaks(&self, id: ConnectionId) -> Option<&Speaks> {
        self.connections.get(&id).map(|connection| &connection.speaks)
    }

    /// Follows what a thread moves, to learn which connection carries a session.
    pub(super) fn tls_step(&mut self, thread: ThreadKey, io: &Io<'_>) {
        let Some(connection) = self.connections.get(&io.connection).filter(|_| io.moved > 0) else { return };
        let (tls, moved) = (connection.tls, u64::from(io.moved));
        let starts = tls.begins(io, matches!(connection.speaks, Speaks::Undecided { .. }));
        let is_free = starts || tls == Tls::Carrier { session: None };
        if !is_free && tls == Tls::None && !self.threads.contains_key(&thread) {
            return; // A thread that has nothing to do with TLS needs no trail.
        }
        let Some(state) = self.thread(thread) else { return };
        let found = match (tls, io.direction) {
            (Tls::Session { carrier }, Direction::In) => state
                .trail
                .received
                .filter(|(_, received)| carrier.is_none() && moved + LEAST_OVERHEAD <= *received)
                .map(|(below, _)| (io.connection, below)),
            (Tls::Session { carrier }, Direction::Out) => {
                let before = state.trail.written.filter(|(session, _)| *session == io.connection);
                let all = before.map_or(0, |(_, written)| written) + moved;
                state.trail.written = carrier.is_none().then_some((io.connection, all));
                None
            }
            (_, Direction::In) => {
                state.trail.received = is_free.then_some((io.connection, moved));
                None
            }
            (_, Direction::Out) => state
                .trail
                .written
                .take()
                .filter(|(_, written)| is_free && fits(*written, moved))
                .map(|(session, _)| (session, io.connection)),
        };
        if let Some((session, carrier)) = found {
            if let Some(state) = self.threads.get_mut(&thread) {
                state.trail = Trail::default();
            }
            self.carry(session, carrier);
        }
    }
}

/// Whether so many bytes of content can have become so many on the connection.
fn fits(content: u64, moved: u64) -> bool {
    let records = content.div_ceil(MOST_CONTENT).max(1);
    // A library may make more records than it must; a few are thought of.
    (content + records * LEAST_OVERHEAD..=content + (records + 3) * MOST_OVERHEAD).contains(&moved)
}

fn goes_on(wants: clients::Wants) -> bool {
    wants.received != 0 || wants.sent != 0
}
