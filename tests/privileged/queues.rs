//! Tasks of Celery under its pools of processes and of threads, and without a pool: each is one transaction that says what it was and what became of it, with
//! its own calls, below the request that sent it. Broker, worker and application are real, workers are recycled, and
//! what is looked at is what a receiver of OTLP gets of both applications.

use harness::queues::Queues;
use harness::rabbitmq::RabbitMq;
use harness::receiver::{Receiver, attributes, spans};
use harness::service::Service;
use harness::wait;
use pyapm_model::service::ApplicationState;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Requests of each kind, one after the other: `add` three times as often as the others.
const ROUNDS: usize = 6;
const KINDS: [&str; 6] = ["add", "fail", "add", "retry", "add", "chain"];
/// Pairs of tasks that are done at the same time, where threads are there for it.
const PAIRS: usize = 8;
/// How often a process of the pool works before it is replaced.
const WORKS: usize = 7;

/// Span kinds of the protocol, as its mapping to JSON has them.
const SERVER: &str = "SPAN_KIND_SERVER";
const CONSUMER: &str = "SPAN_KIND_CONSUMER";

/// State of a task that an exception leaves without Celery: it is not known.
const LEFT: &str = "";

/// How a worker does its tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pool {
    Prefork,
    Threads,
    Solo,
}

impl Pool {
    /// What its tasks go by: pools share a broker.
    fn queue(self) -> &'static str {
        match self {
            Self::Prefork => "forked",
            Self::Threads => "threaded",
            Self::Solo => "alone",
        }
    }

    fn arguments(self) -> Vec<String> {
        match self {
            Self::Prefork => vec!["--concurrency=2".to_owned(), format!("--max-tasks-per-child={WORKS}")],
            Self::Threads => vec!["--pool=threads".to_owned(), "--concurrency=4".to_owned()],
            Self::Solo => vec!["--pool=solo".to_owned()],
        }
    }

    /// The tasks that are sent, by their paths.
    fn paths(self) -> Vec<String> {
        let all =
            (0..ROUNDS * KINDS.len()).map(|number| format!("/{}/{number}", KINDS[number % KINDS.len()]));
        let of_threads = if self == Self::Threads { 2 * PAIRS } else { 0 };
        let pairs = (0..of_threads).map(|number| format!("/pair/{}", 1000 + number));
        let all = all.chain(pairs);
        let unusual = ["/inline/2000", "/leave/2001"].map(str::to_owned).into_iter();
        all.chain(unusual.filter(|_| self == Self::Threads)).collect()
    }
}

/// What must have been done, by name and state.
fn expected(pool: Pool) -> BTreeMap<(String, String), usize> {
    let of_threads = [("pair", "SUCCESS", 2 * PAIRS), ("inline", "SUCCESS", 1), ("leave", LEFT, 1)];
    let of_threads = of_threads.into_iter().filter(|_| pool == Pool::Threads);
    let counts = [
        // Those of requests, and those of `chain`.
        ("add", "SUCCESS", 4 * ROUNDS),
        ("fail", "FAILURE", ROUNDS),
        ("retry", "RETRY", ROUNDS),
        ("retry", "SUCCESS", ROUNDS),
        ("chain", "SUCCESS", ROUNDS),
    ];
    let counts = counts.into_iter().chain(of_threads);
    counts.map(|(name, state, count)| ((format!("queue_tasks.{name}"), state.to_owned()), count)).collect()
}

/// A span as it was received.
#[derive(Debug)]
struct Seen {
    /// Name of its application.
    service: String,
    name: String,
    kind: String,
    trace: String,
    id: String,
    parent: String,
    attributes: BTreeMap<String, Value>,
}

impl Seen {
    fn of(resource: &BTreeMap<String, Value>, span: &Value) -> Self {
        let text = |key: &str| span[key].as_str().unwrap_or_default().to_owned();
        Self {
            service: resource.get("service.name").and_then(Value::as_str).unwrap_or_default().to_owned(),
            name: text("name"),
            kind: text("kind"),
            trace: text("traceId"),
            id: text("spanId"),
            parent: text("parentSpanId"),
            attributes: attributes(span),
        }
    }

