//! What is measured of one application now, as families: totals of its transactions, and what the kernel and its
//! interpreters say of its processes. What is not known has no point.

use super::Engine;
use crate::targets::{ApplicationId, Consumed};
use pyapm_model::definition;
use pyapm_model::metric::Family;
use pyapm_model::snapshot::Snapshot;

impl Engine {
    /// `snapshot` is the application's, of this moment.
    pub(in crate::pipeline) fn metrics(&mut self, id: ApplicationId, snapshot: &Snapshot) -> Vec<Family> {
        let pids = self.members(id);
        let Some(instance) = self.instance_mut(id) else { return Vec::new() };
        let consumed = instance.consumption.read(&pids);
        let mut families = instance.store.families();
        families.push(definition::HTTP_ACTIVE.family().with(&[], snapshot.active.len() as f64));
        let upgraded = instance.transactions.upgraded();
        families.push(definition::UPGRADED.family().with(&[], upgraded as f64));
        families.extend(processes(&consumed));
        families.push(workers(snapshot));
        let counts = instance.transactions.counts().view();
        let lacking = counts.into_iter().filter(|(name, count)| *name != "transactions" && *count > 0);
        families.push(lacking.fold(definition::INCOMPLETE.family(), |family, (name, count)| {
            family.with(&[("reason", name)], count as f64)
        }));
        families.retain(|family| !family.points.is_empty());
        families
    }
}

fn processes(consumed: &Consumed) -> [Family; 5] {
    let spent = consumed.spent;
    let seconds = |ns: u64| ns as f64 / 1e9;
    let cpu = definition::CPU_TIME
        .family()
        .with(&[("cpu.mode", "user")], seconds(spent.user_ns))
        .with(&[("cpu.mode", "system")], seconds(spent.system_ns));
    let mut storage = definition::DISK_IO.family();
    if consumed.has_storage {
        storage = storage
            .with(&[("disk.io.direction", "read")], spent.read_bytes as f64)
            .with(&[("disk.io.direction", "write")], spent.written_bytes as f64);
    }
    let gauge = |family: Family, value: Option<u64>| match value {
        Some(value) => family.with(&[], value as f64),
        None => family,
    };
    [
        cpu,
        gauge(definition::MEMORY.family(), consumed.rss_bytes),
        gauge(definition::THREADS.family(), consumed.threads),
        gauge(definition::OPEN_FILES.family(), consumed.open_files),
        storage,
    ]
}

fn workers(snapshot: &Snapshot) -> Family {
    let workers = snapshot.workers.iter().filter(|worker| !snapshot.is_master(worker));
    let (busy, idle): (Vec<_>, Vec<_>) = workers.partition(|worker| worker.active > 0);
    definition::WORKERS
        .family()
        .with(&[("state", "busy")], busy.len() as f64)
        .with(&[("state", "idle")], idle.len() as f64)
}
