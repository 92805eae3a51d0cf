//! Every metric there is: name, unit, kind, meaning, attributes. What is given out is made from these alone, and
//! `docs/metrics.md` is written from them. Names are append-only, as those of [`crate::line`]. No value is here.

use crate::metric::{Family, Kind};

/// Of whom it is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// All workers of an application together.
    Application,
    /// Each worker, where the configuration asks for it (`prometheus.worker_label`).
    Worker,
    /// The service itself.
    Service,
}

/// What a family is, without its series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Definition {
    /// OpenTelemetry name.
    pub name: &'static str,
    /// UCUM unit.
    pub unit: &'static str,
    pub kind: Kind,
    pub of: Of,
    pub help: &'static str,
    pub attributes: &'static [&'static str],
}

impl Definition {
    /// A family without a series.
    #[must_use]
    pub fn family(&self) -> Family {
        Family::new(self.name, self.unit, self.kind, self.help)
    }
}

/// One constant for each, and the list of all.
macro_rules! definitions {
    ($( $constant:ident: $of:ident $kind:ident $name:literal $unit:literal [$($attribute:literal),*] $help:literal; )*) => {
        $(
            #[doc = $help]
            pub const $constant: Definition = Definition {
                name: $name,
                unit: $unit,
                kind: Kind::$kind,
                of: Of::$of,
                help: $help,
                attributes: &[$($attribute),*],
            };
        )*

        /// All of them, in the order of the documentation.
        pub const ALL: &[Definition] = &[$($constant),*];
    };
}

