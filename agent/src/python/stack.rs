//! The frame chain of one thread state, walked from userspace with the same layout, and to the same
//! result, as the kernel half walks it. It is only right while that thread does not run.

use super::code::read_identity;
use super::memory::{Memory, MemoryError};
use super::offsets::ObjectOffsets;
use super::strings::{ObjectError, u32_at, u64_at};
use pyapm_wire::python::{Frame, MAX_FRAMES};

/// Frames whose owner is this or more belong to the interpreter itself (`FRAME_OWNED_BY_CSTACK` of 3.12 and
/// 3.13, `FRAME_OWNED_BY_INTERPRETER` from 3.14 on).
const OWNER_INTERPRETER: u8 = 3;
/// Links that are followed: each Python frame may have an interpreter's frame beside it.
const MAX_LINKS: usize = MAX_FRAMES * 2;

/// The frames of the thread whose state lies at `tstate`, innermost first, at most [`MAX_FRAMES`].
///
/// # Errors
/// When any part of the chain cannot be read.
pub fn read_stack(
    memory: &dyn Memory,
    offsets: &ObjectOffsets,
    tstate: u64,
) -> Result<Vec<Frame>, MemoryError> {
    let at = |base: u64, offset: u32| base.wrapping_add(u64::from(offset));
    let untag = |pointer: u64| pointer & !u64::from(offsets.tag_mask);
    let mut address = memory.read_u64(at(tstate, offsets.tstate_frame))?;
    if let (Some(current), true) = (offsets.cframe_current, address != 0) {
        address = memory.read_u64(at(address, current))?;
    }
    let end = [offsets.frame_code, offsets.frame_previous, offsets.frame_instruction]
        .into_iter()
        .chain(offsets.frame_owner)
        .max()
        .unwrap_or(0)
        .saturating_add(8);
    let mut frames = Vec::new();
    for _ in 0..MAX_LINKS {
        if address == 0 || frames.len() == MAX_FRAMES {
            break;
        }
        let block = memory.read_bytes(address, end as usize)?;
        let owner = offsets.frame_owner.and_then(|offset| block.get(offset as usize)).copied().unwrap_or(0);
        let code = untag(u64_at(&block, offsets.frame_code).unwrap_or(0));
        if owner < OWNER_INTERPRETER && code != 0 {
            frames.push(Frame {
                code,
                instruction: instruction(offsets, &block, code),
                identity: read_identity(memory, offsets, code).map_err(memory_error)?,
            });
        }
        address = u64_at(&block, offsets.frame_previous).unwrap_or(0);
    }
    Ok(frames)
}

/// The byte offset of the frame's instruction in the bytecode; negative before the first.
fn instruction(offsets: &ObjectOffsets, block: &[u8], code: u64) -> i32 {
    match offsets.code_bytecode {
        Some(bytecode) => {
            let pointer = u64_at(block, offsets.frame_instruction).unwrap_or(0);
            let start = code.wrapping_add(u64::from(bytecode));
            i32::try_from(pointer.wrapping_sub(start).cast_signed()).unwrap_or(-1)
        }
        None => {
            let lasti = u32_at(block, offsets.frame_instruction).unwrap_or(0).cast_signed();
            lasti.saturating_mul(offsets.instruction_scale.cast_signed())
        }
    }
}

fn memory_error(error: ObjectError) -> MemoryError {
    match error {
        ObjectError::Memory(error) => error,
        ObjectError::NotAString { address, .. }
        | ObjectError::TooLarge { address, .. }
        | ObjectError::Changed { address } => MemoryError::Unreadable { address, length: 0 },
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::BufferMemory;
    use super::super::offsets::table;
    use super::*;

    /// A chain that ends in itself gives as many frames as one stack holds, no more.
    #[test]
    fn circles_end() {
        for minor in 8..=15 {
            let offsets = table(minor).unwrap();
            let mut memory = BufferMemory::new();
            let block = |pointer: u64| {
                let mut block: Vec<u8> = (0..64).flat_map(|_| pointer.to_le_bytes()).collect();
                if let Some(owner) = offsets.frame_owner {
                    block[owner as usize] = 0;
                }
                block
            };
            memory.add(0x1000, block(0x2000));
            memory.add(0x2000, block(0x2000));
            let frames = read_stack(&memory, offsets, 0x1000).unwrap();
            assert_eq!(frames.len(), MAX_FRAMES, "3.{minor}");
            assert_eq!(frames[0].code, 0x2000);
        }
    }
}
