//! A map with a budget: entries live in two generations, and when the young one has filled half of the
//! budget the old one is dropped whole. What is used moves back to the young one, so what is dropped has
//! not been used for at least half a budget of insertions.

use foldhash::{HashMap, HashMapExt};
use std::hash::Hash;

#[derive(Debug)]
pub(super) struct Cache<K, V> {
    young: HashMap<K, (V, usize)>,
    old: HashMap<K, (V, usize)>,
    /// Sum of the weights in `young`.
    weight: usize,
    budget: usize,
}

impl<K: Copy + Eq + Hash, V: Clone> Cache<K, V> {
    /// `budget` is in the unit in which `insert` is told weights; it is never exceeded by more than one
    /// entry.
    pub(super) fn new(budget: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), weight: 0, budget }
    }

    pub(super) fn get(&mut self, key: K) -> Option<V> {
        if let Some((value, _)) = self.young.get(&key) {
            return Some(value.clone());
        }
        let (value, weight) = self.old.remove(&key)?;
        self.insert(key, value.clone(), weight);
        Some(value)
    }

    pub(super) fn insert(&mut self, key: K, value: V, weight: usize) {
        if self.weight.saturating_add(weight) > self.budget / 2 && !self.young.is_empty() {
            self.old = std::mem::take(&mut self.young);
            self.weight = 0;
        }
        self.weight = self.weight.saturating_add(weight);
        if let Some((_, replaced)) = self.young.insert(key, (value, weight)) {
            self.weight = self.weight.saturating_sub(replaced);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_within_its_budget_and_keeps_what_is_used() {
        let mut cache = Cache::new(100);
        for key in 0..10_000 {
            cache.insert(key, key, 1);
            assert_eq!(cache.get(0), Some(0));
            assert!(cache.len() <= 101, "{}", cache.len());
        }
        assert_eq!(cache.get(9_999), Some(9_999));
        assert_eq!(cache.get(1), None);
    }

    #[test]
    fn replacing_keeps_count() {
        let mut cache = Cache::new(100);
        for _ in 0..1000 {
            cache.insert(1, 'a', 10);
        }
        assert_eq!((cache.len(), cache.weight), (1, 10));
        cache.insert(3, 'c', 1_000_000);
        assert_eq!(cache.get(3), Some('c'));
    }
}
