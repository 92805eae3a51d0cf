//! A code object out of a target's memory: its name, its file, its lines and its identity. It is read as
//! it is now; whether it is still the one that a stack was taken with, its identity says.

use super::identity::read_identity;
use super::lines::LineTable;
use super::memory::Memory;
use super::objects::TP_NAME;
use super::offsets::ObjectOffsets;
use super::strings::{MAX_FILE, MAX_NAME, ObjectError, read_bytes_object, read_string, u32_at, u64_at};
use std::sync::Arc;

/// What is kept of one code object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code {
    /// `co_qualname` where there is one (3.11 on), else `co_name`.
    pub function: Arc<str>,
    /// `co_filename`.
    pub file: Arc<str>,
    pub firstlineno: u32,
    pub identity: u32,
    pub lines: LineTable,
}

impl Code {
    /// Whether this is the interpreter's own frame below an `__init__` that it calls without going through C
    /// (`_Py_InitCleanup`, `Python/specialize.c`, 3.13 to 3.15). It has no line, and Python's tracebacks leave it out.
    #[must_use]
    pub fn is_shim(&self) -> bool {
        self.firstlineno == 0 && &*self.function == "__init__" && &*self.file == "__init__"
    }
}

/// No field that is read lies beyond this many bytes, whatever the offsets say.
const MAX_CODE: usize = 4096;

/// Reads the code object at `address`.
///
/// # Errors
/// When the memory cannot be read, or does not hold what a code object holds.
pub fn read_code(memory: &dyn Memory, offsets: &ObjectOffsets, address: u64) -> Result<Code, ObjectError> {
    let identity = read_identity(memory, offsets, address)?;
    let block = read_block(memory, offsets, address)?;
    if !is_alive(offsets, &block) || !is_code(memory, offsets, &block) {
        return Err(ObjectError::Changed { address });
    }
    let code = read_parts(memory, offsets, &block, identity)?;
    // Name, file and table were read later than their addresses: they belong to this code object only if
    // it is still there. One that has been freed since keeps its fields for a while, and they lead to memory
    // that may hold other strings by now.
    let block = read_block(memory, offsets, address)?;
    if !is_alive(offsets, &block) || read_identity(memory, offsets, address)? != identity {
        return Err(ObjectError::Changed { address });
    }
    Ok(code)
}

/// Whether what begins with these bytes can be an object that is in use. From when its last reference goes, its count
/// is 0, and then the allocator has its own words there: `obmalloc` (`Objects/obmalloc.c`, 3.8 to 3.15) the address of
/// the next free block in the first, `malloc` (glibc's `tcache_put`, 2.26 on) such an address in the first, mangled from
/// 2.32 on, and a random key in the second (2.34 on).
fn is_alive(offsets: &ObjectOffsets, block: &[u8]) -> bool {
    /// More references than this to one code object, none has; addresses begin here.
    const MOST: u64 = 1 << 24;
    /// `_PyObject_IMMORTAL_REFCNT` of 3.11's frozen code objects, which is counted up and down from.
    const FROZEN: u64 = 999_999_999;
    /// Immortal objects have more, of 32 bits (`Include/refcount.h`, 3.12 to 3.15).
    const IMMORTAL: u64 = 1 << 31;
    if offsets.free_threaded.is_some() {
        return is_counted(block);
    }
    let (Some(head), Some(kind)) = (u64_at(block, 0), u64_at(block, 8)) else { return false };
    // From 3.14 on the upper half has 16 bits of overflow, which is never more than 0, and 16 of flags.
    let (count, overflow) = (head & 0xffff_ffff, (head >> 32) & 0xffff);
    let counted = (1..MOST).contains(&count) || count >= IMMORTAL || count.abs_diff(FROZEN) < MOST;
    counted && overflow == 0 && is_type(kind)
}

/// Whether an object that begins with these bytes is a code object, by the name of its type (`PyCode_Type`,
/// `Objects/codeobject.c`, 3.8 to 3.15). A frame that is just being entered may still name what another one ran at its
/// place, and something else may lie there by now: a tuple of names makes a fine name and file.
fn is_code(memory: &dyn Memory, offsets: &ObjectOffsets, block: &[u8]) -> bool {
    let head = offsets.longer_head();
    let Some(class) = u32::try_from(head).ok().and_then(|head| u64_at(block, 8 + head)) else { return false };
    let mut name = [0; 5];
    let is_read = memory
        .read_u64(class.wrapping_add(TP_NAME).wrapping_add(head))
        .and_then(|address| memory.read(address, &mut name));
    is_read.is_ok() && &name == b"code\0"
}

