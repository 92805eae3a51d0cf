//! One request a thread at a time.
//!
//! The thread that reads a request owns it until its response ends; a thread that writes the response
//! takes it over. A thread that owns requests of several connections at once (an event loop) cannot tell
//! which of them a statement belongs to: it stays unplaced and is counted, because wrong is worse than
//! unknown.

use crate::intake::ConnectionId;
use crate::transactions::Transactions;
use crate::transactions::connection::{Connection, Speaks};
use crate::transactions::http::{Exchange, Server};
use crate::transactions::spans::RequestId;
use crate::transactions::thread::{Thread, ThreadKey};
use crate::transactions::work::Work;
use foldhash::HashMap;

impl Transactions {
    /// The request that this thread serves now; `None` when there is none, or there is doubt.
    pub(in crate::transactions) fn by_thread(&mut self, thread: ThreadKey) -> Option<RequestId> {
        let connection = self.threads.get(&thread).and_then(Thread::current)?;
        let sequence = current_exchange(&mut self.connections, connection)?.sequence;
        Some(RequestId { connection, sequence })
    }

    /// Whether it is a task: its thread works on nothing else.
    pub(in crate::transactions) fn is_task(&self, id: RequestId) -> bool {
        let connection = self.connections.get(&id.connection);
        connection.is_some_and(|connection| matches!(connection.speaks, Speaks::Tasks(_)))
    }

    /// Whether the requests of this process may share their threads.
    pub(in crate::transactions) fn shares_threads(&self, pid: u32) -> bool {
        self.lineages.contains_key(&pid)
    }

    /// A request that has not ended.
    pub(in crate::transactions) fn open_request(&mut self, id: RequestId) -> Option<&mut Exchange<Work>> {
        self.connections.get_mut(&id.connection)?.speaks.server_mut()?.exchange(id.sequence)
    }

    /// What has happened in the open requests of a connection.
    pub(in crate::transactions) fn open_work(&mut self, id: ConnectionId) -> impl Iterator<Item = &mut Work> {
        let server = self.connections.get_mut(&id).and_then(|connection| connection.speaks.server_mut());
        server.into_iter().flat_map(|server| server.open_mut().map(|exchange| &mut exchange.work))
    }

    /// `thread` has the connection's current request from now on.
    pub(in crate::transactions) fn serve(
        &mut self,
        thread: ThreadKey,
        before: Option<ThreadKey>,
        id: ConnectionId,
    ) {
        if before == Some(thread) {
            return;
        }
        self.release(before, id);
        self.forget_unanswerable(thread);
        let owner = self.thread(thread).map(|state| {
            state.serving.push(id);
            thread
        });
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.owner = owner;
        }
    }

    pub(in crate::transactions) fn release(&mut self, owner: Option<ThreadKey>, id: ConnectionId) {
        if let Some(state) = owner.and_then(|owner| self.threads.get_mut(&owner)) {
            state.serving.retain(|serving| *serving != id);
        }
    }

    /// A thread that takes up a request has done with those whose answers were lost from sight, which
    /// would otherwise stand between it and its statements until their connections end.
    fn forget_unanswerable(&mut self, thread: ThreadKey) {
        let Some(state) = self.threads.get_mut(&thread) else { return };
        let connections = &mut self.connections;
        state.serving.retain(|id| {
            let Some(connection) = connections.get_mut(id) else { return false };
            let lost = connection.speaks.server().is_some_and(Server::is_answer_lost);
            if lost {
                connection.owner = None;
            }
            !lost
        });
    }
}

/// The exchange that is being worked on on this connection.
fn current_exchange(
    connections: &mut HashMap<ConnectionId, Connection>,
    id: ConnectionId,
) -> Option<&mut Exchange<Work>> {
    connections.get_mut(&id)?.speaks.server_mut()?.current()
}
