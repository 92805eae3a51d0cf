//! The frame chain of one thread state, walked from userspace with the same layout, and to the same
//! result, as the kernel half walks it. It is only right while that thread does not run.

use super::identity::read_identity;
use super::memory::{Memory, MemoryError};
use super::offsets::ObjectOffsets;
use super::strings::{u32_at, u64_at};
use pyapm_wire::python::{Frame, MAX_FRAMES};
use std::collections::VecDeque;

/// Frames whose owner is this or more belong to the interpreter itself (`FRAME_OWNED_BY_CSTACK` of 3.12 and
/// 3.13, `FRAME_OWNED_BY_INTERPRETER` from 3.14 on).
const OWNER_INTERPRETER: u8 = 3;
/// Links that are followed: each Python frame may have an interpreter's frame beside it.
const MAX_LINKS: usize = MAX_FRAMES * 2;

/// A frame and where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameAt {
    pub address: u64,
    pub frame: Frame,
}

/// A whole stack, or its two ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// Innermost first.
    pub frames: Vec<FrameAt>,
    /// Frames that are missing in `frames` behind the first [`Chain::MAX_INNER`]; 0 when it is whole.
    pub left_out: usize,
}

impl Chain {
    /// Innermost frames that are kept of any stack.
    pub const MAX_INNER: usize = 8192;
    /// Outermost frames that are kept beside those.
    pub const MAX_OUTER: usize = 1024;
    /// A stack of up to so many frames is whole.
    pub const MAX_KEPT: usize = Self::MAX_INNER + Self::MAX_OUTER;
    /// A chain of more links is taken for a circle.
    const MAX_LINKS: usize = 1 << 18;
}

/// The stack of the thread whose state lies at `tstate`, however deep.
///
/// # Errors
/// When any part of the chain cannot be read, or it does not end.
pub fn read_chain(memory: &dyn Memory, offsets: &ObjectOffsets, tstate: u64) -> Result<Chain, MemoryError> {
    let mut inner: Vec<FrameAt> = Vec::new();
    let mut outer: VecDeque<FrameAt> = VecDeque::new();
    let mut left_out = 0;
    let mut address = first_frame(memory, offsets, tstate)?;
    let mut links = 0;
    while address != 0 {
        links += 1;
        if links > Chain::MAX_LINKS {
            return Err(MemoryError::Unreadable { address: tstate, length: 0 });
        }
        let link = Link::read(memory, offsets, address)?;
        if let Some((code, instruction)) = link.python {
            let found = FrameAt { address, frame: Frame { code, instruction, identity: 0 } };
            if inner.len() < Chain::MAX_INNER {
                inner.push(found);
            } else {
                outer.push_back(found);
                if outer.len() > Chain::MAX_OUTER {
                    outer.pop_front();
                    left_out += 1;
                }
            }
        }
        address = link.previous;
    }
    inner.extend(outer);
    for found in &mut inner {
        found.frame.identity = read_identity(memory, offsets, found.frame.code)?;
    }
    Ok(Chain { frames: inner, left_out })
}

/// The frames of the thread whose state lies at `tstate`, innermost first, at most [`MAX_FRAMES`].
///
/// # Errors
/// When any part of the chain cannot be read.
pub fn read_stack(
    memory: &dyn Memory,
    offsets: &ObjectOffsets,
    tstate: u64,
) -> Result<Vec<Frame>, MemoryError> {
    let mut address = first_frame(memory, offsets, tstate)?;
    let mut frames = Vec::new();
    for _ in 0..MAX_LINKS {
        if address == 0 || frames.len() == MAX_FRAMES {
            break;
        }
        let link = Link::read(memory, offsets, address)?;
        if let Some((code, instruction)) = link.python {
            let identity = read_identity(memory, offsets, code)?;
            frames.push(Frame { code, instruction, identity });
        }
        address = link.previous;
    }
    Ok(frames)
}

fn at(base: u64, offset: u32) -> u64 {
    base.wrapping_add(u64::from(offset))
}

/// The innermost frame of a thread state; 0 when it has none.
fn first_frame(memory: &dyn Memory, offsets: &ObjectOffsets, tstate: u64) -> Result<u64, MemoryError> {
    let address = memory.read_u64(at(tstate, offsets.tstate_frame))?;
    match offsets.cframe_current {
        Some(current) if address != 0 => memory.read_u64(at(address, current)),
        _ => Ok(address),
    }
}

/// Code object and instruction of the frame at this address; `None` for one of the interpreter's own.
pub(super) fn read_link(
    memory: &dyn Memory,
    offsets: &ObjectOffsets,
    address: u64,
) -> Result<Option<(u64, i32)>, MemoryError> {
    Link::read(memory, offsets, address).map(|link| link.python)
}