// Names, units and attributes: OpenTelemetry semantic conventions 1.37 (HTTP, database, messaging, process, CPython); what the conventions have no name for begins with `pyapm`.
definitions! {
    HTTP_SERVER: Application Histogram "http.server.request.duration" "s"
        ["http.request.method", "http.route", "http.response.status_code", "error.type"]
        "Duration of HTTP requests that were served.";
    HTTP_ACTIVE: Application Gauge "http.server.active_requests" "{request}" []
        "HTTP requests that are being served.";
    QUEUE: Application Histogram "pyapm.request.queue.duration" "s" []
        "How long requests had waited, by what a server in front wrote into X-Request-Start, before they were read.";
    ACCEPT_QUEUE: Application Histogram "pyapm.request.accept_queue.duration" "s" []
        "How long the first bytes of new connections had been on this host before a worker read them.";
    UPGRADED: Application Gauge "pyapm.upgraded.connections" "{connection}" []
        "Open connections that went over to another protocol after their first request (WebSocket).";
    TASK: Application Histogram "messaging.process.duration" "s" ["messaging.destination.name"]
        "Duration of tasks that were run.";
    DB_CLIENT: Application Histogram "db.client.operation.duration" "s"
        ["db.system.name", "db.operation.name", "server.address", "server.port", "error.type"]
        "Duration of database calls.";
    HTTP_CLIENT: Application Histogram "http.client.request.duration" "s"
        ["http.request.method", "server.address", "server.port", "http.response.status_code"]
        "Duration of HTTP requests that were made.";
    MESSAGING: Application Histogram "messaging.client.operation.duration" "s"
        ["messaging.system", "messaging.operation.name", "messaging.destination.name"]
        "Duration of messaging calls.";
    ERRORS: Application Counter "pyapm.transaction.errors" "{transaction}" ["error.type"]
        "Transactions that failed, by the error that ended them.";
    CPU_TIME: Application Counter "process.cpu.time" "s" ["cpu.mode"]
        "CPU time of all processes that ever were part of the application.";
    MEMORY: Application Gauge "process.memory.usage" "By" []
        "Resident memory of all processes; what they share is counted once for each.";
    THREADS: Application Gauge "process.thread.count" "{thread}" []
        "Threads of all processes.";
    OPEN_FILES: Application Gauge "process.open_file_descriptor.count" "{file_descriptor}" []
        "Open file descriptors of all processes.";
    DISK_IO: Application Counter "process.disk.io" "By" ["disk.io.direction"]
        "Bytes that all processes that ever were part of the application had storage read or write.";
    WORKERS: Application Gauge "pyapm.worker.count" "{worker}" ["state"]
        "Workers, without the master, by whether they are serving something now.";
    GIL_WAIT: Application Counter "pyapm.gil.wait.time" "s" []
        "Time that threads have waited for the global interpreter lock, summed over threads.";
    COLLECTIONS: Application Counter "cpython.gc.collections" "{collection}" ["cpython.gc.generation"]
        "Garbage collections of all interpreters since they are watched.";
    COLLECTED: Application Counter "cpython.gc.collected_objects" "{object}" ["cpython.gc.generation"]
        "Objects that garbage collections let go of.";
    UNCOLLECTABLE: Application Counter "cpython.gc.uncollectable_objects" "{object}" ["cpython.gc.generation"]
        "Objects that garbage collections found to be garbage and could not let go of.";
    COLLECTION_TIME: Application Counter "pyapm.gc.pause.time" "s" ["cpython.gc.generation"]
        "Time that garbage collections took, as interpreters from Python 3.15 on measure it themselves.";
    LOOP_TIME: Application Counter "pyapm.event_loop.time" "s" ["state"]
        "Time of all event loops, by whether they worked or waited for events.";
    LOOP_BLOCKED: Application Counter "pyapm.event_loop.blocked" "{turn}" []
        "Turns of event loops that took longer than the threshold (`collection.event_loop_blocked_ms`).";
    LOOP_BLOCKED_TIME: Application Counter "pyapm.event_loop.blocked.time" "s" []
        "Time of the turns of event loops that took longer than the threshold.";
    INCOMPLETE: Application Counter "pyapm.incomplete" "{record}" ["reason"]
        "What could not be placed, followed or kept of the application's transactions.";
    SERIES_OVERFLOW: Application Counter "pyapm.series.overflow" "{recording}" []
        "Recordings that found no series of their own and went to one called `{other}`.";

    WORKER_TRANSACTIONS: Worker Counter "pyapm.worker.transactions" "{transaction}" ["process.pid"]
        "Transactions of a worker.";
    WORKER_MEMORY: Worker Gauge "pyapm.worker.memory.usage" "By" ["process.pid"]
        "Resident memory of a worker.";
    WORKER_CPU: Worker Gauge "pyapm.worker.cpu.utilization" "1" ["process.pid"]
        "CPU of a worker, 1 is one core.";

    OWN_CPU: Service Gauge "pyapm.cpu.utilization" "1" []
        "CPU of the daemon, 1 is one core.";
    OWN_MEMORY: Service Gauge "pyapm.memory.usage" "By" []
        "Resident memory of the daemon.";
    RING_SIZE: Service Gauge "pyapm.ring.size" "By" []
        "Size of the ring buffer.";
    RING_PEAK: Service Gauge "pyapm.ring.peak" "By" []
        "Most that waited in the ring buffer.";
    SAMPLING_RATE: Service Gauge "pyapm.sampling.rate" "Hz" []
        "Samples per second and CPU.";
    WATCHING: Service Gauge "pyapm.watching" "" []
        "1 while pyapm is on, 0 while it is switched off and nothing is attached to any process.";
    BUDGET_EXCEEDED: Service Gauge "pyapm.budget.exceeded" "" []
        "1 while sampling is slowed down.";
    RECORDS_SEEN: Service Counter "pyapm.records.seen" "{record}" []
        "Records that the kernel half had to send: those delivered and those dropped.";
    RECORDS_DELIVERED: Service Counter "pyapm.records.delivered" "{record}" []
        "Records that arrived and were decoded.";
    RECORDS_DROPPED: Service Counter "pyapm.records.dropped" "{record}" ["reason"]
        "Records that did not arrive or could not be used.";
    RECORDS_INCOMPLETE: Service Counter "pyapm.records.incomplete" "{record}" ["reason"]
        "What delivered records lacked, whichever application they were of.";
    EXPORT_DROPPED: Service Counter "pyapm.export.dropped" "{line}" ["export"]
        "Lines that an export was too slow for, or could not deliver.";
    EXPORT_WAITING: Service Gauge "pyapm.export.waiting" "{line}" ["export"]
        "Lines that wait for an export.";
    PROBE_HITS: Service Counter "pyapm.probe.hits" "{hit}" ["program"]
        "How often a program ran, while `collection.probe_costs` is on.";
    PROBE_TIME: Service Counter "pyapm.probe.time" "s" ["program"]
        "How long a program ran, while `collection.probe_costs` is on.";
    APPLICATIONS_OVERFLOW: Service Counter "pyapm.applications.overflow" "{application}" []
        "Applications that were left out.";
    RELOADS_FAILED: Service Counter "pyapm.reloads.failed" "{reload}" []
        "Reloads of the configuration that were refused.";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_name_is_used_twice_and_all_are_explained() {
        let names: BTreeSet<&str> = ALL.iter().map(|definition| definition.name).collect();
        assert_eq!(names.len(), ALL.len());
        assert!(ALL.iter().all(|definition| definition.help.ends_with('.')));
    }
}
