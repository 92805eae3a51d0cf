//! The flags of `record`, and what they mean together.

use super::args::{duration, ring_bytes};
use super::options::{Destination, RecordOptions, Subject};
use crate::outputs::profile::{Format, Look};
use crate::profile::{Mode, Selection};
use clap::error::ErrorKind;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

pub(super) const EXAMPLES: &str = "\
Examples:
  pyapm record --pid 4711 -d 10 -o cpu.svg            a flame graph of ten seconds
  pyapm record --name shop -r 999 -o shop.pb.gz       every process of an application, for `go tool pprof`
  pyapm record -o run.speedscope.json -- python app.py    a program from its start to its end

Patterns of --include and --exclude are tried on the function (`Shop.*`) and on the whole path of the file
(`*/site-packages/*`) of every frame of a stack.

Ctrl-C ends the recording and writes the file. A program that was started by `record` and ends by itself passes on its
exit code; 128 and the signal's number if a signal ended it.";

#[derive(clap::Args, Debug)]
#[command(group = clap::ArgGroup::new("subject").required(true).args(["pid", "name", "program"]))]
pub(super) struct Record {
    /// A Python process; with the processes that it started or will start. May be given several times.
    #[arg(long, short, value_parser = clap::value_parser!(u32).range(1..=i64::from(i32::MAX)))]
    pid: Vec<u32>,

    /// An application by its name, as `pyapm ps` has it: all of its processes.
    #[arg(long, short)]
    name: Option<String>,

    /// A program to start, and its arguments.
    #[arg(last = true, value_name = "PROGRAM")]
    program: Vec<OsString>,

    /// The file to write; `-` for stdout.
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,

    /// What to write [default: by the file's ending: .svg .speedscope.json .pb.gz .folded .json].
    #[arg(long, short, value_enum)]
    format: Option<FormatArgument>,

    /// End after this many seconds [default: on Ctrl-C, or when everything recorded has ended].
    #[arg(long, short, value_name = "SECONDS", value_parser = duration)]
    duration: Option<Duration>,

    /// Samples per second on each CPU.
    #[arg(long, short, value_name = "HERTZ", default_value_t = 99,
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,

    /// Which time is recorded.
    #[arg(long, short, value_enum, default_value_t = ModeArgument::Cpu)]
    mode: ModeArgument,

    /// C, C++ and Rust frames too, where they are between Python frames.
    #[arg(long)]
    native: bool,

    /// Leave out children and forks.
    #[arg(long)]
    no_subprocesses: bool,

    /// Begin each stack with its process and thread.
    #[arg(long, short)]
    threads: bool,

    /// Tell functions apart, not lines.
    #[arg(long, short = 'F')]
    function: bool,

    /// Show files by their whole path.
    #[arg(long)]
    full_paths: bool,

    /// Keep only stacks that have a frame whose function or file matches. May be given several times.
    #[arg(long, value_name = "GLOB")]
    include: Vec<String>,

    /// Leave out stacks that have a frame whose function or file matches. May be given several times.
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,

    /// Draw the flame graph's difference from an earlier recording: more is red, less is blue.
    #[arg(long, value_name = "BASELINE.folded")]
    diff: Option<PathBuf>,

    /// Size of the buffer between kernel and recorder: a power of two.
    #[arg(long, value_name = "BYTES", default_value_t = 8 << 20, value_parser = ring_bytes, hide = true)]
    ring_bytes: u32,
}

