//! What goes before the first byte of a connection that the process makes: the addresses of a host are looked up, and the
//! connection is made. Both are parts of the call that it was made for, the first one on it. Knows nothing of requests.
//!
//! Which lookup a connection goes back to is told by its peer: the latest one of the same thread that came to this
//! address, or the only one of the process (an event loop has other threads look up). Of several that others made it
//! could be any: then it is not known.

use super::Transactions;
use super::connection::Speaks;
use super::spans::{Caller, Client};
use super::thread::ThreadKey;
use super::tls::{Session, Tls};
use crate::intake::{ConnectionId, Endpoint, LookedUp};
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

/// Lookups of one process that no connection has followed yet.
const MOST_LOOKUPS: usize = 64;
/// Connections that were made and have moved nothing yet, over all processes.
const MOST_PENDING: usize = 4096;
/// A connection follows the lookup it needs at once; what is older than this was for something else.
const LONGEST_PAUSE_NS: u64 = 10_000_000_000;

/// How a connection came to be. Times are `CLOCK_MONOTONIC` nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setup {
    /// The thread that asked for it.
    pub thread: ThreadKey,
    /// When the connection was asked for.
    pub connect_from: u64,
    pub connect_until: u64,
    /// The same of the lookup before; `None` when there was none, or it is not known which.
    pub lookup: Option<(u64, u64)>,
}

impl Setup {
    /// When the first part of it began.
    #[must_use]
    pub fn began_ns(&self) -> u64 {
        self.lookup.map_or(self.connect_from, |(from, _)| from.min(self.connect_from))
    }
}

#[derive(Debug)]
struct Lookup {
    thread: ThreadKey,
    from: u64,
    until: u64,
    addresses: Vec<IpAddr>,
}

/// What is known of connections before their first byte.
#[derive(Debug, Default)]
pub struct Connecting {
    lookups: HashMap<u32, VecDeque<Lookup>>,
    /// By process and descriptor.
    pending: HashMap<(u32, u32), (Endpoint, Setup)>,
}

impl Connecting {
    /// How many were forgotten for it that a connection might have followed.
    fn looked_up(&mut self, time_ns: u64, thread: ThreadKey, told: &LookedUp) -> u64 {
        if told.literal || told.addresses.is_empty() {
            return 0;
        }
        let lookups = self.lookups.entry(thread.pid).or_default();
        let forgotten = if lookups.len() >= MOST_LOOKUPS { lookups.pop_front() } else { None };
        let addresses = told.addresses.clone();
        lookups.push_back(Lookup { thread, from: told.started_ns, until: time_ns, addresses });
        u64::from(forgotten.is_some_and(|old| time_ns.saturating_sub(old.until) <= LONGEST_PAUSE_NS))
    }

    /// How many were forgotten for it that had moved nothing yet.
    fn connected(
        &mut self,
        time_ns: u64,
        thread: ThreadKey,
        fd: u32,
        started_ns: u64,
        peer: Endpoint,
    ) -> u64 {
        let mut forgotten = 0;
        if self.pending.len() >= MOST_PENDING {
            // Those that never moved a byte will not do so either.
            forgotten = self.pending.len() as u64;
            self.pending.clear();
        }
        let lookup = self.lookup(thread, started_ns, peer);
        let setup = Setup { thread, connect_from: started_ns, connect_until: time_ns, lookup };
        self.pending.insert((thread.pid, fd), (peer, setup));
        forgotten
    }

    /// Takes out the lookup that a connection goes back to which was asked for then.
    fn lookup(&mut self, thread: ThreadKey, started_ns: u64, peer: Endpoint) -> Option<(u64, u64)> {
        let Endpoint::Inet { address, .. } = peer else { return None };
        let lookups = self.lookups.get_mut(&thread.pid)?;
        let fits = |lookup: &Lookup| {
            lookup.until <= started_ns
                && started_ns - lookup.until <= LONGEST_PAUSE_NS
                && lookup.addresses.contains(&address)
        };
        let own = lookups.iter().rposition(|lookup| lookup.thread == thread && fits(lookup));
        let found = own.or_else(|| {
            let mut others = (0..lookups.len()).filter(|at| lookups.get(*at).is_some_and(fits));
            others.next().filter(|_| others.next().is_none())
        })?;
        lookups.remove(found).map(|lookup| (lookup.from, lookup.until))
    }

    /// How the connection on this descriptor came to be, that goes there.
    pub fn take(&mut self, pid: u32, fd: u32, peer: Endpoint) -> Option<Setup> {
        self.pending.remove(&(pid, fd)).filter(|(to, _)| *to == peer).map(|(_, setup)| setup)
    }

    pub fn forget(&mut self, pid: u32) {
        self.lookups.remove(&pid);
        self.pending.retain(|(owner, _), _| *owner != pid);
    }
}

impl Transactions {
    pub(super) fn looked_up(&mut self, caller: &Caller, told: &LookedUp) {
        self.counts.connecting_overflow += self.connecting.looked_up(caller.time_ns, caller.thread, told);
    }

