//! Attributes of an instance, wherever its version keeps them: in a dict that the object points to, or in an
//! array of values beside it. What the class has is not looked at.

use super::dict::Item;
use super::layout::{Managed, Objects};
use crate::python::strings::ObjectError;

/// `PyTypeObject.tp_basicsize`, `tp_dict` and `tp_dictoffset`.
const TP_BASICSIZE: u64 = 32;
const TP_DICT: u64 = 264;
const TP_DICTOFFSET: u64 = 288;
/// `Py_TPFLAGS_INLINE_VALUES` (3.13 on) and `Py_TPFLAGS_MANAGED_DICT` (3.11 on) of `Include/object.h`.
const INLINE_VALUES: u64 = 1 << 2;
const MANAGED_DICT: u64 = 1 << 4;
/// `_dictvalues.valid` of 3.13 and later (`pycore_dict.h`): 0 once the values have moved to a dict.
const VALUES_VALID: u64 = 3;
/// No instance is larger, nor its dict further away.
const MAX_BASICSIZE: u64 = 1 << 20;

impl Objects<'_> {
    /// The address of an instance's own attribute; `None` when it has none of that name.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn attribute(&self, address: u64, name: &str) -> Result<Option<u64>, ObjectError> {
        Ok(self.named(&self.attributes(address)?, name))
    }

    /// All attributes of an instance.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn attributes(&self, address: u64) -> Result<Vec<Item>, ObjectError> {
        let class = self.type_of(address)?;
        let word = |at: u64| self.memory.read_u64(at);
        if class.flags & MANAGED_DICT == 0 || self.layout.managed == Managed::No {
            let offset = word(self.part(class.address, TP_DICTOFFSET))?;
            // A negative one counts from the end of an object of varying size: none that is read here.
            if offset == 0 || offset > MAX_BASICSIZE {
                return Ok(Vec::new());
            }
            return self.dict_or_nothing(word(address.wrapping_add(offset))?);
        }
        let third = address.wrapping_sub(24);
        match self.layout.managed {
            Managed::No => Ok(Vec::new()),
            Managed::TwoPointers => match word(address.wrapping_sub(32))? {
                0 => self.dict_or_nothing(word(third)?),
                values => self.shared(class.address, values),
            },
            Managed::Tagged => match word(third)? {
                tagged if tagged & 1 == 1 => self.shared(class.address, tagged.wrapping_add(1)),
                dict => self.dict_or_nothing(dict),
            },
            Managed::Inline | Managed::InlineAndNear => {
                let near = self.layout.managed == Managed::InlineAndNear;
                let dict = word(if near { address.wrapping_sub(8) } else { third })?;
                if dict != 0 || class.flags & INLINE_VALUES == 0 {
                    return self.dict_or_nothing(dict);
                }
                let size = word(self.part(class.address, TP_BASICSIZE))?;
                if size > MAX_BASICSIZE {
                    return Err(ObjectError::Unexpected { address, expected: "an instance" });
                }
                let values = address.wrapping_add(size);
                if self.memory.read_u8(values.wrapping_add(VALUES_VALID))? == 0 {
                    return Ok(Vec::new());
                }
                self.shared(class.address, values)
            }
        }
    }

    /// The dict of a class that was made by a `class` statement.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn class_dict(&self, class: u64) -> Result<u64, ObjectError> {
        Ok(self.memory.read_u64(self.part(class, TP_DICT))?)
    }

    /// Bytes of an instance of this class, without what lies behind it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn instance_size(&self, class: u64) -> Result<u64, ObjectError> {
        Ok(self.memory.read_u64(self.part(class, TP_BASICSIZE))?)
    }

    /// The place of this name among the values of an instance that shares its keys with its class; `None` when
    /// no instance has had it yet.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn shared_key(&self, class: u64, name: &str) -> Result<Option<u32>, ObjectError> {
        let keys = self.memory.read_u64(class.wrapping_add(u64::from(self.layout.type_cached_keys)))?;
        if keys == 0 {
            return Ok(None);
        }
        let keys = self.key_names(keys)?;
        let place = keys.iter().position(|key| *key != 0 && self.is_string(*key, name));
        Ok(place.and_then(|place| u32::try_from(place).ok()))
    }

    fn dict_or_nothing(&self, dict: u64) -> Result<Vec<Item>, ObjectError> {
        if dict == 0 { Ok(Vec::new()) } else { self.dict_items(dict) }
    }

    /// Values whose names are the keys that all instances of the class share.
    fn shared(&self, class: u64, values: u64) -> Result<Vec<Item>, ObjectError> {
        let keys = self.memory.read_u64(class.wrapping_add(u64::from(self.layout.type_cached_keys)))?;
        self.entries(keys, Some(self.values_start(values)))
    }
}
