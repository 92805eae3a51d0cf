//! The store itself: one slot per second in a ring, merged when somebody looks.

use super::collections::Collections;
use super::durations::histogram;
use super::errors::Errors;
use super::functions::{FunctionTally, Name, Seen, number_of};
use super::gil::Gil;
use super::intern::{Interned, OTHER};
use super::loops::Loops;
use super::recent::Latest;
use super::series::Series;
use super::settings::Limits;
use super::tally::{RouteTally, StatementTally, is_error};
use super::tree::{StackTally, tree};
use super::warnings::Warnings;
use crate::transactions::FinishedError;
use foldhash::{HashMap, HashMapExt, HashSet};
use hdrhistogram::Histogram;
use pyapm_model::error::ErrorGroup;
use pyapm_model::line::{Frame, SpanKind, Transaction};
use pyapm_model::metric::Family;
use pyapm_model::snapshot::{Function, Route, Snapshot, Statement, Totals, Worker};
use std::collections::BTreeMap;
use std::sync::Arc;

const SECOND_NS: u64 = 1_000_000_000;
/// What shares one entry because there was no room for its own.
const OTHER_NAME: &str = "{other}";

/// One second.
#[derive(Debug, Default)]
struct Slot {
    /// Seconds since the Unix epoch.
    second: u64,
    errors: u64,
    routes: HashMap<u32, RouteTally>,
    statements: HashMap<u32, StatementTally>,
    warnings: Warnings,
    functions: FunctionTally,
    stacks: StackTally,
}

/// One application.
#[derive(Debug)]
pub struct Store {
    limits: Limits,
    started_ns: u64,
    slots: Vec<Slot>,
    routes: Interned<str>,
    statements: Interned<str>,
    functions: Interned<Name>,
    errors: Errors,
    /// Transactions since the attach, by pid.
    workers: BTreeMap<u32, u64>,
    all_transactions: u64,
    all_errors: u64,
    series: Series,
    pub loops: Loops,
    pub gil: Gil,
    pub collections: Collections,
    latest: Latest,
    /// Kept between samples so that a known stack allocates nothing.
    scratch: (Name, Vec<u32>),
    /// The second in which each kind of name was last thinned out.
    thinned: [u64; 3],
}

impl Store {
    /// `started_ns` is when the attach was complete.
    #[must_use]
    pub fn new(limits: Limits, started_ns: u64) -> Self {
        let seconds = limits.window_seconds.max(1) as usize;
        Self {
            limits,
            started_ns,
            slots: std::iter::repeat_with(Slot::default).take(seconds).collect(),
            routes: Interned::new(OTHER_NAME.into(), limits.routes),
            statements: Interned::new(OTHER_NAME.into(), limits.statements),
            functions: Interned::new(Arc::new((OTHER_NAME.to_owned(), String::new())), limits.functions),
            errors: Errors::new(limits.errors),
            workers: BTreeMap::new(),
            all_transactions: 0,
            all_errors: 0,
            series: Series::new(limits.series),
            loops: Loops::default(),
            gil: Gil::default(),
            collections: Collections::default(),
            latest: Latest::new(limits.recent),
            scratch: Default::default(),
            thinned: [0; 3],
        }
    }

