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
    let command = clean(&process.command.join(" "));
    writeln!(out, "Process {}: {}", process.pid, if command.is_empty() { "-" } else { &command })?;
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
        Some(gil) if !gil.enabled => "off (a free-threaded build)".to_owned(),
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
    for transaction in thread.transactions.iter().flatten() {
        let path = transaction.path.as_deref().filter(|path| !transaction.name.ends_with(path));
        let path = path.map(|path| format!(" ({})", clean(path))).unwrap_or_default();
        let trace = transaction.trace_id.as_deref().map(|trace| format!(", trace {}", clean(trace)));
        let seconds = transaction.elapsed_ns as f64 / 1e9;
        writeln!(
            out,
            "    in {}{path} for {seconds:.3} s{}",
            clean(&transaction.name),
            trace.unwrap_or_default()
        )?;
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use pyapm_model::dump::{Gil, LeftOut, Local};

    fn frame(function: &str, line: Option<u32>) -> DumpFrame {
        let frame = Frame { function: function.into(), file: "/srv/app.py".into(), line };
        DumpFrame { frame, locals: None }
    }

    fn thread(tid: u32, name: Option<&str>, state: State, frames: Vec<DumpFrame>) -> Thread {
        Thread {
            tid,
            name: name.map(str::to_owned),
            name_source: NameSource::Python,
            is_main: false,
            state,
            task: None,
            transactions: None,
            holds_gil: Some(false),
            stack: Stack::Parked,
            frames,
            left_out: None,
        }
    }

    fn dump() -> Dump {
        let call = |call: &str| call.to_owned();
        let mut view = frame("View.get", Some(12));
        view.locals = Some(vec![Local { name: "user".to_owned(), value: "'a\u{1b}[2Jb'".to_owned() }]);
        let io = State::Io {
            call: call("recvfrom"),
            fd: Some(5),
            file: Some("tcp 127.0.0.1:4242 -> 127.0.0.1:3306".to_owned()),
        };
        let mut main = thread(7, Some("MainThread"), io, vec![view, frame("<module>", None)]);
        main.is_main = true;
        let mut deep =
            thread(8, Some("deep"), State::Gil, vec![frame("inner", Some(1)), frame("outer", Some(2))]);
        deep.left_out = Some(LeftOut { after: 1, frames: Some(100) });
        deep.task = Some("job".to_owned());
        let mut native = thread(9, Some("tokio"), State::Lock { call: call("futex") }, Vec::new());
        native.name_source = NameSource::Kernel;
        native.stack = Stack::NoPython;
        let mut busy = thread(10, None, State::Running, Vec::new());
        busy.stack = Stack::Unreadable;
        busy.holds_gil = None;
        let mut holder = thread(11, Some("worker"), State::OnCpu, vec![frame("work", Some(3))]);
        holder.holds_gil = Some(true);
        let task = Task {
            name: "Task-1".into(),
            tid: 7,
            frames: vec![Frame { function: "wait".into(), file: "/srv/app.py".into(), line: Some(4) }],
            awaited_by: vec!["main".into()],
        };
        let process = Process {
            pid: 7,
            command: vec!["python".to_owned(), "app.py".to_owned()],
            python: Some("3.14.1".to_owned()),
            problem: None,
            gil: Some(Gil { held: true, holder: Some(11), enabled: true }),
            threads: vec![main, deep, native, busy, holder],
            tasks: Some(vec![task]),
        };
        let gone = Process { pid: 8, problem: Some("it ended".to_owned()), ..Process::default() };
        Dump {
            taken_ns: 1,
            application: "shop".to_owned(),
            processes: vec![process, gone],
            notes: vec!["something was amiss".to_owned()],
        }
    }

    #[test]
    fn text() {
        let mut out = Vec::new();
        write_text(&dump(), &mut out).unwrap();
        let expected = r#"Process 7: python app.py
Python 3.14.1, application shop, 5 threads
GIL: held by thread 11 "worker"

Thread 7 "MainThread" (main): blocked in recvfrom on fd 5 (tcp 127.0.0.1:4242 -> 127.0.0.1:3306)
    View.get (/srv/app.py:12)
        user = 'a�[2Jb'
    <module> (/srv/app.py)

Thread 8 "deep": waiting for the GIL, in task "job"
    inner (/srv/app.py:1)
    ... 100 frames left out
    outer (/srv/app.py:2)

Thread 9 "tokio" (the kernel's name): waiting for a lock (futex), no Python code

Thread 10: running, stack not readable

Thread 11 "worker": on CPU, holds the GIL
    work (/srv/app.py:3)

Task "Task-1" of thread 7: suspended, awaited by main
    wait (/srv/app.py:4)

Process 8: -
  it ended

note: something was amiss
"#;
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    /// The names that programs read.
    #[test]
    fn json() {
        let mut out = Vec::new();
        write_json(&dump(), &mut out).unwrap();
        assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let thread = &value["processes"][0]["threads"][0];
        assert_eq!(thread["state"]["kind"], "io");
        assert_eq!(thread["state"]["fd"], 5);
        assert_eq!(thread["name_source"], "python");
        assert_eq!(thread["stack"], "parked");
        assert_eq!(thread["frames"][0]["function"], "View.get");
        assert_eq!(thread["frames"][0]["locals"][0]["name"], "user");
        assert!(thread["frames"][1].get("locals").is_none());
        assert_eq!(value["processes"][0]["gil"]["holder"], 11);
        assert_eq!(value["processes"][0]["tasks"][0]["awaited_by"][0], "main");
        assert_eq!(serde_json::from_slice::<Dump>(&out).unwrap(), dump());
    }
}
