//! Which request each greenlet of one process works for. No I/O, no clock.
//!
//! The greenlet that reads a connection's requests works for the latest that it has read. Any other works for the request
//! that its maker was at work on when it was made, and for that one only, whatever its maker turns to later. Where makers
//! cannot be seen, only the first rule is left.

use super::served::Served;
use crate::intake::ConnectionId;
use crate::transactions::spans::RequestId;
use foldhash::{HashMap, HashMapExt};

/// Greenlets that are remembered twice over: those that were met last, and as many before.
const MAX_GREENLETS: usize = 32_768;

/// A greenlet, by its thread and its address (or its first piece of data stack).
pub type Key = (u32, u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    /// It reads the requests of this connection.
    Serves(ConnectionId),
    /// It reads those of several at once: which it is at work on cannot be told.
    ServesMany,
    MadeFor(RequestId),
}

#[derive(Debug, Default)]
pub struct Greenlets {
    young: HashMap<Key, Work>,
    old: HashMap<Key, Work>,
}

impl Greenlets {
    /// Whether none has been met that is known.
    pub fn is_empty(&self) -> bool {
        self.young.is_empty() && self.old.is_empty()
    }

    /// A greenlet was made by another: whatever was known of its address was of another one.
    pub fn made(&mut self, time_ns: u64, new: Key, maker: Key, served: &Served) {
        match self.request(time_ns, maker, served) {
            Some(request) => self.keep(new, Work::MadeFor(request)),
            None => self.forget(new),
        }
    }

    /// A greenlet was made, and nothing is known of what it will work on.
    pub fn forget(&mut self, new: Key) {
        self.young.remove(&new);
        self.old.remove(&new);
    }

    /// A greenlet has read bytes of a served connection.
    pub fn read(&mut self, key: Key, connection: ConnectionId, served: &Served) {
        let work = match self.find(key) {
            Some(Work::ServesMany) => Work::ServesMany,
            Some(Work::Serves(other)) if other != connection && served.is_open(other) => Work::ServesMany,
            _ => Work::Serves(connection),
        };
        self.keep(key, work);
    }

    /// The request that a greenlet was at work on at this time.
    pub fn request(&mut self, time_ns: u64, key: Key, served: &Served) -> Option<RequestId> {
        match self.find(key)? {
            Work::Serves(connection) => served.request_at(connection, time_ns),
            Work::ServesMany => None,
            Work::MadeFor(request) => Some(request),
        }
    }

    fn find(&mut self, key: Key) -> Option<Work> {
        if let Some(work) = self.young.get(&key) {
            return Some(*work);
        }
        let work = self.old.remove(&key)?;
        self.keep(key, work);
        Some(work)
    }

    fn keep(&mut self, key: Key, work: Work) {
        self.old.remove(&key);
        if self.young.len() >= MAX_GREENLETS && !self.young.contains_key(&key) {
            self.old = std::mem::replace(&mut self.young, HashMap::new());
        }
        self.young.insert(key, work);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREAD: u32 = 7;

    fn request(connection: u64, sequence: u64) -> RequestId {
        RequestId { connection: ConnectionId(connection), sequence }
    }

    /// A greenlet at `address` reads a request.
    fn reads(greenlets: &mut Greenlets, served: &mut Served, time_ns: u64, address: u64, request: RequestId) {
        served.began(time_ns, request);
        greenlets.read((THREAD, address), request.connection, served);
    }

    #[test]
    fn children_keep_the_request_that_they_were_made_in() {
        let (mut greenlets, mut served) = (Greenlets::default(), Served::default());
        reads(&mut greenlets, &mut served, 100, 0xa0, request(1, 0));
        greenlets.made(110, (THREAD, 0xb0), (THREAD, 0xa0), &served);
        greenlets.made(120, (THREAD, 0xc0), (THREAD, 0xb0), &served);
        served.ended(100, request(1, 0));
        reads(&mut greenlets, &mut served, 200, 0xa0, request(1, 1));
        greenlets.made(210, (THREAD, 0xd0), (THREAD, 0xa0), &served);
        // Made in the first request, after the second has begun: its child's child is the first's, too.
        greenlets.made(220, (THREAD, 0xe0), (THREAD, 0xc0), &served);
        let mut of = |address| greenlets.request(230, (THREAD, address), &served);
        assert_eq!(of(0xa0), Some(request(1, 1)));
        assert_eq!([of(0xb0), of(0xc0), of(0xe0)], [Some(request(1, 0)); 3]);
        assert_eq!(of(0xd0), Some(request(1, 1)));
        assert_eq!(greenlets.request(230, (THREAD + 1, 0xd0), &served), None);
    }

    #[test]
    fn an_address_that_is_used_again_is_another_greenlet() {
        let (mut greenlets, mut served) = (Greenlets::default(), Served::default());
        reads(&mut greenlets, &mut served, 100, 0xa0, request(1, 0));
        greenlets.made(110, (THREAD, 0xb0), (THREAD, 0xa0), &served);
        // By one that serves nobody.
        greenlets.made(120, (THREAD, 0xb0), (THREAD, 0xf0), &served);
        assert_eq!(greenlets.request(130, (THREAD, 0xb0), &served), None);
        greenlets.made(140, (THREAD, 0xa0), (THREAD, 0xf0), &served);
        assert_eq!(greenlets.request(150, (THREAD, 0xa0), &served), None);
    }

    #[test]
    fn one_that_reads_two_connections_at_once_works_for_nobody() {
        let (mut greenlets, mut served) = (Greenlets::default(), Served::default());
        reads(&mut greenlets, &mut served, 100, 0xa0, request(1, 0));
        served.ended(100, request(1, 0));
        reads(&mut greenlets, &mut served, 200, 0xa0, request(2, 0));
        assert_eq!(greenlets.request(210, (THREAD, 0xa0), &served), Some(request(2, 0)));
        reads(&mut greenlets, &mut served, 300, 0xa0, request(3, 0));
        assert_eq!(greenlets.request(310, (THREAD, 0xa0), &served), None);
        served.ended(300, request(3, 0));
        reads(&mut greenlets, &mut served, 400, 0xa0, request(1, 1));
        assert_eq!(greenlets.request(410, (THREAD, 0xa0), &served), None);
    }

    #[test]
    fn a_connection_that_is_gone_has_no_requests() {
        let (mut greenlets, mut served) = (Greenlets::default(), Served::default());
        reads(&mut greenlets, &mut served, 100, 0xa0, request(1, 0));
        served.closed(ConnectionId(1));
        assert_eq!(greenlets.request(110, (THREAD, 0xa0), &served), None);
    }

    #[test]
    fn those_that_are_met_outlast_those_that_are_not() {
        let (mut greenlets, mut served) = (Greenlets::default(), Served::default());
        reads(&mut greenlets, &mut served, 100, 1, request(1, 0));
        for address in 2..5 * MAX_GREENLETS as u64 {
            greenlets.made(200, (THREAD, address), (THREAD, 1), &served);
        }
        assert!(greenlets.young.len() + greenlets.old.len() <= 2 * MAX_GREENLETS);
        assert_eq!(greenlets.request(300, (THREAD, 1), &served), Some(request(1, 0)));
        assert_eq!(greenlets.request(300, (THREAD, 2), &served), None);
    }
}
