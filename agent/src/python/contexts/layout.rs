//! What the kernel half needs to know of one process's contexts, as data.

use super::{Births, of_copies, of_empty};
use crate::binaries::Image;
use crate::python::objects::{Managed, Objects};
use crate::python::offsets::{LONGER_HEAD, ObjectOffsets};
use crate::python::strings::ObjectError;
use pyapm_wire::python::ABSENT;
use pyapm_wire::scope::{Contexts, Greenlets, Work, flag};
use std::path::PathBuf;

/// `PyContext.ctx_prev` and `ctx_entered`: `Include/internal/pycore_context.h` of CPython 3.8 to 3.15.
const PREVIOUS: u32 = 16;
const ENTERED: u32 = 40;

/// Where an interpreter makes contexts, and what it calls one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContextCode {
    /// A path by which the interpreter's file can be opened from here.
    pub image: PathBuf,
    /// Address of `PyContext_Type` in the process; 0 when the file does not export it.
    pub context_type: u64,
    /// Places at which copies of the current context, and empty ones, can be seen; `None` where this build has none.
    pub copies: Option<Births>,
    pub empty: Option<Births>,
}

impl ContextCode {
    pub(in crate::python) fn of(image: &Image, bias: u64) -> Self {
        Self { copies: of_copies(image), empty: of_empty(image), ..Self::without_copies(image, bias) }
    }

    /// For a build in which the places are not looked for.
    pub(in crate::python) fn without_copies(image: &Image, bias: u64) -> Self {
        let context_type =
            image.exported("PyContext_Type").map_or(0, |symbol| symbol.address.wrapping_add(bias));
        Self { image: image.path().to_owned(), context_type, copies: None, empty: None }
    }
}

/// Offsets in the thread state that only event loops make matter. Source: `offsetof` on the headers of CPython
/// 3.8.18 to 3.13.0, and of Debian's 3.14.10 and 3.15.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ThreadOffsets {
    context: u32,
    /// `asyncio_running_loop`; `asyncio_running_task` lies directly behind it.
    running_loop: u32,
    data_stack: u32,
    code_flags: u32,
}

fn thread_offsets(minor: u8) -> Option<ThreadOffsets> {
    let of = |context, data_stack, code_flags| ThreadOffsets {
        context,
        running_loop: ABSENT,
        data_stack,
        code_flags,
    };
    Some(match minor {
        8..=10 => of(240, ABSENT, 36),
        11 => of(224, 296, 48),
        12 | 13 => of(208, 232, 48),
        14 => ThreadOffsets { running_loop: 864, ..of(208, 232, 48) },
        15 => ThreadOffsets { running_loop: 1024, ..of(232, 256, 48) },
        _ => return None,
    })
}

/// What a process has imported that runs more than one request on a thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Switching {
    /// `asyncio`, by itself or below uvloop or anyio.
    pub asyncio: bool,
    /// gevent: greenlets that are requests. (SQLAlchemy's, inside a coroutine, are not.)
    pub greenlets: bool,
    /// waitress: one thread reads the requests that others answer.
    pub hands_on: bool,
    /// A uvloop that puts writes off (before 0.23), or whose version could not be told.
    pub defers: bool,
}

impl Objects<'_> {
    /// What the process has imported by now.
    ///
    /// # Errors
    /// When its modules cannot be read.
    pub fn switching(&self, interpreter: u64) -> Result<Switching, ObjectError> {
        let imported = |name| Ok::<bool, ObjectError>(self.module_dict(interpreter, name)?.is_some());
        Ok(Switching {
            asyncio: imported("asyncio")?,
            greenlets: imported("gevent")?,
            hands_on: imported("waitress.channel")?,
            defers: self.defers(interpreter)?,
        })
    }

    fn defers(&self, interpreter: u64) -> Result<bool, ObjectError> {
        let Some(module) = self.module_dict(interpreter, "uvloop")? else { return Ok(false) };
        let version = self.dict_get(module, "__version__")?;
        let version = version.and_then(|version| self.string(version, 64).ok()).unwrap_or_default();
        Ok(puts_writes_off(&version))
    }

    /// How many modules the process has imported.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn modules(&self, interpreter: u64) -> Result<u64, ObjectError> {
        let at = interpreter.wrapping_add(u64::from(self.layout.interpreter_modules));
        self.dict_length(self.memory.read_u64(at)?)
    }

    /// `concurrent.futures.thread._WorkItem.run`'s code object, and the way from its frame to the context that the
    /// work was asked for in; `None` where that is not imported, or this version keeps instances otherwise.
    #[must_use]
    pub fn work(&self, interpreter: u64) -> Option<(u64, Work)> {
        let code = self.work_code(interpreter).ok()??;
        Some((code, self.work_layout(interpreter).ok()??))
    }

    fn work_code(&self, interpreter: u64) -> Result<Option<u64>, ObjectError> {
        let Some(module) = self.module_dict(interpreter, "concurrent.futures.thread")? else {
            return Ok(None);
        };
        let Some(item) = self.dict_get(module, "_WorkItem")? else { return Ok(None) };
        let Some(run) = self.dict_get(self.class_dict(item)?, "run")? else { return Ok(None) };
        Ok(Some(self.memory.read_u64(self.part(run, FUNCTION_CODE))?))
    }

    fn work_layout(&self, interpreter: u64) -> Result<Option<Work>, ObjectError> {
        let (outside, closure) = match self.layout.managed {
            Managed::TwoPointers => (true, 72),
            Managed::Inline => (false, 72),
            // A dict for each instance (up to 3.10), or a tagged word (3.12): more steps than are walked. Without the GIL:
            // not tried.
            Managed::No | Managed::Tagged | Managed::InlineAndNear => return Ok(None),
        };
        let class = |module, name| {
            let dict = self.module_dict(interpreter, module)?;
            dict.map(|dict| self.dict_get(dict, name)).transpose().map(Option::flatten)
        };
        let (Some(item), Some(future), Some(asyncio_future)) = (
            class("concurrent.futures.thread", "_WorkItem")?,
            class("concurrent.futures._base", "Future")?,
            class("asyncio.futures", "Future")?,
        ) else {
            return Ok(None);
        };
        // Only the future that is written in C is laid out so; the one in Python is for where that is missing.
        if class("asyncio.futures", "_PyFuture")? == Some(asyncio_future) {
            return Ok(None);
        }
        let value = |class, name| -> Result<Option<u32>, ObjectError> {
            let Some(index) = self.shared_key(class, name)? else { return Ok(None) };
            let inside =
                if outside { 0 } else { u32::try_from(self.instance_size(class)?).unwrap_or(u32::MAX) };
            Ok(inside.checked_add(self.layout.values_data).and_then(|start| start.checked_add(index * 8)))
        };
        let (Some(item_future), Some(future_callbacks)) =
            (value(item, "future")?, value(future, "_done_callbacks")?)
        else {
            return Ok(None);
        };
        Ok(Some(Work {
            frame_locals: self.layout.frame_locals,
            values_outside: u32::from(outside),
            item_future,
            future_callbacks,
            list_items: 24,
            function_closure: closure,
            tuple_items: self.layout.tuple_items,
            cell_value: 16,
            future_context: 32,
            destination_cell: DESTINATION,
        }))
    }
}

