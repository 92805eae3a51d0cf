//! Has the kernel verify programs: one when it is about to be attached, or several side by side.

use super::attach::refused;
use super::load::{ProbeError, Probes};
use aya::programs::{Program, ProgramError};

impl Probes {
    /// Has the kernel verify these programs, unless it has, at the same time, each on a thread of its own: that is most of what an attach
    /// takes, and the kernel holds no lock over it for a privileged caller (kernel/bpf/verifier.c, `bpf_check`).
    ///
    /// One that is refused is refused again when it is to be attached, which is where that is told.
    pub(super) fn verify(&mut self, is_wanted: impl Fn(&str) -> bool) {
        std::thread::scope(|scope| {
            for (name, program) in self.ebpf.programs_mut() {
                if is_wanted(name) && program.fd().is_err() {
                    scope.spawn(move || {
                        if let Err(error) = load(program) {
                            tracing::debug!(name, "not verified ahead: {error}");
                        }
                    });
                }
            }
        });
    }

    /// Has the kernel verify every program without attaching any.
    ///
    /// # Errors
    /// When the kernel refuses one.
    pub fn load_all(&mut self) -> Result<(), ProbeError> {
        self.verify(|_| true);
        self.ebpf.programs_mut().try_for_each(|(name, program)| {
            let refused = |source| ProbeError::Program { program: name.to_owned(), source: Box::new(source) };
            load(program).map_err(refused)
        })
    }

    /// Has the kernel verify this program, unless it has.
    pub(super) fn load_program(&mut self, name: &'static str) -> Result<(), ProbeError> {
        let program = self.ebpf.program_mut(name).ok_or(ProbeError::Missing { what: name })?;
        load(program).map_err(refused(name))
    }
}

fn load(program: &mut Program) -> Result<(), ProgramError> {
    match program.fd() {
        Ok(_) => return Ok(()),
        Err(ProgramError::NotLoaded) => {}
        Err(error) => return Err(error),
    }
    match program {
        Program::UProbe(program) => program.load(),
        Program::TracePoint(program) => program.load(),
        Program::RawTracePoint(program) => program.load(),
        Program::PerfEvent(program) => program.load(),
        // The object has programs of these four kinds.
        other => Err(ProgramError::UnexpectedProgramType).inspect_err(|_| {
            tracing::error!("a program of type {:?} has nobody who loads it", other.prog_type());
        }),
    }
}
