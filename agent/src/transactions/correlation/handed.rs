//! Requests that one thread reads and the threads of a pool answer (waitress). Whose is what a pool's thread does? No
//! I/O, no clock.
//!
//! A thread takes up a request unseen. It shows itself when it writes the first part of the answer: what it has done
//! since it was through with the one before is this request's, and waits until then. Through with one it is when it wakes
//! the reading thread, which it does as the last thing for each; but it wakes it as well when it could not write all
//! of an answer. So: between the answer and the first waking it works on the answered request; after the last
//! waking before the next answer, on the next; between the two it cannot be told, unless both answers are one.
//!
//! A request whose client goes away ends without the waking. Then nothing is believed of what waits on any thread of the
//! pool until it has shown itself anew.

use super::lineage::{Reason, Whose};
use crate::transactions::spans::RequestId;
use foldhash::{HashMap, HashMapExt, HashSet, HashSetExt};
use std::collections::VecDeque;

/// Things that wait on one thread until its request is known.
const MAX_WAITING: usize = 1_024;
/// Threads that are remembered.
const MAX_THREADS: usize = 4_096;

/// The threads of one process. `T` is what waits.
#[derive(Debug)]
pub struct Pool<T> {
    hands: HashMap<u32, Hand<T>>,
    /// They have read requests.
    readers: HashSet<u32>,
    /// A thread has answered what another one had read.
    proven: bool,
    told: Vec<(T, Result<RequestId, Reason>)>,
}

/// One thread that does not read.
#[derive(Debug)]
struct Hand<T> {
    /// The request that it wrote a part of an answer to last.
    answering: Option<RequestId>,
    /// When it woke the reader since then, the last time.
    woke_ns: Option<u64>,
    /// It may have been through with a request without having woken the reader.
    doubtful: bool,
    waiting: VecDeque<(u64, T)>,
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self { hands: HashMap::new(), readers: HashSet::new(), proven: false, told: Vec::new() }
    }
}

impl<T> Default for Hand<T> {
    fn default() -> Self {
        Self { answering: None, woke_ns: None, doubtful: false, waiting: VecDeque::new() }
    }
}

impl<T> Pool<T> {
    /// A thread has read from a connection of clients.
    pub fn read(&mut self, tid: u32) {
        if self.readers.len() < MAX_THREADS {
            self.readers.insert(tid);
        }
    }

