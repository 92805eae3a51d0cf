//! Statements: the thread asks, the first packet that carries it binds the library's handle to a
//! connection, and what comes back on that connection until the next command is the reply.

use super::{Answer, Asking, Caller, Client, SpanId};
use crate::intake::{ConnectionId, Io, Statement as StatementEvent};
use crate::transactions::Transactions;
use crate::transactions::clients::{Mysql, Purpose, carries_statement};
use crate::transactions::connection::{Database, Live, Speaks};
use crate::transactions::http::{Likeness, request_likeness};
use crate::transactions::sql::Dialect;
use crate::transactions::thread::{Asked, ThreadKey};

/// Of the statements that drivers tell.
const SYSTEM: &str = "mysql";

impl Transactions {
    /// Outbound bytes of a thread: they may be the statement it has asked for.
    pub(in crate::transactions) fn send(&mut self, time_ns: u64, thread: ThreadKey, io: &Io<'_>) {
        let Some(asked) = self.threads.get_mut(&thread).and_then(|thread| thread.asked.as_mut()) else {
            return self.send_unasked(io);
        };
        let here = asked.connection == Some(io.connection);
        if here
            && carries_statement(io.head, asked.text_len)
            && let Some(connection) = self.connections.get_mut(&io.connection)
            && matches!(connection.speaks, Speaks::Mysql(_))
        {
            // It has gone out enciphered before; this is the plaintext.
            asked.connection = None;
            connection.speaks = Speaks::Client(Client::new(Box::new(Mysql::in_the_middle())));
            return;
        }
        if asked.connection.is_some() {
            let span = asked.span;
            self.send_unasked(io);
            if here
                && let Some(span) = span.and_then(|span| self.spans.get_mut(span))
                && span.answer == Answer::None
            {
                span.last_io_ns = time_ns;
            }
            return;
        }
        let known = self.handles.get(&(thread.pid, asked.handle));
        let Some(connection) = self.connections.get_mut(&io.connection) else { return };
        match &connection.speaks {
            Speaks::Http(_) | Speaks::Tasks(_) | Speaks::Results(_) => return,
            // What is on the wire says it itself, and takes up what was asked for.
            Speaks::Client(client) if !(client.is_opaque() && client.protocol.system() == SYSTEM) => return,
            Speaks::Client(_) | Speaks::Undecided { .. } | Speaks::Mysql(_) | Speaks::Nothing => {}
        }
        let carries = carries_statement(io.head, asked.text_len);
        if carries {
            connection.speaks = Speaks::Client(Client::new(Box::new(Mysql::in_the_middle())));
            return;
        }
        // Encrypted and compressed statements, and those of which nothing was captured, are known by the
        // handle, or by being the first thing that the thread sends after asking.
        let plausible = known == Some(&io.connection)
            || (known.is_none() && (io.head.is_empty() || is_wrapped(io.head, io.moved)));
        if !plausible || request_likeness(io.head) == Likeness::Yes {
            return self.send_unasked(io);
        }
        asked.connection = Some(io.connection);
        let (handle, span, peer) = (asked.handle, asked.span, connection.peer);
        let live = Live { span, replied: false };
        let database = match &mut connection.speaks {
            Speaks::Mysql(database) => database,
            other => {
                *other = Speaks::Mysql(Database::default());
                let Speaks::Mysql(database) = other else { return };
                database
            }
        };
        database.live = Some(live);
        let before = database.handle.replace(handle);
        if let Some(before) = before.filter(|before| *before != handle) {
            self.handles.remove(&(thread.pid, before));
        }
        self.handles.insert((thread.pid, handle), io.connection);
        if let Some(span) = span.and_then(|span| self.spans.get_mut(span)) {
            span.last_io_ns = time_ns;
            span.server = peer;
            span.connection = Some(io.connection);
        }
    }