    /// Counts a finished transaction into the second in which it ended.
    pub fn record(&mut self, transaction: &Transaction) {
        self.all_transactions += 1;
        self.series.record(transaction);
        let error = is_error(transaction);
        self.all_errors += u64::from(error);
        let room = self.workers.len() < self.limits.workers;
        match self.workers.get_mut(&transaction.pid) {
            Some(count) => *count += 1,
            None if room => {
                self.workers.insert(transaction.pid, 1);
            }
            None => {}
        }
        let second = transaction.start_ns.saturating_add(transaction.duration_ns) / SECOND_NS;
        self.thin(second);
        let route = number(&mut self.routes, &transaction.name);
        let name = self.routes.shared(route).unwrap_or_else(|| OTHER_NAME.into());
        self.latest.record(second, transaction, name, error);
        let Some(slot) = slot_of(&mut self.slots, second) else { return };
        slot.errors += u64::from(error);
        slot.routes.entry(route).or_default().record(transaction);
        let route = self.routes.name(route).unwrap_or(OTHER_NAME);
        slot.warnings.record(route, transaction, self.limits.warnings);
        for span in transaction.spans.iter().filter(|span| span.kind == SpanKind::Db) {
            if let Some(text) = &span.db_query {
                let statement = number(&mut self.statements, text);
                slot.statements.entry(statement).or_default().record(span);
            }
        }
    }

    /// Whether somebody looks: then stacks are kept, and more of the latest transactions whole.
    pub fn watch(&mut self, is_watched: bool) {
        self.latest.watch(is_watched);
    }

    /// Counts an exception that is done into its group.
    pub fn record_error(&mut self, application: &str, finished: FinishedError) {
        self.errors.record(application, finished);
    }

    /// Exceptions by class and place, latest first.
    #[must_use]
    pub fn errors(&self) -> Vec<ErrorGroup> {
        self.errors.groups()
    }

    /// Exceptions that were counted into no group, because there were too many groups.
    #[must_use]
    pub fn errors_overflow(&self) -> u64 {
        self.errors.overflow()
    }

    /// Counts an on-CPU sample; `stack` from the innermost frame outwards.
    pub fn sample(&mut self, time_ns: u64, stack: &[Frame]) {
        let second = time_ns / SECOND_NS;
        self.thin(second);
        let (name, numbers) = &mut self.scratch;
        numbers.clear();
        numbers.extend(stack.iter().map(|frame| number_of(&mut self.functions, frame, name)));
        if let Some(slot) = slot_of(&mut self.slots, second) {
            slot.functions.record(numbers);
            if self.latest.is_watched() {
                slot.stacks.record(numbers);
            }
        }
    }

    /// A worker has gone: it is no longer listed. What it did stays counted.
    pub fn worker_exited(&mut self, pid: u32) {
        self.loops.exited(pid);
        self.gil.exited(pid);
        self.collections.exited(pid);
        self.workers.remove(&pid);
    }

    /// A worker that has not served anything yet.
    pub fn worker_started(&mut self, pid: u32) {
        if self.workers.len() < self.limits.workers {
            self.workers.entry(pid).or_insert(0);
        }
    }

    /// Transactions of one worker since the attach.
    #[must_use]
    pub fn worker_transactions(&self, pid: u32) -> u64 {
        self.workers.get(&pid).copied().unwrap_or(0)
    }

    /// Totals since the start, as families of metrics.
    #[must_use]
    pub fn families(&self) -> Vec<Family> {
        let mut families = self.series.families();
        families.extend(self.loops.families());
        families.push(self.gil.family());
        families.extend(self.collections.families());
        families.retain(|family| !family.points.is_empty());
        families
    }

