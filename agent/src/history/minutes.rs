//! What happened in the last minutes, added up in memory until it is written, and after that for as long as more may
//! come. Pure: no file, no clock.

use super::whole::{Choice, Whole, silence};
use crate::store::{Durations, RouteTally, StatementTally, is_error};
use crate::transactions::callsite::is_application;
use foldhash::{HashMap, HashMapExt};
use pyapm_model::error::Error;
use pyapm_model::line::{Frame, SpanKind, Stacks, Transaction};
use pyapm_model::service::ApplicationInfo;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write as _;

const SECOND_NS: u64 = 1_000_000_000;
pub(super) const MINUTE_NS: u64 = 60 * SECOND_NS;
/// Minutes that are held: this one, and those that something may still be told of. What is told later counts for the
/// oldest of them.
const OPEN: u64 = 3;
/// Minutes that are held while the file cannot be written to.
const UNWRITTEN: usize = 10;
/// What shares one row because there was no room for its own.
const OTHER: &str = "{other}";

/// Rows of one application and minute, by table, at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) routes: usize,
    pub(super) statements: usize,
    pub(super) errors: usize,
    pub(super) warnings: usize,
    pub(super) stacks: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { routes: 1_000, statements: 2_000, errors: 500, warnings: 500, stacks: 2_000 }
    }
}

/// A sum, and whether the file lacks any of it.
#[derive(Debug, Default)]
pub(super) struct Sum<T> {
    pub(super) value: T,
    pub(super) is_dirty: bool,
}

pub(super) type Sums<T> = HashMap<String, Sum<T>>;

#[derive(Debug, Default)]
pub(super) struct StatementSum {
    pub(super) system: Option<String>,
    pub(super) tally: StatementTally,
    pub(super) durations: Durations,
}

/// Exceptions of one class and place in transactions of one name.
#[derive(Debug, Default)]
pub(super) struct ErrorSum {
    pub(super) count: u64,
    pub(super) unhandled: u64,
    pub(super) first_ns: u64,
    pub(super) last_ns: u64,
    pub(super) latest: Error,
}

#[derive(Debug, Default)]
pub(super) struct WarningSum {
    pub(super) transactions: u64,
    pub(super) most_calls: u64,
    pub(super) calls: u64,
    pub(super) total_ns: u64,
}

/// What tells groups of exceptions apart; kept as text.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq, Hash)]
pub(super) struct ErrorKind {
    pub(super) kind: String,
    pub(super) module: Option<String>,
    pub(super) frame: Option<Frame>,
}

/// What tells warnings apart; kept as text.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq, Hash)]
pub(super) struct WarningKey {
    pub(super) kind: pyapm_model::line::WarningKind,
    pub(super) route: String,
    pub(super) text: String,
    pub(super) call_site: Option<Frame>,
}

/// One application in one minute.
#[derive(Debug, Default)]
pub(super) struct Tallies {
    pub(super) routes: Sums<RouteTally>,
    pub(super) statements: Sums<StatementSum>,
    /// By kind and route, both as text.
    pub(super) errors: HashMap<(String, String), Sum<ErrorSum>>,
    pub(super) warnings: Sums<WarningSum>,
    pub(super) stacks: Sums<u64>,
    pub(super) whole: Whole,
}

/// What is known of an application, and whether the file knows it.
#[derive(Debug)]
pub(super) struct About {
    pub(super) server: Option<String>,
    pub(super) python: Option<String>,
    pub(super) is_dirty: bool,
}

#[derive(Debug)]
pub(super) struct Minutes {
    limits: Limits,
    choice: Choice,
    open: BTreeMap<u64, HashMap<String, Tallies>>,
    pub(super) about: HashMap<String, About>,
    /// The number of the next transaction that is kept whole.
    next_id: i64,
}

impl Minutes {
    /// Transactions are numbered from `first_id` on.
    pub(super) fn new(limits: Limits, choice: Choice, first_id: i64) -> Self {
        Self { limits, choice, open: BTreeMap::new(), about: HashMap::new(), next_id: first_id }
    }

