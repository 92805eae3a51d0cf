//! Modules of an interpreter, by `sys.modules`.

use super::layout::Objects;
use crate::python::strings::ObjectError;

/// `PyModuleObject.md_dict`.
const MODULE_DICT: u64 = 16;

impl Objects<'_> {
    /// The dict of a module that the interpreter at this address has imported; `None` when it has not.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn module_dict(&self, interpreter: u64, name: &str) -> Result<Option<u64>, ObjectError> {
        let at = interpreter.wrapping_add(u64::from(self.layout.interpreter_modules));
        match self.dict_get(self.memory.read_u64(at)?, name)? {
            Some(module) => Ok(Some(self.memory.read_u64(self.part(module, MODULE_DICT))?)),
            None => Ok(None),
        }
    }

    /// The address of the main `PyInterpreterState`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn main_interpreter(&self, runtime: u64) -> Result<u64, ObjectError> {
        let at = runtime.wrapping_add(u64::from(self.layout.runtime_main_interpreter));
        Ok(self.memory.read_u64(at)?)
    }
}
