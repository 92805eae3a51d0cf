//! A code object's line table, whichever encoding it has.

use super::{linetable, lnotab, locations};
use crate::python::offsets::LineFormat;
use std::sync::Arc;

/// Line numbers of one code object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineTable {
    format: LineFormat,
    firstlineno: u32,
    bytes: Arc<[u8]>,
}

impl LineTable {
    #[must_use]
    pub fn new(format: LineFormat, firstlineno: u32, bytes: Arc<[u8]>) -> Self {
        Self { format, firstlineno, bytes }
    }

    /// The encoded table.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The line of the instruction at this byte offset in the bytecode, as CPython's `PyCode_Addr2Line`
    /// has it: the first line for an offset before the first instruction, `None` where the compiler gave
    /// the instruction no line or the table does not reach it.
    #[must_use]
    pub fn line(&self, instruction_byte_offset: i32) -> Option<u32> {
        let Ok(offset) = u32::try_from(instruction_byte_offset) else { return Some(self.firstlineno) };
        let first = i64::from(self.firstlineno);
        let line = match self.format {
            LineFormat::Lnotab => Some(lnotab::line(&self.bytes, first, offset)),
            LineFormat::Ranges => linetable::line(&self.bytes, first, offset),
            LineFormat::Locations => locations::line(&self.bytes, first, offset),
        };
        // A table that counts below zero or beyond an int is not one that CPython wrote.
        u32::try_from(line?).ok().filter(|line| i32::try_from(*line).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every table of up to three bytes, and long runs of each byte: no panic, no endless loop.
    #[test]
    fn any_bytes_are_harmless() {
        for format in [LineFormat::Lnotab, LineFormat::Ranges, LineFormat::Locations] {
            let mut tables: Vec<Vec<u8>> = vec![Vec::new()];
            for a in (0..=255).step_by(5) {
                for b in (0..=255).step_by(3) {
                    tables.push(vec![a, b]);
                    tables.push(vec![a, b, 0x7f]);
                    tables.push(vec![a, b, 0xff]);
                }
                tables.push(vec![a; 4096]);
            }
            for bytes in tables {
                let table = LineTable::new(format, u32::MAX, bytes.into());
                for offset in [i32::MIN, -1, 0, 1, 2, 100, 65_536, i32::MAX] {
                    let _ = table.line(offset);
                }
            }
        }
    }

    #[test]
    fn before_the_first_instruction() {
        for format in [LineFormat::Lnotab, LineFormat::Ranges, LineFormat::Locations] {
            assert_eq!(LineTable::new(format, 12, Arc::from([])).line(-2), Some(12));
        }
    }
}
