//! The act as a whole: which processes, in which order what is tried, and what is written.

use super::running::sample;
use super::service::add_transactions;
use super::subject::Subject;
use crate::cli::DumpOptions;
use crate::outputs::dump::{write_json, write_text};
use crate::pipeline::clock;
use crate::python::Inspector;
use crate::symbols::{Limits, Symbols};
use crate::targets::{Discovery, ProcFs, TargetError};
use pyapm_model::dump::{Dump, Process};
use std::io::Write;
use std::time::Duration;

/// Looks at threads that ran whenever they were looked at.
const ROUNDS: usize = 3;
const BETWEEN_ROUNDS: Duration = Duration::from_millis(1);

/// Writes what every thread of a process, or of its application, is doing.
///
/// # Errors
/// When the process is not there, is not Python, may not be read, or the output cannot be written.
pub fn dump(options: &DumpOptions, out: &mut dyn Write) -> anyhow::Result<()> {
    let dump = take(options)?;
    if options.json {
        write_json(&dump, out)?;
    } else {
        write_text(&dump, out)?;
    }
    out.flush()?;
    Ok(())
}

fn take(options: &DumpOptions) -> anyhow::Result<Dump> {
    let from_ns = clock::monotonic_ns();
    let taken_ns = clock::offset().wall_ns(from_ns);
    let procfs = ProcFs::new();
    let application = Discovery::new().application(options.pid)?;
    // `/proc` answers for a thread's id, too.
    let asked =
        procfs.process_of_thread(options.pid).map_err(|_| TargetError::NoSuchProcess { pid: options.pid })?;
    let pids = if options.application { application.pids() } else { vec![asked] };

    let mut inspector = Inspector::default();
    let mut subjects = Vec::new();
    let mut others = Vec::new();
    for pid in pids {
        let command = procfs.cmdline(pid).unwrap_or_default();
        match inspector.inspect(pid) {
            Ok(interpreter) => subjects.push(Subject::new(pid, command, interpreter, options.locals)),
            Err(error) if pid == asked => return Err(error.into()),
            Err(error) => {
                others.push(Process { pid, command, problem: Some(error.to_string()), ..Process::default() });
            }
        }
    }

    let mut symbols = Symbols::new(Limits::default());
    let mut notes = Vec::new();
    for subject in &mut subjects {
        subject.look();
    }
    if subjects.iter().any(Subject::is_incomplete)
        && let Err(error) = sample(&mut subjects, &mut symbols)
    {
        notes.push(format!("stacks of running threads could not be taken: {error:#}"));
    }
    rounds(&mut subjects);
    let to_ns = clock::monotonic_ns();

    let mut processes = Vec::new();
    for subject in subjects {
        let pid = subject.pid;
        if !subject.lives() {
            if pid == asked {
                return Err(TargetError::Ended { pid }.into());
            }
            let problem = Some("it ended while it was looked at".to_owned());
            others.push(Process { pid, problem, ..Process::default() });
            continue;
        }
        processes.push(subject.finish(&mut symbols));
    }
    processes.extend(others);
    notes.extend(
        symbols
            .counts()
            .named()
            .into_iter()
            .filter(|(_, count)| *count != 0)
            .map(|(name, count)| format!("{count} frames without a name (`{name}`)")),
    );
    let mut dump = Dump { taken_ns, application: application.name, processes, notes };
    add_transactions(&mut dump, &options.socket, asked, from_ns, to_ns);
    Ok(dump)
}

fn rounds(subjects: &mut [Subject]) {
    for round in 0..ROUNDS {
        if round > 0 {
            if !subjects.iter().any(Subject::is_incomplete) {
                break;
            }
            std::thread::sleep(BETWEEN_ROUNDS);
        }
        for subject in &mut *subjects {
            subject.look();
        }
    }
}
