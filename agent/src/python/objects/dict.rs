//! Dicts: their entries in the order of insertion (`Objects/dictobject.c`, `pycore_dict.h`). Combined tables
//! keep the values with the keys; split ones, which instances of one class share, apart.

use super::kind::Kind;
use super::layout::Objects;
use crate::python::memory::MAX_READ;
use crate::python::strings::{ObjectError, u64_at};

const MA_USED: u64 = 16;
const MA_KEYS: u64 = 32;
const MA_VALUES: u64 = 40;
/// Entries that are looked at in one dict.
const MAX_ENTRIES: u64 = 1 << 16;

/// Addresses of one entry's key and value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    pub key: u64,
    pub value: u64,
}

impl Objects<'_> {
    /// The entries of a dict, or of a subclass's.
    ///
    /// # Errors
    /// When it is no dict, has more than 65,536 entries, changed while it was read, or cannot be read.
    pub fn dict_items(&self, address: u64) -> Result<Vec<Item>, ObjectError> {
        self.expect(address, Kind::Dict, "a dict")?;
        let head = |at: u64| self.memory.read_u64(self.part(address, at));
        let before = (head(MA_USED)?, head(MA_KEYS)?, head(MA_VALUES)?);
        let (_, keys, values) = before;
        let values = if values == 0 { None } else { Some(self.values_start(values)) };
        let items = self.entries(keys, values)?;
        if (head(MA_USED)?, head(MA_KEYS)?, head(MA_VALUES)?) != before {
            return Err(ObjectError::Changed { address });
        }
        Ok(items)
    }

    /// How many entries a dict says that it has.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn dict_length(&self, address: u64) -> Result<u64, ObjectError> {
        Ok(self.memory.read_u64(self.part(address, MA_USED))?)
    }

    /// The value under a key that is a string; `None` when there is no such key.
    ///
    /// # Errors
    /// As [`Objects::dict_items`].
    pub fn dict_get(&self, address: u64, name: &str) -> Result<Option<u64>, ObjectError> {
        Ok(self.named(&self.dict_items(address)?, name))
    }

    /// The value under this name. Keys that are no strings, or cannot be read, are other keys.
    pub(super) fn named(&self, items: &[Item], name: &str) -> Option<u64> {
        items.iter().find(|item| self.is_string(item.key, name)).map(|item| item.value)
    }

    pub(super) fn values_start(&self, values: u64) -> u64 {
        values.wrapping_add(u64::from(self.layout.values_data))
    }

    /// The live entries of a table of keys; `values` is where a split table's first value lies.
    pub(super) fn entries(&self, keys: u64, values: Option<u64>) -> Result<Vec<Item>, ObjectError> {
        let table = self.table(keys)?;
        let stride = if table.with_hash { 24 } else { 16 };
        let key_at = if table.with_hash { 8 } else { 0 };
        let bytes = self.block(table.entries, table.count, stride)?;
        let apart = match values {
            Some(values) => Some(self.block(values, table.count, 8)?),
            None => None,
        };
        let mut items = Vec::new();
        for index in 0..u32::try_from(table.count).unwrap_or(0) {
            let at = index * stride + key_at;
            let key = u64_at(&bytes, at).unwrap_or(0);
            let value = match &apart {
                Some(values) => u64_at(values, index * 8),
                None => u64_at(&bytes, at + 8),
            };
            match value {
                Some(value) if key != 0 && value != 0 => items.push(Item { key, value }),
                _ => {}
            }
        }
        Ok(items)
    }

    /// Addresses of a table's keys, in the order of their values.
    pub(super) fn key_names(&self, keys: u64) -> Result<Vec<u64>, ObjectError> {
        let table = self.table(keys)?;
        let (stride, key_at) = if table.with_hash { (24, 8) } else { (16, 0) };
        let bytes = self.block(table.entries, table.count, stride)?;
        let count = u32::try_from(table.count).unwrap_or(0);
        Ok((0..count).map(|index| u64_at(&bytes, index * stride + key_at).unwrap_or(0)).collect())
    }

    fn table(&self, keys: u64) -> Result<Table, ObjectError> {
        let wrong = ObjectError::Unexpected { address: keys, expected: "a table of dict keys" };
        let head = self.memory.read_bytes(keys, 40)?;
        let word = |at| u64_at(&head, at).unwrap_or(u64::MAX);
        let byte = |at: usize| head.get(at).copied().unwrap_or(u8::MAX);
        let table = if self.layout.compact_keys {
            // dk_log2_size 8, dk_log2_index_bytes 9, dk_kind 10, dk_nentries 24, dk_indices 32.
            let (log2_bytes, kind) = (byte(9), byte(10));
            if log2_bytes > 40 || kind > 2 {
                return Err(wrong);
            }
            let entries = keys.wrapping_add(32).wrapping_add(1 << log2_bytes);
            Table { entries, count: word(24), with_hash: kind == 0 }
        } else {
            // dk_size 8, dk_nentries 32, dk_indices 40: as many bytes each as the size needs.
            let size = word(8);
            if size > 1 << 40 {
                return Err(wrong);
            }
            let width = match size {
                0..=0xff => 1,
                0x100..=0xffff => 2,
                0x1_0000..=0xffff_ffff => 4,
                _ => 8,
            };
            let entries = keys.wrapping_add(40).wrapping_add(size * width);
            Table { entries, count: word(32), with_hash: true }
        };
        if table.count > MAX_ENTRIES { Err(wrong) } else { Ok(table) }
    }

    /// `count` records of `stride` bytes, in as many reads as it takes.
    fn block(&self, address: u64, count: u64, stride: u32) -> Result<Vec<u8>, ObjectError> {
        let length = usize::try_from(count * u64::from(stride)).unwrap_or(usize::MAX);
        let mut bytes = Vec::new();
        while bytes.len() < length {
            let part = (length - bytes.len()).min(MAX_READ);
            bytes.extend(self.memory.read_bytes(address.wrapping_add(bytes.len() as u64), part)?);
        }
        Ok(bytes)
    }
}

struct Table {
    entries: u64,
    /// Entries that were ever made in this table, deleted ones among them.
    count: u64,
    with_hash: bool,
}
