//! Attaches the programs, family by family. Only families that some target needs are attached.

use super::exceptions::PROGRAM as EXCEPTION_PROGRAM;
use super::load::{OffCpu, ProbeError, Probes};
use super::resolver;
use super::sqlite::SqliteProgram;
use super::tls::TlsProgram;
use super::tracefs::TraceFs;
use super::tracepoint;
use aya::programs::perf_event::{PerfEventConfig, PerfEventScope, SamplePolicy, SoftwareEvent};
use aya::programs::uprobe::UProbeScope;
use aya::programs::{PerfEvent, RawTracePoint, TracePoint, UProbe};
use aya::util::online_cpus;
use pyapm_wire::settings::IO_COPIES;
use std::os::fd::AsFd as _;
use std::path::PathBuf;

/// Program, category and tracepoint of the families that every target needs.
const LIFECYCLE: [(&str, &str, &str); 3] = [
    ("process_fork", "task", "task_newtask"),
    ("process_exec", "sched", "sched_process_exec"),
    ("process_exit", "sched", "sched_process_exit"),
];

/// The same of what any process of the host may do.
const ANNOUNCEMENTS: [(&str, &str, &str); 2] =
    [("any_started", "sched", "sched_process_exec"), ("any_listens", "syscalls", "sys_exit_listen")];

/// The one program behind all system calls that move bytes on sockets, or end a descriptor.
///
/// In copies: see `ebpf/src/io.rs` for the kernels on which more than the first is attached.
const IO_PROGRAMS: [&str; IO_COPIES as usize] = ["syscall_exit", "syscall_exit_second", "syscall_exit_third"];
const IO_CALLS: [&str; 12] = [
    "read",
    "write",
    "readv",
    "writev",
    "recvfrom",
    "sendto",
    "recvmsg",
    "sendmsg",
    "sendfile64",
    "close",
    "dup2",
    "dup3",
];

/// Programs at the two ends of making a connection, and the tracepoints that they run on.
const CONNECT_PROGRAMS: [(&str, &[&str]); 2] = [
    ("connect_begins", &["sys_enter_connect"]),
    ("connect_goes_on", &["sys_exit_connect", "sys_exit_getsockopt"]),
];

/// What reports new contexts: copies, and empty ones.
const CONTEXT_PROGRAMS: [&str; 2] = ["context_copied", "context_empty"];
/// Programs on the scheduler's switch, of which one is attached at most.
const OFF_CPU_TIMES: &str = "sched_switch_times";
const OFF_CPU_STACKS: &str = "sched_switch";

const QUEUED_PROGRAM: &str = "write_queued";
const CODE_DEATHS_PROGRAM: &str = "code_given_up";
/// New greenlets.
const GREENLET_PROGRAM: &str = "greenlet_made";
const SAMPLE_PROGRAM: &str = "cpu_sample";

/// Programs at the two ends of a loop's waiting, and the calls that they wait by.
const LOOP_PROGRAMS: [(&str, &str); 2] = [("loop_waits", "sys_enter"), ("loop_turns", "sys_exit")];
const LOOP_CALLS: [&str; 2] = ["epoll_wait", "epoll_pwait"];

/// Where a uprobe goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UprobeSite {
    /// A path by which the file can be opened from here.
    pub path: PathBuf,
    pub file_offset: u64,
}

impl Probes {
    /// Processes that come and go. Attached first: children of a target are followed from then on.
    ///
    /// # Errors
    /// When the kernel refuses a program or an attachment.
    pub fn attach_lifecycle(&mut self) -> Result<(), ProbeError> {
        for (program, category, name) in LIFECYCLE {
            self.tracepoint(program, category, name)?;
        }
        Ok(())
    }

    /// Processes, targets or not, that start a program or begin to listen.
    ///
    /// # Errors
    /// As [`Self::attach_lifecycle`].
    pub fn attach_announcements(&mut self) -> Result<(), ProbeError> {
        for (program, category, name) in ANNOUNCEMENTS {
            self.tracepoint(program, category, name)?;
        }
        Ok(())
    }

    /// Has the kernel verify at the same time what every application needs, before the first one is watched.
    pub fn verify_what_is_always_needed(&mut self) {
        let heavy: Vec<&str> = self.heavy_programs().collect();
        self.verify(|name| heavy.contains(&name));
    }

    /// Bytes on sockets.
    ///
    /// # Errors
    /// As [`Self::attach_lifecycle`].
    pub fn attach_io(&mut self) -> Result<(), ProbeError> {
        // Programs of one tracepoint run in the order in which they were attached.
        for program in self.io_programs() {
            for call in IO_CALLS {
                self.tracepoint(program, "syscalls", &format!("sys_exit_{call}"))?;
            }
        }
        Ok(())
    }

