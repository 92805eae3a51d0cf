//! Identity of a code object: what tells it from another that takes its address. The kernel half computes the
//! same of the same words (`identity` in `ebpf/src/stack.rs`); the two must never differ.

use super::memory::{Memory, MemoryError};
use super::offsets::ObjectOffsets;
use pyapm_wire::python::{CODE_BYTES, CONTENTS_HASH, IDENTITY_BYTES, IDENTITY_WORDS};

type Words = [u64; IDENTITY_WORDS];

/// Where in a code object the words lie; see `pyapm_wire::python::Layout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdentityPlaces {
    /// Of the first words. `co_version` is the upper half of the last, if there is one.
    pub head: u32,
    /// Of the words that tell code objects apart without it.
    pub tail: u32,
    /// Among those, in bytes: the address of the name.
    pub tail_name: u32,
    pub has_version: bool,
}

impl IdentityPlaces {
    /// `PyCodeObject` keeps `co_filename`, `co_name`, `co_qualname` (3.11 on) and the line table together, and
    /// `co_firstlineno` before them (`Include/cpython/code.h`, 3.8 to 3.15); from 3.12 on `co_version` follows that
    /// within the words that are read.
    #[must_use]
    pub fn new(offsets: &ObjectOffsets) -> Self {
        let tail = (offsets.code_linetable + 8).saturating_sub(IDENTITY_BYTES);
        let (head, has_version) = match offsets.code_version {
            Some(version) => ((version + 4).saturating_sub(IDENTITY_BYTES), true),
            None => (offsets.code_firstlineno & !7, false),
        };
        Self { head, tail, tail_name: offsets.code_name.saturating_sub(tail), has_version }
    }

    /// Bytes that are read at once, from the head on.
    #[must_use]
    pub fn bytes(&self) -> u32 {
        if self.has_version { IDENTITY_BYTES } else { (self.tail + IDENTITY_BYTES).saturating_sub(self.head) }
    }

    /// Whether the kernel half can read them so, with all that they are for inside.
    #[must_use]
    pub fn is_sound(&self, offsets: &ObjectOffsets) -> bool {
        let first = offsets.code_firstlineno;
        (self.head..self.head + IDENTITY_BYTES).contains(&first)
            && (IDENTITY_BYTES..CODE_BYTES as u32).contains(&self.bytes())
            && (self.tail..self.tail + IDENTITY_BYTES).contains(&offsets.code_filename)
            && self.tail_name < IDENTITY_BYTES
            && self.tail_name.is_multiple_of(8)
    }
}

/// The identity of the code object at `address`.
///
/// # Errors
/// When the memory cannot be read.
pub fn read_identity(memory: &dyn Memory, offsets: &ObjectOffsets, address: u64) -> Result<u32, MemoryError> {
    let places = IdentityPlaces::new(offsets);
    let words = |offset: u32| -> Result<Words, MemoryError> {
        let mut bytes = [0; IDENTITY_BYTES as usize];
        memory.read(address.wrapping_add(u64::from(offset)), &mut bytes)?;
        Ok(bytemuck::cast(bytes))
    };
    let head = words(places.head)?;
    if places.has_version && head[IDENTITY_WORDS - 1] >> 32 != 0 {
        return Ok(identity(head, None));
    }
    let tail = words(places.tail)?;
    let name = tail.get(places.tail_name as usize / 8).copied().unwrap_or(0);
    let contents = memory.read_u64(name.wrapping_add(CONTENTS_HASH)).unwrap_or(0);
    Ok(identity(head, Some((tail, contents))))
}

/// Of the head, and where that is not enough of the tail and the hash of the name's contents.
fn identity(head: Words, tail: Option<(Words, u64)>) -> u32 {
    let mut hash = mix(head, START);
    if let Some((tail, name)) = tail {
        hash = mix(tail, mix([name, 0, 0, 0], hash));
    }
    let folded = (hash ^ (hash >> 32)) & 0xffff_ffff;
    u32::try_from(folded).unwrap_or(u32::MAX)
}

