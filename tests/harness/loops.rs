//! Servers that serve many requests on one thread: `workloads/pythons/loops.py`, under any of their kinds and under any
//! Python, with an echo server behind it that all requests ask over shared connections.

use crate::echo::Echo;
use crate::interpreter::{Interpreter, Script};
use crate::load::Address;
use crate::place::{Python, environments, workloads};
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

/// What runs the server.
#[derive(Clone, Debug)]
pub enum Runner {
    /// An environment of `cargo xtask setup`, with all servers in it.
    Environment(Python),
    /// A build of Python, with those servers that are Python alone.
    Build(Interpreter),
    /// A build of Python, with gevent alone.
    Greenlets(Interpreter),
}

impl std::fmt::Display for Runner {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Environment(python) => formatter.write_str(&python.name),
            Self::Build(interpreter) | Self::Greenlets(interpreter) => interpreter.fmt(formatter),
        }
    }
}

impl Runner {
    /// # Errors
    /// When the environment is not here.
    pub fn environment(name: &str) -> Result<Self> {
        Ok(Self::Environment(Python::named(name)?))
    }

    /// The distribution's Python 3.`minor`, with gevent.
    ///
    /// # Errors
    /// When it is not here.
    pub fn greenlets(minor: u8) -> Result<Self> {
        let of_distribution =
            |build: &Interpreter| build.minor == minor && !build.shared && build.root().is_some();
        let found = Interpreter::all()?.into_iter().find(of_distribution);
        Ok(Self::Greenlets(found.with_context(|| format!("no Python 3.{minor} of the distribution"))?))
    }

    fn command(&self, scratch: &Path) -> Result<Command> {
        match self {
            Self::Environment(python) => {
                let mut command = Command::new(python.program("python"));
                command.arg("-B").arg(workloads().join("pythons/loops.py")).arg(scratch);
                Ok(command)
            }
            Self::Build(interpreter) | Self::Greenlets(interpreter) => {
                let site = match self {
                    Self::Greenlets(_) => format!("site-gevent-3.{}", interpreter.minor),
                    _ => "site-loops".to_owned(),
                };
                let site = environments().join(site);
                ensure!(site.is_dir(), "no `{}`; try `cargo xtask setup --only python`", site.display());
                // Its root sees nothing but the scratch folder.
                let copied = Command::new("cp").arg("-r").arg(&site).arg(scratch.join("site")).status()?;
                ensure!(copied.success(), "could not copy `{}`", site.display());
                Ok(interpreter.command("loops.py", scratch))
            }
        }
    }
}

/// A running server.
#[derive(Debug)]
pub struct Loops {
    script: Script,
    pub address: Address,
    _echo: Echo,
}

impl Loops {
    /// Starts the server that `config` names, and waits until it serves.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(runner: &Runner, mut config: Value) -> Result<Self> {
        let echo = Echo::start()?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let settings = config.as_object_mut().context("the configuration is no object")?;
        settings.insert("port".into(), json!(port));
        settings.insert("echo".into(), json!(echo.port()));
        let script = Script::start_with(&format!("{config} under {runner}"), |scratch| {
            std::fs::write(scratch.join("config.json"), config.to_string())?;
            runner.command(scratch)
        })?;
        Ok(Self { script, address: Address::Tcp(format!("127.0.0.1:{port}").parse()?), _echo: echo })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.script.pid()
    }

    /// What it has written.
    #[must_use]
    pub fn log(&self) -> String {
        self.script.log()
    }
}