    /// Counts a finished transaction into the minute in which it ended.
    pub(super) fn transaction(&mut self, application: &ApplicationInfo, transaction: &Transaction) {
        self.know(application);
        let end_ns = transaction.start_ns.saturating_add(transaction.duration_ns);
        let (limits, choice) = (self.limits, self.choice);
        let mut next = self.next_id;
        let tallies = self.tallies(end_ns, &application.name);
        sum(&mut tallies.routes, &transaction.name, limits.routes, |tally| tally.record(transaction));
        for span in transaction.spans.iter().filter(|span| span.kind == SpanKind::Db) {
            let text = span.db_query.as_deref().unwrap_or(&span.name);
            sum(&mut tallies.statements, text, limits.statements, |sum| {
                if sum.tally.count == 0 {
                    sum.system = span.db_system.as_ref().map(ToString::to_string);
                }
                sum.tally.record(span);
                sum.durations.record(span.duration_ns);
            });
        }
        let failed = is_error(transaction);
        if let Some(error) = &transaction.error {
            tallies.error(error, &transaction.name, end_ns, limits.errors, choice.values);
        }
        tallies.warn(transaction, limits.warnings);
        tallies.whole.offer(transaction, failed, choice, || {
            next += 1;
            next - 1
        });
        self.next_id = next;
    }

    /// Counts samples into the minute in which they were told.
    pub(super) fn stacks(&mut self, application: &ApplicationInfo, stacks: &Stacks) {
        self.know(application);
        let most = self.limits.stacks;
        let tallies = self.tallies(stacks.taken_ns, &application.name);
        for samples in &stacks.samples {
            sum(&mut tallies.stacks, &folded(&samples.stack), most, |sum| *sum += samples.count);
        }
        if stacks.left_out > 0 {
            sum(&mut tallies.stacks, OTHER, most, |sum| *sum += stacks.left_out);
        }
    }

    /// Everything that is held.
    pub(super) fn open(&self) -> &BTreeMap<u64, HashMap<String, Tallies>> {
        &self.open
    }

    /// The file has it all. What can no longer change is let go.
    pub(super) fn written(&mut self) {
        for about in self.about.values_mut() {
            about.is_dirty = false;
        }
        for tallies in self.open.values_mut().flat_map(HashMap::values_mut) {
            clean(tallies.routes.values_mut());
            clean(tallies.statements.values_mut());
            clean(tallies.errors.values_mut());
            clean(tallies.warnings.values_mut());
            clean(tallies.stacks.values_mut());
            tallies.whole.written();
        }
        if let Some(newest) = self.open.last_key_value().map(|(minute, _)| *minute) {
            self.open.retain(|minute, _| minute + OPEN > newest);
        }
    }

    /// The newest minute that is held.
    pub(super) fn newest(&self) -> Option<u64> {
        self.open.last_key_value().map(|(minute, _)| *minute)
    }

    /// Lets everything go: what comes is of another time. `first_id` as for [`Self::new`].
    pub(super) fn begin_anew(&mut self, first_id: i64) {
        self.open.clear();
        self.about.clear();
        self.next_id = first_id;
    }

    /// Lets go of what could not be written for too long: of how many transactions.
    pub(super) fn give_up(&mut self) -> u64 {
        let mut lost = 0;
        while self.open.len() > UNWRITTEN {
            let Some((_, applications)) = self.open.pop_first() else { break };
            let routes = applications.values().flat_map(|tallies| tallies.routes.values());
            lost += routes.map(|sum| sum.value.count).sum::<u64>();
        }
        lost
    }

    fn know(&mut self, application: &ApplicationInfo) {
        match self.about.get_mut(&application.name) {
            Some(about) => {
                if about.python != application.python || about.server != application.server {
                    about.server.clone_from(&application.server);
                    about.python.clone_from(&application.python);
                    about.is_dirty = true;
                }
            }
            None => {
                let (server, python) = (application.server.clone(), application.python.clone());
                self.about.insert(application.name.clone(), About { server, python, is_dirty: true });
            }
        }
    }

