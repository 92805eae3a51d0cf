//! Everything that userspace knows about CPython: which version a process runs, where that version keeps
//! its threads, frames and code objects, and how a code object gives a name, a file and a line. It reads
//! target memory only through [`Memory`], changes nothing, and knows nothing of probes, requests or views.
//!
//! [`inspect`] is the way in: its [`Interpreter`] carries the `Layout` that the kernel half walks stacks
//! with, and the [`ObjectOffsets`] that [`read_code`] needs to give them names.

mod asyncio_debug;
mod code;
mod collector;
mod contexts;
mod dwarf;
mod error;
mod exception;
mod gil;
mod giving_up;
#[cfg(test)]
mod hostile;
mod identity;
mod jit;
mod lines;
mod locate;
mod memory;
mod objects;
mod offsets;
mod parked;
mod raising;
mod route;
mod runtime;
mod stack;
mod strings;
mod task_registry;
mod tasks;
mod thread_names;
mod threads;
mod tls;
mod version;

pub use asyncio_debug::AsyncioOffsets;
pub use code::{Code, read_code};
pub use collector::{Collections, Collector, GENERATIONS, Generation, collections};
pub use contexts::{Births, ContextCode, GreenletCode, GreenletsUnknown, Switching, contexts, event_loops};
pub use dwarf::{DwarfComparison, DwarfDifference, DwarfError, compare_with_dwarf};
pub use error::PythonError;
pub use exception::{ExceptionClass, Printing, message};
pub use gil::{Gil, needs_gil};
pub use identity::read_identity;
pub use jit::{JIT_NOTE, may_be_compiled};
pub use lines::LineTable;
pub use locate::Embedding;
pub use memory::{BoundedMemory, BufferMemory, MAX_READ, Memory, MemoryError, ProcessMemory};
pub use objects::{Int, Item, Kind, Local, Managed, Objects, Type, ValueLayout};
pub use offsets::{
    Cookie, DebugOffsets, DebugOffsetsError, FreeThreaded, LONGER_HEAD, LineFormat, LocalBytecode,
    ObjectOffsets, SUPPORTED_MINORS, free_threaded_table, table,
};
pub use parked::{StackOfThread, parked_stack, stack_of_thread, while_parked};
pub use raising::Raising;
pub use runtime::{Inspector, Interpreter, OffsetsSource, inspect};
pub use stack::{Chain, FrameAt, read_chain, read_stack};
pub use strings::{MAX_FILE, MAX_NAME, MAX_TABLE, ObjectError, read_bytes_object, read_string};
pub use tasks::{SuspendedTask, TasksOfThread};
pub use threads::{ThreadState, by_tid, thread_states};
pub use tls::{TlsAccess, TlsWord, lazily_made_tls_word, returned_tls_word};
pub use version::Version;
