//! Functions, methods and classes: what is behind something that can be called.

use super::dict::Item;
use super::layout::Objects;
use crate::python::strings::ObjectError;

/// `PyFunctionObject.func_code` and `func_dict`, up to 3.9 and from 3.10 on.
const CODE: [u64; 2] = [16, 48];
const DICT: [u64; 2] = [72, 88];
/// `PyMethodObject.im_func`, and `partialobject.fn` of `_functools`.
const METHOD_FUNCTION: u64 = 16;
const PARTIAL_FUNCTION: u64 = 16;
/// `PyTypeObject.tp_dict` and `tp_base`.
const TP_DICT: u64 = 264;
const TP_BASE: u64 = 256;
/// Classes that are searched for an attribute.
const MAX_BASES: usize = 32;
/// `PyObject.ob_type`; `PySetObject.mask` and `table`, entries of a key and a hash.
const OB_TYPE: u64 = 8;
const SET_MASK: u64 = 32;
const SET_TABLE: u64 = 40;
/// `PyModuleObject.md_dict`.
const MODULE_DICT: u64 = 16;

impl Objects<'_> {
    fn by_age(&self, offsets: [u64; 2]) -> u64 {
        let [old, new] = offsets;
        if self.minor >= 10 { new } else { old }
    }

    /// Address of a function's code object.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn function_code(&self, function: u64) -> Result<u64, ObjectError> {
        Ok(self.memory.read_u64(self.part(function, self.by_age(CODE)))?)
    }

    /// An attribute that was set on a function.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn function_attribute(&self, function: u64, name: &str) -> Result<Option<u64>, ObjectError> {
        match self.memory.read_u64(self.part(function, self.by_age(DICT)))? {
            0 => Ok(None),
            dict => self.dict_get(dict, name),
        }
    }

    /// The function of a bound method.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn method_function(&self, method: u64) -> Result<u64, ObjectError> {
        Ok(self.memory.read_u64(self.part(method, METHOD_FUNCTION))?)
    }

    /// What a `functools.partial` calls.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn partial_function(&self, partial: u64) -> Result<u64, ObjectError> {
        Ok(self.memory.read_u64(self.part(partial, PARTIAL_FUNCTION))?)
    }

    /// Address of an object's class.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn class_of(&self, object: u64) -> Result<u64, ObjectError> {
        Ok(self.memory.read_u64(self.part(object, OB_TYPE))?)
    }

    /// An attribute of a class, its own or of its first line of bases. Not of the built-in ones, which keep theirs elsewhere.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn class_attribute(&self, class: u64, name: &str) -> Result<Option<u64>, ObjectError> {
        let mut next = class;
        for _ in 0..MAX_BASES {
            let dict = self.memory.read_u64(self.part(next, TP_DICT))?;
            if dict != 0
                && let Some(found) = self.dict_get(dict, name)?
            {
                return Ok(Some(found));
            }
            next = self.memory.read_u64(self.part(next, TP_BASE))?;
            if next == 0 {
                break;
            }
        }
        Ok(None)
    }

    /// The strings in a set, in no order.
    ///
    /// # Errors
    /// When it cannot be read, or has more than `max` members.
    pub fn set_strings(&self, set: u64, max: usize) -> Result<Vec<String>, ObjectError> {
        let slots = self.memory.read_u64(self.part(set, SET_MASK))?.saturating_add(1);
        let table = self.memory.read_u64(self.part(set, SET_TABLE))?;
        if slots > 8 * max as u64 {
            return Err(ObjectError::Unexpected { address: set, expected: "a set of this size" });
        }
        let mut strings = Vec::new();
        for slot in 0..slots {
            let key = self.memory.read_u64(table.wrapping_add(slot * 16))?;
            // What was removed has left a mark that is no string.
            if key != 0
                && let Ok(text) = self.string(key, 256)
            {
                strings.push(text);
            }
        }
        Ok(strings)
    }

    /// Names and modules of `sys.modules`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn all_modules(&self, interpreter: u64) -> Result<Vec<Item>, ObjectError> {
        let at = interpreter.wrapping_add(u64::from(self.layout.interpreter_modules));
        self.dict_items(self.memory.read_u64(at)?)
    }

    /// The dict of a module.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn namespace(&self, module: u64) -> Result<u64, ObjectError> {
        Ok(self.memory.read_u64(self.part(module, MODULE_DICT))?)
    }
}
