//! The global interpreter lock as it lies in memory: who holds it, and where a thread that waits for it sleeps.
//! A reading of one moment: by the time anybody looks at it, the lock may have gone on.

use super::memory::Memory;
use super::objects::Objects;
use super::runtime::Interpreter;
use super::strings::{ObjectError, u32_at, u64_at};
use pyapm_wire::python::gil::{LAST_HOLDER, LOCKED, SIZE, WAITERS};

/// `_gil_runtime_state.enabled` of a free-threaded build, an int, and where the rest begins (`pycore_gil.h`, 3.13 to 3.15).
const FREE_THREADED_HEAD: u64 = 8;

/// One interpreter's lock, or the one of all interpreters up to 3.11.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gil {
    pub address: u64,
    /// False in a free-threaded build, as long as nothing has switched its lock on.
    pub enabled: bool,
    pub held: bool,
    /// The thread state that holds it, or did so last.
    pub last_holder: u64,
}

impl Gil {
    /// Whether a thread that sleeps on this address waits for the lock, or to hand it over.
    #[must_use]
    pub fn is_waited_for_at(&self, futex: u64) -> bool {
        (self.address + WAITERS..self.address + SIZE).contains(&futex)
    }
}

/// Whether the threads of this interpreter need its lock; `None` when that cannot be read. It is asked of the main
/// interpreter.
#[must_use]
pub fn needs_gil(memory: &dyn Memory, interpreter: &Interpreter) -> Option<bool> {
    let objects = Objects::new(memory, &interpreter.offsets, interpreter.version.minor)?;
    let main = objects.main_interpreter(interpreter.runtime_address).ok()?;
    objects.gil(interpreter.runtime_address, main).ok().map(|gil| gil.enabled)
}

impl Objects<'_> {
    /// The lock of the interpreter at this address.
    ///
    /// # Errors
    /// When it cannot be read, or is in no state that a lock can be in.
    pub fn gil(&self, runtime: u64, interpreter: u64) -> Result<Gil, ObjectError> {
        let at = |base: u64, offset: u32| base.wrapping_add(u64::from(offset));
        let address = match (self.layout.runtime_gil, self.layout.interpreter_gil) {
            (Some(offset), _) => at(runtime, offset),
            (None, Some(offset)) => self.memory.read_u64(at(interpreter, offset))?,
            (None, None) => 0,
        };
        let wrong = ObjectError::Unexpected { address, expected: "a global interpreter lock" };
        if address == 0 || address > u64::MAX - SIZE - FREE_THREADED_HEAD {
            return Err(wrong);
        }
        let (enabled, address) = match self.offsets.free_threaded {
            Some(_) => (self.memory.read_u32(address)? != 0, address + FREE_THREADED_HEAD),
            None => (true, address),
        };
        let block = self.memory.read_bytes(address, 24)?;
        let held = match u32_at(&block, LOCKED) {
            Some(0) => false,
            Some(1) => true,
            _ => return Err(wrong),
        };
        Ok(Gil { address, enabled, held, last_holder: u64_at(&block, LAST_HOLDER).unwrap_or(0) })
    }
}
