//! Totals since the start, by low-cardinality attributes: what metrics systems scrape or are sent. They only
//! grow, whichever workers come and go.

use pyapm_model::definition;
use pyapm_model::line::{Span, SpanKind, Transaction, TransactionKind};
use pyapm_model::metric::{Exemplar, Family, Histogram, Value};
use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};

/// What stands for the attributes of a series that found no room of its own.
const OTHER: &str = "{other}";

/// Families in the order in which they are given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Of {
    HttpServer,
    Queue,
    AcceptQueue,
    Task,
    DbClient,
    HttpClient,
    Messaging,
}

impl Of {
    const ALL: [Self; 7] = [
        Self::HttpServer,
        Self::Queue,
        Self::AcceptQueue,
        Self::Task,
        Self::DbClient,
        Self::HttpClient,
        Self::Messaging,
    ];

    fn family(self) -> Family {
        match self {
            Self::HttpServer => definition::HTTP_SERVER,
            Self::Queue => definition::QUEUE,
            Self::AcceptQueue => definition::ACCEPT_QUEUE,
            Self::Task => definition::TASK,
            Self::DbClient => definition::DB_CLIENT,
            Self::HttpClient => definition::HTTP_CLIENT,
            Self::Messaging => definition::MESSAGING,
        }
        .family()
    }
}