    /// How long connections take to be made.
    ///
    /// # Errors
    /// As [`Self::attach_lifecycle`].
    pub fn attach_connects(&mut self) -> Result<(), ProbeError> {
        for (program, calls) in CONNECT_PROGRAMS {
            for call in calls {
                self.tracepoint(program, "syscalls", call)?;
            }
        }
        Ok(())
    }

    /// On-CPU samples, `rate_hz` a second on every CPU that is online.
    ///
    /// # Errors
    /// As [`Self::attach_lifecycle`].
    pub fn attach_sampling(&mut self, rate_hz: u32) -> Result<(), ProbeError> {
        const PROGRAM: &str = SAMPLE_PROGRAM;
        let failed = |what: String| {
            move |source| ProbeError::Attach { program: PROGRAM, what, source: Box::new(source) }
        };
        self.load_program(PROGRAM)?;
        let program: &mut PerfEvent = self.program(PROGRAM)?;
        let cpus =
            online_cpus().map_err(|(what, source)| ProbeError::Cpus { what: what.to_owned(), source })?;
        let mut links = Vec::new();
        for cpu in cpus {
            let link = program
                .attach(
                    PerfEventConfig::Software(SoftwareEvent::CpuClock),
                    PerfEventScope::AllProcessesOneCpu { cpu },
                    SamplePolicy::Frequency(u64::from(rate_hz)),
                    false,
                )
                .map_err(failed(format!("the clock of CPU {cpu} at {rate_hz} Hz")))?;
            links.push(link);
        }
        self.clocks = links;
        Ok(())
    }

    /// Samples at another rate from now on; nothing happens where none are taken.
    ///
    /// # Errors
    /// As [`Self::attach_lifecycle`]. There are no samples then.
    pub fn resample(&mut self, rate_hz: u32) -> Result<(), ProbeError> {
        const PROGRAM: &str = SAMPLE_PROGRAM;
        if self.clocks.is_empty() {
            return Ok(());
        }
        let clocks = std::mem::take(&mut self.clocks);
        let program: &mut PerfEvent = self.program(PROGRAM)?;
        for link in clocks {
            // What is not there any more takes no samples.
            let _gone_already = program.detach(link);
        }
        self.attach_sampling(rate_hz)
    }

    /// Time off the CPU, as the setup wants it; nothing if it does not.
    ///
    /// # Errors
    /// As [`Self::attach_lifecycle`].
    pub fn attach_off_cpu(&mut self) -> Result<(), ProbeError> {
        let name = match self.off_cpu {
            OffCpu::None => return Ok(()),
            OffCpu::Times => OFF_CPU_TIMES,
            OffCpu::Stacks => OFF_CPU_STACKS,
        };
        self.load_program(name)?;
        let program: &mut RawTracePoint = self.program(name)?;
        program.attach("sched_switch").map(|_kept_by_the_program| ()).map_err(|source| ProbeError::Attach {
            program: name,
            what: "the raw tracepoint `sched_switch`".to_owned(),
            source: Box::new(source),
        })
    }

    /// Turns of event loops.
    ///
    /// # Errors
    /// As [`Self::attach_lifecycle`].
    pub fn attach_loops(&mut self) -> Result<(), ProbeError> {
        for (program, side) in LOOP_PROGRAMS {
            for call in LOOP_CALLS {
                self.tracepoint(program, "syscalls", &format!("{side}_{call}"))?;
            }
        }
        Ok(())
    }

    /// Statements of the MySQL client library at this place, in every process that maps the file: workers
    /// multiply, the probe does not, and processes that are no targets pay the pid test.
    ///
    /// # Errors
    /// When the kernel refuses the attachment.
    pub fn attach_mysql(&mut self, site: &UprobeSite) -> Result<(), ProbeError> {
        self.attach_uprobe("mysql_query", site)
    }

    /// One probe of a TLS library or of its callers, in every process that maps the file.
    ///
    /// # Errors
    /// When the kernel refuses the attachment.
    pub fn attach_tls(&mut self, program: TlsProgram, site: &UprobeSite) -> Result<(), ProbeError> {
        self.verify(|name| TlsProgram::ALL.iter().any(|one| one.name() == name));
        self.attach_uprobe(program.name(), site)
    }

    /// One probe of SQLite or of its callers, in every process that maps the file.
    ///
    /// # Errors
    /// When the kernel refuses the attachment.
    pub fn attach_sqlite(&mut self, program: SqliteProgram, site: &UprobeSite) -> Result<(), ProbeError> {
        self.verify(|name| SqliteProgram::ALL.iter().any(|one| one.name() == name));
        self.attach_uprobe(program.name(), site)
    }

