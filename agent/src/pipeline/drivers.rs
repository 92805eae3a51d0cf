//! Database client libraries of the targets: found by their exports in every executable mapping, probed
//! once for each file, however many workers map it.

use super::sqlite::SqliteLibraries;
use super::tls::TlsLibraries;
use crate::binaries::{FileId, Image, mappings};
use crate::probes::{Probes, ResolverSites, Tables, UprobeSite, find_site};
use crate::targets::{Libraries, LibraryKind, LibraryUser, ProcFs};
use anyhow::Context as _;
use std::collections::{HashMap, HashSet};

/// The MySQL client's entry points. `mysql_send_query` is what `mysql_real_query` calls, and what some
/// clients call themselves; a nested pair is one statement further on.
const MYSQL_ENTRIES: [&str; 2] = ["mysql_real_query", "mysql_send_query"];

#[derive(Debug, Default)]
pub(super) struct Drivers {
    libraries: Libraries,
    attached: HashSet<FileId>,
    /// C libraries, as far as they have been looked at.
    resolvers: HashSet<FileId>,
    /// Pages that each process had mapped when its libraries were last looked for.
    mapped: HashMap<u32, u64>,
    tls: TlsLibraries,
    sqlite: SqliteLibraries,
}

impl Drivers {
    /// Looks at one process and probes what is new. What cannot be probed is logged once and left.
    pub(super) fn follow(&mut self, probes: &mut Probes, tables: &mut Tables, pid: u32) {
        // Before its mappings are read: what is mapped in between is looked at again.
        self.mapped.insert(pid, ProcFs::new().mapped_pages(pid).unwrap_or_default());
        // A process that has ended meanwhile has nothing to follow.
        let Ok(mappings) = mappings(pid) else { return };
        for library in self.libraries.find(pid, &mappings) {
            if library.kind != LibraryKind::Mysql || !self.attached.insert(library.file) {
                continue;
            }
            let path = library.mapping.path.display();
            match self.probe(probes, &library.image) {
                Ok(()) => tracing::info!(%path, pid, "MySQL client library probed"),
                Err(error) => {
                    tracing::warn!(%path, pid, "MySQL client library not probed, its statements are not seen: {error:#}");
                }
            }
        }
        for library in self.libraries.resolvers(pid, &mappings) {
            if self.resolvers.insert(library.file)
                && let Err(error) = look_up(probes, &library)
            {
                let path = library.path.display();
                tracing::warn!(%path, pid, "how long lookups of hosts take is not seen: {error:#}");
            }
        }
        let users = self.libraries.sqlite_users(pid, &mappings);
        self.sqlite.follow((probes, tables), pid, &users, &mappings);
        self.tls.follow(probes, pid, &self.libraries.tls_users(pid, &mappings));
    }

    /// Whether a process has mapped or unmapped any file since [`Self::follow`] looked at it, or may have.
    pub(super) fn has_changed(&self, pid: u32) -> bool {
        ProcFs::new().mapped_pages(pid).is_ok_and(|pages| self.mapped.get(&pid) != Some(&pages))
    }

    /// Forgets all other processes.
    pub(super) fn keep_only(&mut self, pids: &[u32]) {
        self.mapped.retain(|pid, _| pids.contains(pid));
    }

    fn probe(&mut self, probes: &mut Probes, path: &std::path::Path) -> anyhow::Result<()> {
        let image = Image::open(path)?;
        let mut probed = HashSet::new();
        for entry in MYSQL_ENTRIES {
            if image.exported(entry).is_none() {
                continue;
            }
            let site = find_site(&image, entry)?;
            if !site.emulated {
                tracing::info!("no cheap place for a probe in `{entry}` of `{}`", path.display());
            }
            // Two names of one function need one probe.
            if probed.insert(site.file_offset) {
                let place = UprobeSite { path: path.to_owned(), file_offset: site.file_offset };
                probes.attach_mysql(&place)?;
            }
        }
        Ok(())
    }
}

/// Probes the lookups of one C library.
fn look_up(probes: &mut Probes, library: &LibraryUser) -> anyhow::Result<()> {
    let image = Image::open(&library.image)?;
    let sites = ResolverSites::inspect(&image).context("`getaddrinfo` has no place for a probe")?;
    Ok(probes.attach_resolver(&library.image, &sites)?)
}