fn is_type(address: u64) -> bool {
    address != 0 && address < 1 << 47 && address.is_multiple_of(8)
}

/// Without the GIL an object has two counts: its owner's, and behind two bits of state the one of all other threads, which
/// may be below zero. When the last reference goes, both are 0, and stay so in what mimalloc frees, because other threads
/// may still look (`Include/object.h`, `Objects/mimalloc`, 3.13 to 3.15).
fn is_counted(block: &[u8]) -> bool {
    const OWN: u32 = 12;
    const SHARED: u32 = 16;
    const TYPE: u32 = 24;
    let (Some(own), Some(shared), Some(kind)) =
        (u32_at(block, OWN), u64_at(block, SHARED), u64_at(block, TYPE))
    else {
        return false;
    };
    (own != 0 || shared >> 2 != 0) && is_type(kind)
}

fn read_parts(
    memory: &dyn Memory,
    offsets: &ObjectOffsets,
    block: &[u8],
    identity: u32,
) -> Result<Code, ObjectError> {
    let pointer = |offset| u64_at(block, offset).unwrap_or(0);
    let firstlineno = u32_at(block, offsets.code_firstlineno).unwrap_or(0);
    let name = pointer(offsets.code_qualname.unwrap_or(offsets.code_name));
    Ok(Code {
        function: read_string(memory, offsets, name, MAX_NAME)?.into(),
        file: read_string(memory, offsets, pointer(offsets.code_filename), MAX_FILE)?.into(),
        firstlineno,
        identity,
        lines: LineTable::new(
            offsets.line_format,
            firstlineno,
            read_bytes_object(memory, offsets, pointer(offsets.code_linetable))?.into(),
        ),
    })
}

fn read_block(memory: &dyn Memory, offsets: &ObjectOffsets, address: u64) -> Result<Vec<u8>, ObjectError> {
    let fields = [
        offsets.code_firstlineno,
        offsets.code_filename,
        offsets.code_name,
        offsets.code_linetable,
        offsets.code_qualname.unwrap_or(0),
    ];
    let end = fields.into_iter().max().unwrap_or(0) as usize + 8;
    Ok(memory.read_bytes(address, end.min(MAX_CODE))?)
}

#[cfg(test)]
mod tests {
    use super::super::memory::BufferMemory;
    use super::super::offsets::{free_threaded_table, table};
    use super::*;

    #[test]
    fn what_has_been_freed_is_not_alive() {
        let block = |head: u64, kind: u64| [head.to_le_bytes(), kind.to_le_bytes()].concat();
        let kind = 0x8f_d440;
        let is_alive = |block: &[u8]| is_alive(table(11).unwrap(), block);
        for count in [1, 7, 70_000, 999_999_998, 0xffff_ffff, 0xc000_0000, 0x0004_0000_c000_0000] {
            assert!(is_alive(&block(count, kind)), "{count:#x}");
        }
        for head in [0, 0x7f12_3456_7890, 0x0001_0234_5670, 0x2938_4750] {
            assert!(!is_alive(&block(head, kind)), "{head:#x}");
        }
        for key in [0, 0x83ab_52de_9127_8ea1, 0x8f_d441] {
            assert!(!is_alive(&block(1, key)), "{key:#x}");
        }
        assert!(!is_alive(&[1, 0, 0]));
    }

    #[test]
    fn what_has_been_freed_is_not_alive_without_the_gil_either() {
        let alive = |own: u32, shared: i64, kind: u64| {
            let head =
                [&[0; 12][..], &own.to_le_bytes(), &shared.to_le_bytes(), &kind.to_le_bytes()].concat();
            is_alive(free_threaded_table(14).unwrap(), &head)
        };
        for (own, shared) in [(1, 0), (u32::MAX, 0), (0, 1 << 2), (3, -4), (1, 3), (0, i64::MAX / 8)] {
            assert!(alive(own, shared, 0x8f_d440), "{own} {shared}");
        }
        assert!(!alive(0, 0, 0x8f_d440) && !alive(0, 3, 0x8f_d440));
        assert!(!alive(1, 0, 0) && !alive(1, 0, 0x8f_d441));
    }

    #[test]
    fn garbage_is_an_error() {
        let mut memory = BufferMemory::new();
        memory.add(0x1000, vec![0xff; 4096]);
        for minor in 8..=15 {
            let offsets = table(minor).unwrap();
            assert!(read_code(&memory, offsets, 0x1000).is_err());
            assert!(read_code(&memory, offsets, 0x10).is_err());
            assert!(read_code(&memory, offsets, u64::MAX).is_err());
        }
    }
}
