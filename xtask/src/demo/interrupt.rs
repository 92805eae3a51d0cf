//! Ctrl-C, SIGTERM and SIGHUP as a flag: the program goes on to its end, and on the way there drops its guards.

use anyhow::{Context, Result};
use harness::wait::INTERRUPTED;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use std::sync::atomic::Ordering;

/// From now on these signals set the flag and do nothing else. Programs started later have the default again.
///
/// # Errors
/// When the system refuses.
pub fn catch() -> Result<()> {
    // Without SA_RESTART, so that waiting for a child is interrupted too.
    let action = SigAction::new(SigHandler::Handler(note), SaFlags::empty(), SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler stores to an atomic, which is all that signal-safety(7) asks for.
        unsafe { sigaction(signal, &action) }.with_context(|| format!("could not catch {signal}"))?;
    }
    Ok(())
}

/// Whether one of them has come.
#[must_use]
pub fn seen() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

extern "C" fn note(_signal: i32) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}
