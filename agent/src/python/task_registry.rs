//! Tasks of `asyncio` from 3.8 to 3.13, where the module keeps them in sets of weak references and does not say what awaits
//! what: the waiting is read the other way round, from each task to what it waits for. Only right while the thread of
//! the loop does not run: nobody else changes them.

use super::identity::read_identity;
use super::objects::{Int, Objects};
use super::stack::read_link;
use super::strings::ObjectError;
use super::tasks::{SuspendedTask, TasksOfThread};
use pyapm_wire::python::Frame;
use std::collections::HashMap;

/// Tasks of one process, and coroutines of one task, that are followed.
const MAX_TASKS: usize = 1 << 16;
const MAX_DEPTH: usize = 4096;
const MAX_TASK_NAME: usize = 200;
/// Futures that one `gather` waits for.
const MAX_CHILDREN: usize = 4096;
/// `PySetObject.mask` and `table`; entries of a key and a hash.
const SET_MASK: u64 = 32;
const SET_TABLE: u64 = 40;
/// `PyWeakReference.wr_object`.
const REFERENT: u64 = 16;
/// `TaskObj.task_loop` of `Modules/_asynciomodule.c`, in all of these versions.
const TASK_LOOP: u64 = 16;

/// Where a version keeps what is read; offsets in bytes. Measured on 3.8.18, 3.9.18, 3.10.13, 3.11.7, 3.12.1 and 3.13.0, by
/// objects of known contents, looked at from within.
#[derive(Clone, Copy, Debug)]
struct Places {
    /// `TaskObj.task_fut_waiter`; `task_coro` and `task_name` follow it.
    waiter: u64,
    top: Top,
    /// `gi_frame_state` of a coroutine that awaits; `None` where its frame says it.
    state: Option<(u64, i8)>,
}

/// Where a coroutine's frame lies, and the topmost word on its stack: what it awaits.
#[derive(Clone, Copy, Debug)]
enum Top {
    /// `gi_frame`, `f_stacktop` (3.8, 3.9).
    Pointer,
    /// `gi_frame`, `f_valuestack` and `f_stackdepth` (3.10).
    Depth,
    /// The frame lies in the coroutine, here, and has `stacktop` (3.11 to 3.13).
    Inside { frame: u64 },
}

impl Places {
    fn of(minor: u8) -> Option<Self> {
        let inside = |waiter, frame, state, awaits| Self {
            waiter,
            top: Top::Inside { frame },
            state: Some((state, awaits)),
        };
        Some(match minor {
            8 => Self { waiter: 104, top: Top::Pointer, state: None },
            9 => Self { waiter: 144, top: Top::Pointer, state: None },
            10 => Self { waiter: 152, top: Top::Depth, state: None },
            11 => inside(128, 80, 75, -1),
            12 => inside(128, 72, 67, -1),
            13 => inside(112, 72, 67, -1),
            _ => return None,
        })
    }
}

