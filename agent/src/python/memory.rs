//! Reading another process's memory: the one door through which everything about an interpreter comes.
//! It never writes, never stops the process, and never returns a part of what was asked.

use nix::errno::Errno;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;
use std::cell::Cell;
use std::io::IoSliceMut;

/// Most bytes that one read may ask for. Sizes come from the target, so they are not trusted.
pub const MAX_READ: usize = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemoryError {
    /// Some of the range is not mapped, or not present in a core or buffer.
    #[error("{length} bytes at {address:#x} cannot be read")]
    Unreadable { address: u64, length: usize },
    #[error("a read of {length} bytes is more than the maximum of {MAX_READ}")]
    TooLong { length: usize },
    #[error("the process has ended")]
    Gone,
    #[error("no permission to read the memory of the process (run as root or with CAP_SYS_PTRACE)")]
    Permission,
}

/// Memory of a target, live or recorded. A read gives all the bytes that were asked for, or none.
pub trait Memory {
    /// Fills `buffer` from `address`.
    ///
    /// # Errors
    /// When any byte of the range cannot be read, or the buffer is longer than [`MAX_READ`].
    fn read(&self, address: u64, buffer: &mut [u8]) -> Result<(), MemoryError>;

    /// # Errors
    /// As [`Memory::read`].
    fn read_bytes(&self, address: u64, length: usize) -> Result<Vec<u8>, MemoryError> {
        if length > MAX_READ {
            return Err(MemoryError::TooLong { length });
        }
        let mut buffer = vec![0; length];
        self.read(address, &mut buffer)?;
        Ok(buffer)
    }

    /// # Errors
    /// As [`Memory::read`].
    fn read_u8(&self, address: u64) -> Result<u8, MemoryError> {
        let mut buffer = [0; 1];
        self.read(address, &mut buffer)?;
        Ok(u8::from_le_bytes(buffer))
    }

    /// # Errors
    /// As [`Memory::read`].
    fn read_u32(&self, address: u64) -> Result<u32, MemoryError> {
        let mut buffer = [0; 4];
        self.read(address, &mut buffer)?;
        Ok(u32::from_le_bytes(buffer))
    }

    /// # Errors
    /// As [`Memory::read`].
    fn read_i32(&self, address: u64) -> Result<i32, MemoryError> {
        let mut buffer = [0; 4];
        self.read(address, &mut buffer)?;
        Ok(i32::from_le_bytes(buffer))
    }

    /// # Errors
    /// As [`Memory::read`].
    fn read_u64(&self, address: u64) -> Result<u64, MemoryError> {
        let mut buffer = [0; 8];
        self.read(address, &mut buffer)?;
        Ok(u64::from_le_bytes(buffer))
    }
}

/// A live process, read by `process_vm_readv(2)`.
#[derive(Clone, Copy, Debug)]
pub struct ProcessMemory {
    pid: Pid,
}

impl ProcessMemory {
    #[must_use]
    pub fn new(pid: u32) -> Self {
        // Pids fit in 22 bits (PID_MAX_LIMIT); one that does not is nobody's.
        Self { pid: Pid::from_raw(i32::try_from(pid).unwrap_or(i32::MAX)) }
    }
}

impl Memory for ProcessMemory {
    fn read(&self, address: u64, buffer: &mut [u8]) -> Result<(), MemoryError> {
        let length = buffer.len();
        if length > MAX_READ {
            return Err(MemoryError::TooLong { length });
        }
        if length == 0 {
            return Ok(());
        }
        let unreadable = MemoryError::Unreadable { address, length };
        let base = usize::try_from(address).map_err(|_| unreadable)?;
        let remote = RemoteIoVec { base, len: length };
        match process_vm_readv(self.pid, &mut [IoSliceMut::new(buffer)], &[remote]) {
            Ok(read) if read == length => Ok(()),
            Err(Errno::ESRCH) => Err(MemoryError::Gone),
            Err(Errno::EPERM) => Err(MemoryError::Permission),
            Ok(_) | Err(_) => Err(unreadable),
        }
    }
}

/// Recorded ranges of memory, for replays and tests.
#[derive(Clone, Debug, Default)]
pub struct BufferMemory {
    ranges: Vec<(u64, Vec<u8>)>,
}

impl BufferMemory {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a range; where ranges overlap the one added first is read.
    pub fn add(&mut self, address: u64, bytes: Vec<u8>) {
        self.ranges.push((address, bytes));
    }
}

impl Memory for BufferMemory {
    fn read(&self, address: u64, buffer: &mut [u8]) -> Result<(), MemoryError> {
        let length = buffer.len();
        if length > MAX_READ {
            return Err(MemoryError::TooLong { length });
        }
        let found = self.ranges.iter().find_map(|(start, bytes)| {
            let from = usize::try_from(address.checked_sub(*start)?).ok()?;
            bytes.get(from..from.checked_add(length)?)
        });
        let bytes = found.ok_or(MemoryError::Unreadable { address, length })?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }
}

/// Memory that answers so many reads and no more: what a target says of its own objects decides how many
/// reads it takes to follow them.
pub struct BoundedMemory<'a> {
    memory: &'a dyn Memory,
    left: Cell<u64>,
}

impl<'a> BoundedMemory<'a> {
    #[must_use]
    pub fn new(memory: &'a dyn Memory, reads: u64) -> Self {
        Self { memory, left: Cell::new(reads) }
    }
}

impl Memory for BoundedMemory<'_> {
    fn read(&self, address: u64, buffer: &mut [u8]) -> Result<(), MemoryError> {
        match self.left.get().checked_sub(1) {
            Some(left) => {
                self.left.set(left);
                self.memory.read(address, buffer)
            }
            None => Err(MemoryError::Unreadable { address, length: buffer.len() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_memory() {
        let value = 0x1122_3344_5566_7788_u64;
        let memory = ProcessMemory::new(std::process::id());
        let address = &raw const value as u64;
        assert_eq!(memory.read_u64(address), Ok(value));
        assert_eq!(memory.read_u32(address), Ok(0x5566_7788));
        assert_eq!(memory.read_u8(address + 7), Ok(0x11));
        assert_eq!(memory.read_i32(address + 4), Ok(0x1122_3344));
        assert!(matches!(memory.read_u64(8), Err(MemoryError::Unreadable { address: 8, length: 8 })));
        assert!(matches!(memory.read_bytes(address, MAX_READ + 1), Err(MemoryError::TooLong { .. })));
        assert_eq!(memory.read_bytes(8, 0), Ok(Vec::new()));
    }

    #[test]
    fn nobodys_memory() {
        assert_eq!(ProcessMemory::new(u32::MAX).read_u8(8), Err(MemoryError::Gone));
    }

    #[test]
    fn so_many_reads_and_no_more() {
        let mut memory = BufferMemory::new();
        memory.add(100, vec![1, 2]);
        let bounded = BoundedMemory::new(&memory, 2);
        assert_eq!((bounded.read_u8(100), bounded.read_u8(101)), (Ok(1), Ok(2)));
        assert!(bounded.read_u8(100).is_err());
    }

    #[test]
    fn all_or_nothing() {
        let mut memory = BufferMemory::new();
        memory.add(100, vec![1, 2, 3, 4]);
        assert_eq!(memory.read_u32(100), Ok(0x0403_0201));
        assert!(memory.read_u32(101).is_err());
        assert!(memory.read_u32(99).is_err());
        assert!(memory.read_u64(u64::MAX).is_err());
    }
}
