//! What the messages of a pool say (billiard 4 `pool.py`: each is a tuple whose first part is one of the numbers
//! below; Celery 5 `app/trace.py` for what is inside).

use super::pickle::{Value, outline};
use crate::transactions::ids::TraceParent;
use pyapm_model::task::State;

/// To a worker: `(TASK, (job, index, function, (name, id, request, body, type, encoding), {}))`.
const TASK: i64 = 2;
/// From a worker: `(READY, (job, index, (success, value), descriptor))`.
const READY: i64 = 1;
/// Bytes of a task's name, and of its id, that are kept.
const LONGEST: usize = 255;

/// A task that a worker has been handed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    /// Number of the task in its pool.
    pub job: i64,
    pub name: String,
    pub id: String,
    /// Routing key of the message.
    pub queue: Option<String>,
    /// How often it was tried before.
    pub retries: Option<u32>,
    pub traceparent: Option<TraceParent>,
}

/// A task whose worker has done with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    pub job: i64,
    /// `None` where the message does not tell.
    pub state: Option<State>,
    /// Class of the exception that made it fail.
    pub error: Option<String>,
}

/// Where the parts of a task's message stand.
struct Order;

impl Order {
    const JOB: usize = 1;
    const FUNCTION: usize = 3;
    const NAME: usize = 4;
    const ID: usize = 5;
    const REQUEST: usize = 6;
}

impl Delivery {
    /// `None` for every other message, and where the beginning of one does not tell.
    #[must_use]
    pub fn parse(message: &[u8]) -> Option<Self> {
        let parts = outline(message);
        let Value::Global(b"celery.app.trace", _) = parts.get(Order::FUNCTION)? else { return None };
        if parts.first()?.int()? != TASK {
            return None;
        }
        let request = parts.get(Order::REQUEST)?;
        let delivery = request.get("delivery_info");
        let queue = delivery.and_then(|info| info.get("routing_key")).and_then(Value::text);
        Some(Self {
            job: parts.get(Order::JOB)?.int()?,
            name: text(parts.get(Order::NAME)?.text()?)?,
            id: text(parts.get(Order::ID)?.text()?)?,
            queue: queue.and_then(text),
            retries: request.get("retries").and_then(Value::int).and_then(|count| u32::try_from(count).ok()),
            traceparent: request.get("traceparent").and_then(Value::text).and_then(TraceParent::parse),
        })
    }
}

impl Finished {
    /// As [`Delivery::parse`].
    #[must_use]
    pub fn parse(message: &[u8]) -> Option<Self> {
        let parts = outline(message);
        let [kind, job, _index, Value::Bool(success), value @ ..] = parts.as_slice() else { return None };
        if kind.int()? != READY {
            return None;
        }
        let (state, error) = outcome(*success, value);
        Some(Self { job: job.int()?, state, error })
    }
}

/// `(False, exception)` when the pool's own code failed; `(True, (0, text, seconds))` when the task returned; `(True, (1,
/// exception, seconds))` when it raised.
fn outcome(success: bool, value: &[Value<'_>]) -> (Option<State>, Option<String>) {
    match (success, value.first()) {
        (true, Some(Value::Int(0))) => return (Some(State::Success), None),
        (true, Some(Value::Int(1))) | (false, _) => {}
        (true, _) => return (None, None),
    }
    // `billiard.einfo.ExceptionInfo`, of whose state `type` is the first.
    let class = value.iter().find_map(|part| part.get("type"));
    match class {
        Some(Value::Global(b"celery.exceptions", b"Retry")) => (Some(State::Retry), None),
        Some(Value::Global(b"celery.exceptions", b"Ignore")) => (Some(State::Ignored), None),
        Some(Value::Global(b"celery.exceptions", b"Reject")) => (Some(State::Rejected), None),
        Some(Value::Global(_, name)) => (Some(State::Failure), text(name)),
        // Of a class that has no name by which it could be found, and none of the above.
        Some(_) => (Some(State::Failure), None),
        None => (None, None),
    }
}

/// Printable, or nothing.
fn text(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| !text.is_empty() && text.len() <= LONGEST)?;
    (!text.chars().any(char::is_control)).then(|| text.to_owned())
}
