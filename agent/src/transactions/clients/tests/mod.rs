//! Parsers against what real drivers and servers said to each other: `recordings/` has one connection a file,
//! one call of the recording proxy a line (`>` sent, `<` received), and beside it, as snapshot, the calls that
//! must come out of it.

mod fuzz;
pub(in crate::transactions) mod recorded;

use super::{Call, Calls, Operation, Protocol};
use crate::transactions::clients::calls::Purpose;
use crate::transactions::http::Part;
use std::fmt::Write as _;
use std::path::PathBuf;

/// One run of bytes; `true` for those that the client sent.
pub(in crate::transactions) type Exchange = Vec<(bool, Vec<u8>)>;

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src/transactions/clients/recordings"))
}

pub(in crate::transactions) fn recording(name: &str) -> Exchange {
    let text = std::fs::read_to_string(folder().join(name).with_extension("txt")).unwrap();
    text.lines().map(|line| (line.starts_with('>'), unescaped(&line[2..]))).collect()
}

/// Bytes from `\n`, `\r`, `\\`, `\xhh` and printable ASCII.
fn unescaped(text: &str) -> Vec<u8> {
    let (text, mut at, mut bytes) = (text.as_bytes(), 0, Vec::new());
    while let Some(byte) = text.get(at) {
        let (value, length) = match (byte, text.get(at + 1)) {
            (b'\\', Some(b'n')) => (b'\n', 2),
            (b'\\', Some(b'r')) => (b'\r', 2),
            (b'\\', Some(b'\\')) => (b'\\', 2),
            (b'\\', Some(b'x')) => {
                let digits = std::str::from_utf8(&text[at + 2..at + 4]).unwrap();
                (u8::from_str_radix(digits, 16).unwrap(), 4)
            }
            _ => (*byte, 1),
        };
        bytes.push(value);
        at += length;
    }
    bytes
}

fn feed(protocol: &mut dyn Protocol, sent: bool, part: Part<'_>, first: bool, calls: &mut Calls) {
    if sent {
        protocol.sent(part, first, calls);
    } else {
        protocol.received(part, first, calls);
    }
}

/// The whole exchange, each run cut into pieces by `cut`.
fn played<'a>(
    mut protocol: Box<dyn Protocol>,
    exchange: &'a Exchange,
    cut: impl Fn(usize, &'a [u8]) -> Vec<Part<'a>>,
) -> Calls {
    let mut calls = Calls::new();
    for (index, (sent, bytes)) in exchange.iter().enumerate() {
        for (piece, part) in cut(index, bytes).into_iter().enumerate() {
            feed(&mut *protocol, *sent, part, piece == 0, &mut calls);
        }
    }
    protocol.closed(&mut calls);
    calls
}

fn whole(_: usize, bytes: &[u8]) -> Vec<Part<'_>> {
    vec![Part::Bytes(bytes)]
}

/// As the kernel half copies one call: its start, and its last bytes.
fn captured(bytes: &[u8], want: u32) -> Vec<Part<'_>> {
    let head = bytes.len().min(want as usize);
    let tail = (bytes.len() - head).min(pyapm_wire::connection::TAIL_CAPTURE as usize);
    let absent = bytes.len() - head - tail;
    [Part::Bytes(&bytes[..head]), Part::Absent(absent as u64), Part::Bytes(&bytes[bytes.len() - tail..])]
        .into_iter()
        .filter(|part| !matches!(part, Part::Bytes([]) | Part::Absent(0)))
        .collect()
}

/// One call a line, for people to check.
fn described(calls: &[Call]) -> String {
    let mut text = String::new();
    for call in calls {
        let _written = match call {
            Call::Began { tag, operation } => writeln!(text, "began {tag} {}", operation_of(operation)),
            Call::Answering { tag } => writeln!(text, "answering {tag}"),
            Call::Accepted { tag, .. } => writeln!(text, "accepted {tag}"),
            Call::Ended { tag, result } => {
                let mut line = format!("ended {tag}");
                let fields = [
                    ("error", result.error.clone()),
                    ("sqlstate", result.sqlstate.clone()),
                    ("status", result.status.map(|status| status.to_string())),
                    ("sent", result.request_bytes.map(|bytes| bytes.to_string())),
                    ("received", result.response_bytes.map(|bytes| bytes.to_string())),
                    ("unanswered", result.unanswered.then(String::new)),
                    ("rows", result.rows.map(|rows| rows.to_string())),
                    ("affected", result.affected_rows.map(|rows| rows.to_string())),
                    ("unseen", result.unseen.then(String::new)),
                ];
                for (name, value) in fields {
                    let Some(value) = value else { continue };
                    let _written = write!(line, " {name} {value}");
                }
                writeln!(text, "  {}", line.trim_end())
            }
            Call::Checked => writeln!(text, "checked"),
            Call::Undecoded => writeln!(text, "undecoded"),
            Call::Lost => writeln!(text, "lost"),
            Call::Overflow => writeln!(text, "overflow"),
        };
    }
    text
}

fn operation_of(operation: &Operation) -> String {
    match operation {
        Operation::Statement { system, text, text_len, purpose } => {
            let purpose = if *purpose == Purpose::Prepare { " prepare" } else { "" };
            let shown = text.escape_ascii();
            let cut = if (text.len() as u64) < u64::from(*text_len) { "..." } else { "" };
            format!("{system}{purpose}: {shown}{cut}")
        }
        Operation::Command { kind, system, name, target } => {
            format!("{kind:?} {system}: {name} [{}]", target.as_deref().unwrap_or("-"))
        }
        Operation::Message { system, name, destination, id, bytes } => {
            let (destination, id) = (destination.as_deref().unwrap_or("-"), id.as_deref().unwrap_or("-"));
            format!("{system}: {name} {destination} id {id} bytes {bytes:?}")
        }
        Operation::Http { method, path, host, .. } => {
            let [method, host, path] =
                [method.as_deref(), host.as_deref(), path.as_deref()].map(|said| said.unwrap_or("-"));
            format!("http: {method} {host} {path}")
        }
    }
}
