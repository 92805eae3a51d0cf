//! Small numbers for names that come again and again, up to a bound.

use foldhash::{HashMap, HashMapExt};
use std::hash::Hash;
use std::sync::Arc;

/// Number of the entry that stands for everything beyond the bound.
pub const OTHER: u32 = 0;

/// Names and their numbers. When it is full, names that the window no longer holds make room; numbers of
/// those that stay do not change.
#[derive(Debug)]
pub struct Interned<K: ?Sized> {
    numbers: HashMap<Arc<K>, u32>,
    /// By number; entry 0 is [`OTHER`]'s.
    names: Vec<Option<Arc<K>>>,
    free: Vec<u32>,
    most: usize,
}

impl<K: Hash + Eq + ?Sized> Interned<K> {
    #[must_use]
    pub fn new(other: Arc<K>, most: usize) -> Self {
        Self { numbers: HashMap::new(), names: vec![Some(other)], free: Vec::new(), most }
    }

    /// The number of a known name.
    #[must_use]
    pub fn known(&self, name: &K) -> Option<u32> {
        self.numbers.get(name).copied()
    }

    #[must_use]
    pub fn is_full(&self) -> bool {
        self.numbers.len() >= self.most
    }

    /// A number for a new name; [`OTHER`] when there is no room.
    pub fn add(&mut self, name: Arc<K>) -> u32 {
        if self.is_full() {
            return OTHER;
        }
        let number = match self.free.pop() {
            Some(number) => number,
            None => {
                let Ok(number) = u32::try_from(self.names.len()) else { return OTHER };
                self.names.push(None);
                number
            }
        };
        if let Some(slot) = self.names.get_mut(number as usize) {
            *slot = Some(Arc::clone(&name));
        }
        self.numbers.insert(name, number);
        number
    }

    #[must_use]
    pub fn name(&self, number: u32) -> Option<&K> {
        self.names.get(number as usize)?.as_deref()
    }

    /// The name, shared.
    #[must_use]
    pub fn shared(&self, number: u32) -> Option<Arc<K>> {
        self.names.get(number as usize)?.clone()
    }

    /// Lets go of every name whose number is not in use.
    pub fn keep(&mut self, in_use: impl Fn(u32) -> bool) {
        let (names, free) = (&mut self.names, &mut self.free);
        self.numbers.retain(|_, number| {
            let keep = in_use(*number);
            if !keep {
                if let Some(slot) = names.get_mut(*number as usize) {
                    *slot = None;
                }
                free.push(*number);
            }
            keep
        });
    }
}
