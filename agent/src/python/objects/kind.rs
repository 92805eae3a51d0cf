//! What an object is: its type's name and the flags by which CPython itself tells the built-in types.

use super::layout::Objects;
use crate::python::strings::ObjectError;

/// `PyObject.ob_type`.
const OB_TYPE: u64 = 8;
/// `PyTypeObject.tp_name`: a C string.
pub(in crate::python) const TP_NAME: u64 = 24;
/// `PyTypeObject.tp_flags`.
const TP_FLAGS: u64 = 168;
/// Most bytes of a type's name.
const MAX_TYPE_NAME: usize = 128;

/// Bits 24 to 31 of `tp_flags`, `Py_TPFLAGS_*_SUBCLASS` (`Include/object.h`, the same in 3.8 to 3.15).
const LONG: u64 = 1 << 24;
const LIST: u64 = 1 << 25;
const TUPLE: u64 = 1 << 26;
const BYTES: u64 = 1 << 27;
const UNICODE: u64 = 1 << 28;
const DICT: u64 = 1 << 29;
const TYPE: u64 = 1 << 31;
/// `Py_TPFLAGS_READY`: set on every type that objects can have.
const READY: u64 = 1 << 12;

/// The type of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Type {
    pub address: u64,
    pub flags: u64,
    /// `tp_name`, without the module.
    pub name: String,
}

/// What can be read of an object; subclasses count as what they derive from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    None,
    Bool,
    Int,
    Float,
    Str,
    Bytes,
    List,
    Tuple,
    Dict,
    Set,
    Type,
    Cell,
    Other,
}

impl Type {
    #[must_use]
    pub fn kind(&self) -> Kind {
        let has = |flag| self.flags & flag != 0;
        match self.name.as_str() {
            "bool" if has(LONG) => Kind::Bool,
            _ if has(LONG) => Kind::Int,
            _ if has(LIST) => Kind::List,
            _ if has(TUPLE) => Kind::Tuple,
            _ if has(BYTES) => Kind::Bytes,
            _ if has(UNICODE) => Kind::Str,
            _ if has(DICT) => Kind::Dict,
            _ if has(TYPE) => Kind::Type,
            "NoneType" => Kind::None,
            "float" => Kind::Float,
            "set" | "frozenset" => Kind::Set,
            "cell" => Kind::Cell,
            _ => Kind::Other,
        }
    }
}

impl Objects<'_> {
    /// # Errors
    /// When it cannot be read, or its type is none.
    pub fn type_of(&self, address: u64) -> Result<Type, ObjectError> {
        let wrong = ObjectError::Unexpected { address, expected: "an object" };
        let class = self.memory.read_u64(self.part(address, OB_TYPE))?;
        let flags = self.memory.read_u64(self.part(class, TP_FLAGS))?;
        if flags & READY == 0 {
            return Err(wrong);
        }
        let name = self.c_string(self.memory.read_u64(self.part(class, TP_NAME))?)?;
        let name = name.rsplit('.').next().unwrap_or_default().to_owned();
        if name.is_empty() {
            return Err(wrong);
        }
        Ok(Type { address: class, flags, name })
    }

    /// The name of the class at this address, without the module.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn class_name(&self, address: u64) -> Result<String, ObjectError> {
        let name = self.c_string(self.memory.read_u64(self.part(address, TP_NAME))?)?;
        Ok(name.rsplit('.').next().unwrap_or_default().to_owned())
    }

    /// Checks what an object is before it is read as that.
    pub(super) fn expect(&self, address: u64, kind: Kind, expected: &'static str) -> Result<(), ObjectError> {
        if self.type_of(address)?.kind() == kind {
            Ok(())
        } else {
            Err(ObjectError::Unexpected { address, expected })
        }
    }

    /// Text up to the first NUL, at most [`MAX_TYPE_NAME`] bytes; bytes that are not UTF-8 are replaced.
    pub(in crate::python) fn c_string(&self, address: u64) -> Result<String, ObjectError> {
        const PART: usize = 16;
        let mut bytes = Vec::new();
        // In small aligned parts: what follows the text may not be readable, and no part crosses a page.
        while bytes.len() < MAX_TYPE_NAME {
            let at = address.wrapping_add(bytes.len() as u64);
            let length = PART - usize::try_from(at % PART as u64).unwrap_or(0);
            let part = self.memory.read_bytes(at, length)?;
            if let Some(end) = part.iter().position(|byte| *byte == 0) {
                bytes.extend_from_slice(&part[..end]);
                break;
            }
            bytes.extend_from_slice(&part);
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}
