//! The native libraries of interest in a process, found by what every executable mapping exports, not by
//! file name: wheels bundle `libssl-8bd944e8.so.3`, and an extension module may hold a whole client inside.

use crate::binaries::{FileId, Image, Mapping};
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

/// Files whose answers are kept; beyond that the memory starts anew.
const MAX_FILES: usize = 16_384;

/// What a library does for an application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LibraryKind {
    /// libmariadb and libmysqlclient.
    Mysql,
    /// libpq.
    Postgres,
    Sqlite,
    /// libssl.
    Tls,
}

impl LibraryKind {
    pub const ALL: [Self; 4] = [Self::Mysql, Self::Postgres, Self::Sqlite, Self::Tls];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mysql => "mysql",
            Self::Postgres => "postgresql",
            Self::Sqlite => "sqlite",
            Self::Tls => "tls",
        }
    }

    /// Whether probes exist for it. The others are found, so that it can be said what is not seen.
    #[must_use]
    pub fn is_watched(self) -> bool {
        matches!(self, Self::Mysql | Self::Sqlite | Self::Tls)
    }

    /// Whether what it does is read from the bytes of its connections, without a probe in it.
    #[must_use]
    pub fn is_on_the_wire(self) -> bool {
        matches!(self, Self::Postgres)
    }

    /// The export by which it is recognised.
    #[must_use]
    pub fn proof(self) -> &'static str {
        match self {
            Self::Mysql => "mysql_real_query",
            Self::Postgres => "PQexec",
            Self::Sqlite => "sqlite3_prepare_v2",
            Self::Tls => "SSL_read",
        }
    }

    /// Exports that are of use and may be missing, beside the proof.
    #[must_use]
    pub fn others(self) -> &'static [&'static str] {
        match self {
            Self::Mysql => &[
                "mysql_query",
                "mysql_send_query",
                "mysql_stmt_prepare",
                "mysql_stmt_execute",
                "mysql_real_query_nonblocking",
            ],
            Self::Postgres => {
                &["PQexecParams", "PQsendQuery", "PQsendQueryParams", "PQsendPrepare", "PQsendQueryPrepared"]
            }
            Self::Sqlite => {
                &["sqlite3_prepare_v3", "sqlite3_step", "sqlite3_reset", "sqlite3_finalize", "sqlite3_sql"]
            }
            Self::Tls => &["SSL_write", "SSL_read_ex", "SSL_write_ex", "SSL_free"],
        }
    }
}

impl std::fmt::Display for LibraryKind {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// One file in one process that does one kind's work. A file that exports two kinds gives two of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Library {
    pub kind: LibraryKind,
    pub file: FileId,
    /// One of the file's executable mappings.
    pub mapping: Mapping,
    /// A path by which the file can be opened from here: for [`Image::open`] and for probes.
    pub image: PathBuf,
    /// Exports found, the proof first.
    pub symbols: Vec<&'static str>,
}

/// What a file calls that reads or writes through a TLS library.
const TLS_CALLS: [&str; 4] = ["SSL_read", "SSL_write", "SSL_read_ex", "SSL_write_ex"];

/// What one file holds, by kind.
#[derive(Debug, Default)]
struct Findings {
    kinds: Vec<(LibraryKind, Vec<&'static str>)>,
    /// It reads or writes through another file's TLS library.
    calls_tls: bool,
    /// It runs statements in another file's SQLite.
    calls_sqlite: bool,
    /// It is a C library that looks up hosts.
    looks_up: bool,
}

impl Findings {
    fn holds(&self, kind: LibraryKind) -> bool {
        self.kinds.iter().any(|(held, _)| *held == kind)
    }
}

/// A file of a process that holds a library of some kind, or calls one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LibraryUser {
    pub file: FileId,
    /// A path by which the file can be opened from here.
    pub image: PathBuf,
    /// Its name in the process.
    pub path: PathBuf,
}

