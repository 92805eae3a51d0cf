//! Events to the time of event loops, and that time to requests. For whom a loop works, [`super::worked`] says.

use super::worked::{About, Work as Worked};
use crate::intake::{Body, ConnectionId, Direction};
use crate::transactions::Transactions;
use crate::transactions::connection::Speaks;
use crate::transactions::spans::{Caller, RequestId};
use pyapm_wire::scope::flag;

impl Transactions {
    /// Something was done, or met, on a thread: whom a loop works for.
    pub(in crate::transactions) fn shows(&mut self, caller: &Caller, body: &Body<'_>) {
        if caller.scope.flags & flag::READ == 0 {
            return;
        }
        let about = match body {
            Body::Io(io) => {
                About { request: self.moved_for(io.connection), calls: io.direction == Direction::Out }
            }
            Body::Statement(_) => About { request: None, calls: true },
            _ => About::default(),
        };
        let lineage = self.lineages.entry(caller.thread.pid).or_default();
        let worked = lineage.shows(caller.time_ns, caller.thread.tid, &caller.scope, about);
        self.worked(worked);
    }

    /// The request that bytes of this connection are moved for, as far as that is known.
    fn moved_for(&mut self, connection: ConnectionId) -> Option<RequestId> {
        let call = match &self.connections.get(&connection)?.speaks {
            Speaks::Client(client) => client.oldest()?,
            Speaks::Mysql(database) => database.live?.span?,
            _ => return self.current(connection).map(|(request, _)| request),
        };
        self.spans.get(call)?.owner
    }

    /// A loop has worked for a request, if that is still here.
    pub(in crate::transactions) fn worked(&mut self, worked: Option<Worked>) {
        let Some((request, stretch)) = worked else { return };
        if let Some(exchange) = self.open_request(request) {
            let since_ns = exchange.started_ns;
            exchange.work.waits.worked(&stretch, (since_ns, u64::MAX));
        } else if let Some(ended) = self.lingering.ended(request) {
            let between = (ended.exchange.started_ns, ended.ended_ns);
            ended.exchange.work.waits.worked(&stretch, between);
        }
    }

    /// What has been found out since of the time that loops worked.
    pub(super) fn settle_worked(&mut self, pid: u32, now_ns: u64) {
        let works = self.lineages.get_mut(&pid).map(|lineage| lineage.settle_worked(now_ns));
        for work in works.unwrap_or_default() {
            self.worked(Some(work));
        }
    }
}