/// `PyFunctionObject.func_code` (3.11 on): `Include/cpython/funcobject.h`.
const FUNCTION_CODE: u64 = 48;
/// `destination` among the free variables of `_call_set_state` (`Lib/asyncio/futures.py`, `_chain_future`), which are
/// sorted: `_set_state`, `dest_loop`, `destination` come first in every version.
const DESTINATION: u32 = 2;

/// What the kernel half is told. `greenlets` is how the running one is found, where that is known.
#[must_use]
pub fn contexts(
    code: &ContextCode,
    offsets: &ObjectOffsets,
    minor: u8,
    switching: Switching,
    work: Option<(u64, Work)>,
    greenlets: Option<Greenlets>,
) -> Option<Contexts> {
    let thread = thread_offsets(minor)?;
    let longer_head = if offsets.free_threaded.is_some() { LONGER_HEAD } else { 0 };
    let (work_code, work) = work.unwrap_or_default();
    Some(Contexts {
        context_type: code.context_type,
        work_code,
        on: u32::from(switching.asyncio || switching.greenlets),
        tstate_context: thread.context,
        running_loop: thread.running_loop,
        data_stack: if switching.greenlets && greenlets.is_none() { thread.data_stack } else { ABSENT },
        greenlets: greenlets.unwrap_or_default(),
        previous: PREVIOUS + longer_head,
        entered: ENTERED + longer_head,
        entered_by_previous: u32::from(minor >= 14),
        code_flags: thread.code_flags + longer_head,
        copy_register: code.copies.as_ref().map_or(ABSENT, |births| births.register),
        empty_register: code.empty.as_ref().map_or(ABSENT, |births| births.register),
        work,
        always: [
            (code.copies.is_some(), flag::BIRTHS),
            (switching.defers, flag::DEFERS),
            // Where the running one is found, it says so itself.
            (switching.greenlets && greenlets.is_none(), flag::GREENLETS),
            (switching.hands_on, flag::HANDS_ON),
        ]
        .into_iter()
        .filter_map(|(holds, flag)| holds.then_some(flag))
        .sum(),
        padding: 0,
    })
}

/// `0.22.1` does, `0.23.0` does not; what cannot be read may.
fn puts_writes_off(version: &str) -> bool {
    let mut numbers = version.split('.').map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) < (0, 23),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::python::offsets::{SUPPORTED_MINORS, table};
    use pyapm_wire::scope::THREAD_BYTES;

    /// The kernel half reads both at once.
    #[test]
    fn a_thread_state_has_its_context_shortly_behind_where_its_frames_begin() {
        for minor in SUPPORTED_MINORS {
            let (Some(thread), Some(objects)) = (thread_offsets(minor), table(minor)) else {
                panic!("3.{minor} has no table");
            };
            let distance = thread.context.checked_sub(objects.tstate_frame);
            assert!(
                distance.is_some_and(|bytes| bytes as usize + 8 <= THREAD_BYTES),
                "3.{minor}: {distance:?}"
            );
        }
    }

    #[test]
    fn versions_of_uvloop() {
        for version in ["0.19.0", "0.22.1", "", "x", "0"] {
            assert!(puts_writes_off(version), "{version}");
        }
        for version in ["0.23.0", "0.23.0rc1", "1.0"] {
            assert!(!puts_writes_off(version), "{version}");
        }
    }
}
