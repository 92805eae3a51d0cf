//! What a client's packets ask for.

use super::client::{MOST_WAITING, SYSTEM, Stage, State, Text, Waiting, What};
use super::packets::{CONTINUED, command};
use crate::transactions::clients::calls::{CallResult, Purpose, ended};
use crate::transactions::clients::frames::Frame;
use crate::transactions::clients::{Call, Calls, Operation};
use pyapm_model::line::SpanKind;
use pyapm_wire::event::STATEMENT_CAPTURE;

/// Capabilities (`include/mysql_com.h`).
const CLIENT_COMPRESS: u32 = 1 << 5;
const CLIENT_SSL: u32 = 1 << 11;
const CLIENT_ZSTD: u32 = 1 << 26;
/// Payload of a request for encryption: the login's first part.
const SSL_REQUEST: u64 = 32;
/// The number of "the statement that was prepared just now" in MariaDB's protocol.
const LATEST: u32 = u32::MAX;

impl State {
    /// One packet from the client.
    pub(super) fn request(&mut self, frame: &Frame<'_>, calls: &mut Calls) {
        let sequence = frame.header.get(3).copied().unwrap_or_default();
        if let Stage::Opening { .. } = self.stage {
            if sequence > 0 {
                return self.log_in(frame);
            }
            // A command: the end of the login was not seen.
            self.stage = Stage::Commands;
        }
        if sequence > 0 {
            // The rest of a long command, a file, a password.
            return;
        }
        let Some((first, rest)) = frame.payload.split_first() else { return };
        let length = frame.length.saturating_sub(1);
        match *first {
            command::QUERY => {
                let statement = query(rest, length);
                self.begin(What::Results, Asked::Statement(statement), calls);
            }
            command::STMT_PREPARE => {
                let statement = text(rest, length);
                self.latest = Some(statement.clone());
                self.begin(What::Prepare(statement.clone()), Asked::Prepare(statement), calls);
            }
            command::STMT_EXECUTE | command::STMT_BULK_EXECUTE => {
                let statement = match identifier(rest) {
                    Some(LATEST) => self.latest.clone(),
                    Some(id) => self.prepared.get(&id).cloned(),
                    None => None,
                };
                let asked = statement.map_or(Asked::Command("EXECUTE"), Asked::Statement);
                self.begin(What::Results, asked, calls);
            }
            command::STMT_FETCH => self.begin(What::Fetch, Asked::Command("FETCH"), calls),
            command::STMT_CLOSE => {
                if let Some(id) = identifier(rest) {
                    self.prepared.remove(&id);
                }
            }
            // Not answered.
            command::STMT_SEND_LONG_DATA | command::QUIT => {}
            command::FIELD_LIST => self.begin(What::Columns, Asked::Nothing, calls),
            command::CHANGE_USER => self.begin(What::Login, Asked::Nothing, calls),
            command::PING => {
                calls.push(Call::Checked);
                self.begin(What::Packet, Asked::Nothing, calls);
            }
            command::BINLOG_DUMP | command::BINLOG_DUMP_GTID => self.stage = Stage::Opaque,
            _ => self.begin(What::Packet, Asked::Nothing, calls),
        }
    }

    fn log_in(&mut self, frame: &Frame<'_>) {
        let Stage::Opening { compressed } = &mut self.stage else { return };
        // Only the first packet of a login has capabilities; the others answer to the server's questions.
        if frame.header.get(3) != Some(&1) && frame.length != SSL_REQUEST {
            return;
        }
        let Some(capabilities) = identifier(frame.payload) else { return };
        if frame.length == SSL_REQUEST && capabilities & CLIENT_SSL != 0 {
            self.stage = Stage::Opaque;
        } else {
            *compressed = capabilities & (CLIENT_COMPRESS | CLIENT_ZSTD) != 0;
        }
    }

    fn begin(&mut self, what: What, asked: Asked, calls: &mut Calls) {
        if self.waiting.len() >= MOST_WAITING {
            // Nobody answers: whatever this is, it is not followed any further.
            calls.push(Call::Overflow);
            self.stage = Stage::Opaque;
            for waiting in self.waiting.drain(..).filter(|waiting| waiting.what.is_call()) {
                calls.push(ended(CallResult { unseen: true, ..waiting.result }));
            }
            return;
        }
        self.waiting.push_back(Waiting { what, result: CallResult::default(), accepted: false });
        let operation = match asked {
            Asked::Statement(Text { text, length }) => {
                Operation::Statement { system: SYSTEM, text, text_len: length, purpose: Purpose::Run }
            }
            Asked::Prepare(Text { text, length }) => {
                Operation::Statement { system: SYSTEM, text, text_len: length, purpose: Purpose::Prepare }
            }
            Asked::Command(name) => {
                Operation::Command { kind: SpanKind::Db, system: SYSTEM, name: name.into(), target: None }
            }
            Asked::Nothing => return,
        };
        calls.push(Call::Began { tag: 0, operation });
    }
}

/// How a command shows.
enum Asked {
    Statement(Text),
    Prepare(Text),
    Command(&'static str),
    Nothing,
}

/// The text of a query. In front of it may stand attributes (`CLIENT_QUERY_ATTRIBUTES`): their number, 0, and
/// the number of their sets, 1. With any more than none the text's place depends on their types.
fn query(bytes: &[u8], length: u64) -> Text {
    match bytes {
        [0, 1, rest @ ..] => text(rest, length.saturating_sub(2)),
        _ => text(bytes, length),
    }
}

fn text(bytes: &[u8], length: u64) -> Text {
    // The first packet of several: how long all of it is, nobody has said.
    let length = if length + 1 >= CONTINUED { u64::from(u32::MAX) } else { length };
    let kept = bytes.len().min(STATEMENT_CAPTURE as usize);
    Text { text: bytes[..kept].into(), length: u32::try_from(length).unwrap_or(u32::MAX) }
}

/// The first four bytes, a number.
fn identifier(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?))
}
