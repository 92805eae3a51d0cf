//! What of a process's event loops can be followed, and what not and why, in words.

use super::{GreenletCode, GreenletsUnknown, Switching};
use crate::python::memory::ProcessMemory;
use crate::python::objects::Objects;
use crate::python::runtime::Interpreter;

/// `None` when the process has imported nothing that runs more than one request on a thread, or cannot be read;
/// `Err` when only a part can be followed.
#[must_use]
pub fn event_loops(pid: u32, interpreter: &Interpreter) -> Option<Result<String, String>> {
    let memory = ProcessMemory::new(pid);
    let objects = Objects::new(&memory, &interpreter.offsets, interpreter.version.minor)?;
    let main = objects.main_interpreter(interpreter.runtime_address).ok()?;
    let switching = objects.switching(main).ok()?;
    let minor = interpreter.version.minor;
    if switching.greenlets {
        return Some(greenlets(objects.greenlets(pid, main), minor));
    }
    explain(interpreter, switching)
}

fn greenlets(found: Result<GreenletCode, GreenletsUnknown>, minor: u8) -> Result<String, String> {
    match found {
        Ok(_) => Ok("gevent: greenlets are told apart, and which request each was spawned for; calls of threads, also of those \
                     that gevent makes greenlets of, are counted as not placed"
            .to_owned()),
        Err(reason) if minor >= 11 => Err(format!(
            "gevent: {reason}; calls are placed by the greenlet that serves the connection, and those of greenlets that it \
             spawns are counted as not placed"
        )),
        Err(reason) => Err(format!(
            "gevent: {reason}; greenlets cannot be told apart otherwise before Python 3.11, so calls are counted as not placed"
        )),
    }
}

fn explain(interpreter: &Interpreter, switching: Switching) -> Option<Result<String, String>> {
    let minor = interpreter.version.minor;
    if !switching.asyncio {
        return None;
    }
    let Some(copies) = &interpreter.contexts.copies else {
        return Some(Err(
            "asyncio: this build has no place to see contexts being copied; only what a request's own task \
                         does is placed"
                .to_owned(),
        ));
    };
    let places = copies.file_offsets.len();
    let seen = format!(
        "asyncio: copies of contexts are seen at {places} place{}",
        if places == 1 { "" } else { "s" }
    );
    Some(match minor {
        11 | 13.. => Ok(format!("{seen}; pools are followed")),
        _ => Err(format!(
            "{seen}; `run_in_executor` is not followed in Python 3.{minor}, its calls are not placed"
        )),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greenlets_that_cannot_be_told_apart_are_said_to_be() {
        for (minor, expected) in [(9, "before Python 3.11"), (13, "serves the connection")] {
            let told = greenlets(Err(GreenletsUnknown::Otherwise), minor).unwrap_err();
            assert!(told.contains("before 2.0") && told.contains(expected), "{told}");
        }
    }
}
