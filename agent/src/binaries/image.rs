//! One ELF file: its segments, sections and exported symbols. The file is hostile input: every table is
//! bounded, and nothing is trusted that the `object` crate has not checked.

use super::Mapping;
use object::read::ReadCache;
use object::read::elf::{ElfFile64, ProgramHeader as _};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _};
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};

/// Most that is read of a file at once: the code of the largest extension modules is half of this.
const MAX_BYTES: usize = 64 << 20;
/// More exported symbols than this are not kept (libpython has about 2,000, libmysqlclient 6,000).
const MAX_SYMBOLS: usize = 200_000;

#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error("cannot open `{path}`")]
    Open {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("`{path}` is not a 64-bit ELF file that can be read")]
    Parse {
        path: PathBuf,
        #[source]
        source: object::Error,
    },
}

/// A defined symbol. Addresses are those of the file, before relocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbol {
    pub address: u64,
    /// The largest size that any alias at this name gives (symbol versions may carry size 0).
    pub size: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    pub name: String,
    pub address: u64,
    pub size: u64,
    /// Where it lies in the file; `None` when it takes no space there (`.bss`).
    pub file_offset: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Segment {
    address: u64,
    file_offset: u64,
    file_size: u64,
    executable: bool,
}

/// What was read of one ELF file. Owned: the file need not stay open.
#[derive(Debug)]
pub struct Image {
    path: PathBuf,
    segments: Vec<Segment>,
    sections: Vec<Section>,
    exported: HashMap<String, Symbol>,
    imported: HashSet<String>,
    needed: Vec<String>,
}

impl Image {
    /// # Errors
    /// When the file cannot be opened or is not a 64-bit little-endian ELF file.
    pub fn open(path: &Path) -> Result<Self, ImageError> {
        let parse = |source| ImageError::Parse { path: path.to_owned(), source };
        let file = File::open(path).map_err(|source| ImageError::Open { path: path.to_owned(), source })?;
        let cache = ReadCache::new(file);
        let elf = ElfFile64::<object::LittleEndian, _>::parse(&cache).map_err(parse)?;
        let endian = elf.endian();
        let segments = elf
            .elf_program_headers()
            .iter()
            .filter(|header| header.p_type(endian) == object::elf::PT_LOAD)
            .map(|header| Segment {
                address: header.p_vaddr(endian),
                file_offset: header.p_offset(endian),
                file_size: header.p_filesz(endian),
                executable: header.p_flags(endian).0 & object::elf::PF_X.0 != 0,
            })
            .collect();
        let sections = elf
            .sections()
            .filter_map(|section| {
                Some(Section {
                    name: section.name().ok()?.to_owned(),
                    address: section.address(),
                    size: section.size(),
                    file_offset: section.file_range().map(|(offset, _)| offset),
                })
            })
            .collect();
        let mut exported: HashMap<String, Symbol> = HashMap::new();
        for symbol in elf.dynamic_symbols().filter(object::ObjectSymbol::is_definition).take(MAX_SYMBOLS) {
            let Ok(name) = symbol.name() else { continue };
            let entry =
                exported.entry(name.to_owned()).or_insert(Symbol { address: symbol.address(), size: 0 });
            entry.size = entry.size.max(symbol.size());
        }
        let imported = elf
            .dynamic_symbols()
            .filter(object::ObjectSymbol::is_undefined)
            .take(MAX_SYMBOLS)
            .filter_map(|symbol| Some(symbol.name().ok()?.to_owned()))
            .collect();
        let needed = needed_libraries(&elf);
        Ok(Self { path: path.to_owned(), segments, sections, exported, imported, needed })
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A symbol that the dynamic table defines, by name without version.
    #[must_use]
    pub fn exported(&self, name: &str) -> Option<Symbol> {
        self.exported.get(name).copied()
    }

    /// Whether the dynamic table asks for this symbol from another file.
    #[must_use]
    pub fn imports(&self, name: &str) -> bool {
        self.imported.contains(name)
    }

    #[must_use]
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name)
    }

    #[must_use]
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// `DT_NEEDED` names.
    #[must_use]
    pub fn needed(&self) -> &[String] {
        &self.needed
    }

    /// A defined symbol from the full table (`.symtab`), for files that were not stripped.
    #[must_use]
    pub fn local(&self, name: &str) -> Option<Symbol> {
        let cache = ReadCache::new(File::open(&self.path).ok()?);
        let elf = ElfFile64::<object::LittleEndian, _>::parse(&cache).ok()?;
        let symbol = elf.symbols().find(|symbol| symbol.is_definition() && symbol.name() == Ok(name))?;
        Some(Symbol { address: symbol.address(), size: symbol.size() })
    }

    /// Offset in the file of the byte at this address: what a uprobe is attached to.
    #[must_use]
    pub fn file_offset(&self, address: u64) -> Option<u64> {
        self.segments.iter().find_map(|segment| {
            let within = address.checked_sub(segment.address)?;
            (within < segment.file_size).then(|| segment.file_offset.checked_add(within))?
        })
    }

    /// What is added to the file's addresses in a process where the file is mapped as `mapping` (any one
    /// of the mappings of this file): 0 for a position-dependent executable.
    #[must_use]
    pub fn bias(&self, mapping: &Mapping) -> Option<u64> {
        let is_of = |segment: &&Segment| {
            // The loader maps whole pages: a mapping may begin up to a page before the segment's bytes.
            let first = segment.file_offset & !0xfff;
            mapping.offset >= first && mapping.offset < segment.file_offset + segment.file_size.max(1)
        };
        // A page that two segments share is mapped for each, at different places.
        let alike =
            self.segments.iter().filter(|segment| segment.executable == mapping.executable).find(is_of);
        let segment = alike.or_else(|| self.segments.iter().find(is_of))?;
        let address = segment.address.wrapping_sub(segment.file_offset).wrapping_add(mapping.offset);
        Some(mapping.start.wrapping_sub(address))
    }

    /// Bytes of the file at this address (before relocation), at most `length`, fewer at a segment's end.
    #[must_use]
    pub fn bytes(&self, address: u64, length: usize) -> Vec<u8> {
        use std::os::unix::fs::FileExt;
        let Some(offset) = self.file_offset(address) else { return Vec::new() };
        let Ok(file) = File::open(&self.path) else { return Vec::new() };
        let mut bytes = vec![0; length.min(MAX_BYTES)];
        let read = file.read_at(&mut bytes, offset).unwrap_or(0);
        bytes.truncate(read);
        bytes
    }
}

