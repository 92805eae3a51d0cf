//! Local variables of a frame: names out of the code object, values out of the frame, each as a short text.
//! Only right while the frame's thread does not run.

use super::kind::Kind;
use super::layout::Objects;
use crate::python::strings::{MAX_NAME, ObjectError};

/// `PyCellObject.ob_ref`.
const CELL_VALUE: u64 = 16;
/// Variables of one frame that are looked at.
const MAX_LOCALS: usize = 256;
/// `CO_FAST_CELL` and `CO_FAST_FREE` of `co_localspluskinds` (`pycore_code.h`).
const IN_A_CELL: u8 = 0x40 | 0x80;

/// A variable that is bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    pub name: String,
    /// `None` when the value could not be read.
    pub value: Option<String>,
}

/// A variable's name, and whether its slot holds a cell with the value.
struct Slot {
    name: String,
    in_a_cell: bool,
}

impl Objects<'_> {
    /// The bound variables of the frame at this address, which runs this code object, in the order of their
    /// slots: arguments first. At most 256.
    ///
    /// # Errors
    /// When names or slots cannot be read.
    pub fn locals(&self, frame: u64, code: u64) -> Result<Vec<Local>, ObjectError> {
        let slots = self.slots(code)?;
        let start = frame.wrapping_add(u64::from(self.layout.frame_locals));
        let values = self.pointers(start, slots.len() as u64, MAX_LOCALS)?;
        let mut locals = Vec::new();
        for (slot, word) in slots.into_iter().zip(values) {
            let value = word & !u64::from(self.offsets.tag_mask);
            if value == 0 {
                continue;
            }
            match self.content(value, slot.in_a_cell) {
                Ok(0) => {}
                Ok(object) => {
                    let value = self.repr(object).ok();
                    locals.push(Local { name: slot.name, value });
                }
                Err(_) => locals.push(Local { name: slot.name, value: None }),
            }
        }
        Ok(locals)
    }

    /// The object itself, or the one in its cell; 0 for an empty cell. The slot of a variable that is going
    /// to be in a cell holds the bare argument until the function has made the cell.
    fn content(&self, object: u64, in_a_cell: bool) -> Result<u64, ObjectError> {
        if in_a_cell && self.type_of(object)?.kind() == Kind::Cell {
            return Ok(self.memory.read_u64(self.part(object, CELL_VALUE))?);
        }
        Ok(object)
    }

    /// In a frame that runs this code object: where its variable of this name lies. `None` when it has none, or keeps it in
    /// a cell.
    ///
    /// # Errors
    /// When its names cannot be read.
    pub fn variable(&self, code: u64, name: &str) -> Result<Option<u32>, ObjectError> {
        let slots = self.slots(code)?;
        let place = slots.iter().position(|slot| slot.name == name && !slot.in_a_cell);
        Ok(place
            .and_then(|place| u32::try_from(place).ok())
            .map(|place| self.layout.frame_locals + 8 * place))
    }

    fn slots(&self, code: u64) -> Result<Vec<Slot>, ObjectError> {
        let field = |offset: u32| code.wrapping_add(u64::from(offset));
        let count = self.memory.read_u32(field(self.layout.code_locals_count))?;
        let count = usize::try_from(count).unwrap_or(usize::MAX).min(MAX_LOCALS);
        let mut slots = self.names(field(self.layout.code_locals_names), false)?;
        slots.truncate(count);
        if let Some(kinds) = self.layout.code_locals_kinds {
            let kinds = self.bytes(self.memory.read_u64(field(kinds))?)?;
            for (slot, kind) in slots.iter_mut().zip(kinds) {
                slot.in_a_cell = kind & IN_A_CELL != 0;
            }
        }
        for offset in self.layout.code_cells.into_iter().flatten() {
            slots.extend(self.names(field(offset), true)?);
        }
        slots.truncate(MAX_LOCALS);
        Ok(slots)
    }

    fn names(&self, pointer: u64, in_a_cell: bool) -> Result<Vec<Slot>, ObjectError> {
        let tuple = self.memory.read_u64(pointer)?;
        let names = self.tuple_items(tuple, 1 << 16)?;
        names
            .into_iter()
            .take(MAX_LOCALS)
            .map(|name| Ok(Slot { name: self.string(name, MAX_NAME)?, in_a_cell }))
            .collect()
    }
}