impl Record {
    pub(super) fn checked(self, command: &mut clap::Command) -> Result<RecordOptions, clap::Error> {
        let mut wrong = |what: String| Err(command.error(ErrorKind::ValueValidation, what));
        let format = match self.format.map(FormatArgument::format).or_else(|| Format::of(&self.output)) {
            Some(format) => format,
            None => {
                return wrong(format!(
                    "the end of `{}` names no format: give one by --format, or end it on .svg, .speedscope.json, \
                     .pb.gz, .folded or .json",
                    self.output.display()
                ));
            }
        };
        if self.diff.is_some() && format != Format::Flamegraph {
            return wrong("--diff is for flame graphs alone".to_owned());
        }
        if let Err(error) = Selection::new(&self.include, &self.exclude) {
            return wrong(error.to_string());
        }
        let mode = self.mode.mode();
        if mode != Mode::Cpu {
            return wrong(format!("--mode {mode} is not built yet: this version records `cpu`"));
        }
        let subject = match self.name {
            Some(name) => Subject::Application(name),
            None if self.program.is_empty() => Subject::Processes(self.pid),
            None => Subject::Program(self.program),
        };
        Ok(RecordOptions {
            subject,
            subprocesses: !self.no_subprocesses,
            duration: self.duration,
            rate_hz: self.rate,
            mode,
            native: self.native,
            destination: if self.output.as_os_str() == "-" {
                Destination::Stdout
            } else {
                Destination::File(self.output)
            },
            format,
            look: Look { threads: self.threads, function: self.function, full_paths: self.full_paths },
            include: self.include,
            exclude: self.exclude,
            baseline: self.diff,
            ring_bytes: self.ring_bytes,
        })
    }
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum FormatArgument {
    /// SVG, searched and zoomed in a browser.
    Flamegraph,
    /// For <https://www.speedscope.app>.
    Speedscope,
    /// For `go tool pprof`, gzipped.
    Pprof,
    /// A line of text for each stack.
    Folded,
    /// Everything that was recorded, as one object.
    Json,
}

impl FormatArgument {
    fn format(self) -> Format {
        match self {
            Self::Flamegraph => Format::Flamegraph,
            Self::Speedscope => Format::Speedscope,
            Self::Pprof => Format::Pprof,
            Self::Folded => Format::Folded,
            Self::Json => Format::Json,
        }
    }
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum ModeArgument {
    /// Time on a CPU.
    Cpu,
    /// All time, waiting included (not built yet).
    Wall,
    /// Time in which a thread holds the interpreter's lock (not built yet).
    Gil,
    /// Time that threads wait (not built yet).
    Offcpu,
}

impl ModeArgument {
    fn mode(self) -> Mode {
        match self {
            Self::Cpu => Mode::Cpu,
            Self::Wall => Mode::Wall,
            Self::Gil => Mode::Gil,
            Self::Offcpu => Mode::OffCpu,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::args::{Request, Terminal, try_parse};
    use super::*;

    fn parsed(line: &str) -> Result<RecordOptions, clap::Error> {
        let words = line.split_ascii_whitespace().map(OsString::from);
        let words = ["pyapm", "record"].map(OsString::from).into_iter().chain(words);
        match try_parse(words, Terminal { stdout_color: false })?.request {
            Request::Record(options) => Ok(options),
            other => panic!("{other:?}"),
        }
    }

    fn defaults() -> RecordOptions {
        RecordOptions {
            subject: Subject::Processes(vec![42]),
            subprocesses: true,
            duration: None,
            rate_hz: 99,
            mode: Mode::Cpu,
            native: false,
            destination: Destination::File("a.svg".into()),
            format: Format::Flamegraph,
            look: Look::default(),
            include: Vec::new(),
            exclude: Vec::new(),
            baseline: None,
            ring_bytes: 8 << 20,
        }
    }

    #[test]
    fn processes() {
        assert_eq!(parsed("--pid 42 -o a.svg").unwrap(), defaults());
        let line = "-p 42 -p 43 -d 1.5 -r 10000 -o b.txt --format pprof --no-subprocesses -t -F --full-paths --native \
                    --include a* --include b --exclude *.py";
        let expected = RecordOptions {
            subject: Subject::Processes(vec![42, 43]),
            subprocesses: false,
            duration: Some(Duration::from_millis(1500)),
            rate_hz: 10_000,
            native: true,
            destination: Destination::File("b.txt".into()),
            format: Format::Pprof,
            look: Look { threads: true, function: true, full_paths: true },
            include: vec!["a*".into(), "b".into()],
            exclude: vec!["*.py".into()],
            ..defaults()
        };
        assert_eq!(parsed(line).unwrap(), expected);
        let options = parsed("--name shop -o - --format folded").unwrap();
        assert_eq!(options.subject, Subject::Application("shop".into()));
        assert_eq!(options.destination, Destination::Stdout);
        let options = parsed("-p 42 -o a.svg --diff before.folded").unwrap();
        assert_eq!(options.baseline, Some("before.folded".into()));
    }

    #[test]
    fn programs() {
        let options = parsed("-o a.svg -- python app.py --pid 7 -d x").unwrap();
        let words = ["python", "app.py", "--pid", "7", "-d", "x"].map(OsString::from);
        assert_eq!(options.subject, Subject::Program(words.to_vec()));
    }

    #[test]
    fn usage_errors() {
        for (line, part) in [
            ("-o a.svg", "required"),
            ("-p 1", "--output"),
            ("-p 1 -n shop -o a.svg", "cannot be used with"),
            ("-p 1 -o a.svg -- python", "cannot be used with"),
            ("-p 1 -o a.xml", "names no format"),
            ("-p 1 -o -", "names no format"),
            ("-p 1 -o a.svg -r 10001", "10000"),
            ("-p 1 -o a.svg -r 0", "10000"),
            ("-p 1 -o a.svg --mode wall", "--mode wall is not built yet"),
            ("-p 1 -o a.svg --mode gil", "--mode gil is not built yet"),
            ("-p 1 -o a.svg --mode offcpu", "--mode offcpu is not built yet"),
            ("-p 1 -o a.svg --mode all", "possible values"),
            ("-p 1 -o a.folded --diff b", "--diff is for flame graphs"),
            ("-p 1 -o a.svg --include [", "is not a pattern"),
        ] {
            let error = parsed(line).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
            assert!(error.to_string().contains(part), "{line}: {error}");
        }
    }
}