    /// The state at `taken_ns`: times, totals, routes, functions, statements, and workers with their
    /// transactions. What the store does not know is left as the model's default for others to fill in.
    #[must_use]
    pub fn snapshot(&self, taken_ns: u64) -> Snapshot {
        let elapsed_ns = taken_ns.saturating_sub(self.started_ns);
        let now = taken_ns / SECOND_NS;
        let first = now.saturating_sub(self.slots.len() as u64 - 1);
        // The oldest slot is whole, the newest has just begun.
        let window_ns = taken_ns.saturating_sub(first * SECOND_NS).min(elapsed_ns);
        let slots: Vec<&Slot> =
            self.slots.iter().filter(|slot| (first..=now).contains(&slot.second)).collect();
        let rate = |count: u64| per_second(count, window_ns);
        let (routes, all) = self.merged_routes(&slots, rate);
        let transactions = routes.iter().map(|route| route.count).sum();
        let quantile =
            |quantile| all.as_ref().filter(|all| !all.is_empty()).map(|all| all.value_at_quantile(quantile));
        let totals = Totals {
            transactions,
            per_second: rate(transactions),
            errors: slots.iter().map(|slot| slot.errors).sum(),
            p50_ns: quantile(0.5),
            p95_ns: quantile(0.95),
            p99_ns: quantile(0.99),
            cpu_cores: None,
            all_transactions: self.all_transactions,
            all_errors: self.all_errors,
        };
        let workers = self.workers.iter();
        let (tree, recent) = if self.latest.is_watched() {
            (tree(slots.iter().map(|slot| &slot.stacks), &self.functions), self.latest.recent())
        } else {
            Default::default()
        };
        Snapshot {
            tree,
            recent,
            taken_ns,
            elapsed_ns,
            window_ns,
            totals,
            routes,
            functions: self.merged_functions(&slots),
            statements: self.merged_statements(&slots),
            errors: self.errors(),
            loops: self.loops.view(),
            warnings: Warnings::merged(slots.iter().map(|slot| &slot.warnings)),
            workers: workers
                .map(|(pid, count)| Worker { pid: *pid, transactions: *count, ..Worker::default() })
                .collect(),
            ..Snapshot::default()
        }
    }

    fn merged_routes(
        &self,
        slots: &[&Slot],
        rate: impl Fn(u64) -> f64,
    ) -> (Vec<Route>, Option<Histogram<u64>>) {
        let mut sums: HashMap<u32, (RouteTally, Vec<&RouteTally>)> = HashMap::new();
        for slot in slots {
            for (number, tally) in &slot.routes {
                let (sum, parts) = sums.entry(*number).or_default();
                sum.add(tally);
                parts.push(tally);
            }
        }
        let (mut one, mut all) = (histogram(), histogram());
        let mut routes: Vec<Route> = Vec::with_capacity(sums.len());
        for (number, (sum, parts)) in sums {
            let Some(one) = &mut one else { break };
            one.reset();
            for part in parts {
                part.durations.add_to(one);
            }
            if let Some(all) = &mut all {
                // Bounds and precision are the same, so nothing can be refused.
                let added = all.add(&*one);
                debug_assert!(added.is_ok());
            }
            // A bucket's middle may lie above the longest duration that fell into it.
            let quantile = |quantile| one.value_at_quantile(quantile).min(sum.max_ns);
            let count = sum.count.max(1);
            routes.push(Route {
                name: self.routes.name(number).unwrap_or(OTHER_NAME).to_owned(),
                count: sum.count,
                per_second: rate(sum.count),
                errors: sum.errors,
                p50_ns: quantile(0.5),
                p95_ns: quantile(0.95),
                p99_ns: quantile(0.99),
                max_ns: sum.max_ns,
                total_ns: sum.total_ns,
                db_mean_ns: sum.db_ns / count,
                db_calls: sum.db_calls as f64 / count as f64,
                status_classes: sum.status_classes,
            });
        }
        routes.sort_by(|a, b| b.total_ns.cmp(&a.total_ns).then_with(|| a.name.cmp(&b.name)));
        (routes, all)
    }

    fn merged_functions(&self, slots: &[&Slot]) -> Vec<Function> {
        let samples: u64 = slots.iter().map(|slot| slot.functions.samples).sum();
        let mut sums: HashMap<u32, Seen> = HashMap::new();
        for (number, seen) in slots.iter().flat_map(|slot| &slot.functions.seen) {
            let sum = sums.entry(*number).or_default();
            sum.innermost += seen.innermost;
            sum.anywhere += seen.anywhere;
        }
        let share = |count: u64| if samples == 0 { 0.0 } else { count as f64 / samples as f64 };
        let mut functions: Vec<Function> = sums
            .into_iter()
            .map(|(number, seen)| {
                let name = self.functions.name(number).cloned();
                let (function, file) = name.unwrap_or_else(|| (OTHER_NAME.to_owned(), String::new()));
                Function {
                    function,
                    file,
                    self_share: share(seen.innermost),
                    total_share: share(seen.anywhere),
                    samples: seen.anywhere,
                }
            })
            .collect();
        functions.sort_by(|a, b| {
            let by_share = b.self_share.total_cmp(&a.self_share).then(b.samples.cmp(&a.samples));
            by_share.then_with(|| (&a.function, &a.file).cmp(&(&b.function, &b.file)))
        });
        functions
    }

