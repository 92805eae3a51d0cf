//! One application among those that an engine serves: what belongs to it alone. What all of them share (the kernel
//! half, who is whose, names of code) is the engine's.

use super::Lines;
use crate::pipeline::routes::RouteReader;
use crate::store::{Stacks, Store};
use crate::targets::{Application, ApplicationId, Consumption, ProcFs, UsageMeter};
use crate::transactions::sql::Mode;
use crate::transactions::{Clock, Limits, Output, Settings, Transactions};
use pyapm_model::line::{self, Line, Worker};

/// One application.
pub(in crate::pipeline) struct Instance {
    pub(in crate::pipeline) id: ApplicationId,
    /// As it was found; who is part of it now, the registry knows.
    pub(in crate::pipeline) application: Application,
    pub(in crate::pipeline) transactions: Transactions,
    pub(in crate::pipeline) store: Store,
    /// On-CPU samples that nobody has been told yet.
    pub(super) stacks: Stacks,
    pub(in crate::pipeline) usage: UsageMeter,
    pub(super) consumption: Consumption,
    pub(super) routes: RouteReader,
    /// What its events have led to and nobody has been told yet.
    pub(super) output: Output,
    /// Transactions that were written out.
    pub(super) written: u64,
}

impl Instance {
    /// `seed` is random; `now_ns` is monotonic.
    pub(super) fn new(
        id: ApplicationId,
        application: Application,
        clock: Clock,
        seed: u64,
        now_ns: u64,
        sql: Mode,
        waits: bool,
    ) -> Self {
        let name = application.name.clone();
        let settings = Settings { application: name, clock, seed, limits: Limits::default(), sql, waits };
        Self {
            id,
            application,
            transactions: Transactions::new(settings),
            store: Store::new(crate::store::Limits::default(), clock.wall_ns(now_ns)),
            stacks: Stacks::default(),
            usage: UsageMeter::default(),
            consumption: Consumption::new(ProcFs::new(), crate::pipeline::clock::boottime_ns()),
            routes: RouteReader::default(),
            output: Output::default(),
            written: 0,
        }
    }

    /// Workers that came or went, in order with the transactions that ended before.
    pub(super) fn notices(&mut self, notices: impl IntoIterator<Item = Worker>, lines: &mut Lines) {
        self.flush(lines);
        lines.extend(notices.into_iter().map(|worker| self.says(Line::Worker(worker))));
    }

    /// Hands on the transactions that have ended.
    pub(super) fn flush(&mut self, lines: &mut Lines) {
        for finished in self.output.finished.drain(..) {
            self.store.record(&finished.transaction);
            let line = Line::Transaction(Box::new(finished.transaction));
            lines.push(Said { application: self.id, line });
            self.written += 1;
        }
    }

    /// Counts the exceptions that are done.
    pub(super) fn record_errors(&mut self) {
        for error in self.output.errors.drain(..) {
            self.store.record_error(&self.application.name, error);
        }
    }

    /// All groups of exceptions, at the end.
    pub(super) fn say_errors(&self, lines: &mut Lines) {
        let groups = self.store.errors().into_iter();
        lines.extend(groups.map(|group| self.says(Line::Errors(Box::new(group)))));
    }

    /// The samples since the last time.
    pub(super) fn say_stacks(&mut self, now_ns: u64, lines: &mut Lines) {
        if let Some((samples, left_out)) = self.stacks.take() {
            let stacks = line::Stacks { taken_ns: now_ns, samples, left_out };
            lines.push(self.says(Line::Stacks(Box::new(stacks))));
        }
    }

    fn says(&self, line: Line) -> Said {
        Said { application: self.id, line }
    }
}

/// A line, and which application it is about.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::pipeline) struct Said {
    pub(in crate::pipeline) application: ApplicationId,
    pub(in crate::pipeline) line: Line,
}
