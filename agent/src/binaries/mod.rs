//! Files that are mapped into processes: which ones, where, and what their ELF tables export. Knows nothing
//! of Python, of databases or of probes.

mod calls;
mod image;
mod maps;

pub use calls::{Callee, Calls, calls};
pub use image::{Image, ImageError, Section, Symbol};
pub use maps::{FileId, Mapping, mappings};