    /// Lookups of hosts by this C library, in every process that maps the file.
    ///
    /// # Errors
    /// When the kernel refuses a program or an attachment.
    pub fn attach_resolver(
        &mut self,
        path: &std::path::Path,
        sites: &super::ResolverSites,
    ) -> Result<(), ProbeError> {
        let place = |site: super::Site| UprobeSite { path: path.to_owned(), file_offset: site.file_offset };
        for end in &sites.ends {
            self.attach_uprobe(resolver::ENDS, &place(*end))?;
        }
        self.attach_uprobe(resolver::BEGINS, &place(sites.start))
    }

    fn attach_uprobe(&mut self, name: &'static str, site: &UprobeSite) -> Result<(), ProbeError> {
        self.load_program(name)?;
        let program: &mut UProbe = self.program(name)?;
        program
            .attach(site.file_offset, &site.path, UProbeScope::AllProcesses)
            .map(|_kept_by_the_program| ())
            .map_err(|source| ProbeError::Attach {
                program: name,
                what: format!("`{}` at {:#x}", site.path.display(), site.file_offset),
                source: Box::new(source),
            })
    }

    /// New contexts at this place, in every process that maps the file: copies of the current one, or empty ones.
    ///
    /// # Errors
    /// When the kernel refuses the program or the attachment.
    pub fn attach_contexts(&mut self, site: &UprobeSite, empty: bool) -> Result<(), ProbeError> {
        let name = if empty { CONTEXT_PROGRAMS[1] } else { CONTEXT_PROGRAMS[0] };
        self.attach_uprobe(name, site)
    }

    /// Writes that uvloop puts off, told at this place (`PySet_Add`), in every process that maps the file.
    ///
    /// # Errors
    /// When the kernel refuses the program or the attachment.
    pub fn attach_queued(&mut self, site: &UprobeSite) -> Result<(), ProbeError> {
        self.attach_uprobe(QUEUED_PROGRAM, site)
    }

    /// Code objects that are given up at this place, in every process that maps the file.
    ///
    /// # Errors
    /// When the kernel refuses the program or the attachment.
    pub fn attach_code_deaths(&mut self, site: &UprobeSite) -> Result<(), ProbeError> {
        self.attach_uprobe(CODE_DEATHS_PROGRAM, site)
    }

    /// New greenlets, told at this place (the library's `tp_init`), in every process that maps the file.
    ///
    /// # Errors
    /// When the kernel refuses the program or the attachment.
    pub fn attach_greenlets(&mut self, site: &UprobeSite) -> Result<(), ProbeError> {
        self.attach_uprobe(GREENLET_PROGRAM, site)
    }

    fn io_programs(&self) -> &'static [&'static str] {
        IO_PROGRAMS.get(..self.io_copies as usize).unwrap_or(&IO_PROGRAMS)
    }

    /// Those whose verification takes long, of what every application that is watched needs.
    fn heavy_programs(&self) -> impl Iterator<Item = &'static str> + use<> {
        let off_cpu = match self.off_cpu {
            OffCpu::None => None,
            OffCpu::Times => Some(OFF_CPU_TIMES),
            OffCpu::Stacks => Some(OFF_CPU_STACKS),
        };
        self.io_programs().iter().copied().chain([SAMPLE_PROGRAM, EXCEPTION_PROGRAM]).chain(off_cpu)
    }

    fn tracepoint(&mut self, name: &'static str, category: &str, event: &str) -> Result<(), ProbeError> {
        let failed = |source| ProbeError::Tracepoint { tracepoint: format!("{category}:{event}"), source };
        if self.tracefs.is_none() {
            self.tracefs = Some(TraceFs::open().map_err(ProbeError::TraceFs)?);
        }
        let Some(tracefs) = &self.tracefs else { return Err(ProbeError::Missing { what: "tracefs" }) };
        let number = tracefs.number(category, event).map_err(failed)?;
        self.load_program(name)?;
        let program: &mut TracePoint = self.program(name)?;
        let descriptor = program.fd().map_err(refused(name))?.as_fd().try_clone_to_owned().map_err(failed)?;
        let attached = tracepoint::attach(number, descriptor.as_fd()).map_err(failed)?;
        self.tracepoints.push(attached);
        Ok(())
    }

    pub(super) fn program<'a, T>(&'a mut self, name: &'static str) -> Result<&'a mut T, ProbeError>
    where
        &'a mut T: TryFrom<&'a mut aya::programs::Program>,
    {
        self.ebpf
            .program_mut(name)
            .and_then(|program| program.try_into().ok())
            .ok_or(ProbeError::Missing { what: name })
    }
}

pub(super) fn refused(program: &'static str) -> impl FnOnce(aya::programs::ProgramError) -> ProbeError {
    move |source| ProbeError::Program { program: program.to_owned(), source: Box::new(source) }
}
