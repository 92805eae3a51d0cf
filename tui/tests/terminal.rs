//! The view in a terminal: a pseudo terminal with an emulator behind it, a keyboard, and sizes that change.
//! What render tests cannot see: that the screen is taken over, that keys arrive, and that the terminal is
//! given back after quitting, after a signal, after a panic and after a hang-up.
//!
//! The test runs itself again as the program in the terminal, so that it tests what was just built.

#![expect(clippy::unwrap_used, reason = "a test without the harness: the lint does not see that it is one")]

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::termios::{Termios, tcgetattr};
use pyapm_model::line::{Span, Transaction};
use pyapm_model::recent::{Point, Recent, Whole};
use pyapm_model::snapshot::Snapshot;
use pyapm_tui::{Exit, Local, ViewOptions, run};
use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZero;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Says which part this process plays.
const ROLE: &str = "PYAPM_TEST_VIEW";

/// When the awaited screen has not come by then, the test fails and shows the one that is there.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() {
    match std::env::var(ROLE).ok().as_deref() {
        None => {
            let tests: [(&str, fn()); 5] = [
                ("keys_sizes_and_quitting", keys_sizes_and_quitting),
                ("the_mouse_chooses_dots", the_mouse_chooses_dots),
                ("a_signal_ends_the_view", a_signal_ends_the_view),
                ("a_panic_is_readable_afterwards", a_panic_is_readable_afterwards),
                ("a_hang_up_ends_the_view", a_hang_up_ends_the_view),
            ];
            let mut out = std::io::stdout();
            for (name, test) in tests {
                test();
                writeln!(out, "test {name} ... ok").unwrap();
            }
            writeln!(out, "\ntest result: ok. {} passed; 0 failed", tests.len()).unwrap();
        }
        Some(role) => program(role),
    }
}

/// The program in the terminal.
fn program(role: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let exit = runtime.block_on(async {
        let mut snapshot: Snapshot = serde_json::from_str(include_str!("../fixtures/shop.json")).unwrap();
        snapshot.recent = recent(snapshot.taken_ns);
        let (sender, receiver) = watch::channel(Arc::new(Snapshot::default()));
        sender.send(Arc::new(snapshot)).unwrap();
        // Without a handler a hang-up would kill the process before the view can notice anything.
        let _hangup = signal(SignalKind::hangup()).unwrap();
        let mut terminate = signal(SignalKind::terminate()).unwrap();
        let shutdown = async {
            terminate.recv().await;
            assert_ne!(role, "panic", "the panic that was asked for");
        };
        run(Local::new(receiver), ViewOptions::default(), shutdown).await
    });
    match (role, exit) {
        ("quit", Ok(Exit::Quit)) | ("signal", Ok(Exit::Shutdown)) | ("hang-up", Err(_)) => {}
        (role, exit) => panic!("{role}: {exit:?}"),
    }
}

/// A minute with a dot each second, the slowest in the middle; that one is whole.
fn recent(taken_ns: u64) -> Recent {
    let point = |number: u64| Point {
        number,
        ended_ns: taken_ns - 60_000_000_000 + number * 1_000_000_000,
        duration_ns: if number == 30 { 950_000_000 } else { 20_000_000 },
        name: "GET /slow".into(),
        status: Some(200),
        is_error: false,
        pid: 7,
        is_whole: number == 30,
    };
    let span = Span {
        name: "SELECT ages".into(),
        db_query: Some("SELECT * FROM ages WHERE era = ?".into()),
        start_ns: taken_ns,
        duration_ns: 900_000_000,
        ..Span::default()
    };
    let transaction = Transaction {
        name: "GET /slow".to_owned(),
        start_ns: taken_ns,
        duration_ns: 950_000_000,
        spans: vec![span],
        ..Transaction::default()
    };
    Recent {
        seconds: vec![Arc::new((1..=60).map(point).collect())],
        whole: [Whole { number: 30, transaction: Arc::new(transaction) }].into(),
        left_out: 0,
    }
}

fn cells(number: u16) -> NonZero<u16> {
    NonZero::new(number).unwrap()
}

struct Terminal {
    emulator: vt100::Parser,
    /// The emulator's end: keys go in, the screen comes out. `None` once the window is closed.
    master: Option<File>,
    /// Kept open, so that the terminal's settings can be read when the program has gone.
    slave: OwnedFd,
    before: Termios,
    child: Child,
}

