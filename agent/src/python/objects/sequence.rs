//! Strings, bytes, tuples, lists and sets: what they hold, or how much.

use super::kind::Kind;
use super::layout::Objects;
use crate::python::memory::MAX_READ;
use crate::python::strings::{ObjectError, read_bytes_object, read_string};

/// `PyVarObject.ob_size`.
const OB_SIZE: u64 = 16;
/// `PyListObject.ob_item`: a pointer.
const LIST_ITEMS: u64 = 24;
/// `PySetObject.used`.
const SET_USED: u64 = 24;
/// No container in 47 bits of address space has as many members.
const MAX_LENGTH: u64 = 1 << 44;

impl Objects<'_> {
    /// The text of a string; of a longer one the first `max` characters, and an ellipsis.
    ///
    /// # Errors
    /// When it cannot be read or is no string.
    pub fn string(&self, address: u64, max: usize) -> Result<String, ObjectError> {
        self.expect(address, Kind::Str, "a str")?;
        read_string(self.memory, self.offsets, address, max)
    }

    /// Whether this is a string with exactly this text.
    #[must_use]
    pub fn is_string(&self, address: u64, text: &str) -> bool {
        self.which_string(address, &[text]).is_some()
    }

    /// Which of these texts this string has; `None` when it has none of them, or is no string. Most are told apart by
    /// their length, which is one read.
    #[must_use]
    pub fn which_string(&self, address: u64, texts: &[&str]) -> Option<usize> {
        let length = address.wrapping_add(u64::from(self.offsets.unicode_length));
        let length = self.memory.read_u64(length).ok()?;
        let has = |text: &str| self.string(address, text.len()).is_ok_and(|found| found == text);
        texts.iter().position(|text| length == text.chars().count() as u64 && has(text))
    }

    /// The contents of a bytes object of at most 1 MiB.
    ///
    /// # Errors
    /// When it cannot be read, is none, or is larger.
    pub fn bytes(&self, address: u64) -> Result<Vec<u8>, ObjectError> {
        self.expect(address, Kind::Bytes, "a bytes object")?;
        read_bytes_object(self.memory, self.offsets, address)
    }

    /// Addresses of a tuple's members.
    ///
    /// # Errors
    /// When it cannot be read, is no tuple, or has more than `max`.
    pub fn tuple_items(&self, address: u64, max: usize) -> Result<Vec<u64>, ObjectError> {
        self.expect(address, Kind::Tuple, "a tuple")?;
        let count = self.length(address)?;
        self.pointers(address.wrapping_add(u64::from(self.layout.tuple_items)), count, max)
    }

    /// Addresses of a list's members.
    ///
    /// # Errors
    /// When it cannot be read, is no list, or has more than `max`.
    pub fn list_items(&self, address: u64, max: usize) -> Result<Vec<u64>, ObjectError> {
        self.expect(address, Kind::List, "a list")?;
        let count = self.length(address)?;
        self.pointers(self.memory.read_u64(self.part(address, LIST_ITEMS))?, count, max)
    }

    /// `ob_size` of a tuple, a list or a bytes object.
    ///
    /// # Errors
    /// When it cannot be read, or is no length.
    pub fn length(&self, address: u64) -> Result<u64, ObjectError> {
        self.plausible(address, OB_SIZE)
    }

    /// How many members a set has.
    ///
    /// # Errors
    /// When it cannot be read, or is no length.
    pub fn set_length(&self, address: u64) -> Result<u64, ObjectError> {
        self.plausible(address, SET_USED)
    }

    fn plausible(&self, address: u64, offset: u64) -> Result<u64, ObjectError> {
        let length = self.memory.read_u64(self.part(address, offset))?;
        if length > MAX_LENGTH {
            return Err(ObjectError::Unexpected { address, expected: "a container" });
        }
        Ok(length)
    }

    /// `count` words from here.
    pub(super) fn pointers(&self, start: u64, count: u64, max: usize) -> Result<Vec<u64>, ObjectError> {
        let small = usize::try_from(count).ok().filter(|count| *count <= max.min(MAX_READ / 8));
        let Some(count) = small else {
            return Err(ObjectError::Unexpected { address: start, expected: "a container of this size" });
        };
        let bytes = self.memory.read_bytes(start, count * 8)?;
        let (words, _) = bytes.as_chunks::<8>();
        Ok(words.iter().map(|word| u64::from_le_bytes(*word)).collect())
    }
}
