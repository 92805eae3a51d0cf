//! Modules of an interpreter, by `sys.modules`.

use super::dict::Item;
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

    /// The dicts of these modules, in their order; `None` for those that the interpreter has not imported. All modules are
    /// gone through once, however many are asked for.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn module_dicts(&self, interpreter: u64, names: &[&str]) -> Result<Vec<Option<u64>>, ObjectError> {
        let mut dicts = vec![None; names.len()];
        for Item { key, value } in self.all_modules(interpreter)? {
            if let Some(dict) = self.which_string(key, names).and_then(|index| dicts.get_mut(index)) {
                *dict = Some(self.namespace(value)?);
            }
        }
        Ok(dicts)
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
