//! A dump as text for people, or as one JSON object for machines. The names in the JSON are the model's
//! ([`pyapm_model::dump`]): `processes[].threads[].frames[]`, innermost frame first.

use pyapm_model::dump::{Dump, DumpFrame, NameSource, Process, Stack, State, Task, Thread};
use pyapm_model::line::Frame;
use pyapm_tui::format::clean;
use std::io::{self, Write};

/// One object, one line.
///
/// # Errors
/// Those of `out`.
pub fn write_json(dump: &Dump, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, dump)?;
    writeln!(out)
}

/// For people; not a format for programs to read.
///
/// # Errors
/// Those of `out`.
pub fn write_text(dump: &Dump, out: &mut dyn Write) -> io::Result<()> {
    for (index, process) in dump.processes.iter().enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        write_process(process, &dump.application, out)?;
    }
    for note in &dump.notes {
        writeln!(out, "\nnote: {}", clean(note))?;
    }
    Ok(())
}

fn write_process(process: &Process, application: &str, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "Process {}: {}", process.pid, clean(&process.command.join(" ")))?;
    if let Some(problem) = &process.problem {
        return writeln!(out, "  {}", clean(problem));
    }
    let python = process.python.as_deref().unwrap_or("?");
    let threads = process.threads.len();
    let plural = if threads == 1 { "" } else { "s" };
    writeln!(out, "Python {}, application {}, {threads} thread{plural}", clean(python), clean(application))?;
    writeln!(out, "GIL: {}", gil(process))?;
    for thread in &process.threads {
        writeln!(out)?;
        write_thread(thread, out)?;
    }
    for task in process.tasks.iter().flatten() {
        writeln!(out)?;
        write_task(task, out)?;
    }
    Ok(())
}

fn gil(process: &Process) -> String {
    match process.gil {
        None => "unknown".to_owned(),
        Some(gil) if !gil.held => "free".to_owned(),
        Some(gil) => match gil.holder {
            None => "held by a thread that is not known".to_owned(),
            Some(tid) => {
                let thread = process.threads.iter().find(|thread| thread.tid == tid);
                let name = thread.and_then(|thread| thread.name.as_deref());
                format!("held by thread {tid}{}", quoted(name))
            }
        },
    }
}

/// ` "name"`
fn quoted(name: Option<&str>) -> String {
    name.map(|name| format!(" \"{}\"", clean(name))).unwrap_or_default()
}

fn write_thread(thread: &Thread, out: &mut dyn Write) -> io::Result<()> {
    write!(out, "Thread {}{}", thread.tid, quoted(thread.name.as_deref()))?;
    let mut remarks = Vec::new();
    if thread.is_main {
        remarks.push("main");
    }
    if thread.name.is_some() && thread.name_source == NameSource::Kernel {
        remarks.push("the kernel's name");
    }
    if !remarks.is_empty() {
        write!(out, " ({})", remarks.join(", "))?;
    }
    let task = thread.task.as_deref().map(|task| format!(", in task \"{}\"", clean(task)));
    let task = task.unwrap_or_default();
    let holds = if thread.holds_gil == Some(true) { ", holds the GIL" } else { "" };
    writeln!(out, ": {}{}{task}{holds}", clean(&state(&thread.state)), stack(thread.stack))?;
    for (index, frame) in thread.frames.iter().enumerate() {
        write_frame(frame, out)?;
        match thread.left_out {
            Some(left_out) if left_out.after == index + 1 => match left_out.frames {
                Some(frames) => writeln!(out, "    ... {frames} frames left out")?,
                None => writeln!(out, "    ... more frames, not taken")?,
            },
            _ => {}
        }
    }
    Ok(())
}

fn stack(stack: Stack) -> &'static str {
    match stack {
        Stack::Parked | Stack::Sampled => "",
        Stack::NoPython => ", no Python code",
        Stack::Unreadable => ", stack not readable",
    }
}

fn state(state: &State) -> String {
    match state {
        State::OnCpu => "on CPU".to_owned(),
        State::Running => "running".to_owned(),
        State::Gil => "waiting for the GIL".to_owned(),
        State::Lock { call } => format!("waiting for a lock ({call})"),
        State::Sleep { call } => format!("sleeping ({call})"),
        State::Io { call, fd, file } => {
            let fd = fd.map(|fd| format!(" on fd {fd}")).unwrap_or_default();
            let file = file.as_deref().map(|file| format!(" ({file})")).unwrap_or_default();
            format!("blocked in {call}{fd}{file}")
        }
        State::Child { call } => format!("waiting for a child process ({call})"),
        State::Call { call } => format!("blocked in {call}"),
        State::Kernel => "waiting in the kernel, outside any system call".to_owned(),
        State::Stopped => "stopped".to_owned(),
        State::Unknown => "state unknown".to_owned(),
    }
}

fn write_frame(frame: &DumpFrame, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "    {}", place(&frame.frame))?;
    for local in frame.locals.iter().flatten() {
        writeln!(out, "        {} = {}", clean(&local.name), clean(&local.value))?;
    }
    Ok(())
}

/// `function (file:line)`
fn place(frame: &Frame) -> String {
    let (function, file) = (clean(&frame.function), clean(&frame.file));
    match frame.line {
        Some(line) => format!("{function} ({file}:{line})"),
        None => format!("{function} ({file})"),
    }
}

fn write_task(task: &Task, out: &mut dyn Write) -> io::Result<()> {
    let awaited = if task.awaited_by.is_empty() {
        String::new()
    } else {
        format!(", awaited by {}", clean(&task.awaited_by.join(", ")))
    };
    writeln!(out, "Task{} of thread {}: suspended{awaited}", quoted(Some(&task.name)), task.tid)?;
    for frame in &task.frames {
        writeln!(out, "    {}", place(frame))?;
    }
    Ok(())
}