impl Objects<'_> {
    /// The tasks on the loop of the thread with this identifier; `None` when the interpreter has not imported `asyncio`.
    ///
    /// # Errors
    /// When the module's sets cannot be read. A task that cannot be read is left out.
    pub fn registered_tasks(
        &self,
        interpreter: u64,
        ident: u64,
    ) -> Result<Option<TasksOfThread>, ObjectError> {
        let Some(places) = Places::of(self.minor) else { return Ok(None) };
        let Some(module) = self.module_dict(interpreter, "asyncio.tasks")? else { return Ok(None) };
        let mut all = Vec::new();
        for name in ["_all_tasks", "_scheduled_tasks"] {
            if let Some(set) = self.dict_get(module, name)?
                && let Some(data) = self.attribute(set, "data")?
            {
                for reference in self.set_items(data)? {
                    all.push(self.memory.read_u64(self.part(reference, REFERENT))?);
                }
            }
        }
        if let Some(set) = self.dict_get(module, "_eager_tasks")? {
            all.extend(self.set_items(set)?);
        }
        all.sort_unstable();
        all.dedup();
        let mut loops = HashMap::new();
        all.retain(|task| self.is_on_thread(*task, ident, &mut loops));
        let running = self.current_task(module, &loops)?;
        let names: HashMap<u64, String> =
            all.iter().filter_map(|task| Some((*task, self.name_of_task(*task, places).ok()?))).collect();
        let mut awaited_by: HashMap<u64, Vec<String>> = HashMap::new();
        for (task, name) in &names {
            for awaited in self.awaited_tasks(*task, places, &names).unwrap_or_default() {
                awaited_by.entry(awaited).or_default().push(name.clone());
            }
        }
        let mut suspended = Vec::new();
        for (task, name) in &names {
            let coroutine = self.memory.read_u64(self.part(*task, places.waiter + 8))?;
            let frames = self.awaiting_chain(coroutine, places).unwrap_or_default();
            if Some(*task) != running && !frames.is_empty() {
                let mut awaited_by = awaited_by.remove(task).unwrap_or_default();
                awaited_by.sort();
                suspended.push(SuspendedTask { name: name.clone(), frames, awaited_by });
            }
        }
        suspended.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(Some(TasksOfThread { running: running.and_then(|task| names.get(&task).cloned()), suspended }))
    }

    /// Whether the task's loop is run by this thread. A loop that does not keep its thread (uvloop) is nobody's.
    fn is_on_thread(&self, task: u64, ident: u64, loops: &mut HashMap<u64, bool>) -> bool {
        let Ok(address) = self.memory.read_u64(self.part(task, TASK_LOOP)) else { return false };
        *loops.entry(address).or_insert_with(|| {
            let thread = self.attribute(address, "_thread_id").ok().flatten();
            let thread = thread.and_then(|thread| self.int(thread).ok());
            matches!(thread, Some(Int::Small(thread)) if u64::try_from(thread) == Ok(ident))
        })
    }

    /// The task that one of this thread's loops runs now.
    fn current_task(&self, module: u64, loops: &HashMap<u64, bool>) -> Result<Option<u64>, ObjectError> {
        let Some(current) = self.dict_get(module, "_current_tasks")? else { return Ok(None) };
        let items = self.dict_items(current)?;
        Ok(items.iter().find(|item| loops.get(&item.key) == Some(&true)).map(|item| item.value))
    }

    /// A name is a string, or a number (from 3.12 on) that `Task-` is put before.
    fn name_of_task(&self, task: u64, places: Places) -> Result<String, ObjectError> {
        let name = self.memory.read_u64(self.part(task, places.waiter + 16))?;
        match self.string(name, MAX_TASK_NAME) {
            Ok(name) => Ok(name),
            Err(error) => match self.int(name) {
                Ok(Int::Small(number)) => Ok(format!("Task-{number}")),
                Ok(Int::Large { .. }) | Err(_) => Err(error),
            },
        }
    }

    /// The tasks among `known` that this one waits for: itself, or through `asyncio.gather`.
    fn awaited_tasks(
        &self,
        task: u64,
        places: Places,
        known: &HashMap<u64, String>,
    ) -> Result<Vec<u64>, ObjectError> {
        let waiter = self.memory.read_u64(self.part(task, places.waiter))?;
        if waiter == 0 {
            return Ok(Vec::new());
        }
        if known.contains_key(&waiter) {
            return Ok(vec![waiter]);
        }
        if self.type_of(waiter)?.name != "_GatheringFuture" {
            return Ok(Vec::new());
        }
        let Some(children) = self.attribute(waiter, "_children")? else { return Ok(Vec::new()) };
        let mut children = self.list_items(children, MAX_CHILDREN)?;
        children.retain(|child| known.contains_key(child));
        Ok(children)
    }

    /// Frames of a coroutine that awaits, and of those that it awaits, innermost first; empty when it does not.
    fn awaiting_chain(&self, coroutine: u64, places: Places) -> Result<Vec<Frame>, ObjectError> {
        let mut frames = Vec::new();
        let mut next = coroutine;
        // What other generators have on top of their stack need not be what they wait for.
        while frames.len() < MAX_DEPTH && next != 0 && self.type_of(next)?.name == "coroutine" {
            if let Some((at, awaits)) = places.state
                && self.memory.read_u8(self.part(next, at))?.cast_signed() != awaits
            {
                break;
            }
            let Some((frame, awaited)) = self.suspended_frame(next, places.top)? else { break };
            if let Some((code, instruction)) = read_link(self.memory, self.offsets, frame)? {
                if instruction < 0 {
                    break;
                }
                let identity = read_identity(self.memory, self.offsets, code)?;
                frames.push(Frame { code, instruction, identity });
            }
            next = awaited;
        }
        frames.reverse();
        Ok(frames)
    }

    /// A coroutine's frame, and the topmost word on its stack; `None` when it has ended, or runs.
    fn suspended_frame(&self, coroutine: u64, top: Top) -> Result<Option<(u64, u64)>, ObjectError> {
        /// `PyGenObject.gi_frame`; `f_valuestack` and what follows it; `stacktop` and `localsplus` of a frame.
        const GI_FRAME: u64 = 16;
        const VALUE_STACK: u64 = 64;
        const STACK_TOP: u64 = 72;
        const STACK_DEPTH: u64 = 80;
        const INNER_TOP: u64 = 64;
        const INNER_LOCALS: u64 = 72;
        /// Deeper stacks than the compiler makes.
        const MAX_STACK: u64 = 1 << 20;
        let word = |address: u64| self.memory.read_u64(address);
        let (frame, place) = match top {
            Top::Pointer | Top::Depth => {
                let frame = word(coroutine.wrapping_add(GI_FRAME))?;
                if frame == 0 {
                    return Ok(None);
                }
                let place = match top {
                    // Null while it runs.
                    Top::Pointer => word(frame.wrapping_add(STACK_TOP))?,
                    _ => {
                        let depth = word(frame.wrapping_add(STACK_DEPTH))? & 0xffff_ffff;
                        if depth == 0 || depth > MAX_STACK {
                            return Ok(None);
                        }
                        word(frame.wrapping_add(VALUE_STACK))?.wrapping_add(8 * depth)
                    }
                };
                (frame, place)
            }
            Top::Inside { frame } => {
                let frame = self.part(coroutine, frame);
                let depth = word(frame.wrapping_add(INNER_TOP))? & 0xffff_ffff;
                if depth == 0 || depth > MAX_STACK {
                    return Ok(None);
                }
                (frame, frame.wrapping_add(INNER_LOCALS + 8 * depth))
            }
        };
        if place == 0 {
            return Ok(None);
        }
        Ok(Some((frame, word(place.wrapping_sub(8))?)))
    }

    /// Addresses in a set, in no order; marks of what was removed may be among them.
    fn set_items(&self, set: u64) -> Result<Vec<u64>, ObjectError> {
        if self.type_of(set)?.name != "set" {
            return Err(ObjectError::Unexpected { address: set, expected: "a set" });
        }
        let slots = self.memory.read_u64(self.part(set, SET_MASK))?.saturating_add(1);
        let table = self.memory.read_u64(self.part(set, SET_TABLE))?;
        if slots > MAX_TASKS as u64 * 8 {
            return Err(ObjectError::TooLarge { address: set, length: slots });
        }
        let mut items = Vec::new();
        for slot in 0..slots {
            let key = self.memory.read_u64(table.wrapping_add(slot * 16))?;
            if key != 0 && items.len() < MAX_TASKS {
                items.push(key);
            }
        }
        Ok(items)
    }
}
