//! Pushes what happened in each interval to a statsd server, by UDP or a unix datagram socket. The server may be away or
//! slow: what it does not take at once is counted as lost, and nobody waits.

use super::Subscriber;
use crate::config::Statsd;
use crate::outputs::statsd::{Datagram, Interval, Style};
use anyhow::Context;
use pyapm_model::line::Line;
use std::time::Duration;
use tokio::net::{UdpSocket, UnixDatagram};
use tokio::time::{MissedTickBehavior, interval_at};

/// Datagrams that are sent without a pause; the receiver's buffer holds some hundred.
const BURST: usize = 32;
const PAUSE: Duration = Duration::from_millis(5);
/// How long a unix socket may have no room.
const ROOM: Duration = Duration::from_millis(200);

/// Sends until the service ends, and then what is left.
///
/// # Errors
/// When no socket can be made.
pub async fn run(settings: &Statsd, mut subscriber: Subscriber) -> anyhow::Result<()> {
    let Some(address) = &settings.address else { return Ok(()) };
    let mut socket = Socket::new(address);
    let mut sums = Interval::new(Style {
        prefix: settings.prefix.clone(),
        has_tags: settings.tags == "dogstatsd",
        datagram_bytes: settings.datagram_bytes as usize,
        series: settings.series as usize,
    });
    let period = Duration::from_secs_f64(settings.interval_seconds);
    let mut tick = interval_at(tokio::time::Instant::now() + period, period);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            line = subscriber.next() => match line {
                Some(published) => {
                    if let Line::Transaction(transaction) = &published.line {
                        sums.record(&published.application.name, transaction);
                    }
                }
                None => break,
            },
            _ = tick.tick() => socket.push(sums.take(), &subscriber).await,
        }
    }
    socket.push(sums.take(), &subscriber).await;
    Ok(())
}

/// Made when it is needed: the server may come later, or come back elsewhere.
struct Socket {
    address: String,
    open: Option<Open>,
    complained: bool,
}

enum Open {
    Udp(UdpSocket),
    Unix(UnixDatagram),
}

impl Socket {
    fn new(address: &str) -> Self {
        Self { address: address.to_owned(), open: None, complained: false }
    }

    async fn push(&mut self, datagrams: Vec<Datagram>, subscriber: &Subscriber) {
        let mut datagrams = datagrams.into_iter();
        let mut number = 0;
        while let Some(datagram) = datagrams.next() {
            number += 1;
            if number % BURST == 0 {
                tokio::time::sleep(PAUSE).await;
            }
            match self.send(datagram.text.as_bytes()).await {
                Ok(()) => {
                    if std::mem::take(&mut self.complained) {
                        tracing::info!("the statsd server takes data again");
                    }
                }
                Err(error) => {
                    // Who does not take one does not take the others either: they must not wait each in turn.
                    let rest: u64 = datagrams.by_ref().map(|datagram| datagram.lines).sum();
                    subscriber.dropped(datagram.lines + rest);
                    if !std::mem::replace(&mut self.complained, true) {
                        tracing::warn!("the statsd server does not take data: {error:#}");
                    }
                }
            }
        }
    }

    async fn send(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        let open = match self.open.take() {
            Some(open) => open,
            None => open(&self.address).await?,
        };
        // What cannot be taken soon is lost: it must not hold up what comes next.
        match &open {
            Open::Udp(socket) => socket.send(bytes).await.map(|_| ()),
            // A server that reads makes room soon: the kernel queues ten datagrams or so.
            Open::Unix(socket) => match tokio::time::timeout(ROOM, socket.send(bytes)).await {
                Ok(sent) => sent.map(|_| ()),
                Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
            },
        }
        .with_context(|| format!("cannot send to `{}`", self.address))
        .inspect(|()| self.open = Some(open))
    }
}

async fn open(address: &str) -> anyhow::Result<Open> {
    if let Some(path) = address.strip_prefix("unix:") {
        let socket = UnixDatagram::unbound().context("cannot make a socket")?;
        socket.connect(path).with_context(|| format!("cannot reach `{address}`"))?;
        return Ok(Open::Unix(socket));
    }
    let found =
        tokio::net::lookup_host(address).await.with_context(|| format!("cannot resolve `{address}`"))?;
    let mut last = None;
    for target in found {
        let any = if target.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
        let socket = UdpSocket::bind(any).await.context("cannot make a socket")?;
        match socket.connect(target).await {
            Ok(()) => return Ok(Open::Udp(socket)),
            Err(error) => last = Some(error),
        }
    }
    match last {
        Some(error) => Err(error).with_context(|| format!("cannot reach `{address}`")),
        None => anyhow::bail!("`{address}` has no address"),
    }
}
