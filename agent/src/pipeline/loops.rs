//! Processes in which one thread serves many requests: found by what they have imported, told to the kernel half,
//! and the places probed at which their interpreter makes contexts. Each file is probed once, however many workers
//! map it. Processes without an event loop are left as they are.

use crate::binaries::Image;
use crate::probes::{Probes, Tables, UprobeSite, find_site, find_site_at};
use crate::python::{
    Births, ContextCode, GreenletCode, GreenletsUnknown, Interpreter, Objects, ProcessMemory, contexts,
};
use pyapm_model::line::Frame;
use pyapm_wire::scope::{Contexts, Greenlets};
use std::collections::{HashMap, HashSet};
use std::os::unix::fs::MetadataExt as _;

/// Processes that are remembered; beyond that all are looked at anew.
const MAX_PROCESSES: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct EventLoops {
    /// Device and inode of the files.
    probed: HashSet<(u64, u64)>,
    /// Of these, those in which writes that uvloop puts off are seen.
    queues: HashSet<(u64, u64)>,
    /// Files of greenlet libraries in which new greenlets are seen.
    greenlets: HashSet<(u64, u64)>,
    seen: HashMap<u32, Seen>,
    /// Turns of loops are told.
    attached: bool,
    /// Processes of which more can be known now.
    again: Vec<u32>,
    /// Of these, those that are looked at although they have imported nothing since.
    forced: HashSet<u32>,
}

/// What was last told of a process.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// How many modules it had imported then.
    modules: u64,
    contexts: Contexts,
}

impl EventLoops {
    /// Looks at one process, and tells the kernel half what is new. What cannot be done is logged, and left: its
    /// requests are then told apart by the thread alone.
    pub(super) fn follow(
        &mut self,
        probes: &mut Probes,
        tables: &mut Tables,
        pid: u32,
        interpreter: &Interpreter,
    ) {
        if let Err(error) = self.look(probes, tables, pid, interpreter) {
            tracing::debug!(pid, "its event loops are not followed: {error:#}");
        }
    }

    /// A stack of this process has been named. One that works off what was handed to a pool says that this can now be
    /// followed.
    pub(super) fn met(&mut self, pid: u32, frames: &[Frame]) {
        let unknown =
            self.seen.get(&pid).is_some_and(|seen| seen.contexts.on != 0 && seen.contexts.work_code == 0);
        if unknown && self.again.len() < MAX_PROCESSES && frames.iter().any(is_work) {
            self.again.push(pid);
            self.forced.insert(pid);
        }
    }

