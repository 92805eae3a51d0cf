//! Loads the embedded BPF object: built from `ebpf/` by `cargo xtask bpf`, committed, proved to be what the
//! source builds by `cargo xtask bpf --check`.

use super::Tables;
use super::mapped::Mapped;
use super::tracefs::TraceFs;
use aya::maps::{HashMap, Map, MapData, RingBuf};
use aya::{Ebpf, EbpfLoader};
use pyapm_wire::connection::{HINT_SLOTS, Hint};
use pyapm_wire::count;
use pyapm_wire::exception::PLACES;
use pyapm_wire::settings::Settings;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::PathBuf;

/// The object needs the alignment that ELF structs have in memory.
static OBJECT: &[u8] = aya::include_bytes_aligned!("pyapm.bpf.o");

/// The ring buffer's reading end.
pub type Ring = RingBuf<MapData>;

#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error("the kernel refused to load the BPF object")]
    Load(#[source] aya::EbpfError),
    #[error("the kernel refused the BPF program `{program}`")]
    Program {
        program: String,
        #[source]
        source: Box<aya::programs::ProgramError>,
    },
    #[error("the BPF program `{program}` could not be attached to {what}")]
    Attach {
        program: &'static str,
        what: String,
        #[source]
        source: Box<aya::programs::ProgramError>,
    },
    #[error(
        "cannot open tracefs, which numbers the tracepoints: try `mount -t tracefs none /sys/kernel/tracing`"
    )]
    TraceFs(#[source] std::io::Error),
    #[error("cannot attach to the tracepoint `{tracepoint}`")]
    Tracepoint {
        tracepoint: String,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot tell which CPUs are online (`{what}`)")]
    Cpus {
        what: String,
        #[source]
        source: std::io::Error,
    },
    #[error("the BPF map `{map}` could not be opened or written")]
    Map {
        map: &'static str,
        #[source]
        source: aya::maps::MapError,
    },
    #[error("the BPF map `{map}` could not be mapped into memory")]
    Mapping {
        map: &'static str,
        #[source]
        source: std::io::Error,
    },
    #[error("the BPF object has no `{what}`: it was not built from this source")]
    Missing { what: &'static str },
    #[error("cannot use `{path}` for probes")]
    Site {
        path: PathBuf,
        #[source]
        source: super::SiteError,
    },
}

/// What holds for the whole run.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Kernel offsets; `wakeup_bytes` is filled in here.
    pub settings: Settings,
    /// Bytes of the ring buffer; rounded up to a power of two of at least a page.
    pub ring_bytes: u32,
    /// Native stacks are sent with samples.
    pub native: bool,
    pub off_cpu: OffCpu,
}

/// What the kernel half tells of the time in which threads are off the CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OffCpu {
    /// Nothing: the program is not attached, and its map takes no memory.
    #[default]
    None,
    /// How long, and why.
    Times,
    /// And where in the Python code.
    Stacks,
}

/// A loaded kernel half. Everything it attached goes with it, also when this process is killed: programs,
/// links and perf events live only as long as their descriptors.
pub struct Probes {
    /// Before the programs, so that they are detached first.
    pub(super) tracepoints: Vec<OwnedFd>,
    pub(super) ebpf: Ebpf,
    pub(super) io_copies: u32,
    /// The sampling program on each CPU.
    pub(super) clocks: Vec<aya::programs::perf_event::PerfEventLinkId>,
    /// While it is held, the kernel counts what programs cost.
    pub(super) costs: Option<OwnedFd>,
    pub(super) off_cpu: OffCpu,
    loop_blocked_ms: u32,
    /// Stacks are known by their frames where code objects that are given up are told.
    code_deaths: bool,
    /// Opened when the first tracepoint is attached.
    pub(super) tracefs: Option<TraceFs>,
}

impl Probes {
    /// # Errors
    /// When the kernel refuses the object; the verifier's words are in the error chain.
    pub fn load(setup: Setup) -> Result<Self, ProbeError> {
        let ring_bytes = setup.ring_bytes.clamp(4096, 1 << 30).next_power_of_two();
        let mut settings = setup.settings;
        // Wake the reader early only when a quarter is full; else its timer is soon enough.
        settings.wakeup_bytes = ring_bytes / 4;
        settings.native = setup.native.into();
        let bytes = bytemuck::bytes_of(&settings);
        // Those that may yet be plugged in too.
        let cpus = aya::util::nr_cpus()
            .map_err(|(what, source)| ProbeError::Cpus { what: what.to_owned(), source })?;
        let cpus = u32::try_from(cpus).unwrap_or(u32::MAX).max(1);
        let mut loader = EbpfLoader::new();
        loader
            .override_global("SETTINGS", bytes, true)
            .map_max_entries("RING", ring_bytes)
            .map_max_entries("SAMPLE_SCRATCH", cpus);
        if setup.native {
            loader.map_max_entries("NATIVE_SCRATCH", cpus);
        }
        if setup.off_cpu == OffCpu::None {
            loader.map_max_entries("SLEEPERS", 1);
        }
        let ebpf = loader.load(OBJECT).map_err(ProbeError::Load)?;
        Ok(Self {
            tracepoints: Vec::new(),
            ebpf,
            io_copies: settings.io_copies,
            clocks: Vec::new(),
            costs: None,
            off_cpu: setup.off_cpu,
            loop_blocked_ms: settings.loop_blocked_ms,
            code_deaths: settings.code_deaths != 0,
            tracefs: None,
        })
    }

