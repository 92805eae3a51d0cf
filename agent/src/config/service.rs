//! `[service]`: the daemon itself.

use super::section::{Checked, Wrong, section};
use std::path::PathBuf;

section! {
    /// The daemon itself.
    pub struct Service {
        /// Nothing is attached to any process while this is false. The same is had at once, without a change of this
        /// file, by SIGUSR1 (until the next SIGHUP), and by the file `kill_switch` for as long as it exists.
        enabled: bool = true,
        /// Looked for each second. Remove it, and the service goes on.
        kill_switch: PathBuf = "/run/pyapm/off".into(),
        /// The unix socket that `pyapm top` reads. An empty text: none. A change needs a restart.
        socket: PathBuf = "/run/pyapm/pyapm.sock".into(),
        /// A group whose members may use the socket, next to root; its mode is then 0660, else 0600. As `socket`.
        socket_group: Option<String> = None => "\"adm\"",
        /// Clients of the socket at one time; more are turned away. As `socket`.
        socket_clients: u32 = 16,
    }
}

impl Checked for Service {
    fn check(&self) -> Vec<Wrong> {
        let mut wrong = Vec::new();
        if !(self.socket.as_os_str().is_empty() || self.socket.is_absolute()) {
            wrong.push(Wrong::key("socket", "not an absolute path"));
        }
        if !self.kill_switch.is_absolute() {
            wrong.push(Wrong::key("kill_switch", "not an absolute path"));
        }
        if !(1..=1024).contains(&self.socket_clients) {
            wrong.push(Wrong::key("socket_clients", "not from 1 to 1024"));
        }
        wrong
    }
}
