//! The command line as it is written. With `recording` and `reporting`, which have the
//! flags of `record` and `report`, the only file that knows clap: what leaves it are checked options.

use super::configuration::{self, ConfigRequest};
use super::options::{
    AttachOptions, DoctorOptions, DumpOptions, Format, PsOptions, RecordOptions, ReportOptions, RunOptions,
    TopOptions,
};
use super::recording::Record;
use super::reporting::Report;
use crate::transactions::sql;
use clap::{CommandFactory as _, Parser as _};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

const DAY_SECONDS: f64 = 86_400.0;
const MIN_RING_BYTES: u32 = 4096;
const MAX_RING_BYTES: u32 = 1 << 30;

/// What the user asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Request {
    Attach(AttachOptions),
    Dump(DumpOptions),
    Record(RecordOptions),
    Report(ReportOptions),
    Run(RunOptions),
    Top(TopOptions),
    Config(ConfigRequest),
    Ps(PsOptions),
    Doctor(DoctorOptions),
    /// Text for stdout: a completion script.
    Print(Vec<u8>),
    /// Manual pages, one for each command, into this folder.
    Manual(PathBuf),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    /// How often `-v` was given.
    pub(super) verbosity: u8,
    pub(super) request: Request,
}

/// What a terminal takes, found out by the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Terminal {
    pub(super) stdout_color: bool,
}

/// Parses; help, version and usage errors are written here, and end the program with the code given.
pub(super) fn parse(arguments: impl IntoIterator<Item = OsString>, terminal: Terminal) -> Result<Call, u8> {
    match try_parse(arguments, terminal) {
        Ok(call) => Ok(call),
        Err(error) => {
            // A reader that has gone away is no failure of ours.
            let _ = error.print();
            Err(u8::try_from(error.exit_code()).unwrap_or(2))
        }
    }
}

pub(super) fn try_parse(
    arguments: impl IntoIterator<Item = OsString>,
    terminal: Terminal,
) -> Result<Call, clap::Error> {
    let arguments = Arguments::try_parse_from(arguments)?;
    let request = match arguments.command {
        Command::Attach(attach) => Request::Attach(attach.checked(terminal)),
        Command::Dump(dump) => Request::Dump(dump.checked()),
        Command::Record(record) => Request::Record(record.checked(&mut Arguments::command())?),
        Command::Report(report) => {
            Request::Report(report.checked(&jiff::Zoned::now(), &mut Arguments::command())?)
        }
        Command::Run(run) => Request::Run(RunOptions { config: configuration::to_start_with(run.config) }),
        Command::Top(top) => Request::Top(top.checked(terminal)),
        Command::Config(Config::Init { output }) => Request::Config(ConfigRequest::Init(output)),
        Command::Config(Config::Check { file }) => Request::Config(ConfigRequest::Check(file)),
        Command::Ps(ps) => Request::Ps(PsOptions { json: ps.json }),
        Command::Doctor(doctor) => Request::Doctor(DoctorOptions { pid: doctor.pid, json: doctor.json }),
        Command::Manual { folder } => Request::Manual(folder),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "pyapm", &mut script);
            Request::Print(script)
        }
    };
    Ok(Call { verbosity: arguments.verbose, request })
}

/// Writes the manual pages.
pub(super) fn write_manual(folder: &std::path::Path) -> std::io::Result<()> {
    clap_mangen::generate_to(Arguments::command(), folder)
}

/// Zero-code APM and profiler for Python: watches running applications from outside, by eBPF.
///
/// The Python processes are not changed, restarted or paused. Needs root and Linux 5.10 or newer.
#[derive(clap::Parser, Debug)]
#[command(name = "pyapm", version, propagate_version = true)]
struct Arguments {
    /// Say more on stderr; -vv details, -vvv everything.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,

    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    /// Watch one running application: its requests, SQL and Python stacks.
    Attach(Attach),
    /// Run as a service: watch all applications that the configuration names, as they come and go.
    Run(Run),
    /// Look at an application that the service watches.
    Top(Top),
    /// Tell what a past time was like, from the service's history: routes, errors, SQL, slowest transactions.
    #[command(after_help = super::reporting::EXAMPLES)]
    Report(Report),
    /// Write a configuration file with every key, or check one.
    #[command(subcommand)]
    Config(Config),
    /// Write what every thread of a process is doing now, with its Python stack.
    Dump(DumpArguments),
    /// Record where the time of Python processes goes, into a flame graph or another profile.
    #[command(after_help = super::recording::EXAMPLES)]
    Record(Record),
    /// List the Python applications on this host.
    Ps(Ps),
    /// Tell what works on this host, or for one application, and what does not and why.
    Doctor(Doctor),
    /// Write manual pages, one for each command, into a folder.
    #[command(hide = true)]
    Manual { folder: PathBuf },
    /// Write a completion script for a shell to stdout.
    #[command(hide = true)]
    Completions { shell: clap_complete::Shell },
}

