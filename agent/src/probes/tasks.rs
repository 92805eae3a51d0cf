//! Breakpoints on the bytecode that runs tasks, in one process: the processor stops a thread when the interpreter reads the
//! byte of an instruction, which it does once for each time that it runs it. Each thread has four of them at most, shared
//! with its debugger.

use super::load::{ProbeError, Probes};
use aya::programs::perf_event::{
    BreakpointConfig, PerfBreakpointLength, PerfBreakpointType, PerfEventConfig, PerfEventLinkId,
    PerfEventScope, SamplePolicy,
};
use aya::programs::{PerfEvent, ProgramError};
use std::collections::BTreeSet;

const PROGRAM: &str = "task_site";
/// How often the threads of a process are looked through for new ones.
const MOST_LOOKS: usize = 16;

/// What is attached to one process, until it is given to [`Probes::detach_tasks`] or everything goes.
#[derive(Debug, Default)]
pub struct TaskProbe(Vec<PerfEventLinkId>);

impl Probes {
    /// Breakpoints at these addresses in every thread of a process, and in those that they will start. `threads` gives
    /// the ids of those that there are.
    ///
    /// # Errors
    /// When the kernel refuses, because a thread has no breakpoint left for instance; nothing stays attached then.
    pub fn attach_tasks(
        &mut self,
        addresses: &[u64],
        mut threads: impl FnMut() -> Vec<u32>,
    ) -> Result<TaskProbe, ProbeError> {
        self.load_program(PROGRAM)?;
        let mut probe = TaskProbe::default();
        let mut known = BTreeSet::new();
        for look in 0..MOST_LOOKS {
            let new: Vec<u32> = threads().into_iter().filter(|tid| known.insert(*tid)).collect();
            if new.is_empty() {
                return Ok(probe);
            }
            // One that was started meanwhile, by a thread with breakpoints, has them already. Then it is told of twice, or
            // has no room for a second set.
            for (tid, address) in new.iter().flat_map(|tid| addresses.iter().map(|address| (*tid, *address)))
            {
                match self.breakpoint(tid, address) {
                    Ok(link) => probe.0.push(link),
                    // The thread has ended.
                    Err(error) if errno(&error) == Some(libc::ESRCH) => {}
                    Err(error) if look > 0 && errno(&error) == Some(libc::ENOSPC) => {}
                    Err(source) => {
                        self.detach_tasks(probe);
                        let what = format!("the bytecode at {address:#x} in thread {tid}");
                        return Err(ProbeError::Attach { program: PROGRAM, what, source: Box::new(source) });
                    }
                }
            }
        }
        Ok(probe)
    }

    /// Takes the breakpoints away.
    pub fn detach_tasks(&mut self, probe: TaskProbe) {
        let Ok(program) = self.program::<PerfEvent>(PROGRAM) else { return };
        for link in probe.0 {
            // What is not there any more stops nobody.
            let _gone_already = program.detach(link);
        }
    }

    fn breakpoint(&mut self, tid: u32, address: u64) -> Result<PerfEventLinkId, ProgramError> {
        let program: &mut PerfEvent = match self.ebpf.program_mut(PROGRAM) {
            Some(program) => program.try_into()?,
            None => return Err(ProgramError::NotLoaded),
        };
        let place = BreakpointConfig::Data {
            r#type: PerfBreakpointType::ReadWrite,
            address,
            // The opcode alone: its argument is read apart from it by some versions.
            length: PerfBreakpointLength::Len1,
        };
        program.attach(
            PerfEventConfig::Breakpoint(place),
            PerfEventScope::OneProcess { pid: tid, cpu: None },
            SamplePolicy::Period(1),
            true,
        )
    }
}

fn errno(error: &ProgramError) -> Option<i32> {
    match error {
        ProgramError::SyscallError(error) => error.io_error.raw_os_error(),
        _ => None,
    }
}