    /// Whether the thread that reads a request is known to be another one than that which works on it.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.proven
    }

    /// A thread has woken the reader.
    pub fn woke(&mut self, time_ns: u64, tid: u32) {
        let Some(hand) = self.hand(tid) else { return };
        hand.woke_ns = Some(time_ns);
        hand.doubtful = false;
    }

    /// A request has ended without its whole answer.
    pub fn cut_off(&mut self) {
        for hand in self.hands.values_mut() {
            hand.doubtful = true;
        }
    }

    /// Whose is what this thread does now? `by_thread` is what it says itself, if it reads what it answers.
    pub fn whose(&mut self, tid: u32, by_thread: Option<RequestId>) -> Whose {
        if !self.proven
            && let Some(request) = by_thread
        {
            return Whose::Request(request);
        }
        if self.readers.contains(&tid) {
            return Whose::Nobodys(Reason::OutsideCoroutines);
        }
        match self.hand(tid) {
            Some(Hand { answering: Some(request), woke_ns: None, .. }) => Whose::Request(*request),
            Some(_) => Whose::Handed,
            None => Whose::Nobodys(Reason::TooMany),
        }
    }

    /// Keeps what this thread did until it shows what for.
    pub fn wait(&mut self, time_ns: u64, tid: u32, what: T) {
        let Some(hand) = self.hand(tid) else {
            self.told.push((what, Err(Reason::TooMany)));
            return;
        };
        let oldest = if hand.waiting.len() >= MAX_WAITING { hand.waiting.pop_front() } else { None };
        hand.waiting.push_back((time_ns, what));
        self.told.extend(oldest.map(|(_, what)| (what, Err(Reason::TooMany))));
    }

    /// A thread has written a part of the answer to `request`, whose first byte had been read at `began_ns`.
    pub fn answered(&mut self, tid: u32, request: RequestId, began_ns: u64) {
        // The reader writes what is left of long answers.
        if self.readers.contains(&tid) {
            return;
        }
        let Some(hand) = self.hand(tid) else { return };
        let same = hand.answering == Some(request);
        let since_ns = if same { 0 } else { hand.woke_ns.unwrap_or(0).max(began_ns) };
        let doubtful = hand.doubtful && !same;
        *hand =
            Hand { answering: Some(request), waiting: std::mem::take(&mut hand.waiting), ..Hand::default() };
        let waiting = std::mem::take(&mut hand.waiting);
        self.proven = true;
        self.told.extend(waiting.into_iter().map(|(time_ns, what)| {
            let known = time_ns >= since_ns && !doubtful;
            (what, if known { Ok(request) } else { Err(Reason::NeverAnswered) })
        }));
    }

    /// What has been told of those that waited.
    pub fn told(&mut self) -> Vec<(T, Result<RequestId, Reason>)> {
        std::mem::take(&mut self.told)
    }

    /// Nothing more will be told.
    pub fn close(mut self) -> Vec<(T, Result<RequestId, Reason>)> {
        let waiting = self.hands.drain().flat_map(|(_, hand)| hand.waiting);
        self.told.extend(waiting.map(|(_, what)| (what, Err(Reason::NeverAnswered))));
        self.told
    }

    fn hand(&mut self, tid: u32) -> Option<&mut Hand<T>> {
        if self.hands.len() >= MAX_THREADS && !self.hands.contains_key(&tid) {
            return None;
        }
        Some(self.hands.entry(tid).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intake::ConnectionId;

    const READER: u32 = 1;
    const FIRST: u32 = 2;
    const SECOND: u32 = 3;

    fn request(connection: u64) -> RequestId {
        RequestId { connection: ConnectionId(connection), sequence: 0 }
    }

    fn pool() -> Pool<&'static str> {
        let mut pool = Pool::default();
        pool.read(READER);
        pool
    }

    #[test]
    fn what_was_done_before_the_answer_is_its_requests() {
        let mut pool = pool();
        assert_eq!(pool.whose(FIRST, None), Whose::Handed);
        pool.wait(20, FIRST, "a");
        pool.wait(21, SECOND, "b");
        pool.answered(FIRST, request(7), 10);
        assert_eq!(pool.told(), [("a", Ok(request(7)))]);
        assert_eq!(pool.whose(FIRST, None), Whose::Request(request(7)));
        pool.answered(SECOND, request(8), 11);
        assert_eq!(pool.told(), [("b", Ok(request(8)))]);
    }

    #[test]
    fn what_comes_after_the_answer_is_not_the_next_ones() {
        let mut pool = pool();
        pool.answered(FIRST, request(7), 10);
        // The next has been read already, and this is still the one before: it closes what it had opened.
        assert_eq!(pool.whose(FIRST, None), Whose::Request(request(7)));
        pool.woke(30, FIRST);
        assert_eq!(pool.whose(FIRST, None), Whose::Handed);
        pool.wait(40, FIRST, "next");
        pool.answered(FIRST, request(8), 11);
        assert_eq!(pool.told(), [("next", Ok(request(8)))]);
    }

    #[test]
    fn a_waking_in_the_middle_of_an_answer_leaves_doubt() {
        let mut pool = pool();
        pool.answered(FIRST, request(7), 10);
        pool.woke(30, FIRST);
        pool.wait(40, FIRST, "of the long answer");
        pool.answered(FIRST, request(7), 10);
        assert_eq!(pool.told(), [("of the long answer", Ok(request(7)))]);
        pool.woke(50, FIRST);
        pool.wait(60, FIRST, "unknown");
        pool.woke(70, FIRST);
        pool.wait(80, FIRST, "next");
        pool.answered(FIRST, request(8), 11);
        assert_eq!(pool.told(), [("unknown", Err(Reason::NeverAnswered)), ("next", Ok(request(8)))]);
    }

    #[test]
    fn what_is_older_than_the_request_is_not_its() {
        let mut pool = pool();
        pool.wait(20, FIRST, "a");
        pool.answered(FIRST, request(7), 25);
        assert_eq!(pool.told(), [("a", Err(Reason::NeverAnswered))]);
    }

    #[test]
    fn a_client_that_goes_away_leaves_doubt_until_the_next_waking() {
        let mut pool = pool();
        pool.wait(20, FIRST, "perhaps of the one that was cut off");
        pool.wait(21, SECOND, "as well");
        pool.cut_off();
        pool.woke(25, SECOND);
        pool.wait(30, FIRST, "unknown");
        pool.wait(30, SECOND, "next");
        pool.answered(FIRST, request(7), 10);
        pool.answered(SECOND, request(8), 10);
        let unknown = Err(Reason::NeverAnswered);
        assert_eq!(
            pool.told(),
            [
                ("perhaps of the one that was cut off", unknown),
                ("unknown", unknown),
                ("as well", unknown),
                ("next", Ok(request(8))),
            ]
        );
    }

    #[test]
    fn the_reader_itself_works_on_nothing() {
        let mut pool = pool();
        // Until it is known that others answer, it may be the one that does.
        assert_eq!(pool.whose(READER, Some(request(7))), Whose::Request(request(7)));
        pool.answered(FIRST, request(7), 10);
        assert_eq!(pool.whose(READER, Some(request(8))), Whose::Nobodys(Reason::OutsideCoroutines));
        pool.answered(READER, request(9), 10);
        assert_eq!(pool.told(), []);
    }

    #[test]
    fn what_waits_is_bounded_and_told_in_the_end() {
        let mut pool = pool();
        for time_ns in 0..=MAX_WAITING as u64 {
            pool.wait(time_ns, FIRST, "x");
        }
        assert_eq!(pool.told(), [("x", Err(Reason::TooMany))]);
        assert_eq!(pool.close().len(), MAX_WAITING);
    }
}
