//! Objects that no name leads to, by the lists of the garbage collector: an application that only its server holds.
//!
//! The lists are read while the program runs and changes them. Whoever walks on an object that goes just then ends up
//! anywhere: every step is bounded, and what is found is asked again before it is believed.

use super::layout::Objects;
use crate::python::strings::ObjectError;

/// In `PyInterpreterState`: `gc.generations`, `offsetof` on the headers of CPython 3.9.18, 3.10.13, 3.11.7, 3.12.1 and
/// 3.13.0. From 3.14 on they are kept in another order.
fn lists_at(minor: u8) -> Option<u64> {
    match minor {
        9 | 10 => Some(640),
        11 => Some(672),
        12 => Some(136),
        13 => Some(7424),
        _ => None,
    }
}

/// Generations, and what `gc.freeze` has taken out of them.
const LISTS: u64 = 3;
/// `struct gc_generation`: a head and two numbers.
const LIST_SIZE: u64 = 24;
/// `PyGC_Head`, before every object that is in a list.
const HEAD_SIZE: u64 = 16;
/// Bits of the pointer to the next one that mean something else.
const POINTER: u64 = !3;
/// Objects that are looked at.
const MAX_OBJECTS: u32 = 300_000;

impl Objects<'_> {
    /// The objects in the lists of the collector whose class is accepted, at most `most`; none where the lists are not
    /// where they should be.
    ///
    /// # Errors
    /// When what is linked cannot be read: the program has changed a list just then.
    pub fn tracked(
        &self,
        interpreter: u64,
        most: usize,
        mut is_wanted: impl FnMut(u64) -> bool,
    ) -> Result<Vec<u64>, ObjectError> {
        let mut found = Vec::new();
        let Some(lists) = lists_at(self.minor) else { return Ok(found) };
        let mut looked_at = 0;
        for list in 0..LISTS {
            let head = interpreter.wrapping_add(lists + list * LIST_SIZE);
            let [mut at, last] = self.words(head)?;
            // A list leads back to its head; anything else is none.
            if self.words::<1>(last & POINTER)?[0] & POINTER != head {
                return Ok(found);
            }
            while at & POINTER != head && looked_at < MAX_OBJECTS && found.len() < most {
                looked_at += 1;
                let [next, _previous, _references, class] = self.words(at & POINTER)?;
                if is_wanted(class) {
                    found.push((at & POINTER).wrapping_add(HEAD_SIZE));
                }
                at = next;
            }
        }
        Ok(found)
    }

    fn words<const COUNT: usize>(&self, address: u64) -> Result<[u64; COUNT], ObjectError> {
        let mut words = [0_u64; COUNT];
        self.memory.read(address, bytemuck::cast_slice_mut(&mut words))?;
        Ok(words.map(u64::from_le))
    }
}