/// One link of the chain.
struct Link {
    /// Code object and instruction; `None` for a frame of the interpreter's own.
    python: Option<(u64, i32)>,
    previous: u64,
}

impl Link {
    fn read(memory: &dyn Memory, offsets: &ObjectOffsets, address: u64) -> Result<Self, MemoryError> {
        let end = [offsets.frame_code, offsets.frame_previous, offsets.frame_instruction]
            .into_iter()
            .chain(offsets.frame_owner)
            .max()
            .unwrap_or(0)
            .saturating_add(8);
        let block = memory.read_bytes(address, end as usize)?;
        let owner = offsets.frame_owner.and_then(|offset| block.get(offset as usize)).copied().unwrap_or(0);
        let code = u64_at(&block, offsets.frame_code).unwrap_or(0) & !u64::from(offsets.tag_mask);
        let python = owner < OWNER_INTERPRETER && code != 0;
        Ok(Self {
            python: if python { Some((code, instruction(memory, offsets, &block, code)?)) } else { None },
            previous: u64_at(&block, offsets.frame_previous).unwrap_or(0),
        })
    }
}

/// The byte offset of the frame's instruction in the bytecode; negative before the first.
fn instruction(
    memory: &dyn Memory,
    offsets: &ObjectOffsets,
    block: &[u8],
    code: u64,
) -> Result<i32, MemoryError> {
    Ok(match offsets.code_bytecode {
        Some(bytecode) => {
            let pointer = u64_at(block, offsets.frame_instruction).unwrap_or(0);
            let start = match local_bytecode(memory, offsets, block, code)? {
                Some(start) => start,
                None => code.wrapping_add(u64::from(bytecode)),
            };
            i32::try_from(pointer.wrapping_sub(start).cast_signed()).unwrap_or(-1)
        }
        None => {
            let lasti = u32_at(block, offsets.frame_instruction).unwrap_or(0).cast_signed();
            lasti.saturating_mul(offsets.instruction_scale.cast_signed())
        }
    })
}

/// Where the thread's own copy of the bytecode begins; `None` where it runs the one in the code object.
fn local_bytecode(
    memory: &dyn Memory,
    offsets: &ObjectOffsets,
    block: &[u8],
    code: u64,
) -> Result<Option<u64>, MemoryError> {
    let Some(local) = offsets.free_threaded.and_then(|build| build.local_bytecode) else { return Ok(None) };
    let index = u64::from(u32_at(block, local.frame_index).unwrap_or(0));
    if index == 0 {
        return Ok(None);
    }
    let copies = memory.read_u64(at(code, local.code_copies))?;
    // A count, and behind it the pointers.
    if copies == 0 || index >= memory.read_u64(copies)? {
        return Ok(None);
    }
    let start = memory.read_u64(copies.wrapping_add(8 + 8 * index))?;
    Ok((start != 0).then_some(start))
}

#[cfg(test)]
mod tests {
    use super::super::memory::BufferMemory;
    use super::super::offsets::{free_threaded_table, table};
    use super::*;

    /// A frame in each of three copies of the bytecode, one of which is not there, and one of a number too high.
    #[test]
    fn each_thread_has_its_own_bytecode() {
        const CODE: u64 = 0x8000;
        for minor in [14, 15] {
            let offsets = free_threaded_table(minor).unwrap();
            let local = offsets.free_threaded.unwrap().local_bytecode.unwrap();
            for (index, start, expected) in [
                (0, CODE + u64::from(offsets.code_bytecode.unwrap()), 24),
                (1, 0xa000, 24),
                (2, CODE + u64::from(offsets.code_bytecode.unwrap()), 24),
                (3, CODE + u64::from(offsets.code_bytecode.unwrap()), 24),
            ] {
                let mut frame = vec![0; 96];
                let mut put = |at: u32, bytes: &[u8]| {
                    frame[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
                };
                put(offsets.frame_code, &(CODE | 1).to_le_bytes());
                put(offsets.frame_instruction, &(start + 24).to_le_bytes());
                put(local.frame_index, &u32::to_le_bytes(index));
                let mut code = vec![0; 512];
                let at = local.code_copies as usize;
                code[at..at + 8].copy_from_slice(&0x9000_u64.to_le_bytes());
                let copies = [3, CODE + u64::from(offsets.code_bytecode.unwrap()), 0xa000, 0, 0xdead];
                let mut memory = BufferMemory::new();
                memory.add(0x1000, frame);
                memory.add(CODE, code);
                memory.add(0x9000, copies.iter().flat_map(|word: &u64| word.to_le_bytes()).collect());
                let found = read_link(&memory, offsets, 0x1000).unwrap();
                assert_eq!(found, Some((CODE, expected)), "3.{minor} {index}");
            }
        }
    }

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
            assert!(read_chain(&memory, offsets, 0x1000).is_err(), "3.{minor}");
        }
    }
}