    /// The processes to be looked at now.
    pub(super) fn again(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.again)
    }

    /// The process has ended, or runs another program.
    pub(super) fn forget(&mut self, pid: u32) {
        self.seen.remove(&pid);
        self.forced.remove(&pid);
    }

    fn look(
        &mut self,
        probes: &mut Probes,
        tables: &mut Tables,
        pid: u32,
        interpreter: &Interpreter,
    ) -> anyhow::Result<()> {
        let memory = ProcessMemory::new(pid);
        let minor = interpreter.version.minor;
        let Some(objects) = Objects::new(&memory, &interpreter.offsets, minor) else { return Ok(()) };
        let main = objects.main_interpreter(interpreter.runtime_address)?;
        let modules = objects.modules(main)?;
        let before = self.seen.get(&pid).copied();
        // What works off a pool's work is looked for again when a stack has shown that there is some.
        if before.is_some_and(|before| before.modules == modules) && !self.forced.remove(&pid) {
            return Ok(());
        }
        let switching = objects.switching(main)?;
        let work = if switching.asyncio { objects.work(main) } else { None };
        let greenlets = if switching.greenlets {
            self.greenlets(probes, pid, objects.greenlets(pid, main))
        } else {
            None
        };
        let Some(contexts) =
            contexts(&interpreter.contexts, &interpreter.offsets, minor, switching, work, greenlets)
        else {
            return Ok(());
        };
        if self.seen.len() >= MAX_PROCESSES {
            self.seen.clear();
        }
        if contexts.on != 0 {
            if !std::mem::replace(&mut self.attached, true) {
                probes.attach_loops()?;
            }
            self.probe(probes, &interpreter.contexts)?;
            if switching.defers {
                self.probe_queue(probes, &interpreter.contexts)?;
            }
        }
        if (contexts.on != 0 || switching.hands_on) && before.is_none_or(|before| before.contexts != contexts)
        {
            if !tables.set_contexts(pid, contexts)? {
                return Ok(()); // Not watched yet.
            }
            tracing::info!(pid, ?switching, handed_on = contexts.work_code != 0, "event loop followed");
        }
        self.seen.insert(pid, Seen { modules, contexts });
        Ok(())
    }

    /// How greenlets are told apart, once new ones are seen: an address is another greenlet's after it was made anew.
    fn greenlets(
        &mut self,
        probes: &mut Probes,
        pid: u32,
        found: Result<GreenletCode, GreenletsUnknown>,
    ) -> Option<Greenlets> {
        let seen = found.map_err(anyhow::Error::from).and_then(|code| {
            self.probe_greenlets(probes, &code)?;
            Ok(code.greenlets)
        });
        match seen {
            Ok(greenlets) => Some(greenlets),
            Err(error) => {
                tracing::info!(pid, "greenlets are not told apart by themselves: {error:#}");
                None
            }
        }
    }

    fn probe_greenlets(&mut self, probes: &mut Probes, code: &GreenletCode) -> anyhow::Result<()> {
        let status = std::fs::metadata(&code.image)?;
        let file = (status.dev(), status.ino());
        if self.greenlets.contains(&file) {
            return Ok(());
        }
        let site = find_site_at(&Image::open(&code.image)?, "tp_init", code.init)?;
        probes.attach_greenlets(&UprobeSite { path: code.image.clone(), file_offset: site.file_offset })?;
        self.greenlets.insert(file);
        tracing::info!(path = %code.image.display(), emulated = site.emulated, "new greenlets are seen");
        Ok(())
    }

    fn probe_queue(&mut self, probes: &mut Probes, code: &ContextCode) -> anyhow::Result<()> {
        let status = std::fs::metadata(&code.image)?;
        if !self.queues.insert((status.dev(), status.ino())) {
            return Ok(());
        }
        let site = find_site(&Image::open(&code.image)?, "PySet_Add")?;
        probes.attach_queued(&UprobeSite { path: code.image.clone(), file_offset: site.file_offset })?;
        tracing::info!(path = %code.image.display(), "writes that uvloop puts off are seen");
        Ok(())
    }

    fn probe(&mut self, probes: &mut Probes, code: &ContextCode) -> anyhow::Result<()> {
        let status = std::fs::metadata(&code.image)?;
        if !self.probed.insert((status.dev(), status.ino())) {
            return Ok(());
        }
        let path = code.image.display();
        let Some(copies) = &code.copies else {
            tracing::warn!(
                %path,
                "no place to see contexts being copied: of an event loop's requests only what they do themselves is placed"
            );
            return Ok(());
        };
        let attach = |probes: &mut Probes, births: &Births, empty| {
            births.file_offsets.iter().try_for_each(|file_offset| {
                let site = UprobeSite { path: code.image.clone(), file_offset: *file_offset };
                probes.attach_contexts(&site, empty)
            })
        };
        attach(probes, copies, false)?;
        if let Some(empty) = &code.empty {
            attach(probes, empty, true)?;
        }
        tracing::info!(%path, places = copies.file_offsets.len(), "copies of contexts are seen");
        Ok(())
    }
}

/// `concurrent.futures.thread._WorkItem.run`.
fn is_work(frame: &Frame) -> bool {
    frame.function == "_WorkItem.run" && frame.file.ends_with("concurrent/futures/thread.py")
}
