//! Python `str` objects out of a target's memory (`Include/cpython/unicodeobject.h`). What is not valid
//! Unicode text (lone surrogates, which is how Python carries undecodable bytes of file names) is kept as
//! Python's own `\udcff` escape, so that two different names never look the same.

use super::memory::{MAX_READ, Memory, MemoryError};
use super::offsets::ObjectOffsets;

/// Most characters of a function's name.
pub const MAX_NAME: usize = 1024;
/// Most characters of a file's name: `PATH_MAX` of Linux.
pub const MAX_FILE: usize = 4096;
/// Most bytes of a line table.
pub const MAX_TABLE: usize = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ObjectError {
    #[error(transparent)]
    Memory(#[from] MemoryError),
    #[error("the object at {address:#x} is not a string (state {state:#x}, length {length})")]
    NotAString { address: u64, state: u32, length: u64 },
    #[error("the object at {address:#x} has {length} bytes, more than the maximum of {MAX_TABLE}")]
    TooLarge { address: u64, length: u64 },
    #[error("the object at {address:#x} was replaced while it was read")]
    Changed { address: u64 },
    #[error("what lies at {address:#x} is not {expected}")]
    Unexpected { address: u64, expected: &'static str },
}

/// Bits of `PyASCIIObject.state`, the same in 3.8 to 3.15 with the GIL: `interned:2, kind:3, compact:1, ascii:1`. Without
/// it, they may begin higher.
const KIND_SHIFT: u32 = 2;
const KIND_MASK: u32 = 7;
const COMPACT: u32 = 1 << 5;
const ASCII: u32 = 1 << 6;

/// The text of a `str`; from a longer one the first `max` characters, and an ellipsis.
///
/// # Errors
/// When the memory cannot be read, or the object is not a string in its canonical form.
pub fn read_string(
    memory: &dyn Memory,
    offsets: &ObjectOffsets,
    address: u64,
    max: usize,
) -> Result<String, ObjectError> {
    // One read takes the header and, for nearly all names, their characters too; where the object lies at
    // the end of readable memory the header alone is read.
    let header_size = usize::try_from(offsets.compact_size).unwrap_or(0).saturating_add(8).min(256);
    let header = memory
        .read_bytes(address, header_size + READ_AHEAD)
        .or_else(|_| memory.read_bytes(address, header_size))
        .or_else(|_| memory.read_bytes(address, offsets.ascii_size.min(256) as usize))?;
    let length = u64_at(&header, offsets.unicode_length).unwrap_or(u64::MAX);
    let state = u32_at(&header, offsets.unicode_state).unwrap_or(0);
    let wrong = ObjectError::NotAString { address, state, length };
    let kind_shift = offsets.free_threaded.map_or(KIND_SHIFT, |build| build.unicode_kind_shift);
    // As builds with the GIL have it.
    let state = state >> kind_shift << KIND_SHIFT;
    let width = match (state >> KIND_SHIFT) & KIND_MASK {
        1 => 1,
        2 => 2,
        4 => 4,
        _ => return Err(wrong),
    };
    // Longer than any that could exist in 47 bits of address space.
    if length >= 1 << 47 || (state & ASCII != 0 && width != 1) {
        return Err(wrong);
    }
    let length = usize::try_from(length).map_err(|_| wrong)?;
    let taken = length.min(max);
    let bytes = taken.checked_mul(width).filter(|bytes| *bytes <= MAX_READ).ok_or(wrong)?;
    let start = match (state & COMPACT != 0, state & ASCII != 0) {
        (true, true) => offsets.ascii_size,
        (true, false) => offsets.compact_size,
        (false, _) => {
            let data = u64_at(&header, offsets.compact_size).ok_or(wrong)?;
            return decode(&memory.read_bytes(data, bytes)?, width, taken < length, wrong);
        }
    };
    let within = usize::try_from(start).ok().and_then(|from| header.get(from..from.checked_add(bytes)?));
    match within {
        Some(characters) => decode(characters, width, taken < length, wrong),
        None => {
            let characters = memory.read_bytes(address.wrapping_add(u64::from(start)), bytes)?;
            decode(&characters, width, taken < length, wrong)
        }
    }
}

const READ_AHEAD: usize = 96;

/// The contents of a `bytes` object, at most [`MAX_TABLE`].
///
/// # Errors
/// When the memory cannot be read or the object is larger.
pub fn read_bytes_object(
    memory: &dyn Memory,
    offsets: &ObjectOffsets,
    address: u64,
) -> Result<Vec<u8>, ObjectError> {
    let length = memory.read_u64(address.wrapping_add(u64::from(offsets.bytes_size)))?;
    match usize::try_from(length).ok().filter(|length| *length <= MAX_TABLE) {
        Some(size) => Ok(memory.read_bytes(address.wrapping_add(u64::from(offsets.bytes_data)), size)?),
        None => Err(ObjectError::TooLarge { address, length }),
    }
}

fn decode(bytes: &[u8], width: usize, cut: bool, wrong: ObjectError) -> Result<String, ObjectError> {
    let mut text = String::with_capacity(bytes.len() + 3);
    for unit in bytes.chunks_exact(width) {
        let code = unit.iter().rev().fold(0_u32, |code, byte| (code << 8) | u32::from(*byte));
        match char::from_u32(code) {
            Some(character) => text.push(character),
            None if (0xd800..0xe000).contains(&code) => {
                text.push_str("\\u");
                for shift in [12, 8, 4, 0] {
                    text.push(char::from_digit((code >> shift) & 15, 16).unwrap_or('?'));
                }
            }
            // Beyond U+10FFFF: no string of Python's holds it.
            None => return Err(wrong),
        }
    }
    if cut {
        text.push('…');
    }
    Ok(text)
}

/// The word at this offset of a block that was read.
pub(super) fn u64_at(block: &[u8], offset: u32) -> Option<u64> {
    let from = usize::try_from(offset).ok()?;
    block.get(from..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

/// The half word at this offset of a block that was read.
pub(super) fn u32_at(block: &[u8], offset: u32) -> Option<u32> {
    let from = usize::try_from(offset).ok()?;
    block.get(from..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::super::memory::BufferMemory;
    use super::super::offsets::table;
    use super::*;

    const ADDRESS: u64 = 0x5000;

    fn string(kind: u32, flags: u32, length: u64, start: u32, data: &[u8]) -> BufferMemory {
        let mut object = vec![0; start as usize];
        object[16..24].copy_from_slice(&length.to_le_bytes());
        object[32..36].copy_from_slice(&(kind << KIND_SHIFT | flags).to_le_bytes());
        object.extend_from_slice(data);
        let mut memory = BufferMemory::new();
        memory.add(ADDRESS, object);
        memory
    }

    fn read(memory: &BufferMemory, max: usize) -> Result<String, ObjectError> {
        read_string(memory, table(11).unwrap(), ADDRESS, max)
    }

    #[test]
    fn every_width() {
        assert_eq!(read(&string(1, COMPACT | ASCII, 5, 48, b"hello"), 100).unwrap(), "hello");
        assert_eq!(read(&string(1, COMPACT, 3, 72, &[0xe4, 0xf6, 0xfc]), 100).unwrap(), "äöü");
        assert_eq!(read(&string(2, COMPACT, 2, 72, &[0xac, 0x20, 0x41, 0]), 100).unwrap(), "€A");
        let wide: Vec<u8> = [0x1f40d_u32, 0x41].iter().flat_map(|code| code.to_le_bytes()).collect();
        assert_eq!(read(&string(4, COMPACT, 2, 72, &wide), 100).unwrap(), "🐍A");
        assert_eq!(read(&string(1, COMPACT | ASCII, 0, 48, b""), 100).unwrap(), "");
    }

    #[test]
    fn surrogates_stay_apart() {
        assert_eq!(read(&string(2, COMPACT, 2, 72, &[0x80, 0xdc, 0x41, 0]), 100).unwrap(), "\\udc80A");
    }

    #[test]
    fn long_ones_are_cut() {
        assert_eq!(read(&string(1, COMPACT | ASCII, 5, 48, b"hello"), 3).unwrap(), "hel…");
        assert_eq!(read(&string(1, COMPACT | ASCII, 1 << 40, 48, b"hello"), 3).unwrap(), "hel…");
    }

    #[test]
    fn not_compact() {
        let mut memory = string(1, ASCII, 3, 72, &0x9000_u64.to_le_bytes());
        memory.add(0x9000, b"abc".to_vec());
        assert_eq!(read(&memory, 100).unwrap(), "abc");
    }

    #[test]
    fn garbage() {
        for (kind, flags) in [(0, COMPACT), (3, COMPACT), (7, COMPACT | ASCII), (2, COMPACT | ASCII)] {
            assert!(matches!(
                read(&string(kind, flags, 3, 72, &[0; 64]), 9),
                Err(ObjectError::NotAString { .. })
            ));
        }
        assert!(read(&string(1, COMPACT, u64::MAX, 72, &[0; 64]), 9).is_err());
        assert!(read(&string(4, COMPACT, 1, 72, &0x0011_0000_u32.to_le_bytes()), 9).is_err());
        assert!(matches!(read(&BufferMemory::new(), 9), Err(ObjectError::Memory(_))));
        // Longer than what is mapped.
        assert!(matches!(read(&string(1, COMPACT, 900, 72, &[0; 64]), 900), Err(ObjectError::Memory(_))));
    }

    #[test]
    fn bytes_objects() {
        let mut object = vec![0; 32];
        object[16..24].copy_from_slice(&3_u64.to_le_bytes());
        object.extend_from_slice(b"xyz");
        let mut memory = BufferMemory::new();
        memory.add(ADDRESS, object.clone());
        assert_eq!(read_bytes_object(&memory, table(11).unwrap(), ADDRESS).unwrap(), b"xyz");
        object[16..24].copy_from_slice(&u64::MAX.to_le_bytes());
        let mut memory = BufferMemory::new();
        memory.add(ADDRESS, object);
        assert!(matches!(
            read_bytes_object(&memory, table(11).unwrap(), ADDRESS),
            Err(ObjectError::TooLarge { .. })
        ));
    }
}