    pub(super) fn connected(&mut self, caller: &Caller, fd: u32, started_ns: u64, peer: Endpoint) {
        self.counts.connecting_overflow +=
            self.connecting.connected(caller.time_ns, caller.thread, fd, started_ns, peer);
    }

    /// The first call on this connection takes how it came to be, as soon as both are known: which connection carries a
    /// TLS session may be told later than its first call.
    pub(super) fn set_up(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get(&id) else { return };
        let Speaks::Client(Client { first: Some((first, thread)), .. }) = connection.speaks else { return };
        let below = match connection.tls {
            Tls::Session(Session { carrier, .. }) => carrier,
            _ => Some(id),
        };
        let Some(setup) = below.and_then(|below| self.connections.get_mut(&below)?.setup.take()) else {
            return;
        };
        // One that another thread made was there before, and not made for it.
        if let Some(span) = self.spans.get_mut(first).filter(|_| setup.thread == thread) {
            span.setup = Some(setup);
        }
        if let Some(Speaks::Client(client)) = self.connections.get_mut(&id).map(|one| &mut one.speaks) {
            client.first = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: ThreadKey = ThreadKey { pid: 7, tid: 1 };
    const TWO: ThreadKey = ThreadKey { pid: 7, tid: 2 };

    fn peer(last: u8) -> Endpoint {
        Endpoint::Inet { address: [10, 0, 0, last].into(), port: 443 }
    }

    fn told(started_ns: u64, last: u8) -> LookedUp {
        LookedUp {
            started_ns,
            literal: false,
            addresses: vec![[10, 0, 0, 1].into(), [10, 0, 0, last].into()],
        }
    }

    fn lookup_of(connecting: &mut Connecting, thread: ThreadKey, at: u64, last: u8) -> Option<(u64, u64)> {
        connecting.connected(at + 5, thread, 3, at, peer(last));
        let setup = connecting.take(7, 3, peer(last)).unwrap();
        assert_eq!((setup.connect_from, setup.connect_until), (at, at + 5));
        setup.lookup
    }

    #[test]
    fn the_thread_s_own_lookup_before_others() {
        let mut connecting = Connecting::default();
        connecting.looked_up(20, ONE, &told(10, 2));
        connecting.looked_up(30, TWO, &told(15, 2));
        assert_eq!(lookup_of(&mut connecting, ONE, 40, 2), Some((10, 20)));
        // The other is the only one left.
        assert_eq!(lookup_of(&mut connecting, ONE, 50, 2), Some((15, 30)));
        assert_eq!(lookup_of(&mut connecting, ONE, 60, 2), None);
    }

    #[test]
    fn of_several_by_others_none_is_believed() {
        let mut connecting = Connecting::default();
        connecting.looked_up(20, TWO, &told(10, 2));
        connecting.looked_up(30, TWO, &told(15, 2));
        assert_eq!(lookup_of(&mut connecting, ONE, 40, 2), None);
        // By their own thread it is the latest.
        assert_eq!(lookup_of(&mut connecting, TWO, 40, 2), Some((15, 30)));
    }

    #[test]
    fn what_does_not_lead_there() {
        let mut connecting = Connecting::default();
        connecting.looked_up(20, ONE, &told(10, 2));
        connecting.looked_up(20, ONE, &LookedUp { literal: true, ..told(10, 3) });
        connecting.looked_up(20, ONE, &LookedUp { addresses: Vec::new(), ..told(10, 4) });
        for last in [3, 4, 5] {
            assert_eq!(lookup_of(&mut connecting, ONE, 40, last), None);
        }
        // Not over yet, or long over.
        assert_eq!(lookup_of(&mut connecting, ONE, 19, 2), None);
        assert_eq!(lookup_of(&mut connecting, ONE, 21 + LONGEST_PAUSE_NS, 2), None);
        // The descriptor is another connection's by now.
        connecting.connected(45, ONE, 3, 40, peer(2));
        assert_eq!(connecting.take(7, 3, peer(9)), None);
        assert_eq!(connecting.take(7, 3, peer(2)), None);
    }

    #[test]
    fn bounded() {
        let mut connecting = Connecting::default();
        let forgotten: u64 =
            (0..1000).map(|number| connecting.looked_up(number, ONE, &told(number, 2))).sum();
        assert_eq!(forgotten, 1000 - MOST_LOOKUPS as u64);
        // No connection would have followed that one any more.
        assert_eq!(connecting.looked_up(2 * LONGEST_PAUSE_NS, ONE, &told(7, 2)), 0);
        assert_eq!(connecting.lookups[&7].len(), MOST_LOOKUPS);
        let forgotten: u64 = (0..10_000).map(|fd| connecting.connected(1, ONE, fd, 1, peer(2))).sum();
        assert_eq!(forgotten, 2 * MOST_PENDING as u64);
        assert!(connecting.pending.len() <= MOST_PENDING);
        connecting.forget(7);
        assert!(connecting.pending.is_empty() && connecting.lookups.is_empty());
    }
}