#[derive(Debug)]
struct Entry {
    of: Of,
    attributes: Vec<(&'static str, String)>,
    histogram: Histogram,
}

/// Histograms by their attributes, up to a bound over all families.
#[derive(Debug)]
pub struct Series {
    most: usize,
    hasher: RandomState,
    /// By a keyed hash of family and attributes: looking a known series up allocates nothing.
    entries: foldhash::HashMap<u64, Entry>,
    /// The statements counted last, which most come in runs of: system, operation and port, of those without an error.
    latest: Option<(String, String, Option<u16>, u64)>,
    errors: HashMap<String, u64>,
    /// Recordings that went to a series called `{other}`.
    overflowed: u64,
}

impl Series {
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            most,
            hasher: RandomState::new(),
            entries: foldhash::HashMap::default(),
            latest: None,
            errors: HashMap::new(),
            overflowed: 0,
        }
    }

    /// Counts a finished transaction and its calls.
    pub fn record(&mut self, transaction: &Transaction) {
        let exemplar = Exemplar {
            trace_id: transaction.trace_id.clone(),
            span_id: transaction.span_id.clone(),
            duration_ns: transaction.duration_ns,
            at_ns: transaction.start_ns.saturating_add(transaction.duration_ns),
        };
        self.transaction(transaction, exemplar);
        for span in &transaction.spans {
            self.span(span);
        }
        if super::tally::is_error(transaction) {
            let kind = cause(transaction);
            let kind = kind.as_ref();
            let room = self.errors.len() < self.most || self.errors.contains_key(kind);
            *self.errors.entry(if room { kind } else { OTHER }.to_owned()).or_insert(0) += 1;
        }
    }

    fn transaction(&mut self, transaction: &Transaction, exemplar: Exemplar) {
        let duration = transaction.duration_ns;
        if transaction.kind != TransactionKind::Http {
            let key = (Of::Task, transaction.name.as_str());
            let make = || vec![("messaging.destination.name", transaction.name.clone())];
            self.add(key, Of::Task, make, duration, Some(exemplar));
            return;
        }
        if let Some(waited) = transaction.queue_ns {
            self.add(Of::Queue, Of::Queue, Vec::new, waited, None);
        }
        if let Some(waited) = transaction.accept_queue_ns {
            self.add(Of::AcceptQueue, Of::AcceptQueue, Vec::new, waited, None);
        }
        let method = transaction.method.as_deref().unwrap_or("_OTHER");
        // The name is method and route; without a route of the framework's own it is what the path looks like.
        let route = transaction.route.as_deref().unwrap_or_else(|| route_of(&transaction.name));
        let key = (Of::HttpServer, method, route, transaction.status);
        let make = || {
            let mut attributes =
                vec![("http.request.method", method.to_owned()), ("http.route", route.to_owned())];
            match transaction.status {
                Some(status) => attributes.push(("http.response.status_code", status.to_string())),
                // No response was sent.
                None => attributes.push(("error.type", "aborted".to_owned())),
            }
            attributes
        };
        self.add(key, Of::HttpServer, make, duration, Some(exemplar));
    }

    fn span(&mut self, span: &Span) {
        let error = span.error_type.as_deref();
        match span.kind {
            SpanKind::Db | SpanKind::Cache => {
                let system = span.db_system.as_deref().unwrap_or("other_sql");
                let operation = span.name.split(' ').next().unwrap_or_default();
                if error.is_none()
                    && let Some((known, of, port, number)) = &self.latest
                    && (known == system && of == operation && *port == span.server_port)
                    && let Some(entry) = self.entries.get_mut(number)
                {
                    return entry.histogram.record(span.duration_ns, None);
                }
                let key = (Of::DbClient, system, operation, error, span.server_port);
                let make = || {
                    let mut attributes = vec![
                        ("db.system.name", system.to_owned()),
                        ("db.operation.name", operation.to_owned()),
                    ];
                    server(span, &mut attributes);
                    attributes.extend(error.map(|error| ("error.type", error.to_owned())));
                    attributes
                };
                let number = self.add(key, Of::DbClient, make, span.duration_ns, None);
                if let Some(number) = number.filter(|_| error.is_none()) {
                    self.latest = Some((system.to_owned(), operation.to_owned(), span.server_port, number));
                }
            }
            SpanKind::Http => {
                let method = span.method.as_deref().unwrap_or("_OTHER");
                let key =
                    (Of::HttpClient, method, span.status, span.server_address.as_deref(), span.server_port);
                let make = || {
                    let mut attributes = vec![("http.request.method", method.to_owned())];
                    server(span, &mut attributes);
                    let status = span.status.map(|status| status.to_string());
                    attributes.extend(status.map(|status| ("http.response.status_code", status)));
                    attributes
                };
                self.add(key, Of::HttpClient, make, span.duration_ns, None);
            }
            SpanKind::Messaging => {
                let system = span.messaging_system.as_deref().unwrap_or("_OTHER");
                let destination = span.destination.as_deref();
                let key = (Of::Messaging, system, span.name.as_str(), destination);
                let make = || {
                    let mut attributes = vec![
                        ("messaging.system", system.to_owned()),
                        ("messaging.operation.name", span.name.to_string()),
                    ];
                    attributes
                        .extend(destination.map(|name| ("messaging.destination.name", name.to_owned())));
                    attributes
                };
                self.add(key, Of::Messaging, make, span.duration_ns, None);
            }
            SpanKind::Point => {}
        }
    }

    /// The number of the series, where these have one of their own that was known.
    fn add(
        &mut self,
        key: impl Hash,
        of: Of,
        attributes: impl FnOnce() -> Vec<(&'static str, String)>,
        duration_ns: u64,
        exemplar: Option<Exemplar>,
    ) -> Option<u64> {
        let number = self.hasher.hash_one(key);
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.histogram.record(duration_ns, exemplar);
            return Some(number);
        }
        let (number, attributes) = if self.entries.len() < self.most {
            (number, attributes())
        } else {
            self.overflowed += 1;
            let attributes = attributes().into_iter().map(|(name, _)| (name, OTHER.to_owned())).collect();
            (self.hasher.hash_one((of, OTHER)), attributes)
        };
        let entry = self.entries.entry(number).or_insert_with(|| Entry {
            of,
            attributes,
            histogram: Histogram::default(),
        });
        entry.histogram.record(duration_ns, exemplar);
        None
    }

    /// Everything so far, families and series in a stable order.
    #[must_use]
    pub fn families(&self) -> Vec<Family> {
        let mut families: Vec<Family> = Vec::new();
        for of in Of::ALL {
            let mut entries: Vec<&Entry> = self.entries.values().filter(|entry| entry.of == of).collect();
            if entries.is_empty() {
                continue;
            }
            entries.sort_by(|a, b| a.attributes.cmp(&b.attributes));
            let mut family = of.family();
            for entry in entries {
                let attributes: Vec<(&'static str, &str)> =
                    entry.attributes.iter().map(|(name, value)| (*name, value.as_str())).collect();
                family.push(&attributes, Value::Histogram(Box::new(entry.histogram.clone())));
            }
            families.push(family);
        }
        let mut errors = definition::ERRORS.family();
        let mut kinds: Vec<(&String, &u64)> = self.errors.iter().collect();
        kinds.sort();
        for (kind, count) in kinds {
            errors.push(&[("error.type", kind)], Value::Number(*count as f64));
        }
        families.push(errors);
        families.push(definition::SERIES_OVERFLOW.family().with(&[], self.overflowed as f64));
        families
    }
}

