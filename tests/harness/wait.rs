//! Waiting for something to become true. A test never sleeps for a guessed time: it waits for the thing itself, and
//! says what did not come.

use anyhow::{Result, bail};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Longer than anything takes on a loaded machine, or under emulation. Nothing waits for it to pass.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// Set by whoever catches signals: nothing is waited for any more, so that all guards are dropped soon.
pub static INTERRUPTED: AtomicBool = AtomicBool::new(false);
const INTERVAL: Duration = Duration::from_millis(10);

/// Asks again and again until the answer is there.
///
/// # Errors
/// When the answer is an error, or has not come after [`PATIENCE`], or [`INTERRUPTED`] was set.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if INTERRUPTED.load(Ordering::Relaxed) {
            bail!("interrupted while waiting for {what}");
        }
        if Instant::now() > end {
            bail!("waited {} s in vain for {what}", PATIENCE.as_secs());
        }
        std::thread::sleep(INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_until_the_answer_is_there() {
        let mut left = 3;
        let answer = until("zero", || {
            left -= 1;
            Ok((left == 0).then_some("there"))
        });
        assert_eq!(answer.unwrap(), "there");
    }

    #[test]
    fn an_error_ends_the_waiting() {
        assert!(until::<()>("nothing", || bail!("broken")).is_err());
    }
}
