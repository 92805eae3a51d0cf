//! pyapm's own format: everything that a profile holds, as one JSON object. Names are append-only.

use super::recording::{About, Recording};
use pyapm_model::line::Frame;
use serde::Serialize;
use std::io::{self, Write};

#[derive(Serialize)]
struct File<'a> {
    about: &'a About,
    /// Of everything that was sampled, what did not fit into the file included.
    samples: u64,
    nanoseconds: u64,
    /// What there was no room for.
    overflow_samples: u64,
    overflow_nanoseconds: u64,
    threads: Vec<Thread<'a>>,
    frames: &'a [Frame],
    stacks: Vec<Stack>,
}

#[derive(Serialize)]
struct Thread<'a> {
    pid: u32,
    tid: u32,
    process: &'a str,
    name: Option<&'a str>,
}

#[derive(Serialize)]
struct Stack {
    /// Index into `threads`.
    thread: usize,
    state: &'static str,
    /// Indexes into `frames`, innermost first.
    frames: Vec<u32>,
    samples: u64,
    nanoseconds: u64,
    /// The system call that it waited in; null when it waited in none, or for the interpreter's lock.
    call: Option<&'static str>,
}

pub(super) fn write(recording: &Recording<'_>, out: &mut dyn Write) -> io::Result<()> {
    let profile = recording.profile;
    let file = File {
        about: recording.about,
        samples: profile.total().samples,
        nanoseconds: profile.total().nanoseconds,
        overflow_samples: profile.overflow().samples,
        overflow_nanoseconds: profile.overflow().nanoseconds,
        threads: profile
            .threads()
            .iter()
            .map(|thread| Thread {
                pid: thread.pid,
                tid: thread.tid,
                process: &thread.process,
                name: thread.name.as_deref(),
            })
            .collect(),
        frames: profile.frames(),
        stacks: profile
            .entries()
            .iter()
            .map(|entry| Stack {
                thread: entry.thread,
                state: entry.state.as_str(),
                frames: entry.stack.iter().rev().copied().collect(),
                samples: entry.weight.samples,
                nanoseconds: entry.weight.nanoseconds,
                call: entry.state.call(),
            })
            .collect(),
    };
    serde_json::to_writer(&mut *out, &file)?;
    out.write_all(b"\n")
}
