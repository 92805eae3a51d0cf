//! The thread that reads the terminal: reading blocks, so it cannot live on the runtime's own threads. It
//! hands events on and gives them no meaning.

use crossterm::event::{self, Event};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::mpsc;

/// Events waiting for the loop. When it is full the thread waits, and further presses stay in the
/// terminal's own buffer: none is lost.
const BOUND: usize = 64;

/// How long the thread sleeps before it looks whether it should end.
const WAIT: Duration = Duration::from_millis(100);

/// How often, a hundredth of a second apart, the view looks whether the thread has ended.
const PATIENCE: u32 = 50;

/// The thread, until it is dropped.
pub(crate) struct Keyboard {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Keyboard {
    /// After an error nothing follows.
    pub(crate) fn start() -> io::Result<(Self, mpsc::Receiver<io::Result<Event>>)> {
        let (sender, events) = mpsc::channel(BOUND);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("pyapm-keyboard".to_owned()).spawn(move || {
            if let Err(error) = read(&stopped, &sender) {
                // Refused when the view has ended meanwhile, and then nobody needs it.
                let _ = sender.blocking_send(Err(error));
            }
        })?;
        Ok((Self { stop, thread: Some(thread) }, events))
    }
}

impl Drop for Keyboard {
    /// Waits for the thread, so that what is typed from now on reaches the shell, but not for ever: it would
    /// be the one thing that keeps the process alive after its terminal has gone.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else { return };
        for _ in 0..PATIENCE {
            if thread.is_finished() {
                // It can only have failed by a panic, which the hook has shown.
                let _ = thread.join();
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Reads until `stop`, or until nobody listens.
fn read(stop: &AtomicBool, sender: &mpsc::Sender<io::Result<Event>>) -> io::Result<()> {
    while !stop.load(Ordering::Relaxed) {
        // Asked each time, because crossterm 0.29 (`event/source/unix/tty.rs`) takes an end of file for "no
        // bytes yet": after a hang-up it would only ever time out, and keep a processor busy with it.
        if hung_up()? {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "the terminal has hung up"));
        }
        if event::poll(WAIT)? && sender.blocking_send(Ok(event::read()?)).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Whether the terminal's window was closed, or the connection to it broke.
fn hung_up() -> io::Result<bool> {
    let (stdin, stdout) = (io::stdin(), io::stdout());
    // Where the keyboard is; with other input than a terminal it is the one that is drawn on.
    let terminal = if stdin.is_terminal() { stdin.as_fd() } else { stdout.as_fd() };
    // Nothing is asked for: these conditions are always reported.
    let mut descriptors = [PollFd::new(terminal, PollFlags::empty())];
    match poll(&mut descriptors, PollTimeout::ZERO) {
        Ok(_) => {}
        Err(Errno::EINTR) => return Ok(false),
        Err(error) => return Err(error.into()),
    }
    let gone = PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL;
    Ok(descriptors[0].revents().is_some_and(|events| events.intersects(gone)))
}