    /// How often the kernel did not run a program because one was already active on that CPU (Linux 5.12
    /// and later count it; 0 before). What would have been seen then is not known.
    #[must_use]
    pub fn skipped(&self) -> Vec<(String, u64)> {
        let programs = self.ebpf.programs();
        programs
            .filter_map(|(name, program)| {
                let fd = program.fd().ok()?;
                let path = format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd());
                let text = std::fs::read_to_string(path).ok()?;
                let value = text.lines().find_map(|line| line.strip_prefix("recursion_misses:"))?;
                Some((name.to_owned(), value.trim().parse().ok()?))
            })
            .collect()
    }

    /// Has the kernel count hits and time of all programs (Linux 5.8), or no longer.
    ///
    /// # Errors
    /// When it refuses.
    pub fn count_costs(&mut self, count: bool) -> std::io::Result<()> {
        if !count {
            self.costs = None;
        } else if self.costs.is_none() {
            let costs = aya::sys::enable_stats(aya::sys::Stats::RunTime).map_err(|error| error.io_error)?;
            self.costs = Some(costs);
        }
        Ok(())
    }

    /// Hits and nanoseconds of each program since they are counted; empty while they are not.
    #[must_use]
    pub fn costs(&self) -> Vec<(String, u64, u64)> {
        if self.costs.is_none() {
            return Vec::new();
        }
        let programs = self.ebpf.programs().filter_map(|(name, program)| {
            let info = program.info().ok()?;
            Some((name.to_owned(), info.run_count(), u64::try_from(info.run_time().as_nanos()).ok()?))
        });
        programs.filter(|(_, hits, _)| *hits > 0).collect()
    }

    /// From when on a turn of an event loop is told of.
    #[must_use]
    pub fn loop_blocked_ns(&self) -> u64 {
        u64::from(self.loop_blocked_ms) * 1_000_000
    }

    /// Whether the kernel half asks for code objects that are given up; see [`Settings::code_deaths`].
    #[must_use]
    pub fn wants_code_deaths(&self) -> bool {
        self.code_deaths
    }

    /// Whether threads tell what they wait for, once the programs are attached.
    #[must_use]
    pub fn follows_waits(&self) -> bool {
        self.off_cpu != OffCpu::None
    }

    /// The ring's reading end. Once only.
    ///
    /// # Errors
    /// When it was taken before.
    pub fn ring(&mut self) -> Result<Ring, ProbeError> {
        let map = self.ebpf.take_map("RING").ok_or(ProbeError::Missing { what: "RING" })?;
        RingBuf::try_from(map).map_err(|source| ProbeError::Map { map: "RING", source })
    }

    /// The door by which userspace writes kernel maps. Once only.
    ///
    /// # Errors
    /// When it was taken before.
    pub fn tables(&mut self) -> Result<Tables, ProbeError> {
        let targets = self.ebpf.take_map("TARGETS").ok_or(ProbeError::Missing { what: "TARGETS" })?;
        let passing = self.ebpf.take_map("PASSING").ok_or(ProbeError::Missing { what: "PASSING" })?;
        let stacks = self.ebpf.take_map("STACKS").ok_or(ProbeError::Missing { what: "STACKS" })?;
        let sleepers = self.ebpf.take_map("SLEEPERS").ok_or(ProbeError::Missing { what: "SLEEPERS" })?;
        let loops = self.ebpf.take_map("LOOPS").ok_or(ProbeError::Missing { what: "LOOPS" })?;
        let sqlite =
            self.ebpf.take_map("SQLITE_LAYOUTS").ok_or(ProbeError::Missing { what: "SQLITE_LAYOUTS" })?;
        let tasks = self.ebpf.take_map("TASK_SITES").ok_or(ProbeError::Missing { what: "TASK_SITES" })?;
        let hint_words = HINT_SLOTS as usize * size_of::<Hint>() / size_of::<u64>();
        let hints = self.mapped("HINTS", hint_words, true)?;
        let quiet = self.mapped("QUIET", PLACES as usize, true)?;
        let counts = self.mapped("COUNTS", (count::SLOTS * count::CPUS) as usize, false)?;
        let failed = |map| move |source| ProbeError::Map { map, source };
        Ok(Tables {
            targets: HashMap::try_from(targets).map_err(failed("TARGETS"))?,
            stacks: HashMap::try_from(stacks).map_err(failed("STACKS"))?,
            passing: HashMap::try_from(passing).map_err(failed("PASSING"))?,
            sleepers: HashMap::try_from(sleepers).map_err(failed("SLEEPERS"))?,
            loops: HashMap::try_from(loops).map_err(failed("LOOPS"))?,
            sqlite: HashMap::try_from(sqlite).map_err(failed("SQLITE_LAYOUTS"))?,
            tasks: HashMap::try_from(tasks).map_err(failed("TASK_SITES"))?,
            hints,
            quiet,
            counts,
        })
    }

    fn mapped(&mut self, name: &'static str, words: usize, writable: bool) -> Result<Mapped, ProbeError> {
        let Some(Map::Array(map)) = self.ebpf.take_map(name) else {
            return Err(ProbeError::Missing { what: name });
        };
        Mapped::new(map, words, writable).map_err(|source| ProbeError::Mapping { map: name, source })
    }
}
