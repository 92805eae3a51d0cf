//! Classes of exceptions, by the addresses at which a process has them. A class lives long, but not for ever: it is
//! read again after a while, and what has another name by then is known by the name that the kernel half saw.

use super::resolver::Symbols;
use crate::python::{BoundedMemory, ExceptionClass, Interpreter, Memory, Objects};
use std::sync::Arc;

/// Reads that one class may take.
const MAX_READS: u64 = 2000;

impl Symbols {
    /// The class that the kernel half saw at this address of process `pid` under the `tp_name` `seen`.
    pub fn class(
        &mut self,
        pid: u32,
        interpreter: &Interpreter,
        memory: &dyn Memory,
        address: u64,
        seen: &str,
    ) -> Arc<ExceptionClass> {
        let key = (self.incarnation(pid), address);
        if let Some(known) = self.classes.get(key)
            && &*known.0 == seen
        {
            return known.1;
        }
        let bounded = BoundedMemory::new(memory, MAX_READS);
        let objects = Objects::new(&bounded, &interpreter.offsets, interpreter.version.minor);
        let read = objects
            .zip(interpreter.raising.as_ref())
            .and_then(|(objects, raising)| objects.exception_class(raising, address, seen).ok());
        // What could not be read now cannot be read later either: the process has gone, or the class has.
        let class = Arc::new(read.unwrap_or_else(|| ExceptionClass::from_name(seen)));
        let weight = 128 + seen.len() + class.name.len() + class.module.as_deref().map_or(0, str::len);
        self.classes.insert(key, (seen.into(), Arc::clone(&class)), weight);
        class
    }
}
