//! Where the objects of each version keep their parts: the offsets that the stack walk does not need, as
//! data, and [`Objects`], which carries them together with the memory.
//!
//! Source: `offsetof` on the headers of CPython 3.8.18, 3.9.18, 3.10.13, 3.11.7, 3.12.1 and 3.13.0; for 3.14.10
//! and 3.15.2 objects of known contents, looked at from within. Without the GIL: `offsetof` on the headers of 3.13.15, and
//! on Debian's of 3.14.10 and 3.15.2. x86-64.

use crate::python::memory::Memory;
use crate::python::offsets::{LONGER_HEAD, ObjectOffsets};

/// How an object keeps the attributes of its instance when its type has `Py_TPFLAGS_MANAGED_DICT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Managed {
    /// There is no such thing; every type has a `tp_dictoffset` (up to 3.10).
    No,
    /// Values four words before the object, the dict three (3.11).
    TwoPointers,
    /// One word, three before the object: the dict, or the values less one, which makes it odd (3.12).
    Tagged,
    /// The dict three words before the object, the values behind it (from 3.13 on).
    Inline,
    /// The dict in the word before the object, the values behind it (without the GIL, which leaves out the collector's
    /// words).
    InlineAndNear,
}

/// Offsets in bytes. `None`: the version has no such field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValueLayout {
    /// `_PyRuntimeState.interpreters.main`.
    pub runtime_main_interpreter: u32,
    /// `PyInterpreterState.modules`, `imports.modules` from 3.12 on: the dict `sys.modules`.
    pub interpreter_modules: u32,
    /// `_PyRuntimeState.ceval.gil`, up to 3.11.
    pub runtime_gil: Option<u32>,
    /// `PyInterpreterState.ceval.gil`, a pointer, from 3.12 on.
    pub interpreter_gil: Option<u32>,
    /// `f_localsplus` or `localsplus` of a frame.
    pub frame_locals: u32,
    /// `co_nlocals`, or `co_nlocalsplus` from 3.11 on (int).
    pub code_locals_count: u32,
    /// The tuple `co_varnames`, or `co_localsplusnames` from 3.11 on.
    pub code_locals_names: u32,
    /// The bytes `co_localspluskinds`, from 3.11 on.
    pub code_locals_kinds: Option<u32>,
    /// The tuples `co_cellvars` and `co_freevars`, up to 3.10: their cells follow the locals.
    pub code_cells: Option<[u32; 2]>,
    /// `PyTupleObject.ob_item`.
    pub tuple_items: u32,
    /// `PyHeapTypeObject.ht_cached_keys`.
    pub type_cached_keys: u32,
    pub managed: Managed,
    /// The first value in `PyDictValues`.
    pub values_data: u32,
    /// A dict's keys have the compact head of 3.11 and later.
    pub compact_keys: bool,
    /// `PyThreadState.current_exception` (3.12 on), or `curexc_value`, with type and traceback around it.
    pub tstate_exception: u32,
    /// Type, value and traceback of what is being raised are three words of the thread state (up to 3.11).
    pub exception_in_three: bool,
    /// `PyBaseExceptionObject.traceback`; `context`, `cause` and `suppress_context` (a byte) follow it.
    pub exception_traceback: u32,
    /// `PyFrameObject.f_frame`, from 3.11 on.
    pub frame_object_frame: Option<u32>,
    /// An int keeps its sign and number of digits in `lv_tag` (3.12 on), else in `ob_size`.
    pub int_tag: bool,
}

const V3_8: ValueLayout = ValueLayout {
    runtime_main_interpreter: 40,
    interpreter_modules: 56,
    runtime_gil: Some(1152),
    interpreter_gil: None,
    frame_locals: 360,
    code_locals_count: 28,
    code_locals_names: 72,
    code_locals_kinds: None,
    code_cells: Some([88, 80]),
    tuple_items: 24,
    type_cached_keys: 872,
    managed: Managed::No,
    values_data: 0,
    compact_keys: false,
    tstate_exception: 96,
    exception_in_three: true,
    exception_traceback: 32,
    frame_object_frame: None,
    int_tag: false,
};
const V3_9: ValueLayout =
    ValueLayout { interpreter_modules: 856, runtime_gil: Some(352), type_cached_keys: 864, ..V3_8 };
