//! The kernel half's samples with names, and nothing behind them: no transactions, no sums. It attaches as `pyapm`
//! does, by the same rooms of the agent, and keeps each stack both as the kernel gave it and as it was named.

use anyhow::{Context as _, Result};
use harness::wait;
use pyapm::host::{Btf, Facts, Plan, settings};
use pyapm::intake::{Body, Gap, Reader, StackId, StackStatus};
use pyapm::probes::{Counts, OffCpu, Probes, Setup, Tables};
use pyapm::python::{Inspector, Interpreter, ProcessMemory};
use pyapm::symbols::{self, Symbols};
use pyapm_model::line::Frame;
use pyapm_wire::python::Frame as RawFrame;
use pyapm_wire::settings::Settings;
use pyapm_wire::target::Target;
use std::collections::{HashMap, HashSet};
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

/// A stack, announced once and then used by many samples. Innermost first.
#[derive(Debug)]
pub struct Named {
    pub raw: Vec<RawFrame>,
    pub frames: Arc<[Frame]>,
    /// Frames that are in neither.
    pub gap: Option<Gap>,
}

impl Named {
    /// The functions, innermost first.
    pub fn functions(&self) -> Vec<&str> {
        self.frames.iter().map(|frame| frame.function.as_str()).collect()
    }
}

#[derive(Clone, Debug)]
pub struct Sample {
    pub pid: u32,
    pub tid: u32,
    pub status: StackStatus,
    /// `None` when there is none.
    pub stack: Option<Arc<Named>>,
}

/// A running sampler. The probes go with it.
pub struct Sampler {
    probes: Probes,
    tables: Tables,
    reader: Reader,
    inspector: Inspector,
    interpreters: HashMap<u32, Arc<Interpreter>>,
    /// By device and inode: interpreters whose code objects are followed to their end.
    followed: HashSet<(u64, u64)>,
    symbols: Symbols,
    stacks: HashMap<StackId, Arc<Named>>,
    /// Samples whose stack had not been announced.
    pub unannounced: u64,
    pub forks: u64,
    pub execs: u64,
    pub exits: u64,
}

fn monotonic_ns() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).unwrap();
    u64::try_from(now.tv_sec()).unwrap() * 1_000_000_000 + u64::try_from(now.tv_nsec()).unwrap()
}

impl Sampler {
    /// Samples these processes and their children, so many times a second on each CPU.
    pub fn start(pids: &[u32], rate_hz: u32) -> Result<Self> {
        let code_deaths = Plan::from_facts(&Facts::read())?.uprobes_always_run.into();
        let settings = Settings { code_deaths, ..settings(&Btf::running_kernel()?)? };
        let mut probes =
            Probes::load(Setup { settings, ring_bytes: 32 << 20, native: false, off_cpu: OffCpu::None })?;
        let tables = probes.tables()?;
        let reader = Reader::new(probes.ring()?);
        probes.attach_lifecycle()?;
        let mut sampler = Self {
            probes,
            tables,
            reader,
            inspector: Inspector::default(),
            interpreters: HashMap::new(),
            followed: HashSet::new(),
            symbols: Symbols::new(symbols::Limits::default()),
            stacks: HashMap::new(),
            unannounced: 0,
            forks: 0,
            execs: 0,
            exits: 0,
        };
        for pid in pids {
            sampler.watch(*pid)?;
        }
        sampler.probes.attach_sampling(rate_hz)?;
        Ok(sampler)
    }

    /// Understands the process's interpreter and has it sampled.
    pub fn watch(&mut self, pid: u32) -> Result<()> {
        let interpreter = self.inspector.inspect(pid).with_context(|| format!("process {pid}"))?;
        let mut layout = interpreter.layout;
        if let Some(site) = interpreter.code_deaths.as_ref().filter(|_| self.probes.wants_code_deaths()) {
            let file = std::fs::metadata(&site.path)?;
            if self.followed.insert((file.dev(), file.ino())) {
                self.probes.attach_code_deaths(site)?;
            }
            layout.deaths_told = 1;
        }
        let target = Target { layout, generation: monotonic_ns(), ..Target::default() };
        self.interpreters.insert(pid, Arc::new(interpreter));
        Ok(self.tables.watch(pid, target, false)?)
    }

    /// What was found out about a process's interpreter.
    pub fn interpreter(&self, pid: u32) -> Arc<Interpreter> {
        Arc::clone(&self.interpreters[&pid])
    }

    /// Hands on the samples that have come.
    pub fn drain(&mut self, mut take: impl FnMut(Sample)) {
        let Self { reader, interpreters, symbols, stacks, unannounced, .. } = self;
        let (mut forks, mut execs, mut exits) = (0, 0, 0);
        reader.drain(4_096, |event| match &event.body {
            Body::Fork { child } => {
                forks += 1;
                symbols.fork(event.pid, *child, event.time_ns);
                if let Some(interpreter) = interpreters.get(&event.pid).cloned() {
                    interpreters.insert(*child, interpreter);
                }
            }
            Body::Exec | Body::Exit => {
                if event.body == Body::Exec {
                    execs += 1;
                } else {
                    exits += 1;
                }
                symbols.forget(event.pid);
                interpreters.remove(&event.pid);
            }
            Body::Stack { stack, frames, gap, .. } => {
                let Some(interpreter) = interpreters.get(&event.pid) else { return };
                let memory = ProcessMemory::new(event.pid);
                // One by one: what is left out of the names is left out of the others too.
                let mut named = Vec::new();
                let mut raw = frames.clone();
                raw.retain(|frame| {
                    let before = named.len();
                    named.extend_from_slice(&symbols.resolve(event.pid, interpreter, &memory, &[*frame]));
                    named.len() > before
                });
                stacks.insert(*stack, Arc::new(Named { raw, frames: named.into(), gap: *gap }));
            }
            Body::Sample { stack, status, .. } => {
                let known = stack.and_then(|id| stacks.get(&id).cloned());
                if stack.is_some() && known.is_none() {
                    *unannounced += 1;
                }
                take(Sample { pid: event.pid, tid: event.tid, status: *status, stack: known });
            }
            _ => {}
        });
        self.forks += forks;
        self.execs += execs;
        self.exits += exits;
    }

    /// Hands on samples until there are enough.
    pub fn sample(&mut self, what: &str, mut take: impl FnMut(Sample), mut enough: impl FnMut() -> bool) {
        wait::until(what, || {
            self.drain(&mut take);
            Ok(enough().then_some(()))
        })
        .unwrap();
    }

    /// The kernel half's counters.
    pub fn counts(&self) -> Counts {
        self.tables.counts()
    }

    /// Frames that could not be named.
    pub fn unnamed(&self) -> symbols::Counts {
        self.symbols.counts()
    }
}
