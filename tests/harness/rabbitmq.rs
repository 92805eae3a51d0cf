//! A RabbitMQ of one's own: data, log and cookie in a temporary folder, with its own name server, all on free ports of
//! loopback, gone with its guards.

use crate::guard::Guard;
use crate::{place, wait};
use anyhow::{Context, Result};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

/// A running broker with the user `guest`.
#[derive(Debug)]
pub struct RabbitMq {
    #[expect(dead_code, reason = "held for its drop: the broker ends with it")]
    broker: Guard,
    #[expect(dead_code, reason = "held for its drop: Erlang's name server ends with it")]
    names: Guard,
    pub port: u16,
    #[expect(dead_code, reason = "held for its drop: the folder with the data goes with the broker")]
    folder: TempDir,
}

impl RabbitMq {
    /// Starts it and waits until it serves.
    ///
    /// # Errors
    /// When it is not installed, or does not start.
    pub fn start() -> Result<Self> {
        let folder =
            tempfile::Builder::new().prefix("pyapm-rabbit-").tempdir().context("no temporary folder")?;
        let path = |name: &str| folder.path().join(name);
        let [port, between, names_port] = free_ports()?;
        // One that the broker starts itself would outlive it.
        let mut names = Command::new(place::system_program("epmd")?);
        names.args(["-port", &names_port.to_string(), "-address", "127.0.0.1"]);
        let mut names = Guard::start(&mut names, &path("names.log"), None)?;
        wait::until("Erlang's name server to listen", || {
            names.check_alive()?;
            Ok(TcpStream::connect(("127.0.0.1", names_port)).ok())
        })?;
        // The program in the path changes the user, and wants the system's folders.
        let program = PathBuf::from("/usr/lib/rabbitmq/bin/rabbitmq-server");
        let mut command = Command::new(&program);
        command
            .env("HOME", folder.path())
            .env("ERL_EPMD_PORT", names_port.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODENAME", format!("pyapm-{port}@localhost"))
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", port.to_string())
            .env("RABBITMQ_DIST_PORT", between.to_string())
            .env("RABBITMQ_MNESIA_BASE", path("data"))
            .env("RABBITMQ_LOG_BASE", path("logs"))
            .env("RABBITMQ_LOGS", "-")
            .env("RABBITMQ_PID_FILE", path("pid"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", path("plugins"))
            .env("RABBITMQ_CONFIG_FILE", path("no-config"))
            .env("RABBITMQ_CONF_ENV_FILE", path("no-environment"))
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1} +S 1:1");
        let mut broker = Guard::start(&mut command, &path("log"), None)
            .context("no RabbitMQ on this machine; try `cargo xtask setup`")?;
        wait::until("RabbitMQ to serve", || {
            broker.check_alive()?;
            Ok(broker.log().contains("Server startup complete").then_some(()))
        })?;
        Ok(Self { broker, names, port, folder })
    }
}

/// Ports that were free a moment ago.
fn free_ports() -> Result<[u16; 3]> {
    let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0"));
    let mut ports = [0; 3];
    for (port, listener) in ports.iter_mut().zip(listeners) {
        *port = listener.context("no free port on loopback")?.local_addr()?.port();
    }
    Ok(ports)
}
