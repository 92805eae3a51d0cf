//! Other vendors' agents that run inside a process: it says so by the modules that it has imported and the objects that they
//! have set up. Having a package installed, or its interface imported, is not running it: many libraries import
//! `opentelemetry.trace`, and nothing is recorded until somebody gives it a provider.

use super::reader::Reader;
use crate::python::{BoundedMemory, Interpreter, Memory, ObjectError, Objects};
use std::cell::RefCell;

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
const AGENTS: [Agent; 4] = [
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

/// The agents that run in this process, by the names that their vendors give them; `None` when its modules cannot be
/// read.
#[must_use]
pub fn running_agents(memory: &dyn Memory, interpreter: &Interpreter) -> Option<Vec<&'static str>> {
    let bounded = BoundedMemory::new(memory, MAX_READS);
    let objects = Objects::new(&bounded, &interpreter.offsets, interpreter.version.minor)?;
    let main = objects.main_interpreter(interpreter.runtime_address).ok()?;
    let reader = Reader { objects, main, bases: RefCell::default() };
    let mut found = Vec::new();
    for agent in AGENTS {
        for sign in agent.signs {
            match sign.is_there(&reader) {
                Ok(true) => {
                    found.push(agent.name);
                    break;
                }
                Ok(false) => {}
                Err(error) => {
                    tracing::debug!("agents inside are not told: {error}");
                    return None;
                }
            }
        }
    }
    Some(found)
}

impl Sign {
    fn is_there(&self, reader: &Reader<'_>) -> Result<bool, ObjectError> {
        match self {
            Self::Module(module) => Ok(reader.objects.module_dict(reader.main, module)?.is_some()),
            Self::Set(module, name) => match reader.in_module(module, name)? {
                Some(object) => Ok(reader.objects.type_of(object)?.name != "NoneType"),
                None => Ok(false),
            },
        }
    }
}
