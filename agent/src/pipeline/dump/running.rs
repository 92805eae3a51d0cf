//! Stacks of threads that run: the sampling probe is on for a moment, so that each thread that is on a CPU
//! then gives its stack itself.

use super::subject::Subject;
use crate::host::{Btf, Facts, Plan, settings};
use crate::intake::{Body, Event, Reader, StackId, StackStatus};
use crate::pipeline::clock;
use crate::probes::{OffCpu, Probes, Setup};
use crate::python::ProcessMemory;
use crate::symbols::Symbols;
use pyapm_model::dump::LeftOut;
use pyapm_model::stack::Stack;
use pyapm_wire::target::Target;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Samples per second on each CPU.
const RATE_HZ: u32 = 1000;
const RING_BYTES: u32 = 1 << 22;
/// Sampling ends when each thread that was met running has given its stack, or after this.
const LONGEST: Duration = Duration::from_millis(200);
/// From then on threads that have gone to sleep since are read from outside. Not at once: a thread that waits
/// for the interpreter's lock now and then is on a CPU at other times, and was when it was first looked at.
const SAMPLES_ALONE: Duration = Duration::from_millis(50);
/// Between two looks at the ring.
const TURN: Duration = Duration::from_millis(2);

/// Stacks that were announced, and whether they are cut.
type Stacks = HashMap<(u32, StackId), (Stack, Option<LeftOut>)>;

/// Has the running threads of these processes tell their stacks.
///
/// # Errors
/// When the kernel does not let us sample.
pub(super) fn sample(subjects: &mut [Subject], symbols: &mut Symbols) -> anyhow::Result<()> {
    Plan::from_facts(&Facts::read())?;
    let settings = settings(&Btf::running_kernel()?)?;
    let mut probes =
        Probes::load(Setup { settings, ring_bytes: RING_BYTES, native: false, off_cpu: OffCpu::None })?;
    let mut tables = probes.tables()?;
    let mut reader = Reader::new(probes.ring()?);
    for subject in subjects.iter().filter(|subject| subject.is_incomplete()) {
        let layout = subject.interpreter.layout;
        tables.watch(
            subject.pid,
            Target { layout, generation: clock::monotonic_ns(), ..Target::default() },
            false,
        )?;
    }
    probes.attach_sampling(RATE_HZ)?;

    let mut stacks = Stacks::new();
    let start = Instant::now();
    while subjects.iter().any(Subject::is_incomplete) && start.elapsed() < LONGEST {
        std::thread::sleep(TURN);
        while reader.drain(4096, |event| take(event, subjects, symbols, &mut stacks)) > 0 {}
        if start.elapsed() < SAMPLES_ALONE {
            continue;
        }
        for subject in subjects.iter_mut().filter(|subject| subject.is_incomplete()) {
            subject.look();
        }
    }
    Ok(())
}

fn take(event: &Event<'_>, subjects: &mut [Subject], symbols: &mut Symbols, stacks: &mut Stacks) {
    let Some(subject) = subjects.iter_mut().find(|subject| subject.pid == event.pid) else { return };
    match &event.body {
        Body::Stack { stack, frames, gap, status, .. } => {
            let memory = ProcessMemory::new(event.pid);
            let named = symbols.resolve(event.pid, &subject.interpreter, &memory, frames);
            let left_out = match gap {
                Some(gap) => Some(LeftOut { after: gap.after, frames: Some(u64::from(gap.frames)) }),
                None => (*status == StackStatus::Truncated)
                    .then_some(LeftOut { after: named.len(), frames: None }),
            };
            stacks.insert((event.pid, *stack), (named, left_out));
        }
        Body::Sample { stack, status, .. } if subject.wants(event.tid) => match (stack, status) {
            (Some(stack), _) => {
                if let Some(known) = stacks.get(&(event.pid, *stack)) {
                    subject.sampled(event.tid, Some(known.clone()));
                }
            }
            (None, StackStatus::NoThreadState | StackStatus::NoFrame) => subject.sampled(event.tid, None),
            (None, _) => {}
        },
        _ => {}
    }
}