/// Answers for files, kept for as long as this lives.
#[derive(Debug, Default)]
pub struct Libraries {
    files: HashMap<FileId, Findings>,
}

impl Libraries {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// In the order of the mappings; each file once for a kind. A file that cannot be opened any more is
    /// looked at again next time.
    pub fn find(&mut self, pid: u32, mappings: &[Mapping]) -> Vec<Library> {
        let mut seen = HashSet::new();
        let mut found = Vec::new();
        for mapping in mappings.iter().filter(|mapping| mapping.executable) {
            let Some(file) = mapping.file.filter(|file| seen.insert(*file)) else { continue };
            if !self.files.contains_key(&file) {
                let findings = match Image::open(&mapping.reachable(pid)) {
                    Ok(image) => inspect(&image),
                    Err(crate::binaries::ImageError::Parse { .. }) => Findings::default(),
                    Err(crate::binaries::ImageError::Open { .. }) => continue,
                };
                if self.files.len() == MAX_FILES {
                    self.files.clear();
                }
                self.files.insert(file, findings);
            }
            let kinds = self.files.get(&file).map(|findings| findings.kinds.as_slice()).unwrap_or_default();
            // Asked only of the few that are something: it looks at the file system.
            let image = if kinds.is_empty() { PathBuf::new() } else { mapping.reachable(pid) };
            for (kind, symbols) in kinds {
                found.push(Library {
                    kind: *kind,
                    file,
                    mapping: mapping.clone(),
                    image: image.clone(),
                    symbols: symbols.clone(),
                });
            }
        }
        found
    }
}

impl Libraries {
    /// Which files of a process have to do with TLS, among those that [`Self::find`] has looked at.
    #[must_use]
    pub fn tls_users(&self, pid: u32, mappings: &[Mapping]) -> Vec<LibraryUser> {
        self.users(pid, mappings, |findings| findings.calls_tls || findings.holds(LibraryKind::Tls))
    }

    /// The same of SQLite.
    #[must_use]
    pub fn sqlite_users(&self, pid: u32, mappings: &[Mapping]) -> Vec<LibraryUser> {
        self.users(pid, mappings, |findings| findings.calls_sqlite || findings.holds(LibraryKind::Sqlite))
    }

    /// The same of looking up hosts.
    #[must_use]
    pub fn resolvers(&self, pid: u32, mappings: &[Mapping]) -> Vec<LibraryUser> {
        self.users(pid, mappings, |findings| findings.looks_up)
    }

    fn users(&self, pid: u32, mappings: &[Mapping], wanted: fn(&Findings) -> bool) -> Vec<LibraryUser> {
        let mut seen = HashSet::new();
        let executable = mappings.iter().filter(|mapping| mapping.executable);
        executable
            .filter_map(|mapping| {
                let file = mapping.file.filter(|file| seen.insert(*file))?;
                self.files.get(&file).is_some_and(wanted).then(|| LibraryUser {
                    file,
                    image: mapping.reachable(pid),
                    path: mapping.path.clone(),
                })
            })
            .collect()
    }
}

/// The libraries of one process, without a memory for the next.
#[must_use]
pub fn libraries(pid: u32, mappings: &[Mapping]) -> Vec<Library> {
    Libraries::new().find(pid, mappings)
}

