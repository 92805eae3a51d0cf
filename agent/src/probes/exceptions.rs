//! The probe of exceptions: attached to an interpreter's file, in every process that maps it; and taken away for a
//! while when a program raises so many that the probe itself would be a burden.

use super::attach::{UprobeSite, refused};
use super::load::{ProbeError, Probes};
use aya::programs::UProbe;
use aya::programs::uprobe::{UProbeLinkId, UProbeScope};

pub(super) const PROGRAM: &str = "exception_passes";

/// What is attached, until it is given to [`Probes::detach_exceptions`] or everything goes.
#[derive(Debug)]
pub struct ExceptionProbe(UProbeLinkId);

impl Probes {
    /// # Errors
    /// When the kernel refuses the program or the attachment.
    pub fn attach_exceptions(&mut self, site: &UprobeSite) -> Result<ExceptionProbe, ProbeError> {
        self.load_program(PROGRAM)?;
        let program: &mut UProbe = self.program(PROGRAM)?;
        let link = program.attach(site.file_offset, &site.path, UProbeScope::AllProcesses);
        link.map(ExceptionProbe).map_err(|source| ProbeError::Attach {
            program: PROGRAM,
            what: format!("`{}` at {:#x}", site.path.display(), site.file_offset),
            source: Box::new(source),
        })
    }

    /// # Errors
    /// When the kernel refuses.
    pub fn detach_exceptions(&mut self, probe: ExceptionProbe) -> Result<(), ProbeError> {
        let program: &mut UProbe = self.program(PROGRAM)?;
        program.detach(probe.0).map_err(refused(PROGRAM))
    }
}