impl Terminal {
    fn start(role: &str, rows: u16, columns: u16) -> Self {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let OpenptyResult { master, slave } = openpty(Some(&size), None).unwrap();
        // A copy of the emulator's end in the child would keep the window open.
        fcntl(&master, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
        let before = tcgetattr(&slave).unwrap();
        let stdio = || slave.try_clone().unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.env(ROLE, role).env_remove("NO_COLOR").env("TERM", "xterm-256color");
        command.env("RUST_BACKTRACE", "0").stdin(stdio()).stdout(stdio()).stderr(stdio());
        // SAFETY: both calls are async-signal-safe and touch nothing of the parent's. They make the terminal
        // the child's own, without which no resize or hang-up would be signalled to it.
        unsafe {
            command.pre_exec(|| {
                if libc::setsid() == -1 || libc::ioctl(0, libc::TIOCSCTTY, 0) == -1 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        let child = command.spawn().unwrap();
        // It holds copies of the slave; a hang-up needs them closed.
        drop(command);
        let emulator = vt100::Parser::new(cells(rows), cells(columns), 0);
        Self { emulator, master: Some(File::from(master)), slave, before, child }
    }

    fn master(&self) -> &File {
        self.master.as_ref().unwrap()
    }

    /// Feeds the emulator with what the program has written, waiting for a moment.
    fn look(&mut self) {
        let Some(mut master) = self.master.as_ref() else {
            std::thread::sleep(Duration::from_millis(20));
            return;
        };
        let mut ready = [PollFd::new(master.as_fd(), PollFlags::POLLIN)];
        poll(&mut ready, PollTimeout::from(20_u8)).unwrap();
        if ready[0].revents().is_some_and(|events| events.contains(PollFlags::POLLIN)) {
            let mut bytes = [0; 4096];
            let length = master.read(&mut bytes).unwrap();
            self.emulator.process(&bytes[..length]);
        }
    }

    fn wait_for(&mut self, what: &str, is_so: impl Fn(&vt100::Screen) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(self.emulator.screen()) {
            if Instant::now() > deadline {
                panic!("never came: {what}\n{}", self.emulator.screen().contents());
            }
            self.look();
        }
    }

    fn wait_for_text(&mut self, text: &str) {
        self.wait_for(text, |screen| screen.contents().contains(text));
    }

    fn press(&mut self, keys: &str) {
        self.master().write_all(keys.as_bytes()).unwrap();
    }

    fn resize(&mut self, rows: u16, columns: u16) {
        self.emulator.screen_mut().set_size(cells(rows), cells(columns));
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: TIOCSWINSZ reads one `winsize` through the pointer, which outlives the call.
        let result = unsafe { libc::ioctl(self.master().as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
        assert_eq!(result, 0);
    }

    fn terminate(&self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().try_into().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    }

    fn ends(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            // A program whose output nobody reads could wait for that.
            self.look();
        }
        panic!("the view does not end\n{}", self.emulator.screen().contents());
    }

    /// As the shell found it.
    fn is_given_back(&mut self) {
        self.wait_for("the shell's own screen, with a cursor", |screen| {
            !screen.alternate_screen() && !screen.hide_cursor()
        });
        assert_eq!(tcgetattr(&self.slave).unwrap(), self.before, "settings of the terminal");
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Only a failed test leaves it running.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn keys_sizes_and_quitting() {
    let mut terminal = Terminal::start("quit", 24, 80);
    terminal.wait_for_text("POST /checkout");
    terminal.wait_for_text("q quit");
    assert!(terminal.emulator.screen().alternate_screen() && terminal.emulator.screen().hide_cursor());
    assert_ne!(tcgetattr(&terminal.slave).unwrap(), terminal.before, "raw mode");
    terminal.press("?");
    terminal.wait_for_text("Keys and marks");
    terminal.press("\x1b");
    terminal.wait_for("the help closed", |screen| !screen.contents().contains("Keys and marks"));
    terminal.press("/users\r");
    terminal.wait_for_text("Routes 1 of 12 /u");
    terminal.press("r");
    terminal.wait_for_text("Routes 12");
    // An arrow key is three bytes, of which the first alone would mean Escape.
    terminal.press("\x1b[Bi");
    terminal.wait_for_text("statuses");
    terminal.press("\x1b");
    terminal.resize(50, 200);
    terminal.wait_for_text("Statements 6");
    terminal.wait_for_text("Workers 4");
    terminal.resize(10, 40);
    terminal.wait_for_text("40x10, needs 60x12");
    terminal.resize(24, 80);
    terminal.wait_for_text("Active 4");
    terminal.press("q");
    assert_eq!(terminal.ends().code(), Some(0));
    terminal.is_given_back();
}

/// A rectangle is drawn around the slowest dot, which is looked into; then the mouse is the terminal's again.
fn the_mouse_chooses_dots() {
    let mut terminal = Terminal::start("quit", 40, 120);
    terminal.wait_for_text("POST /checkout");
    let follows =
        |screen: &vt100::Screen| screen.mouse_protocol_mode() == vt100::MouseProtocolMode::ButtonMotion;
    assert!(!follows(terminal.emulator.screen()));
    terminal.press("3");
    terminal.wait_for_text("60 dots");
    terminal.wait_for("the mouse followed", follows);
    // Pressed in the upper left corner, dragged, and let go in the middle on the right: xterm's SGR form, counted from 1.
    terminal.press("\x1b[<0;12;6M\x1b[<32;60;12M");
    terminal.wait_for_text("in the rectangle");
    terminal.press("\x1b[<32;115;25M\x1b[<0;115;25m");
    terminal.wait_for_text("Transactions of 950 ms to 950 ms 1");
    terminal.press("\r");
    terminal.wait_for_text("SELECT * FROM ages WHERE era = ?");
    terminal.wait_for("the mouse left alone", |screen| !follows(screen));
    // By keyboard, from the picture on: all dots.
    terminal.press("3a\r");
    terminal.wait_for_text("Transactions of 20.0 ms to 950 ms 60");
    terminal.press("3q");
    assert_eq!(terminal.ends().code(), Some(0));
    terminal.is_given_back();
    assert!(!follows(terminal.emulator.screen()), "the shell gets the mouse");
}

fn a_signal_ends_the_view() {
    let mut terminal = Terminal::start("signal", 24, 80);
    terminal.wait_for_text("POST /checkout");
    terminal.terminate();
    assert_eq!(terminal.ends().code(), Some(0));
    terminal.is_given_back();
}

fn a_panic_is_readable_afterwards() {
    let mut terminal = Terminal::start("panic", 24, 80);
    terminal.wait_for_text("POST /checkout");
    terminal.terminate();
    assert!(!terminal.ends().success());
    terminal.is_given_back();
    terminal.wait_for_text("the panic that was asked for");
}

fn a_hang_up_ends_the_view() {
    let mut terminal = Terminal::start("hang-up", 24, 80);
    terminal.wait_for_text("POST /checkout");
    // The window is closed, or the connection breaks.
    terminal.master = None;
    assert_eq!(terminal.ends().code(), Some(0));
}
