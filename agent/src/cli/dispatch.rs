//! From the process's arguments to its exit code: 0 done, 1 failed, 2 misused; `record` of a program that it starts
//! passes on the program's own.

use super::args::{self, Request, Terminal};
use super::inspect::{Inspection, Instruments};
use super::{configuration, doctor, failure, ps, report};
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

/// Entry point of the binary.
#[must_use]
pub fn main() -> ExitCode {
    let terminal = Terminal { stdout_color: takes_color(io::stdout().is_terminal()) };
    let call = match args::parse(std::env::args_os(), terminal) {
        Ok(call) => call,
        Err(code) => return ExitCode::from(code),
    };
    // A service says what it does, unasked.
    let verbosity = call.verbosity.max(u8::from(matches!(call.request, Request::Run(_))));
    crate::telemetry::start_logging(verbosity, takes_color(io::stderr().is_terminal()));
    match run(call.request) {
        Ok(code) => code,
        Err(error) if failure::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // With stderr gone there is nobody left to tell.
            let _ = failure::write_failure(&error, &mut io::stderr().lock());
            ExitCode::FAILURE
        }
    }
}

fn run(request: Request) -> anyhow::Result<ExitCode> {
    let instruments = Instruments { inspect: &inspect, load_programs: Some(&crate::pipeline::try_load) };
    match request {
        Request::Attach(options) => {
            crate::pipeline::attach(&options)?;
            Ok(ExitCode::SUCCESS)
        }
        Request::Dump(options) => {
            crate::pipeline::dump(&options, &mut io::BufWriter::new(io::stdout().lock()))?;
            Ok(ExitCode::SUCCESS)
        }
        Request::Record(options) => {
            let code = crate::pipeline::record(&options)?;
            Ok(ExitCode::from(code))
        }
        Request::Report(options) => {
            report::run(&options, &mut io::stdout().lock())?;
            Ok(ExitCode::SUCCESS)
        }
        Request::Run(options) => {
            crate::pipeline::run(&options)?;
            Ok(ExitCode::SUCCESS)
        }
        Request::Top(options) => {
            crate::pipeline::top(&options)?;
            Ok(ExitCode::SUCCESS)
        }
        Request::Config(request) => {
            configuration::run(&request, &mut io::stdout().lock())?;
            Ok(ExitCode::SUCCESS)
        }
        Request::Ps(options) => {
            ps::run(options, &instruments, &mut io::stdout().lock(), &mut io::stderr().lock())?;
            Ok(ExitCode::SUCCESS)
        }
        Request::Doctor(options) => {
            let ready = doctor::run(options, &instruments, &mut io::stdout().lock())?;
            Ok(if ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Request::Manual(folder) => {
            args::write_manual(&folder)?;
            Ok(ExitCode::SUCCESS)
        }
        Request::Print(text) => {
            let mut out = io::stdout().lock();
            out.write_all(&text)?;
            out.flush()?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The place where the room `python` is joined to the commands.
fn inspect(pid: u32) -> Inspection {
    match crate::python::inspect(pid) {
        Ok(interpreter) => Inspection {
            loops: crate::python::event_loops(pid, &interpreter),
            agents: crate::frameworks::running_agents(&crate::python::ProcessMemory::new(pid), &interpreter)
                .unwrap_or_default()
                .running,
            version: Some(interpreter.version.to_string()),
            thread_state: if interpreter.layout.route == pyapm_wire::python::route::NONE {
                Err(interpreter.thread_state_route)
            } else {
                Ok(interpreter.thread_state_route)
            },
            notes: interpreter.notes,
        },
        Err(error) => {
            let thread_state = Err(error.to_string());
            Inspection { version: None, thread_state, notes: Vec::new(), loops: None, agents: Vec::new() }
        }
    }
}

/// <https://no-color.org>: any value that is not empty turns colours off.
fn takes_color(is_terminal: bool) -> bool {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    is_terminal && set("NO_COLOR").is_none() && set("TERM").is_none_or(|terminal| terminal != "dumb")
}
