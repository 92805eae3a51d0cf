//! From a pid to a running set of probes. Facts, then decision, then action; what can fail, fails here, and
//! leaves nothing attached: everything attached goes with the [`Started`] that was not returned.

use super::drivers::Drivers;
use super::exceptions::ExceptionProbes;
use crate::host::{Btf, BtfError, Facts, Obstacles, Plan, settings};
use crate::probes::{ProbeError, Probes, Setup, Tables};
use crate::python::{Inspector, Interpreter, PythonError};
use crate::targets::{Application, Discovery, TargetError};
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
}

/// Probes on, for one application.
pub(super) struct Started {
    pub application: Application,
    pub interpreters: HashMap<u32, Arc<Interpreter>>,
    pub inspector: Inspector,
    pub discovery: Discovery,
    pub probes: Probes,
    pub tables: Tables,
    pub drivers: Drivers,
    pub exceptions: ExceptionProbes,
}

pub(super) fn start(pid: u32, rate_hz: u32, ring_bytes: u32) -> Result<Started, StartError> {
    let mut probes = load(ring_bytes)?;
    let mut discovery = Discovery::new();
    let mut inspector = Inspector::default();
    let application = discovery.application(pid)?;
    // The process that was asked for decides whether this interpreter can be watched at all.
    let first = inspector.inspect(pid)?;
    let mut interpreters = HashMap::from([(pid, Arc::new(first))]);

    let mut tables = probes.tables()?;
    // Once a process is watched, its children are added by the kernel itself. Those that were forked
    // between the first look and now are found by the second.
    probes.attach_lifecycle()?;
    watch(&application, &mut inspector, &mut interpreters, &mut tables)?;
    let application = discovery.application(pid)?;
    watch(&application, &mut inspector, &mut interpreters, &mut tables)?;

    let mut drivers = Drivers::default();
    for member in &application.members {
        drivers.follow(&mut probes, member.key.pid);
    }
    let mut exceptions = ExceptionProbes::default();
    for interpreter in interpreters.values() {
        exceptions.follow(&mut probes, interpreter);
    }
    probes.attach_sampling(rate_hz)?;
    // Last: a transaction that is seen at all is then seen with its spans and samples.
    probes.attach_io()?;
    Ok(Started { application, interpreters, inspector, discovery, probes, tables, drivers, exceptions })
}

/// A loaded kernel half with nothing attached, where this machine allows one.
pub(super) fn load(ring_bytes: u32) -> Result<Probes, StartError> {
    let plan = Plan::from_facts(&Facts::read())?;
    let settings = Settings { io_copies: plan.io_copies, ..settings(&Btf::running_kernel()?)? };
    Ok(Probes::load(Setup { settings, ring_bytes })?)
}

/// Has the kernel verify and load every program, attaches none, and lets them go again: for the doctor.
///
/// # Errors
/// What the kernel said.
pub fn try_load() -> anyhow::Result<()> {
    let settings = Settings { io_copies: IO_COPIES, ..settings(&Btf::running_kernel()?)? };
    Probes::load(Setup { settings, ring_bytes: 1 << 16 })?.load_all()?;
    Ok(())
}

fn watch(
    application: &Application,
    inspector: &mut Inspector,
    interpreters: &mut HashMap<u32, Arc<Interpreter>>,
    tables: &mut Tables,
) -> Result<(), StartError> {
    for member in &application.members {
        let pid = member.key.pid;
        tables.watch(pid, target_of(pid, inspector, interpreters), true)?;
    }
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
        generation: super::clock::monotonic_ns(),
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
