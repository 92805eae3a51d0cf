//! `cargo xtask`: everything around the product that a developer or CI runs, one file or folder per command.
//! Progress goes to stderr. It is no part of the product and the product never calls it.

mod bench;
mod bpf;
mod debian;
mod demo;
mod dist;
mod kernels;
mod setup;
mod suites;
mod tidy;
mod workspace;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Set-up, BPF build, demo, tests, benches and house rules")]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what building, testing and the demo need and is missing
    Setup {
        /// Only this part
        #[arg(long)]
        only: Option<setup::command::Part>,
        /// Build free-threaded interpreters from Debian's sources, which takes minutes, and nothing else
        #[arg(long, conflicts_with = "only")]
        free_threaded: bool,
    },
    /// Build the kernel half and put the object where the agent embeds it
    Bpf {
        /// Only prove that the committed object is what the sources build
        #[arg(long)]
        check: bool,
    },
    /// Show pyapm on a Django shop under load, and clean up on exit
    Demo,
    /// Build the Debian package
    Dist {
        /// Pack this binary instead of building one
        #[arg(long)]
        binary: Option<std::path::PathBuf>,
        /// Install it into a clean Debian and start its service there; needs root
        #[arg(long)]
        prove: bool,
    },
    /// Measure what pyapm costs
    Bench {
        #[command(subcommand)]
        bench: bench::command::Bench,
    },
    /// Run all checks and tests, or one suite
    Test {
        /// Only this suite, after the set-up
        suite: Option<suites::command::Suite>,
        /// Every kernel of the matrix, not only the oldest and the newest
        #[arg(long)]
        all: bool,
    },
    /// Hold the house rules
    Tidy,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Task::Setup { free_threaded: true, .. } => setup::command::free_threaded(),
        Task::Setup { only, .. } => setup::command::run(only),
        Task::Bpf { check } => bpf::command::run(check),
        Task::Demo => demo::command::run(),
        Task::Dist { binary, prove } => dist::command::run(binary.as_deref(), prove),
        Task::Bench { bench } => bench::command::run(&bench),
        Task::Test { suite, all } => suites::command::run(suite, all),
        Task::Tidy => tidy::command::run(),
    };
    match result {
        // As a shell reports a program ended by Ctrl-C; by now everything has been cleaned up.
        _ if demo::interrupt::seen() => {
            eprintln!("interrupted: everything that was started has been ended");
            ExitCode::from(130)
        }
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