const V3_10: ValueLayout = ValueLayout { frame_locals: 352, type_cached_keys: 872, ..V3_9 };
const V3_11: ValueLayout = ValueLayout {
    runtime_main_interpreter: 48,
    interpreter_modules: 888,
    runtime_gil: Some(360),
    frame_locals: 72,
    code_locals_count: 76,
    code_locals_names: 96,
    code_locals_kinds: Some(104),
    code_cells: None,
    managed: Managed::TwoPointers,
    compact_keys: true,
    tstate_exception: 104,
    exception_traceback: 40,
    frame_object_frame: Some(24),
    ..V3_10
};
const V3_12: ValueLayout = ValueLayout {
    interpreter_modules: 944,
    runtime_gil: None,
    interpreter_gil: Some(384),
    code_locals_count: 72,
    type_cached_keys: 880,
    managed: Managed::Tagged,
    int_tag: true,
    tstate_exception: 96,
    exception_in_three: false,
    ..V3_11
};
const V3_13: ValueLayout = ValueLayout {
    runtime_main_interpreter: 640,
    interpreter_modules: 7656,
    interpreter_gil: Some(16),
    managed: Managed::Inline,
    values_data: 8,
    tstate_exception: 112,
    ..V3_12
};
const V3_14: ValueLayout = ValueLayout {
    runtime_main_interpreter: 816,
    interpreter_modules: 7688,
    frame_locals: 80,
    tuple_items: 32,
    ..V3_13
};
const V3_15: ValueLayout = ValueLayout {
    runtime_main_interpreter: 944,
    interpreter_modules: 7592,
    type_cached_keys: 888,
    tstate_exception: 136,
    ..V3_14
};

const V3_13_FREE_THREADED: ValueLayout = V3_13.without_gil(7664);
const V3_14_FREE_THREADED: ValueLayout = V3_14.without_gil(7712);
const V3_15_FREE_THREADED: ValueLayout = V3_15.without_gil(7592);

impl ValueLayout {
    /// The layout of the same version without the GIL.
    const fn without_gil(self, interpreter_modules: u32) -> Self {
        Self {
            interpreter_modules,
            code_locals_count: self.code_locals_count + LONGER_HEAD,
            code_locals_names: self.code_locals_names + LONGER_HEAD,
            code_locals_kinds: match self.code_locals_kinds {
                Some(kinds) => Some(kinds + LONGER_HEAD),
                None => None,
            },
            tuple_items: self.tuple_items + LONGER_HEAD,
            type_cached_keys: self.type_cached_keys + LONGER_HEAD,
            exception_traceback: self.exception_traceback + LONGER_HEAD,
            frame_object_frame: match self.frame_object_frame {
                Some(frame) => Some(frame + LONGER_HEAD),
                None => None,
            },
            managed: Managed::InlineAndNear,
            ..self
        }
    }

    /// The layout of Python 3.`minor` without the GIL.
    #[must_use]
    pub fn free_threaded(minor: u8) -> Option<&'static Self> {
        match minor {
            13 => Some(&V3_13_FREE_THREADED),
            14 => Some(&V3_14_FREE_THREADED),
            15 => Some(&V3_15_FREE_THREADED),
            _ => None,
        }
    }

    /// The layout of Python 3.`minor` with the GIL.
    #[must_use]
    pub fn of(minor: u8) -> Option<&'static Self> {
        match minor {
            8 => Some(&V3_8),
            9 => Some(&V3_9),
            10 => Some(&V3_10),
            11 => Some(&V3_11),
            12 => Some(&V3_12),
            13 => Some(&V3_13),
            14 => Some(&V3_14),
            15 => Some(&V3_15),
            _ => None,
        }
    }
}

/// The objects of one process.
#[derive(Clone, Copy)]
pub struct Objects<'a> {
    pub memory: &'a dyn Memory,
    pub offsets: &'a ObjectOffsets,
    pub layout: &'static ValueLayout,
    /// Of the version 3.`minor`.
    pub minor: u8,
}

impl<'a> Objects<'a> {
    /// `None` for a version without a layout.
    #[must_use]
    pub fn new(memory: &'a dyn Memory, offsets: &'a ObjectOffsets, minor: u8) -> Option<Self> {
        let layout = match offsets.free_threaded {
            Some(_) => ValueLayout::free_threaded(minor)?,
            None => ValueLayout::of(minor)?,
        };
        Some(Self { memory, offsets, layout, minor })
    }

    /// The address of what a build with the GIL has at `offset` in every object: without it, objects have a longer head.
    #[must_use]
    pub fn part(&self, object: u64, offset: u64) -> u64 {
        object.wrapping_add(offset).wrapping_add(self.offsets.longer_head())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::python::offsets::{SUPPORTED_MINORS, free_threaded_table};

    #[test]
    fn every_supported_minor_has_a_layout_and_no_other() {
        for minor in 0..=u8::MAX {
            assert_eq!(ValueLayout::of(minor).is_some(), SUPPORTED_MINORS.contains(&minor), "3.{minor}");
            let without_gil = free_threaded_table(minor).is_some();
            assert_eq!(ValueLayout::free_threaded(minor).is_some(), without_gil, "3.{minor}");
        }
    }
}
