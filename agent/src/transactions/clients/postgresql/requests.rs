//! What a client's messages ask for.

use super::client::{MOST_NAMED, MOST_WAITING, SYSTEM, State, Text, Waiting, What};
use super::messages::string;
use crate::transactions::clients::calls::Purpose;
use crate::transactions::clients::frames::Frame;
use crate::transactions::clients::{Call, Calls, Operation};
use pyapm_model::line::SpanKind;
use pyapm_wire::event::STATEMENT_CAPTURE;
use std::sync::Arc;

impl State {
    /// One message from the client.
    pub(super) fn request(&mut self, frame: &Frame<'_>, calls: &mut Calls) {
        match frame.header.first() {
            Some(b'Q') => {
                self.prepare_parsed(usize::MAX, calls);
                let text = string(frame.payload).map_or(frame.payload, |(text, _)| text);
                let statement = Text::new(text, frame.length.saturating_sub(1));
                self.begin(What::Query, Some(statement), Purpose::Run, calls);
            }
            Some(b'P') => self.parse(frame, calls),
            Some(b'B') => {
                let Some((portal, rest)) = string(frame.payload) else { return };
                let Some((name, _)) = string(rest) else { return };
                let statement = self.statements.get(name).cloned();
                if self.portals.len() >= MOST_NAMED && !self.portals.contains_key(portal) {
                    calls.push(Call::Overflow);
                    return;
                }
                self.portals.insert(portal.into(), statement);
            }
            Some(b'E') => {
                let portal = string(frame.payload).map(|(portal, _)| portal).unwrap_or_default();
                let statement = self.portals.get(portal).cloned().flatten();
                let own = statement.as_ref().and_then(|statement| {
                    self.parsed.iter().position(|parsed| Arc::ptr_eq(&parsed.text, &statement.text))
                });
                if let Some(own) = own {
                    // What was parsed before it is not run with it, and is answered before it.
                    self.prepare_parsed(own, calls);
                    self.parsed.remove(0);
                }
                self.begin(What::Execute, statement, Purpose::Run, calls);
            }
            Some(b'C') => match frame.payload.split_first() {
                Some((b'S', name)) => {
                    let name = string(name).map(|(name, _)| name).unwrap_or_default();
                    self.statements.remove(name);
                }
                Some((b'P', name)) => {
                    let name = string(name).map(|(name, _)| name).unwrap_or_default();
                    self.portals.remove(name);
                }
                _ => {}
            },
            Some(b'H') => self.prepare_parsed(usize::MAX, calls),
            Some(b'S') => {
                self.prepare_parsed(usize::MAX, calls);
                // A portal without a name, and most with one, end with their transaction; names are used again.
                self.push(Waiting { what: What::Sync, ..Waiting::default() }, calls);
            }
            Some(b'F') => {
                self.begin(What::Query, None, Purpose::Run, calls);
            }
            _ => {}
        }
    }

    fn parse(&mut self, frame: &Frame<'_>, calls: &mut Calls) {
        let Some((name, rest)) = string(frame.payload) else { return };
        let (text, length) = match string(rest) {
            Some((text, _)) => (text, text.len() as u64),
            // Cut: parameter types of unknown number stand behind the text.
            None => (rest, frame.length.saturating_sub(name.len() as u64 + 1)),
        };
        let statement = Text::new(text, length);
        self.parsed.push(statement.clone());
        if self.parsed.len() > MOST_NAMED {
            calls.push(Call::Overflow);
            self.parsed.remove(0);
        }
        if self.statements.len() >= MOST_NAMED && !self.statements.contains_key(name) {
            calls.push(Call::Overflow);
            return;
        }
        self.statements.insert(name.into(), statement);
    }

    /// The oldest `count` statements that were parsed and not run: calls of their own.
    fn prepare_parsed(&mut self, count: usize, calls: &mut Calls) {
        let count = count.min(self.parsed.len());
        let statements: Vec<Text> = self.parsed.drain(..count).collect();
        for statement in statements {
            self.begin(What::Prepare, Some(statement), Purpose::Prepare, calls);
        }
    }

    fn begin(&mut self, what: What, statement: Option<Text>, purpose: Purpose, calls: &mut Calls) {
        if !self.push(Waiting { what, ..Waiting::default() }, calls) {
            return;
        }
        let operation = match statement {
            Some(Text { text, length }) => {
                Operation::Statement { system: SYSTEM, text, text_len: length, purpose }
            }
            None => {
                let name = if what == What::Query { "FUNCTION CALL" } else { "EXECUTE" };
                Operation::Command { kind: SpanKind::Db, system: SYSTEM, name: name.into(), target: None }
            }
        };
        calls.push(Call::Began { tag: 0, operation });
    }

    fn push(&mut self, waiting: Waiting, calls: &mut Calls) -> bool {
        // Once one is left out, those behind it are too: answers come in order.
        self.overflowed |= self.waiting.len() >= MOST_WAITING;
        if self.overflowed {
            calls.push(Call::Overflow);
            return false;
        }
        self.waiting.push_back(waiting);
        true
    }
}

impl Text {
    fn new(text: &[u8], length: u64) -> Self {
        let kept = text.len().min(STATEMENT_CAPTURE as usize);
        Self { text: text[..kept].into(), length: u32::try_from(length).unwrap_or(u32::MAX) }
    }
}
