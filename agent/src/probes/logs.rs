//! Log lines of the BPF programs, from their cold paths only, passed on to this process's own log.

use super::load::Probes;
use aya_log::EbpfLogger;

/// The reading end; polled by its owner.
pub struct Logs(EbpfLogger<&'static dyn log::Log>);

impl Probes {
    /// `None` when the programs were built without log lines.
    pub fn logs(&mut self) -> Option<Logs> {
        match EbpfLogger::init(&mut self.ebpf) {
            Ok(logger) => Some(Logs(logger)),
            Err(error) => {
                tracing::debug!("no log lines from the BPF programs: {error}");
                None
            }
        }
    }
}

impl Logs {
    /// Passes on what has come in.
    pub fn pass_on(&mut self) {
        self.0.flush();
    }
}
