//! Tasks whose threads tell of them, by the frame that runs them.

use super::{DB, OK, PID, Player};
use crate::intake::{Body, TaskBegun, TaskDone};
use pyapm_model::line::{Frame, Outcome};
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
    // The exception that leaves it reaches the function that calls tasks.
    let frame = |function: &str| Frame {
        function: function.into(),
        file: "/v/lib/python3.11/site-packages/celery/app/trace.py".into(),
        line: Some(798),
    };
    for function in ["build_tracer.<locals>.trace_task", "fast_trace_task"] {
        player.step();
        player.transactions.task_left(player.now_ns, PID, player.tid, &frame(function), &mut player.out);
    }
    let ended: Vec<_> = player.finished().into_iter().collect();
    let told: Vec<_> = ended
        .iter()
        .map(|one| (one.task.as_ref().unwrap().id.as_str(), one.task.as_ref().unwrap().state, one.outcome))
        .collect();
    assert_eq!(told, [("a", None, Outcome::Incomplete), ("b", None, Outcome::Complete)]);
    assert_eq!(ended[1].duration_ns, 2_000);
    assert_eq!(player.transactions.open(), 0);
}