    fn about(&self, key: &str) -> Option<&str> {
        self.attributes.get(key).and_then(Value::as_str)
    }
}

fn received(receiver: &Receiver) -> Vec<Seen> {
    let all = spans(&receiver.received().unwrap());
    all.iter().map(|(resource, span)| Seen::of(resource, span)).collect()
}

fn of_kind<'a>(all: &'a [Seen], kind: &'a str) -> impl Iterator<Item = &'a Seen> {
    all.iter().filter(move |span| span.kind == kind)
}

/// How many tasks were told, by application, name and state.
fn by_state(all: &[Seen]) -> BTreeMap<(String, String, String), usize> {
    let mut counts = BTreeMap::new();
    for task in of_kind(all, CONSUMER) {
        let name = task.about("celery.task_name").unwrap_or_default();
        let state = task.about("celery.state").unwrap_or(LEFT);
        *counts.entry((task.service.clone(), name.to_owned(), state.to_owned())).or_default() += 1;
    }
    counts
}

/// Sends all tasks; the id that each request was answered with, by its path.
fn send(queues: &Queues, pool: Pool) -> HashMap<String, String> {
    pool.paths().into_iter().map(|path| (path.clone(), queues.get(&path).unwrap())).collect()
}

/// The calls that the task made for itself: one, by which it can be told, and of the one that it ran by itself.
fn assert_own_calls(task: &Seen, all: &[Seen]) {
    let keys = match task.name.strip_prefix("queue_tasks.") {
        Some("add") => &["SET added:{id}"][..],
        Some("fail") => &["SET failed:{id}"],
        Some("retry") => &["SET retried:{id}"],
        Some("chain") => &["SET chained:{id}"],
        Some("pair") => &["SET paired:{id}"],
        Some("inline") => &["SET inlined:{id}", "SET added:{id}"],
        Some("leave") => &["SET left:{id}"],
        _ => panic!("nobody sent {task:#?}"),
    };
    let calls = all.iter().filter(|span| span.parent == task.id && span.trace == task.trace);
    let own: Vec<&str> = calls
        .filter_map(|span| span.about("db.query.text"))
        .filter(|text| text.starts_with("SET "))
        .collect();
    assert_eq!(own, keys, "{task:#?}");
}

fn assert_linked(all: &[Seen], answers: &HashMap<String, String>, pool: Pool) {
    let by_id: HashMap<&str, &Seen> = all.iter().map(|span| (span.id.as_str(), span)).collect();
    // Who sent what, when it was done for the first time.
    let mut first: HashMap<&str, &Seen> = HashMap::new();
    for task in of_kind(all, CONSUMER) {
        let call = by_id.get(task.parent.as_str()).unwrap_or_else(|| panic!("nobody sent {task:#?}"));
        let sender = by_id.get(call.parent.as_str()).unwrap_or_else(|| panic!("nobody made {call:#?}"));
        assert_eq!((&call.trace, &sender.trace), (&task.trace, &task.trace));
        let message = task.about("messaging.message.id").unwrap();
        assert_eq!(call.about("messaging.message.id"), Some(message));
        assert_eq!(
            (call.name.as_str(), call.about("messaging.destination.name")),
            ("publish", Some(pool.queue()))
        );
        if task.about("celery.retries") == Some("0") {
            assert!(first.insert(message, sender).is_none(), "done twice: {task:#?}");
        } else {
            // It sent itself again.
            let before = (sender.about("messaging.message.id"), sender.about("celery.state"));
            assert_eq!(before, (Some(message), Some("RETRY")));
        }
    }
    for (path, id) in answers {
        let sender = first.remove(id.as_str()).unwrap_or_else(|| panic!("{path} was not done"));
        assert_eq!(sender.about("url.path"), Some(path.as_str()));
    }
    let others: Vec<&str> = first.values().map(|sender| sender.name.as_str()).collect();
    assert_eq!(others, ["queue_tasks.chain"; ROUNDS]);
}

/// A pool at work, and the ids that its requests were answered with.
struct Worked {
    pool: Pool,
    queues: Queues,
    answers: HashMap<String, String>,
}

impl Worked {
    fn start(pool: Pool, broker: Option<&str>) -> Self {
        let arguments = pool.arguments();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let queues = Queues::start(broker, pool.queue(), &arguments).unwrap();
        Self { pool, queues, answers: HashMap::new() }
    }

