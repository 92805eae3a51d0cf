//! Takes the terminal over and gives it back: on drop, on an error's way out, and on a panic before its
//! message is printed. Without that, the shell is left without echo, without a cursor and on the wrong screen.

use crossterm::cursor::{Hide, Show};
use crossterm::style::Print;
use crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use std::io::{self, Stdout};
use std::mem::ManuallyDrop;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

/// Buttons and drags, in the form that knows no largest column (xterm's modes 1000, 1002 and 1006). Moves without a button
/// are not asked for: nothing is done with them, and there are many.
const MOUSE_ON: &str = "\x1b[?1000h\x1b[?1002h\x1b[?1006h";
const MOUSE_OFF: &str = "\x1b[?1006l\x1b[?1002l\x1b[?1000l";

/// Whether the terminal is ours at the moment; the panic hook outlives the guard and asks this.
static TAKEN: AtomicBool = AtomicBool::new(false);
static PANIC_HOOK: Once = Once::new();

/// While it lives, the terminal is in raw mode on the alternate screen with its cursor hidden.
pub(crate) struct Guard {
    /// Never dropped: ratatui 0.30 shows the cursor then, which is done here, and when that fails because
    /// the terminal has gone it writes to standard error, which has gone with it, and panics.
    pub(crate) terminal: ManuallyDrop<Terminal<CrosstermBackend<Stdout>>>,
}

impl Guard {
    /// # Errors
    /// When standard output is not a terminal or refuses raw mode; it is left as it was found.
    pub(crate) fn take() -> io::Result<Self> {
        PANIC_HOOK.call_once(|| {
            let previous = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                give_back();
                previous(info);
            }));
        });
        enable_raw_mode()?;
        TAKEN.store(true, Ordering::SeqCst);
        let entered = crossterm::execute!(io::stdout(), EnterAlternateScreen, Hide)
            .and_then(|()| Terminal::new(CrosstermBackend::new(io::stdout())));
        match entered {
            Ok(terminal) => Ok(Self { terminal: ManuallyDrop::new(terminal) }),
            Err(error) => {
                give_back();
                Err(error)
            }
        }
    }
}

/// Has the terminal tell what the mouse does, or leaves the mouse to the terminal: to select text with, for one.
pub(crate) fn follow_mouse(follow: bool) -> io::Result<()> {
    crossterm::execute!(io::stdout(), Print(if follow { MOUSE_ON } else { MOUSE_OFF }))
}

impl Drop for Guard {
    fn drop(&mut self) {
        give_back();
    }
}

/// Undoes [`Guard::take`], once. Errors are dropped on purpose: this runs while unwinding or leaving, when
/// the terminal may be gone already and nobody is left to be told.
fn give_back() {
    if TAKEN.swap(false, Ordering::SeqCst) {
        let _ = crossterm::execute!(io::stdout(), Print(MOUSE_OFF), Show, LeaveAlternateScreen);
        let _ = disable_raw_mode();
    }
}
