//! How the running greenlet of a thread is found, and where new ones are made. No symbol is needed: the greenlet library
//! offers a table of its functions to other extension modules, and what they do is decoded. It reads files and a process's
//! memory; it attaches nothing.

use crate::binaries::{Image, Mapping, mappings};
use crate::python::objects::Objects;
use crate::python::route::Libc;
use crate::python::strings::ObjectError;
use crate::python::tls::lazily_made_tls_word;
use pyapm_wire::scope::Greenlets;
use std::path::PathBuf;

/// `PyCapsule.pointer`: `Objects/capsule.c`.
const CAPSULE_POINTER: u64 = 16;
/// Places in the table: greenlet 0.4 to 3.5, `greenlet.h`.
const CLASS: u64 = 0;
const GET_CURRENT: u64 = 4 * 8;
/// `PyTypeObject.tp_init`: CPython 3.8 to 3.15, `Include/cpython/object.h`.
const TP_INIT: u64 = 296;
/// Bytes of a function that are decoded at most.
const CODE: usize = 512;
/// Modules of a process that have thread-local variables.
const MAX_MODULES: u64 = 4096;

/// Why greenlets are not told apart by themselves.
#[derive(Debug, thiserror::Error)]
pub enum GreenletsUnknown {
    #[error("the greenlet library's table of functions cannot be read")]
    Unreadable(#[from] ObjectError),
    #[error("the greenlet library offers no table of its functions")]
    NoTable,
    #[error("the greenlet library's file cannot be read")]
    NoFile,
    #[error(
        "the greenlet library keeps the running greenlet in a way that is not known, as those before 2.0 do"
    )]
    Otherwise,
    #[error("greenlets of builds without the GIL are not looked into")]
    FreeThreaded,
}

/// What the kernel half is told of a process's greenlets, and where to see them made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GreenletCode {
    pub greenlets: Greenlets,
    /// A path by which the library's file can be opened from here.
    pub image: PathBuf,
    /// Address in that file of the function that every new greenlet is given to, as its first argument.
    pub init: u64,
}

impl Objects<'_> {
    /// How greenlets are told apart in a process that has imported them.
    ///
    /// # Errors
    /// Why they cannot be.
    pub fn greenlets(&self, pid: u32, interpreter: u64) -> Result<GreenletCode, GreenletsUnknown> {
        if self.offsets.free_threaded.is_some() {
            return Err(GreenletsUnknown::FreeThreaded);
        }
        let word = |address: u64| self.memory.read_u64(address).map_err(ObjectError::from);
        let dict = self.module_dict(interpreter, "greenlet._greenlet")?;
        let dict = dict.ok_or(GreenletsUnknown::NoTable)?;
        let (Some(capsule), Some(named)) = (self.dict_get(dict, "_C_API")?, self.dict_get(dict, "greenlet")?)
        else {
            return Err(GreenletsUnknown::NoTable);
        };
        let table = word(self.part(capsule, CAPSULE_POINTER))?;
        let class = word(table.wrapping_add(CLASS))?;
        if class != named {
            return Err(GreenletsUnknown::NoTable);
        }
        let get_current = word(table.wrapping_add(GET_CURRENT))?;
        let init = word(self.part(class, TP_INIT))?;
        let mapped = mappings(pid).map_err(|_gone| GreenletsUnknown::NoFile)?;
        let (image, bias) = file_of(&mapped, pid, get_current).ok_or(GreenletsUnknown::NoFile)?;
        let code = image.bytes(get_current.wrapping_sub(bias), CODE);
        let found = lazily_made_tls_word(&code, get_current).ok_or(GreenletsUnknown::Otherwise)?;
        let module = word(found.got)?;
        let within = word(found.got.wrapping_add(8))?;
        let entry = match Libc::of(&mapped) {
            Libc::Glibc => 16,
            Libc::Musl => 8,
        };
        let state = u32::try_from(within.wrapping_add_signed(found.offset));
        let (Ok(state), true) = (state, (1..=MAX_MODULES).contains(&module)) else {
            return Err(GreenletsUnknown::Otherwise);
        };
        Ok(GreenletCode {
            greenlets: Greenlets {
                class,
                thread_codes: self.thread_codes(interpreter)?,
                vector: u32::try_from(module * entry).map_err(|_too_large| GreenletsUnknown::Otherwise)?,
                state,
            },
            image: image.path().to_owned(),
            init: init.wrapping_sub(bias),
        })
    }

    /// The functions of gevent that make a greenlet for a thread: one since 23.7, two before.
    fn thread_codes(&self, interpreter: u64) -> Result<[u64; 2], ObjectError> {
        let Some(dict) = self.module_dict(interpreter, "gevent.thread")? else { return Ok([0; 2]) };
        let code = |name| match self.dict_get(dict, name)? {
            Some(function) => self.function_code(function),
            None => Ok(0),
        };
        match code("_start_new_greenlet")? {
            0 => Ok([code("start_new_thread")?, code("start_joinable_thread")?]),
            code => Ok([code, 0]),
        }
    }
}

/// The file that holds this address of a process, and what is added to the file's addresses there.
fn file_of(mapped: &[Mapping], pid: u32, address: u64) -> Option<(Image, u64)> {
    let mapping = mapped.iter().find(|mapping| (mapping.start..mapping.end).contains(&address))?;
    let image = Image::open(&mapping.reachable(pid)).ok()?;
    let bias = image.bias(mapping)?;
    Some((image, bias))
}
