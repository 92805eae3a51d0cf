//! Exceptions of a kind together: by class and innermost frame of the application's own. Since the attach, not over the
//! window: an error that happens once a day is worth as much as one that happens always.

use crate::transactions::FinishedError;
use pyapm_model::error::ErrorGroup;
use pyapm_model::line::Frame;
use std::collections::HashMap;

/// Module, class and frame.
type Key = (Option<String>, String, Option<Frame>);

#[derive(Debug)]
pub(super) struct Errors {
    groups: HashMap<Key, ErrorGroup>,
    most: usize,
    /// Exceptions that had no group and found no room for one.
    overflow: u64,
}

impl Errors {
    pub(super) fn new(most: usize) -> Self {
        Self { groups: HashMap::new(), most, overflow: 0 }
    }

    pub(super) fn record(&mut self, application: &str, finished: FinishedError) {
        let FinishedError { error, frame, suppressed, raised_ns, transaction } = finished;
        let count = 1 + suppressed;
        let key = (error.module.clone(), error.kind.clone(), frame.clone());
        let is_new = !self.groups.contains_key(&key);
        if is_new && self.groups.len() >= self.most {
            self.overflow += count;
            return;
        }
        let group = self.groups.entry(key).or_insert_with(|| ErrorGroup {
            application: application.to_owned(),
            kind: error.kind.clone(),
            module: error.module.clone(),
            frame,
            first_seen_ns: raised_ns,
            ..ErrorGroup::default()
        });
        group.count += count;
        group.suppressed += suppressed;
        group.unhandled += u64::from(error.handled == Some(false));
        group.first_seen_ns = group.first_seen_ns.min(raised_ns);
        if raised_ns >= group.last_seen_ns {
            group.last_seen_ns = raised_ns;
            group.transaction = transaction;
            group.latest = error;
        }
    }

    /// Latest first.
    pub(super) fn groups(&self) -> Vec<ErrorGroup> {
        let mut groups: Vec<ErrorGroup> = self.groups.values().cloned().collect();
        groups.sort_by(|a, b| {
            b.last_seen_ns.cmp(&a.last_seen_ns).then_with(|| (&a.kind, &a.frame).cmp(&(&b.kind, &b.frame)))
        });
        groups
    }

    pub(super) fn overflow(&self) -> u64 {
        self.overflow
    }
}
