//! Samples as an OTLP profile (signal in development: `opentelemetry.proto.profiles.v1development`), each linked to
//! the transaction in which it was taken.

use super::attributes::{SPAN, TRACE, id};
use super::resource::{About, SCHEMA, resource, scope};
use opentelemetry_proto::tonic::collector::profiles::v1development::ExportProfilesServiceRequest;
use opentelemetry_proto::tonic::profiles::v1development::{
    Function, Line, Link, Location, Profile, ProfilesDictionary, ResourceProfiles, Sample, ScopeProfiles,
    Stack, ValueType,
};
use pyapm_model::line::{Frame, Transaction};
use std::collections::HashMap;
use std::hash::Hash;

/// One profile with the samples of these transactions; `None` when there are none.
#[must_use]
pub fn profiles(
    application: &str,
    about: &About,
    transactions: &[&Transaction],
    rate_hz: u32,
) -> Option<ExportProfilesServiceRequest> {
    let mut tables = Tables::default();
    // By the format, entry 0 of every table is the empty one.
    let (_, _, _) =
        (tables.strings.index(""), tables.functions.index((0, 0)), tables.stacks.index(Vec::new()));
    tables.locations.index((0, 0));
    let mut links = vec![Link::default()];
    let mut samples = Vec::new();
    for transaction in transactions.iter().filter(|transaction| !transaction.samples.is_empty()) {
        links.push(Link {
            trace_id: id(&transaction.trace_id, TRACE),
            span_id: id(&transaction.span_id, SPAN),
        });
        let link_index = index(links.len() - 1);
        for sample in &transaction.samples {
            let locations: Vec<i32> = sample.stack.iter().map(|frame| tables.location(frame)).collect();
            samples.push(Sample {
                stack_index: tables.stacks.index(locations),
                values: vec![i64::try_from(sample.count).unwrap_or(i64::MAX)],
                link_index,
                ..Sample::default()
            });
        }
    }
    if samples.is_empty() {
        return None;
    }
    let starts = transactions.iter().map(|transaction| transaction.start_ns);
    let ends = transactions.iter().map(|t| t.start_ns.saturating_add(t.duration_ns));
    let (from, to) = (starts.min().unwrap_or(0), ends.max().unwrap_or(0));
    let mut unit = |kind: &str, unit: &str| ValueType {
        type_strindex: tables.strings.index(kind),
        unit_strindex: tables.strings.index(unit),
    };
    let profile = Profile {
        sample_type: Some(unit("samples", "count")),
        period_type: Some(unit("cpu", "nanoseconds")),
        period: i64::from(1_000_000_000 / rate_hz.max(1)),
        samples,
        time_unix_nano: from,
        duration_nano: to.saturating_sub(from),
        ..Profile::default()
    };
    Some(ExportProfilesServiceRequest {
        resource_profiles: vec![ResourceProfiles {
            resource: Some(resource(application, about)),
            scope_profiles: vec![ScopeProfiles {
                scope: Some(scope()),
                profiles: vec![profile],
                schema_url: SCHEMA.to_owned(),
            }],
            schema_url: SCHEMA.to_owned(),
        }],
        dictionary: Some(tables.dictionary(links)),
    })
}

/// Each thing once, under its number.
#[derive(Debug)]
struct Table<K> {
    numbers: HashMap<K, i32>,
    entries: Vec<K>,
}

impl<K> Default for Table<K> {
    fn default() -> Self {
        Self { numbers: HashMap::new(), entries: Vec::new() }
    }
}

impl<K: Clone + Eq + Hash> Table<K> {
    fn index(&mut self, key: impl Into<K>) -> i32 {
        let key = key.into();
        if let Some(number) = self.numbers.get(&key) {
            return *number;
        }
        let number = index(self.entries.len());
        self.entries.push(key.clone());
        self.numbers.insert(key, number);
        number
    }
}

#[derive(Debug, Default)]
struct Tables {
    strings: Table<String>,
    /// Name and file.
    functions: Table<(i32, i32)>,
    /// Function and line.
    locations: Table<(i32, i64)>,
    stacks: Table<Vec<i32>>,
}

impl Tables {
    fn location(&mut self, frame: &Frame) -> i32 {
        let name = self.strings.index(frame.function.as_str());
        let file = self.strings.index(frame.file.as_str());
        let function = self.functions.index((name, file));
        self.locations.index((function, i64::from(frame.line.unwrap_or(0))))
    }

    fn dictionary(self, links: Vec<Link>) -> ProfilesDictionary {
        let function = |(name, file): &(i32, i32)| Function {
            name_strindex: *name,
            filename_strindex: *file,
            ..Function::default()
        };
        let location = |(function, line): &(i32, i64)| Location {
            lines: vec![Line { function_index: *function, line: *line, column: 0 }],
            ..Location::default()
        };
        ProfilesDictionary {
            mapping_table: vec![Default::default()],
            location_table: self.locations.entries.iter().map(location).collect(),
            function_table: self.functions.entries.iter().map(function).collect(),
            link_table: links,
            string_table: self.strings.entries,
            attribute_table: vec![Default::default()],
            stack_table: self
                .stacks
                .entries
                .into_iter()
                .map(|location_indices| Stack { location_indices })
                .collect(),
        }
    }
}

fn index(length: usize) -> i32 {
    i32::try_from(length).unwrap_or(i32::MAX)
}
