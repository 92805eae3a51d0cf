//! What was lost, over everything that an engine has seen. The kernel half is one for all applications, and so are
//! its counts; what the assembly of transactions lacked is counted for each application.

use super::{Engine, Instance};
use crate::transactions::Counts;
use pyapm_model::line::Summary;
use pyapm_model::snapshot::Losses;
use pyapm_wire::count;
use std::collections::BTreeMap;

/// Of applications that were let go.
#[derive(Debug, Default)]
pub(super) struct Retired {
    written: u64,
    incomplete: BTreeMap<String, u64>,
}

impl Retired {
    pub(super) fn add(&mut self, instance: &Instance) {
        self.written += instance.written;
        add(&mut self.incomplete, instance.transactions.counts());
        self.incomplete.remove("transactions");
        self.incomplete.retain(|_, value| *value != 0);
    }
}

impl Engine {
    /// The last line, over all applications.
    pub(in crate::pipeline) fn summary(&self) -> Summary {
        let mut losses = self.losses(self.instances.values());
        for (name, value) in &self.retired.incomplete {
            *losses.incomplete.entry(name.clone()).or_default() += value;
        }
        Summary {
            seen: losses.seen,
            delivered: losses.delivered,
            dropped: losses.dropped,
            transactions: self.retired.written
                + self.instances.values().map(|instance| instance.written).sum::<u64>(),
            incomplete: losses.incomplete,
        }
    }

    /// The conservation law: `seen = delivered + sum(dropped)`, exactly so once the probes are gone. Records are
    /// counted for all applications, what they lacked as transactions for these.
    pub(in crate::pipeline) fn losses<'a>(&self, instances: impl Iterator<Item = &'a Instance>) -> Losses {
        let counts = self.tables.counts();
        let delivered = self.reader.delivered();
        let dropped = BTreeMap::from([
            ("ring_full".to_owned(), counts.get(count::RING_FULL)),
            ("undecodable".to_owned(), delivered.undecodable),
        ]);
        let mut incomplete: BTreeMap<String, u64> = (count::RING_FULL + 1..count::SLOTS)
            .filter_map(|slot| {
                let name = count::NAMES.get(slot as usize).filter(|name| !name.is_empty())?;
                Some(((*name).to_owned(), counts.get(slot)))
            })
            .collect();
        incomplete.insert("stacks_unknown".to_owned(), self.stacks_unknown);
        incomplete.insert("processes_unknown".to_owned(), self.processes_unknown);
        incomplete.insert("announcements_missed".to_owned(), self.announced.missed);
        incomplete.extend(self.symbols.counts().named().map(|(name, value)| (name.to_owned(), value)));
        for instance in instances {
            add(&mut incomplete, instance.transactions.counts());
            *incomplete.entry("error_groups_overflow".to_owned()).or_default() +=
                instance.store.errors_overflow();
        }
        incomplete.insert("callers_overflow".to_owned(), self.joining.counts().1);
        for (program, times) in self.skipped() {
            incomplete.insert(format!("skipped_{program}"), times);
        }
        let paused_ms = self.exceptions.paused_ns(crate::pipeline::clock::monotonic_ns()) / 1_000_000;
        incomplete.insert("exceptions_paused_ms".to_owned(), paused_ms);
        // What was counted to the good, or only for its cost, is no loss.
        incomplete.remove("transactions");
        incomplete.remove("exception_hits");
        incomplete.retain(|_, value| *value != 0);
        Losses { seen: counts.get(count::SEEN), delivered: delivered.decoded, dropped, incomplete }
    }
}

fn add(sums: &mut BTreeMap<String, u64>, counts: Counts) {
    for (name, value) in counts.view() {
        *sums.entry(name.to_owned()).or_default() += value;
    }
}
