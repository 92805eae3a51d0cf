//! Tasks whose threads tell where they begin and end, by the frame that runs them (`decisions/0034`). Each is a
//! connection of its own, that nothing moves on: from its beginning to its end its thread works for it alone.

use super::messages::{Delivery, Finished};
use crate::intake::{ConnectionId, TaskBegun, TaskDone, TaskLeft};
use crate::transactions::connection::{Speaks, Tasks};
use crate::transactions::http::{RequestHead, Sink};
use crate::transactions::spans::Caller;
use crate::transactions::thread::ThreadKey;
use crate::transactions::trace_context::TraceContext;
use crate::transactions::work::OpenTask;
use crate::transactions::{Output, Transactions};
use pyapm_model::line::Outcome;
use pyapm_model::task::State;

impl Transactions {
    pub(in crate::transactions) fn task_begun(
        &mut self,
        caller: &Caller,
        begun: &TaskBegun,
        out: &mut Output,
    ) {
        if begun.id.is_empty() || begun.name.is_empty() {
            return;
        }
        let began_ns = begun.started_ns.map_or(caller.time_ns, |started| started.min(caller.time_ns));
        if let Some((connection, frame, id)) = self.told_task(caller.thread) {
            // An interpreter that prepares the function's code reads all of it, just before it runs it.
            if frame == begun.frame && id == begun.id {
                return;
            }
            // Nobody has said what became of the one before.
            self.counts.task_end_unseen += 1;
            self.closed(began_ns, connection, Outcome::Incomplete, out);
        }
        self.counts.task_begin_unseen += u64::from(begun.is_late);
        let (room, room_here) =
            (self.limits.active.saturating_sub(self.open), self.limits.active_per_connection);
        let id = ConnectionId(begun.task);
        if self.connection(caller.thread.pid, id, true).is_none() {
            return;
        }
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let mut tasks = Box::new(Tasks::of_frame(begun.frame));
        let delivery = Delivery::told(begun);
        let head = RequestHead { trace: delivery.trace.clone(), ..RequestHead::none() };
        let mut sink = Sink { ended: &mut self.ended, counts: &mut self.counts, room, room_here };
        if !tasks.server.take_up(head, began_ns, 0, &mut sink) {
            self.connections.remove(&id);
            return;
        }
        self.open += room - sink.room;
        if let Some(exchange) = tasks.server.current() {
            exchange.work.task = Some(Box::new(OpenTask { delivery, finished: None }));
            exchange.work.taken_by(caller.thread.tid, 0);
            // What it did until now is not known to be its.
            exchange.guessed = begun.is_late;
        }
        connection.speaks = Speaks::Tasks(tasks);
        self.serve(caller.thread, None, id);
    }

    /// The thread has done with the task of this frame.
    pub(in crate::transactions) fn task_told(&mut self, caller: &Caller, done: &TaskDone, out: &mut Output) {
        let Some((connection, frame, _)) = self.told_task(caller.thread) else { return };
        if frame == done.frame {
            self.task_over(caller.time_ns, connection, Some(Finished::told(done)), out);
        }
    }

    /// An exception has left a task. One that another task runs by itself has an id of its own, and is a part of that.
    pub(in crate::transactions) fn task_left(&mut self, caller: &Caller, left: &TaskLeft, out: &mut Output) {
        if let Some((connection, _, id)) = self.told_task(caller.thread)
            && id == left.id
        {
            self.task_over(caller.time_ns, connection, None, out);
        }
    }

    fn task_over(&mut self, time_ns: u64, id: ConnectionId, finished: Option<Finished>, out: &mut Output) {
        let connection = self.connections.get_mut(&id);
        let Some(Speaks::Tasks(tasks)) = connection.map(|connection| &mut connection.speaks) else { return };
        if let Some(task) = tasks.server.current().and_then(|exchange| exchange.work.task.as_mut()) {
            task.finished = finished;
        }
        let mut sink = Sink { ended: &mut self.ended, counts: &mut self.counts, room: 0, room_here: 0 };
        tasks.server.done(time_ns, 0, &mut sink);
        self.closed(time_ns, id, Outcome::Complete, out);
    }

    /// The told task that a thread works on: its connection, its frame and its id.
    fn told_task(&mut self, thread: ThreadKey) -> Option<(ConnectionId, u64, String)> {
        let serving = self.threads.get(&thread)?.serving.iter().copied();
        for id in serving {
            if let Some(Speaks::Tasks(tasks)) = self.connections.get_mut(&id).map(|found| &mut found.speaks)
                && let Some(frame) = tasks.frame
            {
                let task = tasks.server.current()?.work.task.as_ref()?;
                return Some((id, frame, task.delivery.id.clone()));
            }
        }
        None
    }
}

impl Delivery {
    fn told(begun: &TaskBegun) -> Self {
        Self {
            job: 0,
            name: begun.name.clone(),
            id: begun.id.clone(),
            queue: begun.routing_key.clone(),
            retries: begun.retries,
            trace: begun.traceparent.as_ref().and_then(|text| TraceContext::traceparent(text.as_bytes())),
        }
    }
}

impl Finished {
    fn told(done: &TaskDone) -> Self {
        let states = [State::Success, State::Failure, State::Retry, State::Ignored, State::Rejected];
        let state = done.state.as_deref();
        let state = states.into_iter().find(|one| Some(one.as_str()) == state);
        let error = done.class.clone().filter(|_| state == Some(State::Failure));
        Self { job: 0, state, error }
    }
}