    fn tallies(&mut self, time_ns: u64, application: &str) -> &mut Tallies {
        let newest = self.newest().unwrap_or(0);
        let minute = (time_ns / MINUTE_NS).max((newest + 1).saturating_sub(OPEN));
        let applications = self.open.entry(minute).or_default();
        if !applications.contains_key(application) {
            applications.insert(application.to_owned(), Tallies::default());
        }
        // It is there by now; the other arm is never taken.
        applications.entry(application.to_owned()).or_default()
    }
}

impl Tallies {
    fn error(&mut self, error: &Error, route: &str, time_ns: u64, most: usize, values: bool) {
        let frame = error.stack.iter().find(|frame| is_application(frame)).or(error.stack.first());
        let kind =
            ErrorKind { kind: error.kind.clone(), module: error.module.clone(), frame: frame.cloned() };
        let mut key = (serde_json::to_string(&kind).unwrap_or_default(), route.to_owned());
        if self.errors.len() >= most && !self.errors.contains_key(&key) {
            let kind = ErrorKind { kind: OTHER.to_owned(), module: None, frame: None };
            key = (serde_json::to_string(&kind).unwrap_or_default(), OTHER.to_owned());
        }
        let sum = self.errors.entry(key).or_default();
        sum.is_dirty = true;
        let sum = &mut sum.value;
        sum.first_ns = if sum.count == 0 { time_ns } else { sum.first_ns.min(time_ns) };
        sum.count += 1;
        sum.unhandled += u64::from(error.handled == Some(false));
        if time_ns >= sum.last_ns {
            sum.last_ns = time_ns;
            sum.latest = error.clone();
            if !values {
                silence(&mut sum.latest);
            }
        }
    }

    fn warn(&mut self, transaction: &Transaction, most: usize) {
        for warning in &transaction.warnings {
            let key = WarningKey {
                kind: warning.kind,
                route: transaction.name.clone(),
                text: warning.db_query.as_ref().unwrap_or(&warning.name).clone(),
                call_site: warning.call_site.clone(),
            };
            let key = match serde_json::to_string(&key) {
                Ok(text) if self.warnings.len() < most || self.warnings.contains_key(&text) => text,
                _ => {
                    let other = WarningKey {
                        route: OTHER.to_owned(),
                        text: OTHER.to_owned(),
                        call_site: None,
                        ..key
                    };
                    serde_json::to_string(&other).unwrap_or_default()
                }
            };
            let sum = self.warnings.entry(key).or_default();
            sum.is_dirty = true;
            sum.value.transactions += 1;
            sum.value.calls += warning.count;
            sum.value.most_calls = sum.value.most_calls.max(warning.count);
            sum.value.total_ns = sum.value.total_ns.saturating_add(warning.duration_ns);
        }
    }
}

fn sum<T: Default>(sums: &mut Sums<T>, name: &str, most: usize, add: impl FnOnce(&mut T)) {
    let name = if sums.len() >= most && !sums.contains_key(name) { OTHER } else { name };
    if let Some(sum) = sums.get_mut(name) {
        sum.is_dirty = true;
        return add(&mut sum.value);
    }
    let sum = sums.entry(name.to_owned()).or_default();
    sum.is_dirty = true;
    add(&mut sum.value);
}

fn clean<'a, T: 'a>(sums: impl Iterator<Item = &'a mut Sum<T>>) {
    for sum in sums {
        sum.is_dirty = false;
    }
}

/// `outermost (file);...;innermost (file)`, without lines: those of one function come together.
fn folded(stack: &[Frame]) -> String {
    let mut text = String::with_capacity(stack.len() * 48);
    for frame in stack.iter().rev() {
        if !text.is_empty() {
            text.push(';');
        }
        let from = text.len();
        // A string takes whatever is written to it.
        let _always = write!(text, "{} ({})", frame.function, frame.file);
        if text[from..].contains([';', '\n']) {
            let tame = text[from..].replace([';', '\n'], ":");
            text.truncate(from);
            text.push_str(&tame);
        }
    }
    if text.is_empty() { "[no Python frame] ()".to_owned() } else { text }
}