#[derive(clap::Args, Debug)]
struct Attach {
    /// Any process of the application: its master or one of its workers.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=i64::from(i32::MAX)))]
    pid: u32,

    /// What to write to stdout.
    #[arg(long, value_enum, default_value_t = FormatArgument::Auto)]
    format: FormatArgument,

    /// End after this many seconds [default: on Ctrl-C, or when the application ends].
    #[arg(long, value_name = "SECONDS", value_parser = duration)]
    duration: Option<Duration>,

    /// On-CPU stack samples per second on each CPU.
    #[arg(long, value_name = "HERTZ", default_value_t = 99,
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    rate: u32,

    /// Do not follow what requests wait for: no probe on the scheduler.
    #[arg(long)]
    no_waits: bool,

    /// Size of the buffer between kernel and daemon: a power of two.
    #[arg(long, value_name = "BYTES", default_value_t = 8 << 20, value_parser = ring_bytes, hide = true)]
    ring_bytes: u32,

    /// How much of SQL statements is told: nothing, operation and table, the text without its values, or the
    /// text as it was sent, with everything that is in it.
    #[arg(long, value_enum, value_name = "MODE", default_value_t = SqlArgument::Digest)]
    sql: SqlArgument,
}

impl Attach {
    fn checked(&self, terminal: Terminal) -> AttachOptions {
        AttachOptions {
            pid: self.pid,
            format: match self.format {
                FormatArgument::Auto => Format::Auto,
                FormatArgument::View => Format::View,
                FormatArgument::Text => Format::Text,
                FormatArgument::Json => Format::Json,
            },
            duration: self.duration,
            rate_hz: self.rate,
            waits: !self.no_waits,
            ring_bytes: self.ring_bytes,
            sql: match self.sql {
                SqlArgument::Off => sql::Mode::Off,
                SqlArgument::Operation => sql::Mode::Operation,
                SqlArgument::Digest => sql::Mode::Digest,
                SqlArgument::Verbatim => sql::Mode::Verbatim,
            },
            color: terminal.stdout_color,
        }
    }
}

#[derive(clap::Args, Debug)]
struct Run {
    /// The configuration [default: /etc/pyapm/pyapm.toml where it is there, else every default].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(clap::Args, Debug)]
struct Top {
    /// The application, by its name or number [default: the only one].
    #[arg(long, value_name = "NAME")]
    application: Option<String>,

    /// Any process of the application.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=i64::from(i32::MAX)))]
    pid: Option<u32>,

    /// Only write which applications the service watches.
    #[arg(long)]
    list: bool,