/// Start value: the offset basis of 64-bit FNV-1a.
const START: u64 = 0xcbf2_9ce4_8422_2325;

/// Odd numbers without a pattern, one for each word; the last step spreads the sum over all bits.
fn mix(words: Words, start: u64) -> u64 {
    const FACTORS: Words =
        [0x9E37_79B9_7F4A_7C15, 0xC2B2_AE3D_27D4_EB4F, 0x1656_67B1_9E37_79F9, 0xD6E8_FEB8_6659_FD93];
    let sum = words
        .iter()
        .zip(FACTORS)
        .fold(start, |sum, (word, factor)| sum.wrapping_add(word.wrapping_mul(factor)));
    (sum ^ (sum >> 29)).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

#[cfg(test)]
mod tests {
    use super::super::memory::BufferMemory;
    use super::super::offsets::{SUPPORTED_MINORS, table};
    use super::*;

    const CODE: u64 = 0x1_0000;
    const NAME: u64 = 0x2_0000;
    const LINES: u64 = 0x3_0000;

    /// A code object of zeroes but for the addresses of its name, whose hash is this, and of its line table.
    fn memory(offsets: &ObjectOffsets, change: Option<u32>, hash: u64) -> BufferMemory {
        let mut code = vec![0; 256];
        let mut put = |at: u32, value: u64| {
            code[at as usize..at as usize + 8].copy_from_slice(&value.to_le_bytes());
        };
        put(offsets.code_name, NAME);
        put(offsets.code_linetable, LINES);
        if let Some(at) = change {
            code[at as usize] ^= 0x10;
        }
        let mut memory = BufferMemory::new();
        memory.add(CODE, code);
        // Wherever the name's address has been changed to.
        memory.add(NAME, [[0; 24].as_slice(), &hash.to_le_bytes(), &[0; 32]].concat());
        memory
    }

    #[test]
    fn what_is_read_holds_what_it_is_for() {
        for minor in SUPPORTED_MINORS {
            let offsets = table(minor).unwrap();
            let places = IdentityPlaces::new(offsets);
            assert!(places.is_sound(offsets), "3.{minor}: {places:?}");
            assert_eq!(places.has_version, minor >= 12);
            if let Some(version) = offsets.code_version {
                assert_eq!(version, places.head + 28, "3.{minor}");
            }
        }
    }

    #[test]
    fn everything_counts() {
        for minor in SUPPORTED_MINORS {
            let offsets = table(minor).unwrap();
            let of = |change, hash| read_identity(&memory(offsets, change, hash), offsets, CODE).unwrap();
            let base = of(None, 1);
            assert_eq!(base, of(None, 1));
            for place in [
                Some(offsets.code_firstlineno),
                Some(offsets.code_filename),
                Some(offsets.code_name),
                Some(offsets.code_linetable),
                offsets.code_version,
            ]
            .into_iter()
            .flatten()
            {
                assert_ne!(base, of(Some(place), 1), "3.{minor}: {place}");
            }
            assert_ne!(base, of(None, 3), "3.{minor}");
        }
    }

    /// A version that is not 0 is the code object's own: nothing else is read.
    #[test]
    fn a_version_is_enough() {
        let offsets = table(14).unwrap();
        let of = |hash| read_identity(&memory(offsets, offsets.code_version, hash), offsets, CODE).unwrap();
        assert_eq!(of(1), of(3));
    }

    /// Pins the hash: the kernel half has its own copy of it.
    #[test]
    fn known_values() {
        assert_eq!(identity([0; 4], None), KNOWN_ZERO);
        assert_eq!(identity([1, 2, 3, 4], Some(([5, 6, 7, 8], 9))), KNOWN_SMALL);
    }

    const KNOWN_ZERO: u32 = 3009387719;
    const KNOWN_SMALL: u32 = 2401083696;
}
