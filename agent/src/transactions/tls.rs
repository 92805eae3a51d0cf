//! TLS sessions, and the connections that carry them. A session is a connection of its own, whose plaintext the
//! kernel half sees at the library's calls; what is on the carrier below is not looked into. The carrier lends
//! the session its peer, the beginning that it may have had in clear (PostgreSQL and MySQL ask for TLS in their
//! own protocol first), and its end.
//!
//! Which connection carries a session is known for certain where the library itself moves the bytes. With
//! memory in between (asyncio), a thread hands what it has received to the session and reads the plaintext, and
//! what it writes to a session goes out next. Such a step is believed only if nothing else came in between and
//! the sizes are exactly those of the plaintext's records; one that says otherwise later takes the belief away
//! for good. A session whose carrier is not known is whole but for its peer.

use super::Transactions;
use super::connection::Speaks;
use super::spans::Caller;
use super::thread::ThreadKey;
use super::{Output, clients};
use crate::intake::{ConnectionId, Direction, Io};

/// What a record has beyond its content: 5 bytes of header and, in TLS 1.3, 16 of authentication and one of type
/// (RFC 8446 section 5.2); in TLS 1.2, 16 with ChaCha20 (RFC 7905 section 2) or 24 with AES-GCM (RFC 5288 section
/// 3). Other ciphers pad, and fit nothing here.
const OVERHEADS: [u64; 3] = [5 + 17, 5 + 16, 5 + 24];
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
    Session(Session),
}

/// What is known of the connection below a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Session {
    pub carrier: Option<ConnectionId>,
    /// The library itself moved the carrier's bytes: not inferred.
    pub certain: bool,
    /// Steps contradicted each other: no more is inferred.
    pub doubtful: bool,
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
    /// It received so many bytes on this connection, and nothing on any other since.
    received: Option<(ConnectionId, u64)>,
    written: Written,
}

/// What a thread wrote to sessions since anything went out.
#[derive(Clone, Copy, Debug, Default)]
enum Written {
    #[default]
    Nothing,
    To {
        session: ConnectionId,
        bytes: u64,
        records: u64,
    },
    /// To several.
    Mixed,
}

impl Transactions {
    pub(super) fn tls_session(&mut self, pid: u32, session: ConnectionId, carrier: Option<ConnectionId>) {
        let Some(connection) = self.connection(pid, session, true) else { return };
        if connection.tls == Tls::None {
            connection.tls = Tls::Session(Session::default());
        }
        if let Some(carrier) = carrier {
            self.carry(session, carrier, true);
        }
    }

    /// `carrier` carries `session`.
    fn carry(&mut self, session: ConnectionId, carrier: ConnectionId, certain: bool) {
        let Some(below) = self.connections.get(&carrier) else { return };
        let Some(Tls::Session(before)) = self.connections.get(&session).map(|above| above.tls) else {
            return;
        };
        match below.tls {
            Tls::Session(_) => return,
            Tls::Carrier { session: Some(earlier) } if earlier != session => self.part(earlier, carrier),
            _ => {}
        }
        if let Some(other) = before.carrier.filter(|other| *other != carrier) {
            self.part(session, other);
        }
        let Some(below) = self.connections.get_mut(&carrier) else { return };
        below.tls = Tls::Carrier { session: Some(session) };
        let spoken = std::mem::replace(&mut below.speaks, Speaks::Nothing);
        let (pid, peer) = (below.pid, below.peer);
        let Some(above) = self.connections.get_mut(&session) else { return };
        above.tls = Tls::Session(Session { carrier: Some(carrier), certain, ..before });
        above.peer = peer;
        if !matches!(above.speaks, Speaks::Undecided { .. }) {
            return;
        }
        match spoken {
            Speaks::Mysql(database) => {
                // What was asked for has gone out as TLS already, and is answered in the session.
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
                above.speaks = Speaks::Client(client);
            }
            _ => {}
        }
    }

    /// `carrier` does not carry `session` after all.
    fn part(&mut self, session: ConnectionId, carrier: ConnectionId) {
        if let Some(above) = self.connections.get_mut(&session)
            && let Tls::Session(known) = &mut above.tls
        {
            *known = Session { carrier: None, certain: false, doubtful: true };
            above.peer = None;
        }
        self.session_ended(carrier);
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
        let (here, tls, moved) = (io.connection, connection.tls, u64::from(io.moved));
        if tls == Tls::None && !self.threads.contains_key(&thread) {
            return; // A thread that has nothing to do with TLS needs no trail.
        }
        let Some(trail) = self.thread(thread).map(|state| &mut state.trail) else { return };
        let found = match (tls, io.direction) {
            (Tls::Session(_), Direction::In) => trail
                .received
                .take()
                .filter(|(_, received)| fits(moved, 1, *received))
                .map(|(carrier, _)| (here, carrier)),
            (Tls::Session(_), Direction::Out) => {
                trail.written = trail.written.and(here, moved);
                None
            }
            (Tls::Carrier { .. }, Direction::In) => {
                trail.received = Some((here, moved));
                None
            }
            (Tls::None, Direction::In) => {
                trail.received = None;
                None
            }
            (_, Direction::Out) => match std::mem::take(&mut trail.written) {
                Written::To { session, bytes, records } if fits(bytes, records, moved) => {
                    Some((session, here))
                }
                _ => None,
            },
        };
        if let Some((session, carrier)) = found {
            self.infer(session, carrier);
        }
    }

    /// A step says that `carrier` carries `session`.
    fn infer(&mut self, session: ConnectionId, carrier: ConnectionId) {
        let tls = |id: &ConnectionId| self.connections.get(id).map(|connection| connection.tls);
        let (Some(Tls::Session(known)), Some(Tls::Carrier { session: other })) =
            (tls(&session), tls(&carrier))
        else {
            return;
        };
        if known.certain || known.doubtful || known.carrier == Some(carrier) {
            return;
        }
        let taken =
            other.is_some_and(|other| matches!(tls(&other), Some(Tls::Session(known)) if known.certain));
        match known.carrier {
            Some(before) => self.part(session, before),
            None if taken => {}
            None if other.is_some() => {
                // Two sessions claim one connection: neither is believed.
                if let Some(other) = other {
                    self.part(other, carrier);
                }
                self.part(session, carrier);
            }
            None => self.carry(session, carrier, false),
        }
    }
}

impl Written {
    fn and(self, session: ConnectionId, moved: u64) -> Self {
        let (bytes, records) = match self {
            Self::To { session: same, bytes, records } if same == session => (bytes, records),
            Self::Nothing => (0, 0),
            Self::To { .. } | Self::Mixed => return Self::Mixed,
        };
        Self::To { session, bytes: bytes + moved, records: records + moved.div_ceil(MOST_CONTENT) }
    }
}

/// Whether so many bytes of content in so many records are exactly so many on the connection.
fn fits(content: u64, records: u64, moved: u64) -> bool {
    OVERHEADS.into_iter().any(|overhead| content + records * overhead == moved)
}

fn goes_on(wants: clients::Wants) -> bool {
    wants.received != 0 || wants.sent != 0
}
