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

/// How a worker does its tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pool {
    Prefork,
    Threads,
    Solo,
}

impl Pool {
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
        // The last of all: what ends a task in an unusual way.
        let pairs = (0..of_threads).map(|number| format!("/pair/{}", 1000 + number));
        all.chain(pairs).chain((self == Self::Threads).then(|| "/leave/2000".to_owned())).collect()
    }
}

/// What must have been done, by name and state.
fn expected(pool: Pool) -> BTreeMap<(String, String), usize> {
    let of_threads = [("pair", "SUCCESS", 2 * PAIRS), ("leave", "", 1)];
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
    name: String,
    kind: String,
    trace: String,
    id: String,
    parent: String,
    attributes: BTreeMap<String, Value>,
}

impl Seen {
    fn of(span: &Value) -> Self {
        let text = |key: &str| span[key].as_str().unwrap_or_default().to_owned();
        Self {
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
    spans(&receiver.received().unwrap()).iter().map(|(_, span)| Seen::of(span)).collect()
}

fn of_kind<'a>(all: &'a [Seen], kind: &'a str) -> impl Iterator<Item = &'a Seen> {
    all.iter().filter(move |span| span.kind == kind)
}

/// Sends all tasks; the id that each request was answered with, by its path.
fn send(queues: &Queues, pool: Pool) -> HashMap<String, String> {
    pool.paths().into_iter().map(|path| (path.clone(), queues.get(&path).unwrap())).collect()
}

/// The calls that the task made for itself: one, by which it can be told.
fn assert_own_call(task: &Seen, all: &[Seen]) {
    let key = match task.name.strip_prefix("queue_tasks.") {
        Some("add") => "SET added:{id}",
        Some("fail") => "SET failed:{id}",
        Some("retry") => "SET retried:{id}",
        Some("chain") => "SET chained:{id}",
        Some("pair") => "SET paired:{id}",
        Some("leave") => "SET left:{id}",
        _ => panic!("nobody sent {task:#?}"),
    };
    let calls = all.iter().filter(|span| span.parent == task.id && span.trace == task.trace);
    let own: Vec<&str> = calls
        .filter_map(|span| span.about("db.query.text"))
        .filter(|text| text.starts_with("SET "))
        .collect();
    assert_eq!(own, [key], "{task:#?}");
}

fn assert_linked(all: &[Seen], answers: &HashMap<String, String>) {
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
            ("publish", Some("celery"))
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

fn tasks_under(pool: Pool, broker: Option<&RabbitMq>) {
    let address = broker.map(|broker| format!("amqp://guest:guest@127.0.0.1:{}//", broker.port));
    let arguments = pool.arguments();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let queues = Queues::start(address.as_deref(), &arguments).unwrap();
    let receiver = Receiver::start().unwrap();
    let config = format!(
        "[prometheus]\nlisten = ''\n[otlp]\nendpoint = 'http://127.0.0.1:{}'\nprotocol = 'http/protobuf'\nsignals = ['traces']\n\
         slow_milliseconds = 0\n[[discovery.include]]\ncommand = ['*{}*']\n",
        receiver.http,
        queues.name()
    );
    let mut service = Service::start(&config).unwrap();
    service
        .wait_for("both applications", |all| {
            all.iter().filter(|one| one.state == ApplicationState::Running).count() == 2
        })
        .unwrap();
    let answers = send(&queues, pool);
    let count: usize = expected(pool).values().sum();
    let done = || service.state("queue_tasks").unwrap().snapshot.totals.all_transactions;
    wait::until("all tasks", || Ok((done() >= count as u64).then_some(())))
        .unwrap_or_else(|error| panic!("{error}, {} of {count} were done: {}", done(), queues.log()));
    let came = || of_kind(&received(&receiver), CONSUMER).count();
    wait::until("all tasks to be received", || Ok((came() >= count).then_some(()))).unwrap();
    let (status, said) = service.stop().unwrap();
    assert!(status.success(), "{said}");
    let all = received(&receiver);
    let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut workers: BTreeSet<&str> = BTreeSet::new();
    for task in of_kind(&all, CONSUMER) {
        let name = task.about("celery.task_name").unwrap();
        let state = task.about("celery.state").unwrap_or_default();
        *counts.entry((name.to_owned(), state.to_owned())).or_default() += 1;
        assert_eq!((task.name.as_str(), task.about("pyapm.outcome")), (name, Some("complete")));
        assert_eq!(task.about("messaging.destination.name"), Some("celery"));
        assert_eq!(task.about("error.type"), (state == "FAILURE").then_some("ValueError"));
        workers.insert(task.about("process.pid").unwrap());
        assert_own_call(task, &all);
    }
    assert_eq!(counts, expected(pool), "{pool:?}");
    match pool {
        Pool::Prefork => assert!(workers.len() >= count / WORKS, "{workers:?}"),
        Pool::Threads | Pool::Solo => {
            assert_eq!(workers.iter().copied().collect::<Vec<_>>(), [queues.worker().to_string()]);
        }
    }
    assert_eq!(of_kind(&all, SERVER).count(), answers.len());
    assert_linked(&all, &answers);
}

#[test]
fn tasks_by_redis_and_by_rabbitmq() {
    let rabbitmq = RabbitMq::start().unwrap();
    for pool in [Pool::Prefork, Pool::Threads] {
        tasks_under(pool, Some(&rabbitmq));
    }
    for pool in [Pool::Prefork, Pool::Threads, Pool::Solo] {
        tasks_under(pool, None);
    }
}
