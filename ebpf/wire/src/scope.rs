//! Who runs on a thread at an event, when one thread serves many requests: what the interpreter itself
//! switches between them. Zeros where it was not asked for (one request a thread) or could not be read.

use crate::python::ABSENT;
use bytemuck::{Pod, Zeroable};

/// Addresses in the target, good for comparing only.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable, PartialEq, Eq, Hash)]
pub struct Scope {
    /// `tstate->context`: the current `PyContext`; with [`flag::HANDED_ON`], the one that the work was asked for
    /// in. 0 when there is none or it was not read.
    pub context: u64,
    /// What else is switched with the request: the running task, or with [`flag::GREENLETS`] the running greenlet, by its
    /// object or, where that cannot be found, by its first piece of data stack. 0 when unknown.
    pub task: u64,
    /// Of [`flag`].
    pub flags: u32,
    pub padding: u32,
}

/// Bits of [`Scope::flags`].
pub mod flag {
    /// The thread state was found: what the other bits say was looked at.
    pub const READ: u32 = 1;
    /// A coroutine is on the stack.
    pub const COROUTINE: u32 = 2;
    /// The stack could not be followed to its end: that no coroutine was met says nothing.
    pub const STACK_CUT: u32 = 4;
    /// The context is one that was entered to run something in it, not the one that every thread has.
    pub const ENTERED: u32 = 8;
    /// An event loop runs on this thread. Only ever set where [`super::Contexts::running_loop`] is known.
    pub const LOOP: u32 = 16;
    /// The thread works off what `run_in_executor` handed to a pool.
    pub const HANDED_ON: u32 = 32;
    /// Every new context of this process is reported: an address can be told from the same one before.
    pub const BIRTHS: u32 = 64;
    /// What a coroutine writes may be put off until none runs (uvloop before 0.23).
    pub const DEFERS: u32 = 128;
    /// A greenlet runs on the thread, or may run; [`super::Scope::task`] tells it from others, where it can, and no more than
    /// that is known of the scope. Not set where the thread's first greenlet is known to run: then it is a thread like any
    /// other.
    pub const GREENLETS: u32 = 256;
    /// One thread of this process may read the requests that others answer (waitress). Set without [`READ`] as well:
    /// nothing needs to be read for it.
    pub const HANDS_ON: u32 = 512;
}

/// Most bytes of a thread state from [`crate::python::Layout::tstate_frame`] to the end of [`Contexts::tstate_context`], which
/// are read at once. A power of two.
pub const THREAD_BYTES: usize = 512;

/// How one process's interpreter keeps contexts, and what the kernel half is to read of them. Offsets in bytes;
/// [`ABSENT`] where the version has no such field, or it is not wanted.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable, PartialEq, Eq)]
pub struct Contexts {
    /// Address of `PyContext_Type`.
    pub context_type: u64,
    /// Address of the code object of `concurrent.futures.thread._WorkItem.run`; 0 when it is not known.
    pub work_code: u64,
    /// How the running greenlet is found.
    pub greenlets: Greenlets,
    /// 1: read scopes, and report contexts that are made. 0: this process serves one request a thread.
    pub on: u32,
    /// In the thread state: `context`.
    pub tstate_context: u32,
    /// In the thread state: `asyncio_running_loop`, with `asyncio_running_task` directly behind it (3.14 on).
    pub running_loop: u32,
    /// In the thread state: `datastack_chunk`, if it tells greenlets apart here.
    pub data_stack: u32,
    /// In the context: `ctx_prev`, `ctx_entered` (int).
    pub previous: u32,
    pub entered: u32,
    /// 1: a context counts as entered when it has a `previous`, else by `entered`.
    pub entered_by_previous: u32,
    /// In the code object: `co_flags` (int).
    pub code_flags: u32,
    /// Where the kernel's saved registers have the new context's address, at the places that make copies of the
    /// current one, and at those that make empty ones.
    pub copy_register: u32,
    pub empty_register: u32,
    /// The way from the frame of [`Self::work_code`] to the context that its work was asked for in.
    pub work: Work,
    /// Bits of [`flag`] that hold for the process.
    pub always: u32,
    pub padding: u32,
}

/// From the running thread to its running greenlet: the dynamic thread vector has the block of the greenlet library's
/// thread-local variables; one of them leads to what it keeps of the thread, which begins with the thread's first greenlet and
/// the running one (greenlet 2.0 to 3.5, `TThreadState.hpp`, `class ThreadState`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable, PartialEq, Eq)]
pub struct Greenlets {
    /// Address of the class of a thread's first greenlet, `PyGreenlet_Type`.
    pub class: u64,
    /// Code objects of the functions that make greenlets which stand for threads; 0 for none.
    pub thread_codes: [u64; 2],
    /// In the dynamic thread vector: the library's entry. [`ABSENT`] where the running greenlet is not found this way.
    pub vector: u32,
    /// In the library's block: the pointer to what it keeps of the thread; 0 or 1 before a greenlet was used there.
    pub state: u32,
}

/// `self` of `_WorkItem.run` -> `future` -> `_done_callbacks` -> first -> its cell `destination` -> the asyncio
/// future's context. Each step is one pointer.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable, PartialEq, Eq)]
pub struct Work {
    /// In the frame: its first local variable.
    pub frame_locals: u32,
    /// 1: instance values lie behind a pointer that is four words before the object (3.11); 0: inside the object.
    pub values_outside: u32,
    /// From the object, or from where that pointer leads: the value of `future` in `_WorkItem`, of
    /// `_done_callbacks` in `concurrent.futures.Future`.
    pub item_future: u32,
    pub future_callbacks: u32,
    /// In a list: `ob_item`.
    pub list_items: u32,
    /// In a function: `func_closure`; in a tuple: its first item; in a cell: `ob_ref`.
    pub function_closure: u32,
    pub tuple_items: u32,
    pub cell_value: u32,
    /// In an asyncio future written in C: `fut_context0`.
    pub future_context: u32,
    /// Which cell of the callback's closure is `destination`.
    pub destination_cell: u32,
}

impl Default for Contexts {
    fn default() -> Self {
        Self {
            context_type: 0,
            work_code: 0,
            greenlets: Greenlets::default(),
            on: 0,
            tstate_context: ABSENT,
            running_loop: ABSENT,
            data_stack: ABSENT,
            previous: 0,
            entered: 0,
            entered_by_previous: 0,
            code_flags: 0,
            copy_register: ABSENT,
            empty_register: ABSENT,
            work: Work::default(),
            always: 0,
            padding: 0,
        }
    }
}

impl Default for Greenlets {
    fn default() -> Self {
        Self { class: 0, thread_codes: [0; 2], vector: ABSENT, state: 0 }
    }
}

const _: () = assert!(size_of::<Scope>() == 24);
const _: () = assert!(size_of::<Work>() == 40);
const _: () = assert!(size_of::<Greenlets>() == 32);
const _: () = assert!(size_of::<Contexts>() == 136);
