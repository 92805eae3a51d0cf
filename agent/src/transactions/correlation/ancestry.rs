//! The contexts of one process: which was made from which, and for which request. A `PyContext`'s address says
//! nothing by itself, because it is given to another one within milliseconds; here each gets a number of its own
//! when it is made.

use super::served::Served;
use crate::intake::ConnectionId;
use crate::transactions::spans::RequestId;
use foldhash::HashMap;
use std::collections::VecDeque;
use std::collections::hash_map::Entry;

/// Contexts that have gone and are still known as the parents of others.
const MAX_GONE: usize = 16_384;
/// Addresses that are known to hold a context.
const MAX_ADDRESSES: usize = 65_536;
/// Parents that are asked, one after the other.
const MAX_STEPS: usize = 32;

/// Number of one context; never used again, and no context's is 0. Its last bits are the context's slot.
pub type Number = u64;

/// Bits of a number that are a slot.
const SLOT_BITS: u32 = 17;

const _: () = assert!(MAX_ADDRESSES + MAX_GONE < 1 << SLOT_BITS);

/// One context.
#[derive(Clone, Copy, Debug, Default)]
pub struct Node {
    /// When it was made; 0 for one that was there before.
    pub made_ns: u64,
    parent: Option<Number>,
    /// The request that everything in it is done for.
    pub owner: Option<RequestId>,
    /// The connection whose requests are served in it, one after the other.
    pub connection: Option<ConnectionId>,
    /// The connection that was read in it.
    reader: Option<ConnectionId>,
    /// Requests of several connections are served, or read, in it.
    pub shared: bool,
    /// Whom it seemed to be made for, by what had been read before.
    pub guess: Option<RequestId>,
    /// The answer to its owner was written in it.
    answered: bool,
}

/// What is known of a context when it is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Made {
    pub time_ns: u64,
    pub parent: Option<Number>,
    /// As in [`Node`].
    pub owner: Option<RequestId>,
    pub guess: Option<RequestId>,
}

/// What an answer told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learnt {
    Nothing,
    Whose,
    /// A context that had answered one request has answered another.
    ServesMany,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Ancestry {
    addresses: HashMap<u64, Number>,
    /// Contexts by their slots, each with its number: a slot is given to another when its context is forgotten.
    slots: Vec<(Number, Node)>,
    /// Contexts that have gone, the oldest first. One that had two names is in it twice.
    gone: VecDeque<Number>,
    /// Contexts so far.
    count: u64,
    /// Each request has a task of its own: a context that has answered one answers no other.
    pub one_each: bool,
}

impl Ancestry {
    /// The context that is now at this address: known, or met for the first time.
    pub fn at(&mut self, address: u64) -> Number {
        match self.addresses.get(&address) {
            Some(number) => *number,
            None => self.put(address, Node::default()),
        }
    }

    /// A new context at this address.
    pub fn made(&mut self, address: u64, made: Made) -> Number {
        let Made { time_ns, parent, owner, guess } = made;
        self.put(address, Node { made_ns: time_ns, parent, owner, guess, ..Node::default() })
    }

    /// Has another name for a context: an address that no context can have, for what is to be remembered of it.
    pub fn name(&mut self, address: u64, number: Number) {
        if self.addresses.len() < MAX_ADDRESSES || self.addresses.contains_key(&address) {
            self.addresses.insert(address, number);
        }
    }

    #[must_use]
    pub fn is_named(&self, address: u64) -> bool {
        self.addresses.contains_key(&address)
    }

    pub fn forget_name(&mut self, address: u64) {
        self.addresses.remove(&address);
    }

    fn put(&mut self, address: u64, node: Node) -> Number {
        let is_full = self.addresses.len() >= MAX_ADDRESSES && !self.addresses.contains_key(&address);
        if is_full || self.slots.len() >= 1 << SLOT_BITS {
            // A process that really has so many is started on anew: what is asked of it is then not known for a while.
            self.addresses.clear();
            self.slots.clear();
            self.gone.clear();
        }
        self.count += 1;
        let slot = self.slot_to_use_again().unwrap_or(self.slots.len());
        let number = self.count << SLOT_BITS | slot as u64;
        match self.addresses.entry(address) {
            Entry::Occupied(mut entry) => self.gone.push_back(entry.insert(number)),
            Entry::Vacant(entry) => {
                entry.insert(number);
            }
        }
        match self.slots.get_mut(slot) {
            Some(forgotten) => *forgotten = (number, node),
            None => self.slots.push((number, node)),
        }
        number
    }

