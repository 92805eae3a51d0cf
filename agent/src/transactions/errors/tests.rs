//! The life of exceptions without a process: told, passed, chained, given up.

use super::Raised;
use crate::intake::{Exception, ExceptionId, Relation};
use crate::transactions::sql::Mode;
use crate::transactions::{Clock, FinishedError, Limits, Output, Settings, Transactions};
use pyapm_model::error::Relation as Chain;
use pyapm_model::line::Frame;
use pyapm_wire::scope::Scope;

const SECOND: u64 = 1_000_000_000;

fn frame(function: &str) -> Frame {
    Frame { function: function.into(), file: "/srv/app.py".into(), line: Some(1) }
}

struct Player {
    transactions: Transactions,
    out: Output,
}

impl Player {
    fn new(limits: Limits) -> Self {
        let settings = Settings {
            application: "shop".into(),
            clock: Clock::default(),
            seed: 1,
            limits,
            sql: Mode::default(),
            waits: true,
        };
        Self { transactions: Transactions::new(settings), out: Output::default() }
    }

    fn raise(&mut self, time_ns: u64, id: u64, relation: Relation, functions: &[&str]) {
        let frames: Vec<Frame> = functions.iter().map(|function| frame(function)).collect();
        let exception = Exception {
            id: ExceptionId(id),
            relation,
            class: 1,
            class_name: "E".into(),
            suppressed: 3,
            place: Some(id % 2),
            arguments: 0,
            values: [None, None],
            file_name: None,
            frames: Vec::new(),
            frames_cut: false,
            chain_cut: false,
        };
        let raised = Raised {
            time_ns,
            pid: 7,
            tid: 8,
            scope: Scope::default(),
            exception: &exception,
            class: "E",
            module: Some("m"),
            message: Some(""),
            frames: &frames,
        };
        self.transactions.raised(&raised, &mut self.out);
    }

    fn pass(&mut self, time_ns: u64, id: u64, function: &str) {
        self.transactions.passed(time_ns, 7, 8, ExceptionId(id), Some(frame(function)));
    }

    fn settle(&mut self, now_ns: u64) -> Vec<FinishedError> {
        self.transactions.settle_errors(now_ns, &mut self.out);
        std::mem::take(&mut self.out.errors)
    }
}

fn functions(finished: &FinishedError) -> Vec<&str> {
    finished.error.stack.iter().map(|frame| frame.function.as_str()).collect()
}

#[test]
fn grows_until_it_is_caught() {
    let mut player = Player::new(Limits::default());
    player.raise(10, 1, Relation::None, &["b", "a"]);
    player.pass(20, 1, "c");
    player.pass(SECOND, 1, "d");
    assert_eq!(player.settle(SECOND + 20), []);
    let done = player.settle(2 * SECOND);
    assert_eq!(done.len(), 1);
    assert_eq!(functions(&done[0]), ["a", "b", "c", "d"]);
    assert_eq!((done[0].raised_ns, done[0].suppressed), (10, 3));
    assert_eq!((done[0].error.handled, done[0].frame.as_ref()), (Some(true), Some(&frame("a"))));
    // What comes later is nobody's.
    player.pass(3 * SECOND, 1, "e");
    assert_eq!(player.transactions.counts().exception_late, 1);
    assert_eq!(player.settle(u64::MAX), []);
}

#[test]
fn what_it_was_raised_from() {
    let mut player = Player::new(Limits::default());
    player.raise(1, 5, Relation::None, &["b", "a"]);
    player.raise(2, 6, Relation::CauseOf(ExceptionId(5)), &["y", "x"]);
    player.raise(3, 7, Relation::ContextOf(ExceptionId(6)), &["z"]);
    player.raise(4, 8, Relation::CauseOf(ExceptionId(99)), &["lost"]);
    let done = player.settle(2 * SECOND);
    assert_eq!(done.len(), 1);
    let chain = &done[0].error.chain;
    assert_eq!((chain[0].relation, chain[1].relation, chain.len()), (Chain::Cause, Chain::Context, 2));
    assert_eq!(chain[0].stack[0].function, "x");
    assert_eq!(player.transactions.counts().exception_late, 1);
}

#[test]
fn the_oldest_gives_way() {
    let mut player = Player::new(Limits { errors: 2, ..Limits::default() });
    for id in 1..=5 {
        player.raise(id, id, Relation::None, &["b", "a"]);
    }
    assert_eq!(player.out.errors.len(), 3);
    assert_eq!(player.settle(u64::MAX).len(), 5);
}

#[test]
fn a_long_way_is_cut() {
    let mut player = Player::new(Limits::default());
    player.raise(1, 1, Relation::None, &["b", "a"]);
    for step in 0..1000 {
        player.pass(step, 1, "again");
    }
    let done = player.settle(u64::MAX);
    assert_eq!((done[0].error.stack.len(), done[0].error.cut), (256, true));
}
