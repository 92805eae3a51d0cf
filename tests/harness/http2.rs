//! nginx that speaks HTTP/2, in clear and over TLS, in front of a server that speaks HTTP/1.1.

use crate::certificate::Certificate;
use crate::guard::Guard;
use crate::{place, wait};
use anyhow::{Context as _, Result, bail};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use tempfile::TempDir;

/// How many pairs of ports are tried.
const PAIRS: u32 = 5;

/// The running server.
#[derive(Debug)]
pub struct Http2Server {
    guard: Guard,
    pub port: u16,
    pub tls_port: u16,
    folder: TempDir,
}

impl Http2Server {
    /// Starts it before the server on this port of loopback.
    ///
    /// # Errors
    /// When nginx is not installed, or does not start.
    pub fn start(upstream: u16) -> Result<Self> {
        let folder =
            tempfile::Builder::new().prefix("pyapm-http2-").tempdir().context("no temporary folder")?;
        let program = place::system_program("nginx")?;
        let Certificate { certificate, key } = Certificate::make(folder.path())?;
        let at = folder.path().display();
        let log = folder.path().join("log");
        for _ in 0..PAIRS {
            // Both at once, so that they differ.
            let sockets = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
            let [port, tls_port] = [sockets[0].local_addr()?.port(), sockets[1].local_addr()?.port()];
            drop(sockets);
            let configuration = format!(
                "daemon off; master_process off; pid {at}/pid; error_log stderr;
                 events {{}}
                 http {{
                   log_format calls '$server_protocol $request_method $request_uri $status';
                   access_log {at}/access calls; keepalive_timeout 600; keepalive_requests 1000000;
                   client_body_temp_path {at}/body; proxy_temp_path {at}/proxy; fastcgi_temp_path {at}/fastcgi;
                   uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;
                   server {{
                     listen 127.0.0.1:{port} http2; listen 127.0.0.1:{tls_port} ssl http2;
                     ssl_certificate {}; ssl_certificate_key {};
                     location / {{ proxy_pass http://127.0.0.1:{upstream}; }}
                   }}
                 }}",
                certificate.display(),
                key.display()
            );
            let file = folder.path().join("nginx.conf");
            std::fs::write(&file, configuration).context("could not write nginx's configuration")?;
            let mut command = Command::new(&program);
            command.arg("-p").arg(folder.path()).arg("-c").arg(&file);
            let mut guard = Guard::start(&mut command, &log, None)?;
            let answers = wait::until("nginx to listen", || {
                guard.check_alive()?;
                Ok(TcpStream::connect(("127.0.0.1", tls_port)).ok())
            });
            match answers {
                Ok(_) => return Ok(Self { guard, port, tls_port, folder }),
                Err(_) if guard.log().contains("in use") => {}
                Err(error) => return Err(error),
            }
        }
        bail!("{PAIRS} pairs of ports in a row were taken between finding them free and using them")
    }

    /// The calls that it has answered, one a line: `HTTP/2.0 GET /path 200`.
    ///
    /// # Errors
    /// When its log cannot be read.
    pub fn calls(&self) -> Result<String> {
        std::fs::read_to_string(self.folder.path().join("access"))
            .with_context(|| format!("no log of nginx: {}", self.guard.log()))
    }
}
