//! Tasks of Celery under its pool of processes: each is one transaction that says what it was and what became of it, with
//! its own calls, below the request that sent it. Broker, worker and application are real, workers are recycled.

use harness::queues::Queues;
use harness::rabbitmq::RabbitMq;
use harness::service::Service;
use harness::wait;
use pyapm_model::line::{Line, Outcome, SpanKind, Transaction, TransactionKind};
use pyapm_model::service::ApplicationState;
use pyapm_model::task::State;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

/// Requests of each kind, one after the other: `add` three times as often as the others.
const ROUNDS: usize = 10;
const KINDS: [&str; 6] = ["add", "fail", "add", "retry", "add", "chain"];
/// How often a process of the pool works before it is replaced.
const WORKS: usize = 7;

/// What must have been done, by name and state.
fn expected() -> BTreeMap<(String, State), usize> {
    let counts = [
        // Those of requests, and those of `chain`.
        ("add", State::Success, 4 * ROUNDS),
        ("fail", State::Failure, ROUNDS),
        ("retry", State::Retry, ROUNDS),
        ("retry", State::Success, ROUNDS),
        ("chain", State::Success, ROUNDS),
    ];
    counts.into_iter().map(|(name, state, count)| ((format!("queue_tasks.{name}"), state), count)).collect()
}

fn transactions(log: &Path) -> Vec<Transaction> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    // The last line may be half written.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let lines = whole.lines().map(|line| serde_json::from_str(line).unwrap());
    lines
        .filter_map(|line| match line {
            Line::Transaction(transaction) => Some(*transaction),
            _ => None,
        })
        .collect()
}

/// Sends all tasks; the id that each request was answered with, by its path.
fn send(queues: &Queues) -> HashMap<String, String> {
    let paths =
        (0..ROUNDS).flat_map(|round| KINDS.iter().enumerate().map(move |(at, kind)| (round, at, kind)));
    let paths = paths.map(|(round, at, kind)| format!("/{kind}/{}", round * KINDS.len() + at));
    paths.map(|path| (path.clone(), queues.get(&path).unwrap())).collect()
}

/// The calls that the task made for itself: one, by which it can be told.
fn assert_own_call(task: &Transaction) {
    let key = match task.name.strip_prefix("queue_tasks.").unwrap() {
        "add" => "SET added:{id}",
        "fail" => "SET failed:{id}",
        "retry" => "SET retried:{id}",
        "chain" => "SET chained:{id}",
        other => panic!("nobody sent `{other}`"),
    };
    let keys = task.spans.iter().filter_map(|span| span.db_query.as_deref());
    let own: Vec<&str> = keys.filter(|text| text.starts_with("SET ")).collect();
    assert_eq!(own, [key], "{task:#?}");
}

/// What a transaction sent: message to span.
fn sent(transaction: &Transaction) -> Vec<(&str, &str)> {
    let spans = transaction.spans.iter().filter(|span| span.kind == SpanKind::Messaging);
    spans.filter_map(|span| Some((span.message_id.as_deref()?, span.span_id.as_str()))).collect()
}

fn assert_linked(all: &[Transaction], answers: &HashMap<String, String>) {
    let tasks = || all.iter().filter(|one| one.kind == TransactionKind::Task);
    let mut senders: HashMap<&str, &Transaction> = HashMap::new();
    for transaction in all {
        for (_, span) in sent(transaction) {
            senders.insert(span, transaction);
        }
    }
    let mut first: HashMap<&str, &Transaction> = HashMap::new();
    for task in tasks() {
        let told = task.task.as_ref().unwrap();
        let parent = task.parent_span_id.as_deref().unwrap_or_else(|| panic!("no parent: {task:#?}"));
        let sender = senders.get(parent).unwrap_or_else(|| panic!("nobody sent: {task:#?}"));
        assert!(sent(sender).contains(&(told.id.as_str(), parent)), "{sender:#?} {task:#?}");
        assert_eq!(sender.trace_id, task.trace_id);
        if told.retries == Some(0) {
            assert!(first.insert(&told.id, sender).is_none(), "done twice: {told:?}");
        } else {
            // It sent itself again.
            let before = sender.task.as_ref().unwrap();
            assert_eq!((&before.id, before.state), (&told.id, Some(State::Retry)));
        }
    }
    for (path, id) in answers {
        let sender = first.remove(id.as_str()).unwrap_or_else(|| panic!("{path} was not done"));
        assert_eq!(sender.path.as_ref(), Some(path));
    }
    assert_eq!(first.len(), ROUNDS, "what `chain` has sent");
    for sender in first.values() {
        assert_eq!(sender.name, "queue_tasks.chain");
    }
}

fn tasks_under(broker: Option<&RabbitMq>) {
    let address = broker.map(|broker| format!("amqp://guest:guest@127.0.0.1:{}//", broker.port));
    let recycled = format!("--max-tasks-per-child={WORKS}");
    let queues = Queues::start(address.as_deref(), &["--concurrency=2", &recycled]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let config = format!(
        "[prometheus]\nlisten = ''\n[log]\nfile = '{}'\nslow_milliseconds = 0\n[[discovery.include]]\ncommand = ['*{}*']\n",
        log.display(),
        queues.name()
    );
    let mut service = Service::start(&config).unwrap();
    service
        .wait_for("both applications", |all| {
            all.iter().filter(|one| one.state == ApplicationState::Running).count() == 2
        })
        .unwrap();
    let answers = send(&queues);
    let count: usize = expected().values().sum();
    wait::until("all that was sent to be done", || {
        let done = transactions(&log).iter().filter(|one| one.kind == TransactionKind::Task).count();
        Ok((done >= count).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error}: {}", queues.log()));
    let (status, said) = service.stop().unwrap();
    assert!(status.success(), "{said}");
    let all = transactions(&log);
    let tasks: Vec<&Transaction> = all.iter().filter(|one| one.kind == TransactionKind::Task).collect();
    let mut counts: BTreeMap<(String, State), usize> = BTreeMap::new();
    for task in &tasks {
        let told = task.task.as_ref().unwrap();
        assert_eq!((&told.name, task.outcome), (&task.name, Outcome::Complete), "{task:#?}");
        assert_eq!(told.queue.as_deref(), Some("celery"));
        *counts.entry((told.name.clone(), told.state.unwrap())).or_default() += 1;
        assert_own_call(task);
        let error = task.error.as_ref().map(|error| error.kind.as_str());
        let failed = (told.state == Some(State::Failure)).then_some("ValueError");
        assert_eq!((told.error_type.as_deref(), error), (failed, failed), "{task:#?}");
    }
    assert_eq!(counts, expected());
    let pids: BTreeSet<u32> = tasks.iter().map(|task| task.pid).collect();
    assert!(pids.len() >= count / WORKS, "{pids:?}");
    let requests = all.iter().filter(|one| one.kind == TransactionKind::Http).count();
    assert_eq!(requests, answers.len());
    assert_linked(&all, &answers);
}

#[test]
fn tasks_by_redis_and_by_rabbitmq() {
    tasks_under(None);
    tasks_under(Some(&RabbitMq::start().unwrap()));
}
