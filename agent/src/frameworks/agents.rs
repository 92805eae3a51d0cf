//! Other vendors' agents that run inside a process: it says so by the modules that it has imported and the objects that they
//! have set up. Having a package installed, or its interface imported, is not running it: many libraries import
//! `opentelemetry.trace`, and nothing is recorded until somebody gives it a provider.

use crate::python::{BoundedMemory, Interpreter, Memory, ObjectError, Objects};

/// Reads that all of it may take.
const MAX_READS: u64 = 100_000;

/// What tells one of them.
struct Agent {
    name: &'static str,
    signs: &'static [Sign],
}

enum Sign {
    /// This module is imported by nothing but the running agent.
    Module(&'static str),
    /// This variable of the module is something else than `None`.
    Set(&'static str, &'static str),
}

/// opentelemetry-api 1.45 (`opentelemetry/trace/__init__.py`, `set_tracer_provider`; `metrics/_internal`), elastic-apm 6.26
/// (`elasticapm/base.py`, `set_client`), ddtrace 4.16 (`ddtrace/bootstrap/preload.py`, `ddtrace/_trace/tracer.py`), newrelic
/// 14.1 (`newrelic/core/agent.py`).
static AGENTS: [Agent; 4] = [
    Agent {
        name: "OpenTelemetry",
        signs: &[
            Sign::Set("opentelemetry.trace", "_TRACER_PROVIDER"),
            Sign::Set("opentelemetry.metrics._internal", "_METER_PROVIDER"),
        ],
    },
    Agent { name: "Elastic APM", signs: &[Sign::Set("elasticapm.base", "CLIENT_SINGLETON")] },
    Agent {
        name: "Datadog",
        signs: &[Sign::Module("ddtrace.bootstrap.preload"), Sign::Module("ddtrace._trace.tracer")],
    },
    Agent { name: "New Relic", signs: &[Sign::Module("newrelic.core.agent")] },
];

/// What of them is in a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Agents {
    /// Those that run, by the names that their vendors give them.
    pub running: Vec<&'static str>,
    /// How many modules it has imported, where none of them is of any agent: while they are as many, none runs.
    pub without: Option<u64>,
}

/// The agents that run in this process; `None` when its modules cannot be read.
#[must_use]
pub fn running_agents(memory: &dyn Memory, interpreter: &Interpreter) -> Option<Agents> {
    let bounded = BoundedMemory::new(memory, MAX_READS);
    let objects = Objects::new(&bounded, &interpreter.offsets, interpreter.version.minor)?;
    let found = look(&objects, interpreter.runtime_address);
    found.inspect_err(|error| tracing::debug!("agents inside are not told: {error}")).ok()
}

/// How many modules this process has imported, to be compared with [`Agents::without`]: a few reads, where looking costs
/// one for each.
#[must_use]
pub fn imported_modules(memory: &dyn Memory, interpreter: &Interpreter) -> Option<u64> {
    let objects = Objects::new(memory, &interpreter.offsets, interpreter.version.minor)?;
    objects.modules(objects.main_interpreter(interpreter.runtime_address).ok()?).ok()
}

fn look(objects: &Objects<'_>, runtime: u64) -> Result<Agents, ObjectError> {
    let main = objects.main_interpreter(runtime)?;
    // Before they are gone through: what is imported meanwhile makes them more.
    let imported = objects.modules(main)?;
    let signs: Vec<(&'static str, &Sign)> =
        AGENTS.iter().flat_map(|agent| agent.signs.iter().map(|sign| (agent.name, sign))).collect();
    let names: Vec<&str> = signs.iter().map(|(_, sign)| sign.module()).collect();
    let dicts = objects.module_dicts(main, &names)?;
    let mut agents =
        Agents { running: Vec::new(), without: dicts.iter().all(Option::is_none).then_some(imported) };
    for ((agent, sign), dict) in signs.into_iter().zip(dicts) {
        let Some(dict) = dict else { continue };
        if !agents.running.contains(&agent) && sign.is_there(objects, dict)? {
            agents.running.push(agent);
        }
    }
    Ok(agents)
}

impl Sign {
    fn module(&self) -> &'static str {
        match self {
            Self::Module(module) | Self::Set(module, _) => module,
        }
    }

    /// `dict` is its module's.
    fn is_there(&self, objects: &Objects<'_>, dict: u64) -> Result<bool, ObjectError> {
        match self {
            Self::Module(_) => Ok(true),
            Self::Set(_, name) => match objects.dict_get(dict, name)? {
                Some(object) => Ok(objects.type_of(object)?.name != "NoneType"),
                None => Ok(false),
            },
        }
    }
}
