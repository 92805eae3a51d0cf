//! From a pid to a running set of probes. Facts, then decision, then action; what can fail, fails here, and
//! leaves nothing attached: everything attached goes with the [`Engine`] that was not returned.

use super::clock;
use super::engine::Engine;
use crate::config::Collection;
use crate::host::{Btf, BtfError, Facts, Obstacles, Plan, settings};
use crate::probes::{OffCpu, ProbeError, Probes, Setup};
use crate::python::{Inspector, Interpreter, PythonError};
use crate::targets::{Application, ApplicationId, Discovery, ProcFs, TargetError, pool_pipes};
use crate::transactions::sql::Mode;
use pyapm_wire::python::Layout;
use pyapm_wire::settings::{IO_COPIES, Settings};
use pyapm_wire::target::Target;
use std::collections::HashMap;
use std::sync::Arc;

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Obstacles(#[from] Obstacles),
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error(transparent)]
    Python(#[from] PythonError),
    #[error(transparent)]
    Probe(#[from] ProbeError),
    #[error("cannot read the kernel's type information (BTF)")]
    Btf(#[from] BtfError),
    #[error("the kernel gives no random number")]
    Random(#[source] std::io::Error),
    #[error("cannot wait for the ring buffer")]
    Ring(#[source] std::io::Error),
}

/// Trace and span ids grow from this. By `getrandom(2)`, which needs no file: containers may have none in `/dev`. Up to 256 bytes
/// come whole.
pub(super) fn random_seed() -> std::io::Result<u64> {
    let mut bytes = [0_u8; 8];
    // SAFETY: the pointer and the length are those of `bytes`, which the call alone writes to.
    let count = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if usize::try_from(count) != Ok(bytes.len()) {
        return Err(std::io::Error::last_os_error());
    }
    Ok(u64::from_ne_bytes(bytes))
}

/// Probes on, for the applications that these processes are of, in their order.
pub(super) fn start(
    pids: &[u32],
    rate_hz: u32,
    ring_bytes: u32,
    seed: u64,
    sql: Mode,
    waits: bool,
) -> Result<(Engine, Vec<ApplicationId>), StartError> {
    let off_cpu = if waits { OffCpu::Times } else { OffCpu::None };
    // First of all: what is missing here is missing for every process.
    let blocked_ms = Collection::default().event_loop_blocked_ms;
    let probes = load(ring_bytes, false, off_cpu, blocked_ms)?;
    let mut discovery = Discovery::new();
    let mut applications: Vec<Application> = Vec::new();
    for pid in pids {
        let application = discovery.application(*pid)?;
        if applications.iter().all(|known| known.master.pid != application.master.pid) {
            applications.push(application);
        }
    }
    let is_single = applications.len() == 1;
    let mut engine = Engine::new(probes, rate_hz, seed, is_single)?;
    engine.sql = sql;
    engine.discovery = discovery;
    for pid in pids {
        // The processes that were asked for decide whether their interpreter can be watched at all.
        let interpreter = engine.inspector.inspect(*pid)?;
        engine.interpreters.insert(*pid, Arc::new(interpreter));
    }
    engine.follow()?;
    let ids = applications.iter().map(|application| engine.adopt(application));
    let ids = ids.collect::<Result<Vec<_>, _>>()?;
    Ok((engine, ids))
}

/// A loaded kernel half with nothing attached, where this machine allows one. `native`: samples come with native
/// stacks.
///
/// `loop_blocked_ms`: from when on a turn of an event loop is told of.
pub(super) fn load(
    ring_bytes: u32,
    native: bool,
    off_cpu: OffCpu,
    loop_blocked_ms: u32,
) -> Result<Probes, StartError> {
    let plan = Plan::from_facts(&Facts::read())?;
    let settings = Settings {
        io_copies: plan.io_copies,
        loop_blocked_ms,
        tick_us: clock::tick_us(),
        code_deaths: plan.uprobes_always_run.into(),
        ..settings(&Btf::running_kernel()?)?
    };
    Ok(Probes::load(Setup { settings, ring_bytes, native, off_cpu })?)
}

/// Has the kernel verify and load every program, attaches none, and lets them go again: for the doctor.
///
/// # Errors
/// What the kernel said.
pub fn try_load() -> anyhow::Result<()> {
    let code_deaths = Plan::from_facts(&Facts::read())?.uprobes_always_run.into();
    let settings = Settings { io_copies: IO_COPIES, code_deaths, ..settings(&Btf::running_kernel()?)? };
    let setup = Setup { settings, ring_bytes: 1 << 16, native: true, off_cpu: OffCpu::Stacks };
    Probes::load(setup)?.load_all()?;
    Ok(())
}

/// What the kernel half is told of a process, from now on.
pub(super) fn target_of(
    pid: u32,
    inspector: &mut Inspector,
    interpreters: &mut HashMap<u32, Arc<Interpreter>>,
) -> Target {
    let layout = layout_of(pid, inspector, interpreters);
    let raising = interpreters.get(&pid).and_then(|known| known.raising.as_ref());
    Target {
        layout,
        exceptions: raising.map(|raising| raising.layout).unwrap_or_default(),
        generation: clock::monotonic_ns(),
        pipes: pool_pipes(&ProcFs::new(), pid),
        ..Target::default()
    }
}

/// The interpreter's layout, or an empty one (no stacks, everything else works) if it is not understood.
fn layout_of(
    pid: u32,
    inspector: &mut Inspector,
    interpreters: &mut HashMap<u32, Arc<Interpreter>>,
) -> Layout {
    if let Some(known) = interpreters.get(&pid) {
        return known.layout;
    }
    match inspector.inspect(pid) {
        Ok(interpreter) => {
            let layout = interpreter.layout;
            interpreters.insert(pid, Arc::new(interpreter));
            layout
        }
        Err(error) => {
            tracing::warn!(pid, "no Python stacks from this process: {error}");
            Layout::default()
        }
    }
}