fn inspect(image: &Image) -> Findings {
    let mut kinds: Vec<(LibraryKind, Vec<&'static str>)> = LibraryKind::ALL
        .into_iter()
        .filter(|kind| image.exported(kind.proof()).is_some())
        .map(|kind| {
            let others = kind.others().iter().copied().filter(|name| image.exported(name).is_some());
            (kind, std::iter::once(kind.proof()).chain(others).collect())
        })
        .collect();
    // A library inside an extension module is not for others, but its names are there unless they were stripped.
    for kind in [LibraryKind::Sqlite, LibraryKind::Tls] {
        if image.exported(kind.proof()).is_none() && image.local(kind.proof()).is_some() {
            kinds.push((kind, vec![kind.proof()]));
        }
    }
    let calls_tls = TLS_CALLS.into_iter().any(|function| image.imports(function));
    let calls_sqlite = image.imports("sqlite3_step");
    let looks_up = image.exported("getaddrinfo").is_some();
    Findings { kinds, calls_tls, calls_sqlite, looks_up }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binaries::mappings;
    use crate::targets::live::Tree;

    #[test]
    fn of_a_python_that_loaded_two() {
        let program = "import os, sqlite3, ssl, time; print(os.getpid(), flush=True); time.sleep(600)";
        let tree = Tree::python("client", program);
        let maps = mappings(tree.pid()).unwrap();
        let mut libraries = Libraries::new();
        let found = libraries.find(tree.pid(), &maps);
        let kinds: Vec<LibraryKind> = found.iter().map(|library| library.kind).collect();
        assert!(kinds.contains(&LibraryKind::Tls) && kinds.contains(&LibraryKind::Sqlite), "{kinds:?}");
        assert!(!kinds.contains(&LibraryKind::Mysql));
        for library in &found {
            assert_eq!(library.symbols[0], library.kind.proof());
            let image = Image::open(&library.image).unwrap();
            assert!(library.symbols.iter().all(|symbol| image.exported(symbol).is_some()));
            assert!(library.mapping.executable && library.mapping.file == Some(library.file));
        }
        // Asked again, it answers from memory, and the same.
        assert_eq!(libraries.find(tree.pid(), &maps), found);
        let interpreter = crate::targets::Interpreters::new().find(tree.pid(), &maps).cloned().unwrap();
        assert!(maps.contains(&interpreter));
    }

    /// CPython's own module and the library that it calls, as they are here: everything cheap.
    #[test]
    fn tls_of_a_python() {
        use crate::probes::{TlsFile, TlsProgram, TlsWay, tls_plan};
        let program = "import os, ssl, time; print(os.getpid(), flush=True); time.sleep(600)";
        let tree = Tree::python("client", program);
        let maps = mappings(tree.pid()).unwrap();
        let mut libraries = Libraries::new();
        libraries.find(tree.pid(), &maps);
        let users = libraries.tls_users(tree.pid(), &maps);
        let files: Vec<TlsFile> =
            users.iter().map(|user| TlsFile::inspect(&Image::open(&user.image).unwrap()).unwrap()).collect();
        let plan = tls_plan(&files.iter().collect::<Vec<_>>());
        // Reads and writes, of whichever kind this Python uses, and nothing else.
        assert_eq!(plan.ways.len(), 2, "{users:?} {plan:?}");
        assert!(plan.ways.iter().all(|(_, _, way)| *way == TlsWay::Cheap), "{plan:?}");
        let count =
            |wanted: fn(TlsProgram) -> bool| plan.probes.iter().filter(|probe| wanted(probe.program)).count();
        assert_eq!(count(|program| matches!(program, TlsProgram::Start(_))), 2, "{plan:?}");
        assert!(count(|program| program == TlsProgram::Result) >= 2, "{plan:?}");
        assert_eq!(count(|program| program == TlsProgram::Free), 1, "{plan:?}");
        assert!(plan.probes.iter().all(|probe| probe.site.emulated), "{plan:?}");
    }

    #[test]
    fn this_test_has_the_historys_own_and_files_that_are_gone_none() {
        let pid = std::process::id();
        let mut own = mappings(pid).unwrap();
        let [sqlite] = &*libraries(pid, &own) else { panic!("{:?}", libraries(pid, &own)) };
        assert_eq!(sqlite.kind, LibraryKind::Sqlite);
        // A process that is gone, and files that are not where they were.
        for mapping in &mut own {
            mapping.path = "/nowhere/python".into();
        }
        assert_eq!(libraries(u32::MAX, &own), []);
    }
}
