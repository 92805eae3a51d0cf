//! The file format of speedscope (<https://www.speedscope.app/file-format-schema.json>), version 0.0.1: one profile
//! of the type `sampled` for each thread, and one for all of them together where there are several. Samples are
//! summed, so their order is that of the stacks, not of time: the views "Left Heavy" and "Sandwich" are the ones
//! that mean something.

use super::names;
use super::recording::Recording;
use crate::profile::Entry;
use serde::Serialize;
use std::collections::HashMap;
use std::io::{self, Write};

const SCHEMA: &str = "https://www.speedscope.app/file-format-schema.json";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct File<'a> {
    #[serde(rename = "$schema")]
    schema: &'static str,
    exporter: String,
    name: &'a str,
    active_profile_index: usize,
    shared: Shared<'a>,
    profiles: Vec<Sampled>,
}

#[derive(Serialize)]
struct Shared<'a> {
    frames: Vec<Frame<'a>>,
}

#[derive(Serialize)]
struct Frame<'a> {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Sampled {
    r#type: &'static str,
    name: String,
    unit: &'static str,
    start_value: u64,
    end_value: u64,
    samples: Vec<Vec<usize>>,
    weights: Vec<u64>,
}

impl Sampled {
    fn new(name: String) -> Self {
        Self {
            r#type: "sampled",
            name,
            unit: "nanoseconds",
            start_value: 0,
            end_value: 0,
            samples: Vec::new(),
            weights: Vec::new(),
        }
    }

    fn add(&mut self, stack: Vec<usize>, nanoseconds: u64) {
        self.end_value = self.end_value.saturating_add(nanoseconds);
        self.samples.push(stack);
        self.weights.push(nanoseconds);
    }
}

/// Frames as this file has them: those that look the same are one, and marks of states are frames too.
#[derive(Default)]
struct Frames<'a> {
    frames: Vec<Frame<'a>>,
    /// By what makes a frame another one: its name and whole path.
    numbers: HashMap<(String, Option<&'a str>), usize>,
    /// From the profile's numbers to these.
    of_profile: Vec<usize>,
}

impl<'a> Frames<'a> {
    fn new(recording: &Recording<'a>) -> Self {
        let mut frames = Self::default();
        for frame in recording.profile.frames() {
            let name = names::frame(frame, recording.look);
            let line = frame.line.filter(|_| !recording.look.function);
            let file = (!frame.file.is_empty()).then_some(frame.file.as_str());
            let number = frames.number(name, file, line);
            frames.of_profile.push(number);
        }
        frames
    }

    fn number(&mut self, name: String, file: Option<&'a str>, line: Option<u32>) -> usize {
        let next = self.frames.len();
        let number = *self.numbers.entry((name.clone(), file)).or_insert(next);
        if number == next {
            self.frames.push(Frame { name, file, line });
        }
        number
    }

    fn stack(&mut self, entry: &Entry<'a>) -> Vec<usize> {
        let frames = entry.stack.iter().filter_map(|frame| self.of_profile.get(*frame as usize).copied());
        let mut stack: Vec<usize> = frames.collect();
        if let Some(mark) = entry.state.mark() {
            stack.push(self.number(mark, None, None));
        }
        stack
    }
}

pub(super) fn write(recording: &Recording<'_>, out: &mut dyn Write) -> io::Result<()> {
    let profile = recording.profile;
    let mut frames = Frames::new(recording);
    let mut each: Vec<Sampled> = profile
        .threads()
        .iter()
        .map(|thread| Sampled::new(format!("{}, {}", names::process(thread), names::thread(thread))))
        .collect();
    for entry in profile.entries() {
        let stack = frames.stack(&entry);
        if let Some(own) = each.get_mut(entry.thread) {
            own.add(stack, entry.weight.nanoseconds);
        }
    }
    each.retain(|own| !own.samples.is_empty());
    let mut profiles = Vec::new();
    if each.len() != 1 {
        let mut all = Sampled::new(format!("all {} threads", each.len()));
        for own in &each {
            for (stack, weight) in own.samples.iter().zip(&own.weights) {
                all.add(stack.clone(), *weight);
            }
        }
        profiles.push(all);
    }
    profiles.extend(each);
    let file = File {
        schema: SCHEMA,
        exporter: format!("pyapm {}", env!("CARGO_PKG_VERSION")),
        name: &recording.about.title,
        active_profile_index: 0,
        shared: Shared { frames: frames.frames },
        profiles,
    };
    serde_json::to_writer(&mut *out, &file)?;
    out.write_all(b"\n")
}
