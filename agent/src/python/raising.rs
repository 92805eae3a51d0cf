//! What has to be known of an interpreter to see its exceptions pass: where a probe goes, where it finds the
//! exception, and which of its classes say how to print one. It looks once, and attaches nothing.

use super::memory::Memory;
use super::objects::ValueLayout;
use super::offsets::ObjectOffsets;
use crate::binaries::Image;
use crate::probes::{Passes, RaiseOffsets, RaiseSite, find_raise_site};
use pyapm_wire::exception::ExceptionLayout;
use pyapm_wire::python::ABSENT;
use std::path::PathBuf;

/// `PyTypeObject.tp_str`, x86-64, 3.8 to 3.15 with the GIL.
pub(super) const TP_STR: u64 = 136;
/// `PyObject *` variables of every libpython (`Include/pyerrors.h`): the classes that end loops and generators.
const CONTROL_FLOW: [&str; 3] = ["PyExc_StopIteration", "PyExc_StopAsyncIteration", "PyExc_GeneratorExit"];

/// How the exceptions of an interpreter are seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raising {
    /// For the kernel half.
    pub layout: ExceptionLayout,
    /// A path by which the interpreter's file can be opened from here, as long as the process lives.
    pub path: PathBuf,
    pub site: RaiseSite,
    /// `tp_str` of `BaseException`, `KeyError` and `OSError`: what `str()` calls for every class that has none of its own.
    pub str_of_base: u64,
    pub str_of_key_error: u64,
    pub str_of_os_error: u64,
}

impl Raising {
    /// `None` when the file does not export what is needed, or the process does not hold it.
    pub(super) fn of(
        memory: &dyn Memory,
        image: &Image,
        bias: u64,
        offsets: &ObjectOffsets,
        minor: u8,
    ) -> Option<Self> {
        let values = ValueLayout::of(minor)?;
        let places = RaiseOffsets {
            tstate_exception: values.tstate_exception,
            traceback: values.exception_traceback,
            in_three: values.exception_in_three,
        };
        let site = find_raise_site(image, &places).ok()?;
        let class = |name: &str| {
            let variable = image.exported(name)?.address.wrapping_add(bias);
            memory.read_u64(variable).ok().filter(|class| *class != 0)
        };
        let str_of = |name| memory.read_u64(class(name)?.wrapping_add(TP_STR)).ok();
        let [stop, async_stop, exit] = CONTROL_FLOW.map(|name| class(name).unwrap_or(0));
        // Up to 3.10 there are no notes: `dict` 16, `args` 24 in every version.
        let traceback = values.exception_traceback;
        let layout = ExceptionLayout {
            control_flow: [stop, async_stop, exit],
            tstate_exception: values.tstate_exception,
            in_three: u32::from(values.exception_in_three),
            args: 24,
            traceback,
            context: traceback + 8,
            cause: traceback + 16,
            suppress_context_u8: traceback + 24,
            // `myerrno`, `strerror`, `filename` (`Include/cpython/pyerrors.h`) behind the head.
            os_filename: traceback + 48,
            frame_object_frame: values.frame_object_frame.unwrap_or(ABSENT),
            tuple_items: values.tuple_items,
            ascii_head: offsets.ascii_size,
            compact_head: offsets.compact_size,
            frame_register: ABSENT,
            exception_register: ABSENT,
            traceback_register: ABSENT,
            frame_in_traceback: 0,
            is_restored: 0,
            padding: 0,
        };
        let layout = at_site(layout, site.passes);
        Some(Self {
            layout,
            path: image.path().to_owned(),
            site,
            str_of_base: str_of("PyExc_BaseException")?,
            str_of_key_error: str_of("PyExc_KeyError")?,
            str_of_os_error: str_of("PyExc_OSError")?,
        })
    }
}

/// With what is known where the probe lies.
fn at_site(layout: ExceptionLayout, passes: Passes) -> ExceptionLayout {
    match passes {
        Passes::All { frame_register, exception_register } => ExceptionLayout {
            frame_register,
            exception_register: exception_register.unwrap_or(ABSENT),
            ..layout
        },
        Passes::Traced { frame_register, frame_in_traceback, exception_register, traceback_register } => {
            ExceptionLayout {
                frame_register,
                exception_register,
                traceback_register,
                frame_in_traceback: u32::from(frame_in_traceback),
                ..layout
            }
        }
        Passes::Restored => ExceptionLayout { is_restored: 1, ..layout },
    }
}