fn needed_libraries<'data, R: object::ReadRef<'data>>(
    elf: &ElfFile64<'data, object::LittleEndian, R>,
) -> Vec<String> {
    let endian = elf.endian();
    let Ok(Some((entries, link))) = elf.elf_section_table().dynamic(endian, elf.data()) else {
        return Vec::new();
    };
    let Ok(strings) = elf.elf_section_table().strings(endian, elf.data(), link) else { return Vec::new() };
    entries
        .iter()
        .filter(|entry| entry.d_tag.get(endian) == object::elf::DT_NEEDED)
        .filter_map(|entry| {
            let name = strings.get(u32::try_from(entry.d_val.get(endian)).ok()?).ok()?;
            Some(String::from_utf8_lossy(name).into_owned())
        })
        .take(256)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binaries::mappings;

    #[test]
    fn libc_of_this_process() {
        let pid = std::process::id();
        let mapping = mappings(pid)
            .unwrap()
            .into_iter()
            .find(|m| m.executable && m.path.to_string_lossy().contains("libc.so"))
            .unwrap();
        let image = Image::open(&mapping.reachable(pid)).unwrap();
        let getpid = image.exported("getpid").unwrap();
        let expected = libc::getpid as *const () as u64;
        assert_eq!(getpid.address.wrapping_add(image.bias(&mapping).unwrap()), expected);
        assert!(image.file_offset(getpid.address).is_some());
        assert!(!image.bytes(getpid.address, 16).is_empty());
        assert!(image.section(".text").is_some());
        assert!(image.exported("no_such_symbol").is_none());
        assert!(
            !image.imports("getpid") && Image::open(Path::new("/proc/self/exe")).unwrap().imports("getpid")
        );
    }

    #[test]
    fn not_elf() {
        assert!(matches!(Image::open(Path::new("/proc/self/maps")), Err(ImageError::Parse { .. })));
        assert!(matches!(Image::open(Path::new("/no/such/file")), Err(ImageError::Open { .. })));
    }
}
