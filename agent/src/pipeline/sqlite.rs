//! SQLite in the targets: every copy in every mapping, with the files that call it. Each place is probed once, however
//! many workers map the file; what each build is like is said for each process that has it.

use crate::binaries::{FileId, Image, Mapping};
use crate::probes::{Probes, SqliteFile, SqliteProgram, Tables, UprobeSite, sqlite_plan};
use crate::targets::LibraryUser;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

#[derive(Debug, Default)]
pub(super) struct SqliteLibraries {
    /// `None` for a file that could not be read.
    files: HashMap<FileId, Option<Arc<SqliteFile>>>,
    /// What has been attached, or refused.
    done: HashSet<(FileId, SqliteProgram, u64)>,
    /// Sets of files for which there is nothing more to attach.
    settled: HashSet<Vec<FileId>>,
}

/// Sets that are remembered; applications have one or two.
const MAX_SETTLED: usize = 1024;

impl SqliteLibraries {
    /// Says what the builds of one process are like, and probes what is new among its files. What cannot be probed is
    /// logged once and left.
    pub(super) fn follow(
        &mut self,
        (probes, tables): (&mut Probes, &mut Tables),
        pid: u32,
        users: &[LibraryUser],
        mappings: &[Mapping],
    ) {
        let set: Vec<FileId> = users.iter().map(|user| user.file).collect();
        if users.is_empty() {
            return;
        }
        let users: Vec<(&LibraryUser, Arc<SqliteFile>)> =
            users.iter().filter_map(|user| Some((user, self.file(user)?))).collect();
        // Before the probes: what they meet first has a text then.
        for (user, file) in users.iter().filter(|(_, file)| file.holds()) {
            for site in file.starts() {
                let Some(address) = address_of(site.file_offset, user.file, mappings) else { continue };
                if let Err(error) = tables.set_sqlite(address, file.layout()) {
                    tracing::warn!(pid, "SQLite's statements are not seen: {error}");
                }
            }
        }
        if self.settled.contains(&set) {
            return;
        }
        let files: Vec<&SqliteFile> = users.iter().map(|(_, file)| file.as_ref()).collect();
        let plan = sqlite_plan(&files);
        for (index, (program, site)) in &plan.probes {
            let Some((user, _)) = users.get(*index) else { continue };
            if !self.done.insert((user.file, *program, site.file_offset)) {
                continue;
            }
            let place = UprobeSite { path: user.image.clone(), file_offset: site.file_offset };
            if let Err(error) = probes.attach_sqlite(*program, &place) {
                let error = anyhow::Error::from(error);
                let path = user.path.display();
                tracing::warn!(%path, pid, "SQLite not probed, its statements are not seen: {error:#}");
            }
        }
        for (user, _) in users.iter().filter(|(_, file)| file.holds()) {
            tracing::info!(path = %user.path.display(), pid, "SQLite probed");
        }
        if plan.partly {
            tracing::info!(pid, "SQLite is also called in ways whose results are not seen");
        }
        if self.settled.len() < MAX_SETTLED {
            self.settled.insert(set);
        }
    }

    fn file(&mut self, user: &LibraryUser) -> Option<Arc<SqliteFile>> {
        let inspected = self.files.entry(user.file).or_insert_with(|| {
            let image = Image::open(&user.image);
            match image.and_then(|image| SqliteFile::inspect(&image)) {
                Ok(file) => Some(Arc::new(file)),
                Err(error) => {
                    tracing::warn!(path = %user.path.display(), "cannot look for SQLite: {error}");
                    None
                }
            }
        });
        inspected.clone()
    }
}

/// Where in the process this byte of the file is mapped to be run.
fn address_of(file_offset: u64, file: FileId, mappings: &[Mapping]) -> Option<u64> {
    let of_it = mappings.iter().filter(|mapping| mapping.executable && mapping.file == Some(file));
    of_it
        .filter_map(|mapping| {
            let into = file_offset.checked_sub(mapping.offset)?;
            (into < mapping.end.saturating_sub(mapping.start)).then(|| mapping.start + into)
        })
        .next()
}
