//! An HTTP server that answers everything after a moment, but what begins with `/never/`, for workloads to ask: what it is
//! asked for says who asks.

use anyhow::{Context as _, Result};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

/// A running echo server. Its threads end with their connections.
#[derive(Debug)]
pub struct Echo {
    port: u16,
}

impl Echo {
    /// # Errors
    /// When there is no port.
    pub fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("no port for the echo server")?;
        let port = listener.local_addr()?.port();
        std::thread::spawn(move || {
            for (number, connection) in listener.incoming().flatten().enumerate() {
                std::thread::spawn(move || serve(connection, number as u64));
            }
        });
        Ok(Self { port })
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// Ends with the connection: that it breaks is the client's affair.
fn serve(connection: TcpStream, mut number: u64) -> Option<()> {
    let mut reader = BufReader::new(connection.try_clone().ok()?);
    let mut writer = connection;
    let mut line = String::new();
    let mut answers = true;
    loop {
        line.clear();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        answers &= !line.starts_with("GET /never/");
        if !answers {
            continue;
        }
        if line == "\r\n" {
            // 0 to 6 ms, in no order that a pool of connections could keep.
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            std::thread::sleep(Duration::from_micros((number >> 33) % 6000));
            writer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").ok()?;
        }
    }
}
