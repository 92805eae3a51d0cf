//! Which mapped file is the interpreter, and where. A file is the interpreter because it defines CPython's
//! symbols, never because of its name: an executable that only needs libpython does not define them.

use crate::binaries::{FileId, Image, Mapping};
use std::collections::{HashMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

/// Files that are remembered; past that all are forgotten and read again when they are needed. Tables are
/// kept of interpreters only.
const MAX_IMAGES: usize = 8192;
/// Distinct files of one process that are looked into.
const MAX_FILES: usize = 4096;

/// Whether the interpreter is in the executable or in a library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Embedding {
    /// The executable itself is the interpreter.
    Static,
    /// A shared library (libpython) is.
    Shared,
}

/// A file that defines an interpreter, in a process.
#[derive(Clone, Debug)]
pub(super) struct Located {
    pub(super) image: Arc<Image>,
    /// As the process sees it.
    pub(super) file: PathBuf,
    /// To be added to the file's addresses.
    pub(super) bias: u64,
    pub(super) embedding: Embedding,
    /// `_PyRuntime` in the process; `None` before 3.7.
    pub(super) runtime_address: Option<u64>,
    /// Size of `_PyRuntime`, if the file says so.
    pub(super) runtime_size: Option<u64>,
}

/// What makes a file the same file as before: an inode number alone is reused after an upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct FileKey {
    id: FileId,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// ELF files that were looked into before: the workers of an application share theirs.
#[derive(Debug, Default)]
pub(super) struct Images {
    /// `None`: it is not an interpreter.
    known: HashMap<FileKey, Option<Arc<Image>>>,
}

impl Images {
    /// The interpreters among the mapped files of a process, one by one: more than one is mapped where an
    /// extension module of a static interpreter pulls in libpython, and only one of them is alive.
    pub(super) fn locate<'a>(
        &'a mut self,
        pid: u32,
        mappings: &'a [Mapping],
    ) -> impl Iterator<Item = Located> + 'a {
        let executable: HashSet<FileId> =
            mappings.iter().filter(|mapping| mapping.executable).filter_map(|mapping| mapping.file).collect();
        let mut seen = HashSet::new();
        let mut files: Vec<(FileId, &Mapping)> = mappings
            .iter()
            .filter_map(|mapping| Some((mapping.file?, mapping)))
            .filter(|(id, _)| executable.contains(id) && seen.insert(*id))
            .take(MAX_FILES)
            .collect();
        // Names only say where to look first: opening every library of a large process takes a while.
        files.sort_by_key(|(_, mapping)| !mapping.path.to_string_lossy().contains("python"));
        files.into_iter().filter_map(move |(id, mapping)| {
            let image = self.interpreter(pid, id, mapping)?;
            let bias = image.bias(mapping)?;
            let symbol = image.exported("_PyRuntime").map(|symbol| (symbol.address, symbol.size));
            let section = image.section(".PyRuntime").map(|section| (section.address, section.size));
            let runtime = symbol.or(section);
            let embedding =
                if image.section(".interp").is_some() { Embedding::Static } else { Embedding::Shared };
            Some(Located {
                file: mapping.path.clone(),
                bias,
                embedding,
                runtime_address: runtime.map(|(address, _)| address.wrapping_add(bias)),
                runtime_size: runtime.map(|(_, size)| size).filter(|size| *size > 0),
                image,
            })
        })
    }

    fn interpreter(&mut self, pid: u32, id: FileId, mapping: &Mapping) -> Option<Arc<Image>> {
        let path = mapping.reachable(pid);
        let metadata = std::fs::metadata(&path).ok()?;
        let key = FileKey {
            id,
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        };
        if let Some(known) = self.known.get(&key) {
            return known.clone();
        }
        // What cannot be opened or parsed is not an interpreter that could be read.
        let image = Image::open(&path).ok().filter(defines_interpreter).map(Arc::new);
        if self.known.len() >= MAX_IMAGES {
            self.known.clear();
        }
        self.known.insert(key, image.clone());
        image
    }
}

/// `_PyRuntime` exists from 3.7 on, in a section of its own from 3.10 on. Older interpreters are recognised
/// so that their users can be told.
fn defines_interpreter(image: &Image) -> bool {
    image.exported("_PyRuntime").is_some()
        || image.section(".PyRuntime").is_some()
        || (image.exported("Py_GetVersion").is_some() && image.exported("PyEval_EvalFrameEx").is_some())
}
