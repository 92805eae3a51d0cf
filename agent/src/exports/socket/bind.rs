//! The listening end: made with its owner and mode, taken over from a service that died, removed at the end.

use super::client;
use crate::config::Service;
use crate::exports::Overviews;
use anyhow::Context;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Bound, with nobody let in yet.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    clients: usize,
    /// Removed with it.
    _file: File,
}

#[derive(Debug)]
struct File(PathBuf);

impl Drop for File {
    fn drop(&mut self) {
        // Somebody has tidied up already, or the folder is gone.
        let _gone_already = std::fs::remove_file(&self.0);
    }
}

impl Socket {
    /// # Errors
    /// When another service listens there, the group is unknown, or the system refuses.
    pub fn bind(settings: &Service) -> anyhow::Result<Self> {
        let path = &settings.socket;
        let group = match &settings.socket_group {
            Some(name) => {
                let group = nix::unistd::Group::from_name(name).context("cannot read the list of groups")?;
                Some(group.with_context(|| format!("there is no group `{name}`"))?.gid)
            }
            None => None,
        };
        make_folder(path)?;
        take_over(path)?;
        // The process's mask lets nobody else in until the mode says so.
        let listener = UnixListener::bind(path).context("the system refused")?;
        let file = File(path.clone());
        nix::unistd::chown(path, None, group).context("cannot give it to the group")?;
        let mode = if group.is_some() { 0o660 } else { 0o600 };
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
            .context("cannot set its mode")?;
        Ok(Self { listener, clients: settings.socket_clients as usize, _file: file })
    }

    /// Serves clients until nothing more is published.
    ///
    /// # Errors
    /// When the system takes the socket away.
    pub async fn serve(self, overviews: Overviews) -> anyhow::Result<()> {
        let room = Arc::new(Semaphore::new(self.clients));
        let mut clients = JoinSet::new();
        let mut end = overviews.clone();
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => match Arc::clone(&room).try_acquire_owned() {
                        Ok(place) => {
                            let overviews = overviews.clone();
                            clients.spawn(async move {
                                client::serve(stream, overviews).await;
                                drop(place);
                            });
                        }
                        // It learns of it as of any end.
                        Err(_no_room) => tracing::debug!("a client of the socket was turned away"),
                    },
                    // A client that has left already, or too many open files: the listener is as it was.
                    Err(error) => {
                        tracing::debug!(%error, "a client of the socket could not be taken");
                        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    }
                },
                Some(_ended) = clients.join_next() => {}
                overview = end.next() => if overview.is_none() { break },
            }
        }
        // Each has seen the end, too, or has so long to take its last line.
        let farewell = async { while clients.join_next().await.is_some() {} };
        let _in_time = tokio::time::timeout(std::time::Duration::from_secs(1), farewell).await;
        Ok(())
    }
}

/// The folder below `/run` is gone after a boot.
fn make_folder(path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    let Some(folder) = path.parent().filter(|folder| !folder.exists()) else { return Ok(()) };
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o755).create(folder);
    made.with_context(|| format!("cannot make `{}`", folder.display()))?;
    // The mask of this process is narrower; what is inside has modes of its own.
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))
        .with_context(|| format!("cannot set the mode of `{}`", folder.display()))
}

/// A socket that nobody listens on was left by a service that was killed.
fn take_over(path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::FileTypeExt as _;
    let Ok(there) = std::fs::symlink_metadata(path) else { return Ok(()) };
    anyhow::ensure!(there.file_type().is_socket(), "there is something else than a socket");
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => anyhow::bail!("another service listens there"),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).context("cannot remove what a former service left")
        }
        Err(error) => Err(error).context("cannot tell whether another service listens there"),
    }
}
