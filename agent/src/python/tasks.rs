//! Tasks of `asyncio` on the loop of one thread, from 3.14 on: names, who awaits whom, and the chain of coroutines
//! that each is suspended in. Only right while that thread does not run: nobody else changes them.

use super::asyncio_debug::AsyncioOffsets;
use super::identity::read_identity;
use super::objects::{Int, Objects};
use super::stack::read_link;
use super::strings::ObjectError;
use pyapm_wire::python::Frame;

/// Tasks of one thread, and coroutines of one task, that are followed.
const MAX_TASKS: usize = 1 << 16;
const MAX_DEPTH: usize = 4096;
const MAX_TASK_NAME: usize = 200;
/// Tasks that await one, which are named.
const MAX_PARENTS: u64 = 256;
/// `PyGenObject.gi_iframe` and `gi_frame_state` (a byte), and the frame's `stackpointer`, of 3.14 and 3.15.
const GENERATOR_FRAME: u64 = 72;
const GENERATOR_STATE: u64 = 67;
const FRAME_STACK_POINTER: u64 = 64;
/// `PySetObject.mask` and `table`; entries of a key and a hash.
const SET_MASK: u64 = 32;
const SET_TABLE: u64 = 40;

/// A task that is suspended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuspendedTask {
    pub name: String,
    /// Innermost first.
    pub frames: Vec<Frame>,
    /// Names of the tasks that await it.
    pub awaited_by: Vec<String>,
}

/// The tasks on one thread's loop.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TasksOfThread {
    /// The name of the one that runs now.
    pub running: Option<String>,
    pub suspended: Vec<SuspendedTask>,
}

/// `gi_frame_state` as the version has it (`pycore_frame.h`), and which word below the stack pointer holds what a
/// suspended coroutine awaits.
struct Suspension {
    suspended: [i8; 2],
    awaits: i8,
    slot: u64,
}

impl Objects<'_> {
    fn suspension(&self) -> Suspension {
        if self.minor >= 15 {
            // A second word holds the index of what is iterated.
            Suspension { suspended: [1, 2], awaits: 2, slot: 2 }
        } else {
            Suspension { suspended: [-2, -1], awaits: -1, slot: 1 }
        }
    }

    /// The suspended tasks on the loop of the thread whose state lies here.
    ///
    /// # Errors
    /// When the list cannot be read or does not end. A task that cannot be read is left out.
    pub fn suspended_tasks(
        &self,
        offsets: &AsyncioOffsets,
        tstate: u64,
    ) -> Result<Vec<SuspendedTask>, ObjectError> {
        let head = tstate.wrapping_add(u64::from(offsets.thread_tasks_head));
        let mut tasks = Vec::new();
        let mut node = self.memory.read_u64(head)?;
        for _ in 0..MAX_TASKS {
            // An empty list points to itself; one that was never used is null.
            if node == head || node == 0 {
                return Ok(tasks);
            }
            let task = node.wrapping_sub(u64::from(offsets.task_node));
            if let Ok(Some(task)) = self.suspended_task(offsets, task) {
                tasks.push(task);
            }
            node = self.memory.read_u64(node)?;
        }
        Err(ObjectError::Unexpected { address: head, expected: "a list of tasks" })
    }

    /// The name of the task that the thread's loop runs now, if it runs one.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn running_task(&self, offsets: &AsyncioOffsets, tstate: u64) -> Result<Option<String>, ObjectError> {
        match self.memory.read_u64(tstate.wrapping_add(u64::from(offsets.thread_running_task)))? {
            0 => Ok(None),
            task => self.task_name(offsets, task).map(Some),
        }
    }

    /// `None` for a task that runs, has not begun, or is done.
    fn suspended_task(
        &self,
        offsets: &AsyncioOffsets,
        task: u64,
    ) -> Result<Option<SuspendedTask>, ObjectError> {
        let name = self.task_name(offsets, task)?;
        let coroutine = self.memory.read_u64(task.wrapping_add(u64::from(offsets.task_coro)))?;
        let frames = self.coroutine_chain(coroutine)?;
        if frames.is_empty() {
            return Ok(None);
        }
        Ok(Some(SuspendedTask { name, frames, awaited_by: self.parents(offsets, task)? }))
    }

    /// A name is a string, or the number that `Task-` is put before when somebody asks for it.
    fn task_name(&self, offsets: &AsyncioOffsets, task: u64) -> Result<String, ObjectError> {
        let name = self.memory.read_u64(task.wrapping_add(u64::from(offsets.task_name)))?;
        match self.string(name, MAX_TASK_NAME) {
            Ok(name) => Ok(name),
            Err(error) => match self.int(name) {
                Ok(Int::Small(number)) => Ok(format!("Task-{number}")),
                Ok(Int::Large { .. }) | Err(_) => Err(error),
            },
        }
    }

    /// Frames of a suspended coroutine and of those that it awaits, innermost first; empty when it is not suspended.
    fn coroutine_chain(&self, coroutine: u64) -> Result<Vec<Frame>, ObjectError> {
        let suspension = self.suspension();
        let mut frames = Vec::new();
        let mut next = coroutine;
        while frames.len() < MAX_DEPTH {
            if !matches!(self.type_of(next)?.name.as_str(), "coroutine" | "generator" | "async_generator") {
                break;
            }
            let state = self.memory.read_u8(self.part(next, GENERATOR_STATE))?.cast_signed();
            if !suspension.suspended.contains(&state) {
                break;
            }
            let frame = self.part(next, GENERATOR_FRAME);
            if let Some((code, instruction)) = read_link(self.memory, self.offsets, frame)? {
                let identity = read_identity(self.memory, self.offsets, code)?;
                frames.push(Frame { code, instruction, identity });
            }
            if state != suspension.awaits {
                break;
            }
            let top = self.memory.read_u64(frame.wrapping_add(FRAME_STACK_POINTER))?;
            let awaited = self.memory.read_u64(top.wrapping_sub(8 * suspension.slot))?;
            next = awaited & !u64::from(self.offsets.tag_mask);
        }
        frames.reverse();
        Ok(frames)
    }

    fn parents(&self, offsets: &AsyncioOffsets, task: u64) -> Result<Vec<String>, ObjectError> {
        let by = self.memory.read_u64(task.wrapping_add(u64::from(offsets.task_awaited_by)))?;
        if by == 0 {
            return Ok(Vec::new());
        }
        let is_set = self.memory.read_u8(task.wrapping_add(u64::from(offsets.task_awaited_by_is_set)))?;
        if is_set == 0 {
            return Ok(vec![self.task_name(offsets, by)?]);
        }
        let slots = self.memory.read_u64(self.part(by, SET_MASK))?.saturating_add(1);
        let table = self.memory.read_u64(self.part(by, SET_TABLE))?;
        let mut names = Vec::new();
        for slot in 0..slots.min(MAX_PARENTS * 8) {
            let key = self.memory.read_u64(table.wrapping_add(slot * 16))?;
            // What was removed has left a mark that is no task.
            if let Ok(name) = self.task_name(offsets, key)
                && key != 0
            {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }
}
