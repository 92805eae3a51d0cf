//! Ints and floats.

use super::kind::Kind;
use super::layout::Objects;
use crate::python::strings::ObjectError;

/// `PyLongObject`: `ob_size` or `lv_tag`, then the digits.
const SIZE: u64 = 16;
const DIGITS: u64 = 24;
/// `PyLong_SHIFT` of 64-bit builds.
const DIGIT_BITS: u64 = 30;
/// `PyFloatObject.ob_fval`.
const FLOAT: u64 = 16;

/// An int.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Int {
    Small(i128),
    /// Too large to be given: the number of bits that its digits have room for.
    Large {
        bits: u64,
    },
}

impl Objects<'_> {
    /// An int's value, or a bool's.
    ///
    /// # Errors
    /// When it cannot be read or is no int.
    pub fn int(&self, address: u64) -> Result<Int, ObjectError> {
        let wrong = ObjectError::Unexpected { address, expected: "an int" };
        if !matches!(self.type_of(address)?.kind(), Kind::Int | Kind::Bool) {
            return Err(wrong);
        }
        let word = self.memory.read_u64(self.part(address, SIZE))?;
        let (digits, negative) = if self.layout.int_tag {
            // Two bits of sign (0 positive, 1 zero, 2 negative), one reserved, then the number of digits.
            match word & 3 {
                0 => (word >> 3, false),
                1 => return Ok(Int::Small(0)),
                2 => (word >> 3, true),
                _ => return Err(wrong),
            }
        } else {
            (word.cast_signed().unsigned_abs(), word.cast_signed() < 0)
        };
        if digits > 4 {
            return match digits.checked_mul(DIGIT_BITS) {
                Some(bits) if bits < 1 << 47 => Ok(Int::Large { bits }),
                _ => Err(wrong),
            };
        }
        let mut value = 0_i128;
        for index in (0..digits).rev() {
            let digit = self.memory.read_u32(self.part(address, DIGITS + 4 * index))?;
            if digit >> DIGIT_BITS != 0 {
                return Err(wrong);
            }
            value = (value << DIGIT_BITS) | i128::from(digit);
        }
        Ok(Int::Small(if negative { -value } else { value }))
    }

    /// A float's value.
    ///
    /// # Errors
    /// When it cannot be read or is no float.
    pub fn float(&self, address: u64) -> Result<f64, ObjectError> {
        self.expect(address, Kind::Float, "a float")?;
        Ok(f64::from_bits(self.memory.read_u64(self.part(address, FLOAT))?))
    }
}
