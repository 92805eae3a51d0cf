//! The names that a program gave its threads: `threading._active`, a dict from `ident` to `Thread`, whose
//! instances have their name in `_name` (`Lib/threading.py` of 3.8 to 3.15). The dict is read while the
//! program may change it; a name that cannot be read is left out.

use super::objects::{Int, Objects};
use super::strings::ObjectError;
use std::collections::HashMap;

/// Most characters of a name.
const MAX_THREAD_NAME: usize = 200;
/// Readings until the dict has held still.
const TRIES: usize = 5;

impl Objects<'_> {
    /// Names by `ident`, which is the `thread_id` of a thread state. Empty when the program has not imported
    /// `threading`.
    ///
    /// # Errors
    /// When the dict cannot be read.
    pub fn thread_names(&self, interpreter: u64) -> Result<HashMap<u64, String>, ObjectError> {
        let mut last = Ok(HashMap::new());
        for _ in 0..TRIES {
            last = self.try_thread_names(interpreter);
            if last.is_ok() {
                break;
            }
        }
        last
    }

    fn try_thread_names(&self, interpreter: u64) -> Result<HashMap<u64, String>, ObjectError> {
        let mut names = HashMap::new();
        let Some(module) = self.module_dict(interpreter, "threading")? else { return Ok(names) };
        let Some(active) = self.dict_get(module, "_active")? else { return Ok(names) };
        for item in self.dict_items(active)? {
            let Ok(Int::Small(ident)) = self.int(item.key) else { continue };
            let Ok(ident) = u64::try_from(ident) else { continue };
            let name = self.attribute(item.value, "_name").ok().flatten();
            if let Some(name) = name.and_then(|name| self.string(name, MAX_THREAD_NAME).ok()) {
                names.insert(ident, name);
            }
        }
        Ok(names)
    }
}