    /// The slot of the one that went first, if so many have gone that it may be forgotten.
    fn slot_to_use_again(&mut self) -> Option<usize> {
        while self.gone.len() >= MAX_GONE {
            let oldest = self.gone.pop_front()?;
            if self.get(oldest).is_some() {
                return Some(slot_of(oldest));
            }
        }
        None
    }

    fn get(&self, number: Number) -> Option<&Node> {
        self.slots.get(slot_of(number)).filter(|(of, _)| *of == number).map(|(_, node)| node)
    }

    pub fn node(&mut self, number: Number) -> Option<&mut Node> {
        self.slots.get_mut(slot_of(number)).filter(|(of, _)| *of == number).map(|(_, node)| node)
    }

    /// The request that something done in this context at this time is for: its own, or its maker's then.
    #[must_use]
    pub fn resolve(&self, number: Number, time_ns: u64, served: &Served) -> Option<RequestId> {
        let (mut number, mut time_ns) = (number, time_ns);
        for _ in 0..MAX_STEPS {
            let node = self.get(number)?;
            if let Some(owner) = node.owner {
                // What has answered one request may be about the next one of its connection by now.
                let doubtful = node.answered && !self.one_each && served.is_followed(owner, time_ns);
                return (!doubtful).then_some(owner);
            }
            if let Some(connection) = node.connection.filter(|_| !node.shared)
                && let Some(request) = served.request_at(connection, time_ns)
            {
                return Some(request);
            }
            time_ns = node.made_ns;
            number = node.parent?;
        }
        None
    }

    /// Bytes of this connection were read in this context.
    pub fn read_in(&mut self, number: Number, connection: ConnectionId) {
        if let Some(node) = self.node(number) {
            match node.reader {
                None => node.reader = Some(connection),
                Some(other) if other != connection => node.shared = true,
                Some(_) => {}
            }
        }
    }

    /// This context wrote the answer to `request`, which began at `began_ns`: what no guess stands against.
    pub fn answered_in(
        &mut self,
        number: Number,
        request: RequestId,
        began_ns: u64,
        served: &Served,
    ) -> Learnt {
        let known = self.resolve(number, began_ns, served) == Some(request);
        let Some(node) = self.node(number) else { return Learnt::Nothing };
        if known {
            node.answered = true;
            return Learnt::Nothing;
        }
        if node.made_ns < began_ns {
            let learnt = if node.owner.is_some() { Learnt::ServesMany } else { Learnt::Whose };
            node.owner = None;
            match node.connection {
                None => node.connection = Some(request.connection),
                Some(other) if other != request.connection => node.shared = true,
                Some(_) => {}
            }
            return learnt;
        }
        node.answered = true;
        // It was made for this request, and so were those of its makers that are not older than it.
        let mut next = Some(number);
        for _ in 0..MAX_STEPS {
            let Some(node) = next.and_then(|number| self.node(number)) else { break };
            if node.made_ns < began_ns || (node.owner.is_some() && next != Some(number)) {
                break;
            }
            node.owner = Some(request);
            next = node.parent;
        }
        Learnt::Whose
    }

    /// This context was made no earlier than that.
    #[must_use]
    pub fn is_younger(&self, number: Number, began_ns: u64) -> bool {
        self.get(number).is_some_and(|node| node.made_ns >= began_ns)
    }

    /// The guess about this context, or about the nearest of its makers that is not older than `began_ns`.
    #[must_use]
    pub fn guess(&self, number: Number, began_ns: u64) -> Option<RequestId> {
        let mut number = number;
        for _ in 0..MAX_STEPS {
            let node = self.get(number).filter(|node| node.made_ns >= began_ns)?;
            if node.guess.is_some() {
                return node.guess;
            }
            number = node.parent?;
        }
        None
    }
}