    fn merged_statements(&self, slots: &[&Slot]) -> Vec<Statement> {
        let mut sums: HashMap<u32, StatementTally> = HashMap::new();
        for (number, tally) in slots.iter().flat_map(|slot| &slot.statements) {
            sums.entry(*number).or_default().add(tally);
        }
        let mut statements: Vec<Statement> = sums
            .into_iter()
            .map(|(number, sum)| Statement {
                text: self.statements.name(number).unwrap_or(OTHER_NAME).to_owned(),
                count: sum.count,
                errors: sum.errors,
                mean_ns: sum.total_ns / sum.count.max(1),
                max_ns: sum.max_ns,
                total_ns: sum.total_ns,
                // What shares an entry has no call site of its own.
                call_site: sum.call_site.filter(|_| number != OTHER),
            })
            .collect();
        statements.sort_by(|a, b| b.total_ns.cmp(&a.total_ns).then_with(|| a.text.cmp(&b.text)));
        statements
    }

    /// Makes room for new names, at most once a second per kind: the window is searched for those in use.
    fn thin(&mut self, second: u64) {
        let [routes, statements, functions] = &mut self.thinned;
        if self.routes.is_full() || self.statements.is_full() || self.functions.is_full() {
            let seconds = self.slots.len() as u64;
            for slot in self.slots.iter_mut().filter(|slot| slot.second.saturating_add(seconds) <= second) {
                *slot = Slot::default();
            }
        }
        let slots = &self.slots;
        let due = |full: bool, last: &mut u64| full && std::mem::replace(last, second) != second;
        if due(self.routes.is_full(), routes) {
            let used: HashSet<u32> = slots.iter().flat_map(|slot| slot.routes.keys()).copied().collect();
            self.routes.keep(|number| used.contains(&number));
        }
        if due(self.statements.is_full(), statements) {
            let used: HashSet<u32> = slots.iter().flat_map(|slot| slot.statements.keys()).copied().collect();
            self.statements.keep(|number| used.contains(&number));
        }
        if due(self.functions.is_full(), functions) {
            let used: HashSet<u32> =
                slots.iter().flat_map(|slot| slot.functions.seen.keys()).copied().collect();
            self.functions.keep(|number| used.contains(&number));
        }
    }
}

/// The slot of a second, emptied if it held an older one; `None` when the second is older than the window.
fn slot_of(slots: &mut [Slot], second: u64) -> Option<&mut Slot> {
    /// Nothing is recorded so late: the wall clock was set back, and what the slot has is of no time.
    const LATEST: u64 = 600;
    let index = usize::try_from(second % slots.len() as u64).ok()?;
    let slot = slots.get_mut(index)?;
    if slot.second > second && slot.second - second <= LATEST {
        return None;
    }
    if slot.second != second {
        *slot = Slot { second, ..Slot::default() };
    }
    Some(slot)
}

fn number(names: &mut Interned<str>, name: &str) -> u32 {
    match names.known(name) {
        Some(number) => number,
        None if names.is_full() => OTHER,
        None => names.add(name.into()),
    }
}

fn per_second(count: u64, window_ns: u64) -> f64 {
    if window_ns == 0 { 0.0 } else { count as f64 * SECOND_NS as f64 / window_ns as f64 }
}