/// The exception's type; where none is known the status, or how else it ended (`error.type` of the conventions).
fn cause(transaction: &Transaction) -> Cow<'_, str> {
    match (&transaction.error, transaction.status) {
        (Some(error), _) if error.handled != Some(true) => error.kind.as_str().into(),
        (_, Some(status)) if status >= 500 => status.to_string().into(),
        (Some(error), _) => error.kind.as_str().into(),
        (None, _) => "worker_exited".into(),
    }
}

fn route_of(name: &str) -> &str {
    name.split_once(' ').map_or(name, |(_, route)| route)
}

fn server(span: &Span, attributes: &mut Vec<(&'static str, String)>) {
    attributes.extend(span.server_address.as_ref().map(|address| ("server.address", address.to_string())));
    attributes.extend(span.server_port.map(|port| ("server.port", port.to_string())));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(route: &str, status: Option<u16>) -> Transaction {
        Transaction {
            name: format!("GET {route}"),
            method: Some("GET".into()),
            status,
            duration_ns: 2_000_000,
            trace_id: "t".into(),
            ..Transaction::default()
        }
    }

    fn count(family: &Family) -> u64 {
        let points = family.points.iter();
        points
            .map(|point| match &point.value {
                Value::Histogram(histogram) => histogram.count,
                Value::Number(number) => *number as u64,
            })
            .sum()
    }

    #[test]
    fn one_series_for_each_set_of_attributes() {
        let mut series = Series::new(100);
        for _ in 0..3 {
            series.record(&request("/a", Some(200)));
        }
        series.record(&request("/a", Some(500)));
        series.record(&request("/b", None));
        let span = Span {
            name: "SELECT users".into(),
            db_system: Some("mysql".into()),
            server_port: Some(3306),
            ..Span::default()
        };
        series.record(&Transaction { spans: vec![span.clone(), span], ..request("/a", Some(200)) });
        let families = series.families();
        let names: Vec<&str> = families.iter().map(|family| &*family.name).collect();
        let expected = [
            "http.server.request.duration",
            "db.client.operation.duration",
            "pyapm.transaction.errors",
            "pyapm.series.overflow",
        ];
        assert_eq!(names, expected);
        assert_eq!((families[0].points.len(), count(&families[0])), (3, 6));
        assert_eq!((families[1].points.len(), count(&families[1])), (1, 2));
        assert_eq!(families[2].points.len(), 1, "a request without an answer is no error");
        let labels: Vec<_> =
            families[1].points[0].attributes.iter().map(|(_, value)| value.as_str()).collect();
        assert_eq!(labels, ["mysql", "SELECT", "3306"]);
    }

    #[test]
    fn beyond_the_bound_nothing_is_lost_and_nothing_grows() {
        let mut series = Series::new(10);
        for number in 0..1_000 {
            series.record(&request(&format!("/{number}"), Some(200)));
        }
        let families = series.families();
        assert_eq!((families[0].points.len(), count(&families[0])), (11, 1_000));
        let other = families[0].points.iter().find(|point| point.attributes[1].1 == OTHER).unwrap();
        let Value::Histogram(histogram) = &other.value else { panic!() };
        assert_eq!(histogram.count, 990);
        assert_eq!(count(families.last().unwrap()), 990);
    }
}
