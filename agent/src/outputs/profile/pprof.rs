//! pprof: what `go tool pprof` and most stores of profiles read. Functions are told apart by name and file, places by
//! line; each sample carries its process, its thread and its state as labels.

use super::messages::{Function, Label, Line, Location, Mapping, Profile, Sample, ValueType};
use super::recording::Recording;
use crate::profile::State;
use flate2::Compression;
use flate2::write::GzEncoder;
use prost::Message as _;
use std::collections::HashMap;
use std::io::{self, Write};

/// The one mapping: Python code lies in no file of the machine's.
const MAPPING: u64 = 1;

/// Strings of the file, each once.
struct Strings {
    table: Vec<String>,
    numbers: HashMap<String, i64>,
}

impl Strings {
    fn new() -> Self {
        Self { table: vec![String::new()], numbers: HashMap::from([(String::new(), 0)]) }
    }

    fn number(&mut self, text: &str) -> i64 {
        if let Some(known) = self.numbers.get(text) {
            return *known;
        }
        let number = signed(self.table.len() as u64);
        self.table.push(text.to_owned());
        self.numbers.insert(text.to_owned(), number);
        number
    }
}

/// Locations and functions of the file, each once; both are numbered from 1.
#[derive(Default)]
struct Places {
    locations: Vec<Location>,
    functions: Vec<Function>,
    location_numbers: HashMap<(u64, i64), u64>,
    function_numbers: HashMap<(i64, i64), u64>,
}

impl Places {
    fn location(&mut self, name: i64, filename: i64, line: i64) -> u64 {
        let next = self.functions.len() as u64 + 1;
        let function = *self.function_numbers.entry((name, filename)).or_insert(next);
        if function == next {
            // Without a system name: where both are the same, pprof takes `<module>` for a C++ template and cuts it.
            self.functions.push(Function { id: next, name, system_name: 0, filename });
        }
        let next = self.locations.len() as u64 + 1;
        let location = *self.location_numbers.entry((function, line)).or_insert(next);
        if location == next {
            let line = vec![Line { function_id: function, line }];
            self.locations.push(Location { id: next, mapping_id: MAPPING, line });
        }
        location
    }
}

pub(super) fn write(recording: &Recording<'_>, out: &mut dyn Write) -> io::Result<()> {
    let mut gzip = GzEncoder::new(out, Compression::default());
    gzip.write_all(&message(recording).encode_to_vec())?;
    gzip.finish()?.flush()
}

fn message(recording: &Recording<'_>) -> Profile {
    let (profile, about) = (recording.profile, recording.about);
    let mut strings = Strings::new();
    let mut places = Places::default();
    let locations: Vec<u64> = profile
        .frames()
        .iter()
        .map(|frame| {
            let line = frame.line.filter(|_| !recording.look.function).map_or(0, i64::from);
            places.location(strings.number(&frame.function), strings.number(&frame.file), line)
        })
        .collect();
    let mut samples = Vec::new();
    for entry in profile.entries() {
        let mut location_id: Vec<u64> =
            entry.state.mark().map(|mark| places.location(strings.number(&mark), 0, 0)).into_iter().collect();
        location_id
            .extend(entry.stack.iter().rev().filter_map(|frame| locations.get(*frame as usize).copied()));
        let mut label = Vec::new();
        if let Some(thread) = profile.threads().get(entry.thread) {
            let mut text = |key: &str, value: &str| {
                label.push(Label { key: strings.number(key), str: strings.number(value), num: 0 });
            };
            text("process", &thread.process);
            if let Some(name) = &thread.name {
                text("thread", name);
            }
            if entry.state != State::Cpu {
                text("state", entry.state.as_str());
            }
            if let Some(call) = entry.state.call() {
                text("call", call);
            }
            let mut number = |key: &str, value: u32| {
                label.push(Label { key: strings.number(key), str: 0, num: i64::from(value) });
            };
            number("pid", thread.pid);
            number("thread id", thread.tid);
        }
        let value = vec![signed(entry.weight.samples), signed(entry.weight.nanoseconds)];
        samples.push(Sample { location_id, value, label });
    }
    let mut value_type =
        |name: &str, unit: &str| ValueType { r#type: strings.number(name), unit: strings.number(unit) };
    let time = value_type(about.mode.as_str(), "nanoseconds");
    let count = value_type("samples", "count");
    let title = strings.number(&about.title);
    let figures = strings.number(&recording.figures());
    Profile {
        sample_type: vec![count, time],
        sample: samples,
        mapping: vec![Mapping {
            id: MAPPING,
            filename: strings.number("python"),
            has_functions: true,
            has_filenames: true,
            has_line_numbers: !recording.look.function,
        }],
        location: places.locations,
        function: places.functions,
        time_nanos: signed(about.started_ns),
        duration_nanos: signed(about.duration_ns),
        period_type: Some(time),
        period: signed(1_000_000_000 / u64::from(about.rate_hz.max(1))),
        comment: vec![title, figures],
        default_sample_type: time.r#type,
        string_table: strings.table,
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
