//! What a worker tells of its task ends the task's transaction. The worker tells it on the thread that did the work.

use super::messages::Finished;
use crate::intake::Io;
use crate::transactions::connection::{Speaks, parts};
use crate::transactions::http::{Part, Sink};
use crate::transactions::spans::Caller;
use crate::transactions::{Output, Transactions};

impl Transactions {
    /// Bytes of a pipe of results; `lost` as for clients' connections.
    pub(in crate::transactions) fn results(
        &mut self,
        caller: &Caller,
        io: &Io<'_>,
        lost: Option<u64>,
        out: &mut Output,
    ) {
        let Some(lost) = lost else { return };
        let connection = self.connections.get_mut(&io.connection).map(|connection| &mut connection.speaks);
        let Some(Speaks::Results(results)) = connection else { return };
        let mut finished = Vec::new();
        let lost = (lost > 0).then_some((Part::Lost(lost), false));
        for (part, first) in lost.into_iter().chain(parts(io, true)) {
            results.follow(part, first, |one, bytes| finished.push((one, bytes)));
        }
        for (one, bytes) in finished {
            self.task_done(caller, one, bytes, out);
        }
    }

    fn task_done(&mut self, caller: &Caller, finished: Finished, bytes: u64, out: &mut Output) {
        // A task that was under way at the attach was never seen to begin.
        let Some(request) = self.by_thread(caller.thread) else { return };
        let Some(connection) = self.connections.get_mut(&request.connection) else { return };
        let Speaks::Tasks(tasks) = &mut connection.speaks else { return };
        let task = tasks.server.current().and_then(|exchange| exchange.work.task.as_mut());
        let Some(task) = task.filter(|task| task.delivery.job == finished.job) else { return };
        task.finished = Some(finished);
        let mut sink = Sink { ended: &mut self.ended, counts: &mut self.counts, room: 0, room_here: 0 };
        tasks.server.done(caller.time_ns, bytes, &mut sink);
        let owner = connection.owner.take();
        self.release(owner, request.connection);
        self.deliver_from(request.connection, out);
    }
}
