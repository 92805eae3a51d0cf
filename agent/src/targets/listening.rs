//! On what a process listens: TCP ports, and whether on any unix socket. Told by the sockets among its open files and the
//! tables of its own network namespace.

use super::procfs::ProcFs;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

/// Open files that are looked at, and bytes of one table.
const MAX_FILES: usize = 65_536;
const MAX_TABLE: u64 = 64 << 20;

/// How long a table that was read holds: for all processes that are looked at in one go. A busy host's has many
/// thousand lines, and takes as many microseconds.
const KEPT: Duration = Duration::from_millis(100);

/// What was found; nothing where it may not be looked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listening {
    pub ports: BTreeSet<u16>,
    pub unix: bool,
}

/// Sockets of network namespaces that are listened on, read once for all processes of one that are looked at together.
#[derive(Debug, Default)]
pub struct Tables {
    /// By the namespace's inode number, with when they were read.
    namespaces: HashMap<u64, (Instant, Table)>,
}

/// By inode number of the socket.
#[derive(Debug, Default)]
struct Table {
    ports: HashMap<u64, u16>,
    unix: HashSet<u64>,
}

impl Listening {
    #[must_use]
    pub fn of(procfs: &ProcFs, pid: u32, tables: &mut Tables) -> Self {
        let sockets = sockets(procfs, pid);
        if sockets.is_empty() {
            return Self::default();
        }
        let table = tables.of(procfs, pid);
        Self {
            ports: sockets.iter().filter_map(|inode| table.ports.get(inode).copied()).collect(),
            unix: sockets.iter().any(|inode| table.unix.contains(inode)),
        }
    }

    #[must_use]
    pub fn is_any(&self) -> bool {
        self.unix || !self.ports.is_empty()
    }
}

impl Tables {
    fn of(&mut self, procfs: &ProcFs, pid: u32) -> &Table {
        self.namespaces.retain(|_, (read, _)| read.elapsed() < KEPT);
        let namespace = std::fs::metadata(procfs.root().join(pid.to_string()).join("ns/net"));
        // One that cannot be told is nobody else's: 0 is no inode's number.
        let namespace = namespace.map_or(0, |namespace| namespace.ino());
        if namespace == 0 {
            self.namespaces.remove(&namespace);
        }
        let (_, table) =
            self.namespaces.entry(namespace).or_insert_with(|| (Instant::now(), Table::read(procfs, pid)));
        table
    }
}

impl Table {
    fn read(procfs: &ProcFs, pid: u32) -> Self {
        let mut found = Self::default();
        for table in ["tcp", "tcp6"] {
            found.ports.extend(read(procfs, pid, table).lines().skip(1).filter_map(listening_port));
        }
        found.unix.extend(read(procfs, pid, "unix").lines().skip(1).filter_map(listening_unix));
        found
    }
}

/// Inode numbers of the sockets among its files (`proc(5)`: `socket:[NUMBER]`).
fn sockets(procfs: &ProcFs, pid: u32) -> HashSet<u64> {
    let Ok(files) = std::fs::read_dir(procfs.root().join(pid.to_string()).join("fd")) else {
        return HashSet::new();
    };
    files
        .take(MAX_FILES)
        .filter_map(|file| {
            let link = std::fs::read_link(file.ok()?.path()).ok()?;
            link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
        })
        .collect()
}

fn read(procfs: &ProcFs, pid: u32, table: &str) -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = std::fs::File::open(procfs.root().join(pid.to_string()).join("net").join(table)) {
        // What was read before an error is still true.
        let _rest_unknown = file.take(MAX_TABLE).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `sl local remote state ... inode` (`net/ipv4/tcp_ipv4.c`, `get_tcp4_sock`); state 0A is `TCP_LISTEN`.
fn listening_port(line: &str) -> Option<(u64, u16)> {
    let mut fields = line.split_ascii_whitespace();
    let local = fields.nth(1)?;
    if fields.nth(1)? != "0A" {
        return None;
    }
    let port = u16::from_str_radix(local.rsplit(':').next()?, 16).ok()?;
    Some((fields.nth(5)?.parse().ok()?, port))
}

/// `Num RefCount Protocol Flags Type St Inode Path`; the flag is `__SO_ACCEPTCON` (`net/unix/af_unix.c`,
/// `unix_seq_show`), and type 0001 a stream.
fn listening_unix(line: &str) -> Option<u64> {
    let mut fields = line.split_ascii_whitespace();
    let flags = fields.nth(3)?;
    if flags != "00010000" || fields.next()? != "0001" {
        return None;
    }
    fields.nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::os::unix::net::{UnixListener, UnixStream};

    #[test]
    fn of_this_process() {
        let own = || Listening::of(&ProcFs::new(), std::process::id(), &mut Tables::default());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let six = TcpListener::bind("[::1]:0").unwrap();
        let (port, other) = (listener.local_addr().unwrap().port(), six.local_addr().unwrap().port());
        assert!(own().ports.is_superset(&BTreeSet::from([port, other])));
        drop(listener);
        assert!(!own().ports.contains(&port));
        let folder = tempfile::tempdir().unwrap();
        let _listener = UnixListener::bind(folder.path().join("s")).unwrap();
        assert!(own().unix && own().is_any());
        let none = Listening::of(&ProcFs::new(), u32::MAX, &mut Tables::default());
        assert_eq!(none, Listening::default());
    }

    #[test]
    fn one_table_for_all_that_are_looked_at_together() {
        let _listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut tables = Tables::default();
        let mut read_at = |when: Option<Instant>| {
            if let (Some(when), Some((read, _))) = (when, tables.namespaces.values_mut().next()) {
                *read = when;
            }
            assert!(Listening::of(&ProcFs::new(), std::process::id(), &mut tables).is_any());
            assert_eq!(tables.namespaces.len(), 1);
            tables.namespaces.values().map(|(read, _)| *read).next().unwrap()
        };
        let first = read_at(None);
        // Nothing has passed since a time that is still to come.
        let later = first + Duration::from_secs(3600);
        assert_eq!(read_at(Some(later)), later);
        let old = first - KEPT;
        assert!(read_at(Some(old)) > old);
    }

    #[test]
    fn lines_of_the_kernel() {
        let line =
            "  1: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0        0 4711 1 0";
        assert_eq!(listening_port(line), Some((4711, 8080)));
        assert_eq!(listening_port(&line.replace(" 0A ", " 01 ")), None);
        let line = "ffff: 00000002 00000000 00010000 0001 01 815 /run/x.sock";
        assert_eq!(listening_unix(line), Some(815));
        assert_eq!(listening_unix(&line.replace("00010000", "00000000")), None);
        for garbage in ["", "1", "a b c d e f g h i j k"] {
            assert_eq!((listening_port(garbage), listening_unix(garbage)), (None, None));
        }
    }

    #[test]
    fn a_connected_stream_does_not_listen() {
        let (_left, _right) = UnixStream::pair().unwrap();
        assert_eq!(listening_unix("ffff: 00000003 00000000 00000000 0001 03 815"), None);
    }
}
