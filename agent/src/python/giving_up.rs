//! Where an interpreter gives up a code object: what `PyCode_Type` names for it. It looks once, and attaches nothing.

use super::memory::Memory;
use crate::binaries::{FileId, Image, Mapping};
use crate::probes::{UprobeSite, site_at};

/// The type of code objects, exported by every CPython (`Include/cpython/code.h`).
const TYPE: &str = "PyCode_Type";
/// `PyTypeObject.tp_dealloc`, x86-64, 3.8 to 3.15 with the GIL.
const TP_DEALLOC: u64 = 48;

/// A place at which a probe sees each code object go, before anything else can take its address. `None` where there is none
/// that the kernel emulates, or the process runs its code from somewhere else than the file (some move it to large pages).
pub(super) fn site(
    memory: &dyn Memory,
    image: &Image,
    bias: u64,
    runtime_address: u64,
    mappings: &[Mapping],
) -> Option<UprobeSite> {
    let class = image.exported(TYPE)?.address.wrapping_add(bias);
    let function = memory.read_u64(class.wrapping_add(TP_DEALLOC)).ok()?;
    let code = mapping_of(function, mappings)?;
    if !code.executable || code.writable || code.file? != file_of(class, runtime_address, mappings)? {
        return None;
    }
    let site = site_at(image, function.wrapping_sub(bias))?;
    // Both ways from an address to the file must agree.
    let expected = code.offset + (function - code.start);
    let found = image.file_offset(function.wrapping_sub(bias))?;
    (found == expected).then(|| UprobeSite { path: image.path().to_owned(), file_offset: site.file_offset })
}

fn mapping_of(address: u64, mappings: &[Mapping]) -> Option<&Mapping> {
    mappings.iter().find(|mapping| (mapping.start..mapping.end).contains(&address))
}

/// The file that holds the type, or what lies beside it.
fn file_of(class: u64, runtime: u64, mappings: &[Mapping]) -> Option<FileId> {
    [class, runtime].into_iter().find_map(|address| mapping_of(address, mappings)?.file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binaries::mappings;
    use std::path::PathBuf;

    fn mapping(start: u64, end: u64, file: Option<FileId>) -> Mapping {
        Mapping {
            start,
            end,
            offset: 0,
            executable: true,
            writable: false,
            file,
            path: PathBuf::new(),
            deleted: false,
        }
    }

    #[test]
    fn an_address_lies_in_one_mapping() {
        let file = FileId { device: (8, 1), inode: 5 };
        let all = [mapping(0x1000, 0x2000, None), mapping(0x2000, 0x3000, Some(file))];
        assert_eq!(mapping_of(0x2000, &all).unwrap().file, Some(file));
        assert!(mapping_of(0x3000, &all).is_none());
        // The type may lie in memory of its own, without a file.
        assert_eq!(file_of(0x1800, 0x2800, &all), Some(file));
    }

    #[test]
    fn what_holds_no_interpreter_has_no_such_place() {
        let own = mappings(std::process::id()).unwrap();
        let image = Image::open(&std::env::current_exe().unwrap()).unwrap();
        let memory = crate::python::ProcessMemory::new(std::process::id());
        assert_eq!(site(&memory, &image, 0, 0, &own), None);
    }
}
