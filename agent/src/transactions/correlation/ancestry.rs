//! The contexts of one process: which was made from which, and for which request. A `PyContext`'s address says
//! nothing by itself, because it is given to another one within milliseconds; here each gets a number of its own
//! when it is made.

use super::served::Served;
use crate::intake::ConnectionId;
use crate::transactions::spans::RequestId;
use foldhash::HashMap;
use std::collections::VecDeque;

/// Contexts that have gone and are still known as the parents of others.
const MAX_GONE: usize = 16_384;
/// Addresses that are known to hold a context.
const MAX_ADDRESSES: usize = 65_536;
/// Parents that are asked, one after the other.
const MAX_STEPS: usize = 32;

/// Number of one context; never used again, and never 0. Its lowest bits say where the context is kept: most live for a
/// request, and each of them is looked at many times.
pub type Number = u64;

/// Bits of a number that are a place: room for every address and all that have gone.
const PLACE_BITS: u32 = 17;
const PLACES: usize = 1 << PLACE_BITS;

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

fn place_of(number: Number) -> usize {
    number as usize & (PLACES - 1)
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
    nodes: Vec<(Number, Node)>,
    free: Vec<u32>,
    gone: VecDeque<Number>,
    /// Contexts that were ever given a number.
    last: u64,
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

    /// A new context at this address, made from the one at `parent`.
    pub fn made(&mut self, time_ns: u64, address: u64, parent: Option<u64>) -> Number {
        let parent = parent.map(|parent| self.at(parent));
        self.put(address, Node { made_ns: time_ns, parent, ..Node::default() })
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
        let is_full = self.free.is_empty() && self.nodes.len() >= PLACES;
        if is_full || (self.addresses.len() >= MAX_ADDRESSES && !self.addresses.contains_key(&address)) {
            // A process that really has so many is started on anew: what is asked of it is then not known for a while.
            self.addresses.clear();
            self.nodes.clear();
            self.free.clear();
            self.gone.clear();
        }
        self.last += 1;
        let at = self.free.pop().map_or(self.nodes.len(), |at| at as usize);
        let number = self.last << PLACE_BITS | at as u64;
        match self.nodes.get_mut(at) {
            Some(free) => *free = (number, node),
            None => self.nodes.push((number, node)),
        }
        if let Some(before) = self.addresses.insert(address, number) {
            self.gone.push_back(before);
        }
        while self.gone.len() > MAX_GONE {
            if let Some(oldest) = self.gone.pop_front() {
                self.remove(oldest);
            }
        }
        number
    }

    fn remove(&mut self, number: Number) {
        let at = place_of(number);
        if let Some(known) = self.nodes.get_mut(at).filter(|known| known.0 == number) {
            *known = Default::default();
            self.free.extend(u32::try_from(at));
        }
    }

    fn get(&self, number: Number) -> Option<&Node> {
        self.nodes.get(place_of(number)).filter(|known| known.0 == number).map(|(_, node)| node)
    }

    pub fn node(&mut self, number: Number) -> Option<&mut Node> {
        self.nodes.get_mut(place_of(number)).filter(|known| known.0 == number).map(|(_, node)| node)
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
