//! What a file descriptor of a process is: a path, a pipe, a socket with both its ends. Looked up when asked;
//! the tables of sockets are read once for each process.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

/// Most bytes of one table of sockets.
const MAX_TABLE: u64 = 16 << 20;

/// Open files of one process.
#[derive(Debug)]
pub struct Descriptors {
    process: PathBuf,
    /// Texts by inode number.
    sockets: OnceCell<HashMap<u64, String>>,
}

impl Descriptors {
    #[must_use]
    pub fn of(pid: u32) -> Self {
        Self { process: PathBuf::from(format!("/proc/{pid}")), sockets: OnceCell::new() }
    }

    /// A short text; `None` when there is no such file, or it may not be looked at.
    #[must_use]
    pub fn describe(&self, fd: u64) -> Option<String> {
        let link = std::fs::read_link(self.process.join("fd").join(fd.to_string())).ok()?;
        let text = link.to_string_lossy();
        // The kernel's names of what has no path (`proc(5)`).
        if let Some(inode) = text.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']')) {
            let known = inode.parse().ok().and_then(|inode: u64| self.sockets().get(&inode).cloned());
            return Some(known.unwrap_or_else(|| "socket".to_owned()));
        }
        if text.starts_with("pipe:[") {
            return Some("pipe".to_owned());
        }
        if let Some(kind) = text.strip_prefix("anon_inode:") {
            return Some(kind.trim_matches(['[', ']']).to_owned());
        }
        Some(text.into_owned())
    }

    /// `st_mode` of the open file; `None` as for [`Self::describe`].
    #[must_use]
    pub fn mode(&self, fd: u64) -> Option<u32> {
        use std::os::unix::fs::MetadataExt as _;
        let link = self.process.join("fd").join(fd.to_string());
        std::fs::metadata(link).ok().map(|file| file.mode())
    }

    fn sockets(&self) -> &HashMap<u64, String> {
        self.sockets.get_or_init(|| {
            let mut found = HashMap::new();
            for protocol in ["tcp", "tcp6", "udp", "udp6"] {
                let name = protocol.trim_end_matches('6');
                found.extend(self.table(protocol).lines().skip(1).filter_map(|line| inet(line, name)));
            }
            found.extend(self.table("unix").lines().skip(1).filter_map(unix));
            found
        })
    }

    /// A table of the process's own network namespace; empty where it cannot be read.
    fn table(&self, name: &str) -> String {
        let mut bytes = Vec::new();
        if let Ok(file) = std::fs::File::open(self.process.join("net").join(name)) {
            // What was read before an error is still true.
            let _rest_unknown = file.take(MAX_TABLE).read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// `sl local remote state ... inode`, addresses in hexadecimal, each 32 bits in the host's byte order
/// (`net/ipv4/tcp_ipv4.c`, `get_tcp4_sock`).
fn inet(line: &str, protocol: &str) -> Option<(u64, String)> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let (local, remote) = (endpoint(fields.get(1)?)?, endpoint(fields.get(2)?)?);
    let inode = fields.get(9)?.parse().ok()?;
    /// `TCP_LISTEN` of `include/net/tcp_states.h`.
    const LISTEN: &str = "0A";
    let text = match (fields.get(3).copied(), remote.1) {
        (Some(LISTEN), _) if protocol == "tcp" => format!("tcp {} listening", show(local)),
        (_, 0) => format!("{protocol} {}", show(local)),
        _ => format!("{protocol} {} -> {}", show(local), show(remote)),
    };
    Some((inode, text))
}

fn show((address, port): (IpAddr, u16)) -> String {
    std::net::SocketAddr::new(address, port).to_string()
}

fn endpoint(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |from: usize| {
        u32::from_str_radix(address.get(from * 8..from * 8 + 8)?, 16).ok().map(u32::to_ne_bytes)
    };
    let address = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for (part, index) in bytes.chunks_exact_mut(4).zip(0..) {
                part.copy_from_slice(&word(index)?);
            }
            let address = Ipv6Addr::from(bytes);
            address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4)
        }
        _ => return None,
    };
    Some((address, port))
}

/// `Num RefCount Protocol Flags Type St Inode Path` (`net/unix/af_unix.c`, `unix_seq_show`).
fn unix(line: &str) -> Option<(u64, String)> {
    let mut fields = line.split_ascii_whitespace().skip(6);
    let inode = fields.next()?.parse().ok()?;
    let path: Vec<&str> = fields.collect();
    Some((inode, if path.is_empty() { "unix socket".to_owned() } else { format!("unix {}", path.join(" ")) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;

    fn own(file: &impl AsRawFd) -> String {
        let fd = u64::try_from(file.as_raw_fd()).unwrap();
        Descriptors::of(std::process::id()).describe(fd).unwrap()
    }

    #[test]
    fn files_of_this_process() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap();
        let client = TcpStream::connect(server).unwrap();
        assert_eq!(own(&listener), format!("tcp {server} listening"));
        assert_eq!(own(&client), format!("tcp {} -> {server}", client.local_addr().unwrap()));
        let listener = TcpListener::bind("[::1]:0").unwrap();
        assert_eq!(own(&listener), format!("tcp {} listening", listener.local_addr().unwrap()));
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(own(file.as_file()), file.path().display().to_string());
        let (left, _right) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(own(&left), "unix socket");
        let (reader, _writer) = nix::unistd::pipe().unwrap();
        assert_eq!(own(&reader), "pipe");
        assert_eq!(Descriptors::of(std::process::id()).describe(1 << 40), None);
        assert_eq!(Descriptors::of(u32::MAX).describe(0), None);
    }

    #[test]
    fn garbage() {
        for line in ["", "1", "0: zz:1 0:0 01 a b c d e 5", "0: 00:0 00:0 01 a b c d e 5"] {
            assert_eq!(inet(line, "tcp"), None);
            assert_eq!(unix(line), None);
        }
    }
}
