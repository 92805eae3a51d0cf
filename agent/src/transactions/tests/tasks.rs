//! Tasks whose threads tell of them, by the frame that runs them.

use super::{DB, OK, Player};
use crate::intake::{Body, TaskBegun, TaskDone, TaskLeft};
use pyapm_model::line::Outcome;
use pyapm_model::task::State;

const FRAME: u64 = 0x7000;
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

fn task(task: u64, id: &str) -> TaskBegun {
    TaskBegun {
        task,
        frame: FRAME,
        id: id.to_owned(),
        name: "shop.ship".to_owned(),
        routing_key: Some("slow".to_owned()),
        // A task whose sender is not known is given out later.
        traceparent: Some(format!("00-{TRACE}-b7ad6b7169203331-01")),
        retries: Some(2),
        is_late: false,
        started_ns: None,
    }
}

fn begins(player: &mut Player, begun: TaskBegun) {
    player.step();
    player.event(Body::TaskBegun(Box::new(begun)), None);
}

fn ends(player: &mut Player, frame: u64, state: Option<&str>, class: Option<&str>) {
    player.step();
    let done = TaskDone { frame, state: state.map(str::to_owned), class: class.map(str::to_owned) };
    player.event(Body::TaskDone(Box::new(done)), None);
}

fn asks(player: &mut Player, text: &str) {
    player.query(text, OK, None);
}

#[test]
fn a_task_has_its_calls_and_its_end() {
    let mut player = Player::new();
    player.open(DB);
    begins(&mut player, task(1 << 40, "a"));
    let began_ns = player.now_ns;
    assert_eq!(player.transactions.active(player.now_ns)[0].name, "shop.ship");
    asks(&mut player, "DELETE FROM cart");
    ends(&mut player, FRAME, Some("FAILURE"), Some("KeyError"));
    let (transaction, ended_ns) = (player.only().clone(), player.now_ns);
    assert_eq!((transaction.name.as_str(), transaction.trace_id.as_str()), ("shop.ship", TRACE));
    assert_eq!((transaction.duration_ns, transaction.outcome), (ended_ns - began_ns, Outcome::Complete));
    assert_eq!((transaction.request_bytes, transaction.response_bytes), (None, None), "no message was seen");
    assert_eq!(transaction.spans.len(), 1);
    let told = transaction.task.unwrap();
    assert_eq!((told.id.as_str(), told.queue.as_deref(), told.retries), ("a", Some("slow"), Some(2)));
    assert_eq!((told.state, told.error_type.as_deref()), (Some(State::Failure), Some("KeyError")));
    assert_eq!(player.transactions.open(), 0);
    // What comes after it is nobody's.
    asks(&mut player, "DELETE FROM cart");
    assert_eq!(player.transactions.counts().span_unplaced, 1);
}

#[test]
fn what_is_no_beginning_and_no_end() {
    let mut player = Player::new();
    player.open(DB);
    ends(&mut player, FRAME, Some("SUCCESS"), None);
    begins(&mut player, task(1 << 40, "a"));
    // Code that is read before it runs is told of twice.
    begins(&mut player, task(2 << 40, "a"));
    // Of one that the task runs itself, only the end is told.
    asks(&mut player, "DELETE FROM cart");
    ends(&mut player, FRAME + 0x100, Some("FAILURE"), Some("KeyError"));
    ends(&mut player, FRAME, Some("RETRY"), Some("Retry"));
    ends(&mut player, FRAME, Some("SUCCESS"), None);
    let transaction = player.only();
    assert_eq!(transaction.spans.len(), 1);
    let told = transaction.task.as_ref().unwrap();
    assert_eq!((told.id.as_str(), told.state, &told.error_type), ("a", Some(State::Retry), &None));
}

#[test]
fn an_end_that_nobody_tells() {
    let mut player = Player::new();
    begins(&mut player, task(1 << 40, "a"));
    begins(&mut player, task(2 << 40, "b"));
    // The exception has left one that it ran by itself, then the task.
    for id in ["c", "", "b"] {
        player.step();
        player.event(Body::TaskLeft(Box::new(TaskLeft { id: id.to_owned() })), None);
    }
    let ended: Vec<_> = player.finished().into_iter().collect();
    let told: Vec<_> = ended
        .iter()
        .map(|one| (one.task.as_ref().unwrap().id.as_str(), one.task.as_ref().unwrap().state, one.outcome))
        .collect();
    assert_eq!(told, [("a", None, Outcome::Incomplete), ("b", None, Outcome::Complete)]);
    assert_eq!(ended[1].duration_ns, 3_000);
    assert_eq!(player.transactions.open(), 0);
    assert_eq!(player.transactions.counts().task_end_unseen, 1);
}

#[test]
fn a_beginning_that_nobody_saw() {
    let mut player = Player::new();
    player.open(DB);
    begins(&mut player, task(1 << 40, "a"));
    let began_ns = player.now_ns;
    player.step();
    // The end of the one before was not seen either: it was over when this one began.
    let late = |id: &str, started_ns| TaskBegun { is_late: true, started_ns, ..task(2 << 40, id) };
    let second_ns = player.now_ns;
    asks(&mut player, "DELETE FROM cart");
    begins(&mut player, late("b", Some(second_ns)));
    ends(&mut player, FRAME, Some("SUCCESS"), None);
    // No clock reads the future.
    begins(&mut player, late("c", Some(u64::MAX)));
    ends(&mut player, FRAME, Some("FAILURE"), Some("KeyError"));
    let told: Vec<_> = player
        .finished()
        .into_iter()
        .map(|one| {
            let task = one.task.as_ref().unwrap();
            (task.id.clone(), task.state, one.outcome, one.duration_ns)
        })
        .collect();
    let duration_ns = told[1].3;
    assert_eq!(
        told,
        [
            ("a".to_owned(), None, Outcome::Incomplete, second_ns - began_ns),
            ("b".to_owned(), Some(State::Success), Outcome::Incomplete, duration_ns),
            ("c".to_owned(), Some(State::Failure), Outcome::Incomplete, 1_000),
        ]
    );
    assert!(duration_ns > second_ns - began_ns, "{duration_ns}");
    let counts = player.transactions.counts();
    assert_eq!((counts.task_begin_unseen, counts.task_end_unseen), (2, 1));
}
