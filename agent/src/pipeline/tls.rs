//! TLS libraries of the targets: every copy in every mapping, with the files that call it. Each place is probed
//! once, however many workers map the file.

use crate::binaries::{FileId, Image};
use crate::probes::{Probes, TlsFile, TlsProgram, TlsWay, UprobeSite, tls_plan};
use crate::targets::LibraryUser;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

#[derive(Debug, Default)]
pub(super) struct TlsLibraries {
    /// `None` for a file that could not be read.
    files: HashMap<FileId, Option<Arc<TlsFile>>>,
    /// What has been attached, or refused.
    done: HashSet<(FileId, TlsProgram, u64)>,
    /// Sets of files for which there is nothing more to do.
    settled: HashSet<Vec<FileId>>,
}

/// Sets that are remembered; applications have one or two.
const MAX_SETTLED: usize = 1024;

impl TlsLibraries {
    /// Probes what is new among the files of one process. What cannot be probed is logged once and left.
    pub(super) fn follow(&mut self, probes: &mut Probes, pid: u32, users: &[LibraryUser]) {
        let set: Vec<FileId> = users.iter().map(|user| user.file).collect();
        if users.is_empty() || self.settled.contains(&set) {
            return;
        }
        let users: Vec<(&LibraryUser, Arc<TlsFile>)> =
            users.iter().filter_map(|user| Some((user, self.file(user)?))).collect();
        let files: Vec<&TlsFile> = users.iter().map(|(_, file)| file.as_ref()).collect();
        let plan = tls_plan(&files);
        for probe in &plan.probes {
            let Some((user, _)) = users.get(probe.file) else { continue };
            if !self.done.insert((user.file, probe.program, probe.site.file_offset)) {
                continue;
            }
            let site = UprobeSite { path: user.image.clone(), file_offset: probe.site.file_offset };
            if let Err(error) = probes.attach_tls(probe.program, &site) {
                let error = anyhow::Error::from(error);
                let path = user.path.display();
                tracing::warn!(%path, pid, "TLS library not probed, its plaintext is not seen: {error:#}");
            }
        }
        // Said once it is true.
        for (file, function, way) in &plan.ways {
            let Some((user, _)) = users.get(*file) else { continue };
            let (path, function) = (user.path.display(), function.name());
            match way {
                TlsWay::Cheap => tracing::info!(%path, pid, "`{function}` probed"),
                TlsWay::Stepped => {
                    tracing::info!(%path, pid, "`{function}` probed, at instructions that cost more");
                }
                TlsWay::Unseen => {
                    tracing::warn!(%path, pid, "`{function}` has no place for a probe: its plaintext is not seen");
                }
            }
        }
        if self.settled.len() < MAX_SETTLED {
            self.settled.insert(set);
        }
    }

    fn file(&mut self, user: &LibraryUser) -> Option<Arc<TlsFile>> {
        let inspected = self.files.entry(user.file).or_insert_with(|| {
            let image = Image::open(&user.image);
            match image.and_then(|image| TlsFile::inspect(&image)) {
                Ok(file) => Some(Arc::new(file)),
                Err(error) => {
                    tracing::warn!(path = %user.path.display(), "cannot look for TLS functions: {error}");
                    None
                }
            }
        });
        inspected.clone()
    }
}