    /// The service's socket.
    #[arg(long, value_name = "PATH", default_value = "/run/pyapm/pyapm.sock")]
    socket: PathBuf,
}

impl Top {
    fn checked(self, terminal: Terminal) -> TopOptions {
        TopOptions {
            socket: self.socket,
            application: self.application,
            pid: self.pid,
            list: self.list,
            color: terminal.stdout_color,
        }
    }
}

#[derive(clap::Subcommand, Debug)]
enum Config {
    /// Write a file with every key and its default, commented out.
    Init {
        /// To this file, which must not be there yet [default: to stdout].
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Say what is wrong with a file, and where.
    Check {
        #[arg(default_value = configuration::DEFAULT_PATH)]
        file: PathBuf,
    },
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum SqlArgument {
    Off,
    Operation,
    Digest,
    Verbatim,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum FormatArgument {
    /// The live view on a terminal, else text.
    Auto,
    /// The live view.
    View,
    /// A plain report every few seconds.
    Text,
    /// One JSON object a line for each transaction.
    Json,
}

#[derive(clap::Args, Debug)]
struct DumpArguments {
    /// The process.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=i64::from(i32::MAX)))]
    pid: u32,

    /// All processes of the application that the process is of.
    #[arg(long)]
    application: bool,

    /// Write one JSON object instead of text.
    #[arg(long)]
    json: bool,

    /// Local variables too, with short values. They may be secret: without this none is read.
    #[arg(long)]
    locals: bool,
}

impl DumpArguments {
    fn checked(&self) -> DumpOptions {
        DumpOptions { pid: self.pid, application: self.application, json: self.json, locals: self.locals }
    }
}

#[derive(clap::Args, Debug)]
struct Ps {
    /// Write one JSON array instead of a table.
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args, Debug)]
struct Doctor {
    /// Any process of an application: look at that application too.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=i64::from(i32::MAX)))]
    pid: Option<u32>,

    /// Write one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    if seconds > 0.0 && seconds <= 365.0 * DAY_SECONDS {
        Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
    } else {
        Err("not between 0 and one year".to_owned())
    }
}

pub(super) fn ring_bytes(text: &str) -> Result<u32, String> {
    let bytes: u32 = text.parse().map_err(|_| "not a number of bytes".to_owned())?;
    if bytes.is_power_of_two() && (MIN_RING_BYTES..=MAX_RING_BYTES).contains(&bytes) {
        Ok(bytes)
    } else {
        Err(format!("not a power of two from {MIN_RING_BYTES} to {MAX_RING_BYTES}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(line: &str) -> Result<Call, clap::Error> {
        let words = line.split_ascii_whitespace().map(OsString::from);
        try_parse(std::iter::once("pyapm".into()).chain(words), Terminal { stdout_color: true })
    }

    fn request(line: &str) -> Request {
        call(line).unwrap().request
    }

    #[test]
    fn definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn attach() {
        let defaults = AttachOptions {
            pid: 42,
            format: Format::Auto,
            duration: None,
            rate_hz: 99,
            waits: true,
            ring_bytes: 8 << 20,
            sql: sql::Mode::Digest,
            color: true,
        };
        assert_eq!(request("attach --pid 42"), Request::Attach(defaults.clone()));
        let line = "attach --pid 42 --format json --duration 0.5 --rate 1 --no-waits --ring-bytes 4096 --sql operation -vv";
        let options = AttachOptions {
            format: Format::Json,
            duration: Some(Duration::from_millis(500)),
            rate_hz: 1,
            waits: false,
            ring_bytes: 4096,
            sql: sql::Mode::Operation,
            ..defaults
        };
        assert_eq!(call(line).unwrap(), Call { verbosity: 2, request: Request::Attach(options) });
    }

    #[test]
    fn other_commands() {
        let dump = DumpOptions { pid: 7, application: false, json: false, locals: false };
        assert_eq!(request("dump --pid 7"), Request::Dump(dump));
        let all = DumpOptions { pid: 7, application: true, json: true, locals: true };
        assert_eq!(request("dump --pid 7 --application --json --locals"), Request::Dump(all));
        assert_eq!(request("ps"), Request::Ps(PsOptions { json: false }));
        assert_eq!(request("ps --json"), Request::Ps(PsOptions { json: true }));
        assert_eq!(request("doctor"), Request::Doctor(DoctorOptions { pid: None, json: false }));
        let options = DoctorOptions { pid: Some(7), json: true };
        assert_eq!(request("doctor --json --pid 7"), Request::Doctor(options));
        let Request::Print(script) = request("completions bash") else { panic!() };
        assert!(String::from_utf8(script).unwrap().contains("doctor"));
    }

    #[test]
    fn the_service_and_its_view() {
        let named = RunOptions { config: Some("/a.toml".into()) };
        assert_eq!(request("run --config /a.toml"), Request::Run(named));
        let top = TopOptions {
            socket: "/run/pyapm/pyapm.sock".into(),
            application: Some("shop".to_owned()),
            pid: None,
            list: false,
            color: true,
        };
        assert_eq!(request("top --application shop"), Request::Top(top.clone()));
        let other = TopOptions { socket: "/x".into(), application: None, pid: Some(7), list: true, ..top };
        assert_eq!(request("top --pid 7 --list --socket /x"), Request::Top(other));
        assert_eq!(request("config init"), Request::Config(ConfigRequest::Init(None)));
        assert_eq!(request("config check /a"), Request::Config(ConfigRequest::Check("/a".into())));
    }

    #[test]
    fn every_command_has_its_manual_page() {
        let folder = tempfile::tempdir().unwrap();
        write_manual(folder.path()).unwrap();
        for page in ["pyapm.1", "pyapm-run.1", "pyapm-attach.1", "pyapm-report.1", "pyapm-config-check.1"] {
            let text = std::fs::read_to_string(folder.path().join(page)).unwrap();
            assert!(text.contains(".SH SYNOPSIS"), "{page}");
        }
    }

    #[test]
    fn usage_errors_are_code_2() {
        for line in [
            "",
            "attach",
            "attach --pid 0",
            "attach --pid -1",
            "attach --pid 4294967295",
            "attach --pid x",
            "attach --pid 1 --format xml",
            "attach --pid 1 --duration 0",
            "attach --pid 1 --duration -1",
            "attach --pid 1 --duration nan",
            "attach --pid 1 --duration inf",
            "attach --pid 1 --duration 1e300",
            "attach --pid 1 --rate 0",
            "attach --pid 1 --rate 1001",
            "attach --pid 1 --ring-bytes 5000",
            "attach --pid 1 --ring-bytes 2048",
            "doctor --pid",
            "dump",
            "dump --pid 0",
            "config",
            "top --pid 0",
            "report --last 1y",
            "report --since tomorrow",
            "report --since 1h --until 2h",
            "report --since 1h --last 1h",
            "report --compare never",
            "report --rows 0",
            "report --history /x --config /y",
            "no-such-command",
        ] {
            assert_eq!(call(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn help_and_version_are_no_errors() {
        for line in ["--help", "-h", "--version", "attach --help", "help ps"] {
            assert_eq!(call(line).unwrap_err().exit_code(), 0, "{line}");
        }
        let help = call("--help").unwrap_err().to_string();
        assert!(help.contains("attach") && help.contains("doctor") && !help.contains("completions"));
        assert!(!call("attach --help").unwrap_err().to_string().contains("ring-bytes"));
    }
}