    /// Outbound bytes on a database connection that belong to no statement's event: after a reply they
    /// begin another command (a ping, a quit), and what comes back is not that statement's.
    fn send_unasked(&mut self, io: &Io<'_>) {
        let Some(Speaks::Mysql(database)) = self.connections.get_mut(&io.connection).map(|c| &mut c.speaks)
        else {
            return;
        };
        let Some(live) = &mut database.live else { return };
        if live.replied {
            database.live = None;
        }
    }

    pub(in crate::transactions) fn statement(&mut self, caller: &Caller, statement: &StatementEvent<'_>) {
        let thread = caller.thread;
        let key = self.statements.key(statement.text, statement.text_len, Dialect::of(SYSTEM));
        let Some(state) = self.thread(thread) else { return };
        let asked = state.asked.take();
        if let Some(before) = asked
            && !before.moved
            && (before.handle, before.key) == (statement.handle, key)
        {
            // One library function calling another: `mysql_real_query` is `mysql_send_query` and a read.
            state.asked = asked;
            self.counts.statement_nested += 1;
            return;
        }
        if let Some(before) = asked {
            self.detach(before);
        }
        let span = self.statement_span(caller, key, statement);
        let (handle, text_len) = (statement.handle, statement.text_len);
        if let Some(state) = self.threads.get_mut(&thread) {
            state.asked = Some(Asked { handle, key, text_len, span, connection: None, moved: false });
        }
    }

    /// The span of the statement that this thread has asked for, when it is the one that is now on the wire:
    /// one call is one span. `None` when it asked for nothing, `Some(None)` when the call is nobody's.
    pub(super) fn adopt(
        &mut self,
        thread: ThreadKey,
        connection: ConnectionId,
        system: &'static str,
        text_len: u32,
    ) -> Option<Option<SpanId>> {
        let asked = self.threads.get_mut(&thread)?.asked.as_mut()?;
        if system != SYSTEM || asked.connection.is_some() || asked.text_len != text_len {
            return None;
        }
        asked.connection = Some(connection);
        Some(asked.span)
    }

    /// Nothing that comes now belongs to this statement.
    fn detach(&mut self, asked: Asked) {
        if let Some(id) = asked.connection
            && let Some(Speaks::Mysql(database)) = self.connections.get_mut(&id).map(|c| &mut c.speaks)
            && database.live.is_some_and(|live| live.span == asked.span)
        {
            database.live = None;
        }
        if let Some(span) = asked.span.and_then(|span| self.spans.get_mut(span)) {
            span.closed = true;
        }
    }

    fn statement_span(
        &mut self,
        caller: &Caller,
        key: u64,
        statement: &StatementEvent<'_>,
    ) -> Option<SpanId> {
        let (normalised, fresh) =
            self.statements.get(key, statement.text, statement.text_len, Dialect::of(SYSTEM));
        self.counts.sql_scanned += u64::from(fresh && normalised.scanned);
        self.open_span(
            caller,
            Asking::Statement { system: SYSTEM, statement: normalised, purpose: Purpose::Run },
        )
    }

    /// Inbound bytes on a database connection: the reply to its latest statement, when it has one.
    pub(in crate::transactions) fn receive(&mut self, time_ns: u64, io: &Io<'_>) {
        let connection = self.connections.get_mut(&io.connection).map(|connection| &mut connection.speaks);
        let Some(Speaks::Mysql(Database { live: Some(live), .. })) = connection else { return };
        live.replied |= io.moved > 0;
        if let Some(span) = live.span.and_then(|span| self.spans.get_mut(span)) {
            if io.moved > 0 {
                span.some_answer(time_ns);
            } else {
                // The server has gone, and its reply with it.
                span.closed = true;
            }
        }
    }
}

/// A TLS record of application data (RFC 8446 section 5.1), or a compressed packet of the MySQL protocol:
/// seven bytes of header, sequence number 0.
fn is_wrapped(head: &[u8], moved: u32) -> bool {
    match head {
        [0x17, 0x03, ..] => true,
        [l0, l1, l2, 0, ..] => u32::from_le_bytes([*l0, *l1, *l2, 0]).checked_add(7) == Some(moved),
        _ => false,
    }
}