    /// Of all spans, those of its two applications.
    fn told(&self, all: Vec<Seen>) -> Vec<Seen> {
        all.into_iter().filter(|span| span.service.starts_with(&self.queues.name())).collect()
    }

    fn assert(&self, all: &[Seen]) {
        let pool = self.pool;
        let counts: BTreeMap<(String, String), usize> =
            by_state(all).into_iter().map(|((_, name, state), count)| ((name, state), count)).collect();
        let mut workers: BTreeSet<&str> = BTreeSet::new();
        for task in of_kind(all, CONSUMER) {
            let name = task.about("celery.task_name").unwrap();
            let state = task.about("celery.state").unwrap_or(LEFT);
            assert_eq!((task.name.as_str(), task.about("pyapm.outcome")), (name, Some("complete")));
            assert_eq!(task.about("messaging.destination.name"), Some(pool.queue()));
            assert_eq!(task.about("error.type"), (state == "FAILURE").then_some("ValueError"), "{task:#?}");
            workers.insert(task.about("process.pid").unwrap());
            assert_own_calls(task, all);
        }
        assert_eq!(counts, expected(pool), "{pool:?}");
        let own = self.queues.worker().to_string();
        match pool {
            Pool::Prefork => {
                let processes = counts.values().sum::<usize>() / WORKS;
                assert!(workers.len() >= processes && !workers.contains(own.as_str()), "{workers:?}");
            }
            Pool::Threads | Pool::Solo => assert_eq!(workers.into_iter().collect::<Vec<_>>(), [own]),
        }
        assert_eq!(of_kind(all, SERVER).count(), self.answers.len());
        assert_linked(all, &self.answers, pool);
    }
}

/// All pools at once, watched by one service.
fn tasks_under(broker: Option<&RabbitMq>) {
    let address = broker.map(|broker| format!("amqp://guest:guest@127.0.0.1:{}//", broker.port));
    let pools = [Pool::Prefork, Pool::Threads, Pool::Solo];
    let mut all = pools.map(|pool| Worked::start(pool, address.as_deref()));
    let receiver = Receiver::start().unwrap();
    let commands: Vec<String> = all.iter().map(|worked| format!("'*{}*'", worked.queues.name())).collect();
    let config = format!(
        "[prometheus]\nlisten = ''\n[otlp]\nendpoint = 'http://127.0.0.1:{}'\nprotocol = 'http/protobuf'\nsignals = ['traces']\n\
         slow_milliseconds = 0\n[[discovery.include]]\ncommand = [{}]\n",
        receiver.http,
        commands.join(", ")
    );
    let mut service = Service::start(&config).unwrap();
    service
        .wait_for("all applications", |found| {
            let running = found.iter().filter(|one| one.state == ApplicationState::Running);
            running.count() == 2 * pools.len()
        })
        .unwrap();
    for worked in &mut all {
        worked.answers = send(&worked.queues, worked.pool);
    }
    let count = |pool| expected(pool).values().sum::<usize>();
    for Worked { pool, queues, .. } in &all {
        let name = format!("{}-worker", queues.name());
        let done = || service.state(&name).unwrap().snapshot.totals.all_transactions;
        wait::until("all tasks", || Ok((done() >= count(*pool) as u64).then_some(()))).unwrap_or_else(
            |error| {
                let told = by_state(&received(&receiver));
                let losses = service.health().unwrap().losses;
                panic!("{error}, {} were done: {told:#?}, {losses:#?}, {}", done(), queues.log())
            },
        );
    }
    let due: usize = pools.into_iter().map(count).sum();
    let came = || of_kind(&received(&receiver), CONSUMER).count();
    wait::until("all tasks to be received", || Ok((came() >= due).then_some(()))).unwrap();
    let (status, said) = service.stop().unwrap();
    assert!(status.success(), "{said}");
    for worked in &all {
        worked.assert(&worked.told(received(&receiver)));
    }
}

#[test]
fn tasks_by_redis_and_by_rabbitmq() {
    tasks_under(None);
    tasks_under(Some(&RabbitMq::start().unwrap()));
}
