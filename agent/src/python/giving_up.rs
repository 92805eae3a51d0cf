//! Where an interpreter gives up a code object: what `PyCode_Type` names for it. It looks once, and attaches nothing.

use super::memory::Memory;
use super::version::Version;
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

/// Whether a thread's frames may show one that has ended, whose code object may be gone: 3.11.0 and the first pre-releases of
/// 3.12 let go of a frame's objects before they unlink it (CPython's issue 99729, mended in 3.11.1 and 3.12.0a4). There what
/// is on a stack need not be alive.
pub(super) fn shows_what_has_ended(version: Version) -> bool {
    const MENDED: u32 = 0x030c_00a4;
    match version.minor {
        11 => version.micro.is_none_or(|micro| micro == 0),
        12 => version.hex.is_some_and(|hex| hex < MENDED),
        _ => false,
    }
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
    fn frames_that_have_ended() {
        let shown = |hex| shows_what_has_ended(Version::from_hex(hex));
        let told =
            [0x030a_0df0, 0x030b_00f0, 0x030b_01f0, 0x030c_00a3, 0x030c_00a4, 0x030c_00f0, 0x030f_00f0];
        assert_eq!(told.map(shown), [false, true, false, true, false, false, false]);
        assert!(shows_what_has_ended(Version { major: 3, minor: 11, micro: None, hex: None }));
        assert!(!shows_what_has_ended(Version { major: 3, minor: 9, micro: None, hex: None }));
    }

    #[test]
    fn what_holds_no_interpreter_has_no_such_place() {
        let own = mappings(std::process::id()).unwrap();
        let image = Image::open(&std::env::current_exe().unwrap()).unwrap();
        let memory = crate::python::ProcessMemory::new(std::process::id());
        assert_eq!(site(&memory, &image, 0, 0, &own), None);
    }
}
