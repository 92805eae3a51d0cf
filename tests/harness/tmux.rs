//! A real terminal emulator with a screen that can be read: one tmux server of one's own, ended with its guard.

use crate::place;
use crate::wait;
use anyhow::{Context, Result, bail};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// A terminal with one shell in it.
#[derive(Debug)]
pub struct Terminal {
    folder: TempDir,
}

impl Terminal {
    /// Opens a terminal of this size.
    ///
    /// # Errors
    /// When tmux is not installed.
    pub fn open(columns: u16, rows: u16) -> Result<Self> {
        let folder =
            tempfile::Builder::new().prefix("pyapm-tty-").tempdir().context("no temporary folder")?;
        let terminal = Self { folder };
        let (columns, rows) = (columns.to_string(), rows.to_string());
        let shell = "env PS1='prompt> ' TERM=xterm-256color sh";
        terminal.tmux(&["new-session", "-d", "-x", &columns, "-y", &rows, shell])?;
        terminal.wait_for("prompt>")?;
        Ok(terminal)
    }

    /// Types a line.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn type_line(&self, line: &str) -> Result<()> {
        self.tmux(&["send-keys", "-l", line])?;
        self.press("Enter")
    }

    /// Presses one key, by tmux's name for it.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn press(&self, key: &str) -> Result<()> {
        self.tmux(&["send-keys", key]).map(drop)
    }

    /// Makes the terminal another size.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn resize(&self, columns: u16, rows: u16) -> Result<()> {
        self.tmux(&["resize-window", "-x", &columns.to_string(), "-y", &rows.to_string()]).map(drop)
    }

    /// What the screen shows, without colours.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn screen(&self) -> Result<String> {
        self.tmux(&["capture-pane", "-p"])
    }

    /// What the screen shows, with the sequences that colour it.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn screen_with_colours(&self) -> Result<String> {
        self.tmux(&["capture-pane", "-p", "-e"])
    }

    /// Waits until the screen shows these words, and returns it.
    ///
    /// # Errors
    /// When they do not come; the screen is in the error.
    pub fn wait_for(&self, words: &str) -> Result<String> {
        self.wait_until(&format!("`{words}` on the screen"), |screen| screen.contains(words))
    }

    /// Waits until the screen satisfies a condition, and returns it.
    ///
    /// # Errors
    /// When it does not; the screen is in the error.
    pub fn wait_until(&self, what: &str, condition: impl Fn(&str) -> bool) -> Result<String> {
        let mut last = String::new();
        let seen = wait::until(what, || {
            last = self.screen()?;
            Ok(condition(&last).then(|| last.clone()))
        });
        seen.with_context(|| format!("the screen shows:\n{last}"))
    }

    fn tmux(&self, arguments: &[&str]) -> Result<String> {
        let output = Command::new(place::system_program("tmux")?)
            .args(["-f", "/dev/null", "-S"])
            .arg(self.folder.path().join("tmux.sock"))
            .args(arguments)
            .env_remove("TMUX")
            .stdin(Stdio::null())
            .output()
            .context("could not start `tmux`")?;
        if !output.status.success() {
            bail!(
                "`tmux {}` failed: {}",
                arguments.join(" "),
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It fails only when the server has ended already.
        let _ended = self.tmux(&["kill-server"]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_shows_what_is_written_to_it() {
        let terminal = Terminal::open(80, 24).unwrap();
        terminal.type_line("stty size").unwrap();
        assert!(terminal.wait_for("24 80").is_ok());
    }
}
