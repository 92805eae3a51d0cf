//! What systemd is told (`sd_notify(3)`): datagrams to the socket that it names; nothing where the service was not started
//! by it. A service manager that does not read holds nobody up: what it must know waits, what it need not is left out.

use crate::pipeline::clock;
use std::collections::VecDeque;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

/// Notices that wait, at most; the newest matter.
const MAX_WAITING: usize = 16;

/// The service manager.
#[derive(Debug, Default)]
pub(super) struct Notifier {
    socket: Option<UnixDatagram>,
    waiting: VecDeque<String>,
    /// The last one that was told, or waits.
    status: String,
}

impl Notifier {
    /// As the environment has it.
    pub(super) fn from_environment() -> Self {
        let named = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty());
        let socket = named.and_then(|name| match connect(Path::new(&name)) {
            Ok(socket) => Some(socket),
            Err(error) => {
                tracing::warn!("the service manager cannot be told anything: {error}");
                None
            }
        });
        Self { socket, ..Self::default() }
    }

    /// Everything is on; `status` is shown by `systemctl status`.
    pub(super) fn ready(&mut self, status: &str) {
        status.clone_into(&mut self.status);
        self.tell(format!("READY=1\nSTATUS={status}"));
    }

    pub(super) fn status(&mut self, status: &str) {
        if self.status != status {
            status.clone_into(&mut self.status);
            self.tell(format!("STATUS={status}"));
        }
    }

    /// Followed by [`Self::ready`], whatever came of it.
    pub(super) fn reloading(&mut self) {
        self.tell(format!("RELOADING=1\nMONOTONIC_USEC={}", clock::monotonic_ns() / 1000));
    }

    pub(super) fn stopping(&mut self) {
        self.tell("STOPPING=1".to_owned());
    }

    /// Once a second; systemd expects it in the time that `WatchdogSec=` of the unit says.
    pub(super) fn alive(&mut self) {
        self.send_waiting();
        if let Some(socket) = &self.socket {
            // One that does not fit now is followed by the next.
            let _next_second = socket.send(b"WATCHDOG=1");
        }
    }

    fn tell(&mut self, notice: String) {
        if self.socket.is_none() {
            return;
        }
        if self.waiting.len() == MAX_WAITING {
            self.waiting.pop_front();
        }
        self.waiting.push_back(notice);
        self.send_waiting();
    }

    fn send_waiting(&mut self) {
        let Some(socket) = &self.socket else { return };
        while let Some(notice) = self.waiting.front() {
            match socket.send(notice.as_bytes()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // Told, or nobody is there to be told any more.
                Ok(_) | Err(_) => drop(self.waiting.pop_front()),
            }
        }
    }
}

/// A name that begins with `@` is an abstract one.
fn connect(name: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    match name.as_os_str().as_bytes() {
        [b'@', rest @ ..] => socket.connect_addr(&SocketAddr::from_abstract_name(rest)?)?,
        _ => socket.connect(name)?,
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manager_that_does_not_read_holds_nobody_up_and_is_told_the_newest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        manager.set_nonblocking(true).unwrap();
        let mut notifier = Notifier { socket: Some(connect(&path).unwrap()), ..Notifier::default() };
        for number in 0..10_000 {
            notifier.status(&number.to_string());
            notifier.alive();
        }
        assert_eq!(notifier.waiting.len(), MAX_WAITING);
        notifier.ready("on");
        let mut told = String::new();
        let mut buffer = [0; 256];
        for _ in 0..10 {
            while let Ok(count) = manager.recv(&mut buffer) {
                told.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
                told.push('\n');
            }
            notifier.alive();
        }
        assert!(told.contains("STATUS=9999\n") && told.contains("READY=1\nSTATUS=on\n"), "{told}");
        drop(manager);
        notifier.stopping();
        assert!(notifier.waiting.is_empty());
    }

    #[test]
    fn abstract_names() {
        let name = format!("pyapm-test-{}", std::process::id());
        let manager =
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name.as_bytes()).unwrap()).unwrap();
        let socket = connect(Path::new(&format!("@{name}"))).unwrap();
        Notifier { socket: Some(socket), ..Notifier::default() }.stopping();
        let mut buffer = [0; 64];
        assert_eq!(manager.recv(&mut buffer).unwrap(), "STOPPING=1".len());
    }
}