fn slot_of(number: Number) -> usize {
    (number & ((1 << SLOT_BITS) - 1)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(connection: u64) -> RequestId {
        RequestId { connection: ConnectionId(connection), sequence: 0 }
    }

    fn copy(ancestry: &mut Ancestry, time_ns: u64, parent: Number, address: u64) -> Number {
        let owner = ancestry.resolve(parent, time_ns, &Served::default());
        ancestry.made(address, Made { time_ns, parent: Some(parent), owner, guess: None })
    }

    #[test]
    fn a_number_is_one_contexts_whatever_is_made_at_its_address() {
        let (mut ancestry, served) = (Ancestry::default(), Served::default());
        let first = ancestry.made(0x10, Made { time_ns: 1, owner: Some(request(1)), ..Made::default() });
        let child = copy(&mut ancestry, 2, first, 0x20);
        let second = ancestry.made(0x10, Made { time_ns: 3, owner: Some(request(2)), ..Made::default() });
        let other = copy(&mut ancestry, 4, second, 0x30);
        let of = |number| ancestry.resolve(number, 5, &served);
        assert_eq!([first, child].map(of), [Some(request(1)); 2]);
        assert_eq!([second, other].map(of), [Some(request(2)); 2]);
        assert_eq!((ancestry.at(0x10), ancestry.at(0x20)), (second, child));
    }

    #[test]
    fn a_forgotten_contexts_slot_says_nothing_of_it() {
        let (mut ancestry, served) = (Ancestry::default(), Served::default());
        let first = ancestry.made(0x10, Made { time_ns: 1, owner: Some(request(1)), ..Made::default() });
        let child = ancestry.made(0x20, Made { time_ns: 2, parent: Some(first), ..Made::default() });
        let mut last = first;
        for time_ns in 3..3 + 2 * MAX_GONE as u64 {
            let owner = Some(request(time_ns));
            last = ancestry.made(0x10, Made { time_ns, owner, ..Made::default() });
        }
        // Its place is another's by now, which has an owner.
        assert!(ancestry.node(first).is_none());
        assert_eq!(ancestry.slots.len(), MAX_GONE + 2);
        assert_eq!(ancestry.resolve(first, 2, &served), None);
        assert_eq!(ancestry.resolve(child, 2, &served), None);
        assert_eq!(ancestry.resolve(last, 2, &served), Some(request(2 + 2 * MAX_GONE as u64)));
    }

    #[test]
    fn one_with_two_names_gives_its_slot_away_once() {
        let mut ancestry = Ancestry::default();
        let first = ancestry.made(0x10, Made { time_ns: 1, ..Made::default() });
        ancestry.name(0x1, first);
        // Both names become others', and enough goes for the first to be forgotten.
        let made =
            |ancestry: &mut Ancestry, address| ancestry.made(address, Made { time_ns: 2, ..Made::default() });
        let lasting = [made(&mut ancestry, 0x10), made(&mut ancestry, 0x1)];
        for _ in 0..MAX_GONE {
            made(&mut ancestry, 0x20);
        }
        let living = made(&mut ancestry, 0x30);
        made(&mut ancestry, 0x40);
        assert!(ancestry.node(first).is_none());
        assert!([lasting[0], lasting[1], living].iter().all(|number| ancestry.node(*number).is_some()));
    }

    #[test]
    fn contexts_that_live_outlast_those_that_go() {
        let (mut ancestry, served) = (Ancestry::default(), Served::default());
        let base = ancestry.made(0x8, Made { time_ns: 1, owner: Some(request(1)), ..Made::default() });
        for time_ns in 2..2 + 3 * MAX_GONE as u64 {
            copy(&mut ancestry, time_ns, base, 0x1_0000 + time_ns % 100 * 16);
        }
        assert_eq!(ancestry.at(0x8), base);
        assert_eq!(ancestry.resolve(base, 2, &served), Some(request(1)));
    }

    #[test]
    fn too_many_addresses_are_started_on_anew() {
        let (mut ancestry, served) = (Ancestry::default(), Served::default());
        let first = ancestry.made(0x10, Made { time_ns: 1, owner: Some(request(1)), ..Made::default() });
        for address in 1..=MAX_ADDRESSES as u64 {
            ancestry.made(0x10 + address * 16, Made { time_ns: 2, ..Made::default() });
        }
        assert!(ancestry.addresses.len() <= MAX_ADDRESSES);
        // The one that is now in its place is not it.
        assert_ne!(ancestry.at(0x10), first);
        assert_eq!(ancestry.resolve(first, 2, &served), None);
    }
}
