//! The command: which benches there are.

use super::{drivers, overhead, profiler, soak, view};
use anyhow::Result;

/// A bench and how long it is to run.
#[derive(Debug, clap::Subcommand)]
pub enum Bench {
    /// Requests per second and p99 of the Django shop, with and without pyapm, in alternating runs
    Overhead {
        /// Runs with pyapm, and as many without
        #[arg(long, default_value_t = 5)]
        pairs: u32,
        /// Length of each run
        #[arg(long, default_value_t = 10)]
        seconds: u32,
    },
    /// Requests per second and cost of a call for each driver, with and without pyapm, in alternating turns
    Drivers(#[command(flatten)] drivers::Size),
    /// Slowdown by pyapm, py-spy and Tachyon of one program, and how many of their stacks cannot be
    Profiler(#[command(flatten)] profiler::Size),
    /// Memory of the daemon at a steady load, each minute, and what it loses; then attaching again and again
    Soak {
        /// How long it is attached
        #[arg(long, default_value_t = 60)]
        minutes: u32,
        /// How often it is attached and detached after that
        #[arg(long, default_value_t = 50)]
        attaches: u32,
    },
    /// The live view at a steady rate: drawing, bytes, CPU of the view and of the daemon that it watches
    View {
        /// Transactions a second
        #[arg(long, default_value_t = 5_000)]
        rate: u32,
        /// Seconds on each screen
        #[arg(long, default_value_t = 5)]
        seconds: u32,
    },
}

/// Runs a bench.
///
/// # Errors
/// When what it needs does not start.
pub fn run(bench: &Bench) -> Result<()> {
    match bench {
        Bench::Overhead { pairs, seconds } => overhead::run(*pairs, *seconds),
        Bench::Drivers(size) => drivers::run(size),
        Bench::Soak { minutes, attaches } => soak::run(*minutes, *attaches),
        Bench::View { rate, seconds } => view::run(*rate, *seconds),
        Bench::Profiler(size) => profiler::run(size),
    }
}
