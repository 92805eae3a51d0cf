//! The rules of [`super::lineage`], one by one, on events made up for each.

use super::lineage::{Lineage, Reason, Whose};
use crate::intake::{ConnectionId, Context, Greenlet};
use crate::transactions::spans::RequestId;
use pyapm_wire::scope::{Scope, flag};

const LOOP: u32 = 10;
const POOL: u32 = 11;
/// The context of the loop itself, in which every connection is read under uvloop.
const BASE: u64 = 0xb000;

/// Plays a process; every step is one microsecond later than the one before.
struct Play {
    lineage: Lineage<&'static str>,
    now_ns: u64,
    sequences: std::collections::HashMap<u64, u64>,
    begun: std::collections::HashMap<RequestId, u64>,
}

fn scope(context: u64, flags: u32) -> Scope {
    Scope { context, task: 0, flags: flags | flag::READ | flag::BIRTHS, padding: 0 }
}

impl Play {
    fn new() -> Self {
        Self {
            lineage: Lineage::default(),
            now_ns: 1_000,
            sequences: std::collections::HashMap::new(),
            begun: std::collections::HashMap::new(),
        }
    }

    fn step(&mut self) -> u64 {
        self.now_ns += 1_000;
        self.now_ns
    }

    /// A request is read on this connection, in this context, outside of coroutines.
    fn read(&mut self, connection: u64, context: u64) -> RequestId {
        let time_ns = self.step();
        let sequence = self.sequences.entry(connection).or_default();
        let request = RequestId { connection: ConnectionId(connection), sequence: *sequence };
        *sequence += 1;
        self.begun.insert(request, time_ns);
        self.lineage.began(time_ns, request);
        self.lineage.read(LOOP, &scope(context, 0), request.connection, Some(request));
        request
    }

    fn copy(&mut self, parent: u64, context: u64) {
        self.copy_below(0, parent, context);
    }

    fn copy_below(&mut self, grandparent: u64, parent: u64, context: u64) {
        let time_ns = self.step();
        self.lineage.made(time_ns, LOOP, &Context { context, parent, grandparent, empty: false });
    }

    fn answer(&mut self, request: RequestId, context: u64) {
        let time_ns = self.step();
        let began_ns = self.begun[&request];
        self.lineage.answered(time_ns, LOOP, &scope(context, flag::COROUTINE), request, began_ns);
    }

    fn end(&mut self, request: RequestId) {
        self.lineage.ended(self.begun[&request], request);
    }

    fn ask(&mut self, tid: u32, scope: &Scope) -> Whose {
        let time_ns = self.step();
        self.lineage.whose(time_ns, tid, scope, None)
    }

    /// A call from a coroutine on the loop.
    fn call(&mut self, context: u64) -> Whose {
        self.ask(LOOP, &scope(context, flag::COROUTINE))
    }

    /// The same, and it waits to be told whose it is.
    fn call_later(&mut self, context: u64, name: &'static str) {
        match self.call(context) {
            Whose::Later(waits) => self.lineage.wait(waits, name),
            other => panic!("{name} is told at once: {other:?}"),
        }
    }

    fn told(&mut self) -> Vec<(&'static str, Result<RequestId, Reason>)> {
        self.lineage.told(self.now_ns)
    }

    /// A server that makes a task for each request, with two requests of one connection behind it.
    fn with_task_each() -> Self {
        let mut play = Self::new();
        for task in [0x901, 0x902] {
            let request = play.read(9, 0x900);
            play.copy(0x900, task);
            play.answer(request, task);
            play.end(request);
        }
        play
    }
}

#[test]
fn a_task_for_each_request_is_known_at_once() {
    let mut play = Play::with_task_each();
    let first = play.read(1, 0x100);
    play.copy(0x100, 0x101);
    let second = play.read(2, 0x200);
    play.copy(0x200, 0x201);
    assert_eq!(play.call(0x101), Whose::Request(first));
    assert_eq!(play.call(0x201), Whose::Request(second));
    // Its children, and theirs, at whatever time.
    play.copy(0x101, 0x110);
    play.copy(0x110, 0x111);
    assert_eq!(play.call(0x111), Whose::Request(first));
}

#[test]
fn a_fresh_context_between_read_and_task() {
    let mut play = Play::with_task_each();
    let request = play.read(1, 0x100);
    let time_ns = play.step();
    play.lineage.made(time_ns, LOOP, &Context { context: 0x150, parent: 0x100, grandparent: 0, empty: true });
    play.copy_below(0x100, 0x150, 0x151);
    assert_eq!(play.call(0x151), Whose::Request(request));
}

#[test]
fn a_copy_of_another_context_after_a_read_is_no_request() {
    let mut play = Play::with_task_each();
    let running = play.read(1, 0x100);
    play.copy(0x100, 0x101);
    // A coroutine of the first request goes on after the second has been read.
    play.read(2, 0x200);
    play.copy(0x101, 0x102);
    assert_eq!(play.call(0x102), Whose::Request(running));
}

#[test]
fn another_read_in_between_ends_the_guess() {
    let mut play = Play::with_task_each();
    play.read(1, 0x100);
    play.lineage.read_elsewhere(LOOP);
    play.copy(0x100, 0x101);
    assert!(matches!(play.call(0x101), Whose::Later(_)));
}

#[test]
fn no_guess_is_believed_before_an_answer_has_shown_one_right() {
    let mut play = Play::new();
    // Under uvloop all is read in one context; what is copied from it after a read may be another connection's task.
    play.read(1, BASE);
    play.copy(BASE, 0x201);
    let second = play.read(2, BASE);
    play.call_later(0x201, "call");
    play.answer(second, 0x201);
    assert_eq!(play.told(), [("call", Ok(second))]);
    // The guess was the first connection's, and wrong: none is believed from now on.
    play.read(3, BASE);
    play.copy(BASE, 0x301);
    assert!(matches!(play.call(0x301), Whose::Later(_)));
}

#[test]
fn a_task_for_each_connection_is_known_from_its_first_answer_on() {
    let mut play = Play::new();
    play.copy(0x50, 0x100);
    let first = play.read(1, 0x70);
    play.call_later(0x100, "first");
    play.copy(0x100, 0x101);
    play.call_later(0x101, "in a child");
    play.answer(first, 0x100);
    assert_eq!(play.told(), [("first", Ok(first)), ("in a child", Ok(first))]);
    play.end(first);
    let second = play.read(1, 0x70);
    assert_eq!(play.call(0x100), Whose::Request(second));
    // What the first request left behind stays its own.
    assert_eq!(play.call(0x101), Whose::Request(first));
}

#[test]
fn a_connection_that_is_at_work_after_its_answer_is_in_doubt() {
    let mut play = Play::new();
    play.copy(0x50, 0x100);
    let first = play.read(1, 0x70);
    play.answer(first, 0x100);
    play.end(first);
    play.lineage.called(play.now_ns, &scope(0x100, flag::COROUTINE));
    assert_eq!(play.call(0x100), Whose::Request(first));
    // Was that the last that it did for the first?
    play.read(1, 0x70);
    assert!(matches!(play.call(0x100), Whose::Later(_)));
}

#[test]
fn two_requests_in_one_piece_cannot_be_told_apart_by_time() {
    let mut play = Play::new();
    play.copy(0x50, 0x100);
    let first = play.read(1, 0x70);
    play.answer(first, 0x100);
    play.read(1, 0x70);
    assert!(matches!(play.call(0x100), Whose::Later(_)));
}

#[test]
fn an_address_is_given_to_another_context() {
    let mut play = Play::with_task_each();
    let first = play.read(1, 0x100);
    play.copy(0x100, 0x101);
    play.copy(0x101, 0x102);
    play.answer(first, 0x101);
    play.end(first);
    let second = play.read(2, 0x200);
    play.copy(0x200, 0x201);
    // What was the first's is the second's now.
    play.copy(0x201, 0x102);
    assert_eq!(play.call(0x102), Whose::Request(second));
    // And an empty one is nobody's.
    let time_ns = play.step();
    play.lineage.made(time_ns, LOOP, &Context { context: 0x102, parent: 0x201, grandparent: 0, empty: true });
    assert!(matches!(play.call(0x102), Whose::Later(_)));
}

#[test]
fn what_waits_keeps_its_context_when_the_address_is_given_away() {
    let mut play = Play::new();
    let request = play.read(1, 0x100);
    play.copy(0x100, 0x101);
    play.copy(0x101, 0x102);
    play.call_later(0x102, "of the first");
    play.copy(0x60, 0x102);
    play.call_later(0x102, "of nobody");
    play.answer(request, 0x101);
    assert_eq!(play.told(), [("of the first", Ok(request))]);
    play.end(request);
    assert_eq!(play.told(), [("of nobody", Err(Reason::NeverAnswered))]);
}

#[test]
fn a_background_task_outlives_its_request() {
    let mut play = Play::with_task_each();
    let first = play.read(1, 0x100);
    play.copy(0x100, 0x101);
    play.copy(0x101, 0x102);
    play.answer(first, 0x101);
    play.end(first);
    play.read(1, 0x100);
    play.copy(0x100, 0x103);
    assert_eq!(play.call(0x102), Whose::Request(first));
    // The task itself may go on as well.
    assert_eq!(play.call(0x101), Whose::Request(first));
}

#[test]
fn a_context_that_has_answered_is_in_doubt_where_it_may_serve_its_connection() {
    let mut play = Play::new();
    // Made when the first request had been read: its own, or its connection's?
    let first = play.read(1, 0x100);
    play.lineage.read_elsewhere(LOOP);
    play.copy(0x100, 0x101);
    play.answer(first, 0x101);
    play.end(first);
    let second = play.read(1, 0x100);
    play.lineage.read_elsewhere(LOOP);
    play.call_later(0x101, "in doubt");
    // The second has a context of its own; so had the first.
    play.copy(0x100, 0x102);
    play.answer(second, 0x102);
    assert_eq!(play.told(), [("in doubt", Ok(first))]);
    // One that answers two has taken its connection's part.
    let third = play.read(1, 0x100);
    play.answer(third, 0x102);
    play.end(second);
    play.end(third);
    let fourth = play.read(1, 0x100);
    assert_eq!(play.call(0x102), Whose::Request(fourth));
}

#[test]
fn an_answer_in_a_task_of_the_requests_task() {
    let mut play = Play::new();
    let request = play.read(1, 0x100);
    play.copy(0x100, 0x101);
    play.copy(0x101, 0x102);
    play.call_later(0x101, "in the outer task");
    play.answer(request, 0x102);
    assert_eq!(play.told(), [("in the outer task", Ok(request))]);
}

#[test]
fn eager_tasks_copy_in_their_own_context() {
    let mut play = Play::new();
    play.copy(0x50, 0x100);
    let request = play.read(1, 0x70);
    play.copy(0x100, 0x101);
    play.copy(0x101, 0x102);
    play.call_later(0x102, "eager");
    play.answer(request, 0x100);
    assert_eq!(play.told(), [("eager", Ok(request))]);
}

#[test]
fn the_loops_own_work_is_nobodys() {
    let mut play = Play::with_task_each();
    let request = play.read(1, 0x100);
    play.copy(0x100, 0x101);
    assert_eq!(play.ask(LOOP, &scope(0x101, 0)), Whose::Nobodys(Reason::OutsideCoroutines));
    assert_eq!(play.call(0x101), Whose::Request(request));
}

#[test]
fn a_pools_thread_only_in_a_context_that_was_entered_or_handed_on() {
    let mut play = Play::with_task_each();
    let request = play.read(1, 0x100);
    play.copy(0x100, 0x101);
    play.copy(0x101, 0x102);
    assert_eq!(play.ask(POOL, &scope(0x102, 0)), Whose::Nobodys(Reason::NoContext));
    assert_eq!(play.ask(POOL, &scope(0x102, flag::ENTERED)), Whose::Request(request));
    assert_eq!(play.ask(POOL, &scope(0x102, flag::HANDED_ON)), Whose::Request(request));
}

#[test]
fn a_thread_that_answers_by_itself_is_asked_itself() {
    let mut play = Play::new();
    let request = play.read(1, 0);
    let time_ns = play.step();
    let Whose::Later(waits) = play.lineage.whose(time_ns, LOOP, &scope(0, 0), Some(request)) else {
        panic!("decided too early")
    };
    play.lineage.wait(waits, "before");
    let began_ns = play.begun[&request];
    play.lineage.answered(time_ns, LOOP, &scope(0, 0), request, began_ns);
    assert_eq!(play.told(), [("before", Ok(request))]);
    assert_eq!(play.ask(LOOP, &scope(0, 0)), Whose::Threads);
}

#[test]
fn an_answer_that_is_put_off_shows_nothing() {
    let mut play = Play::new();
    let request = play.read(1, BASE);
    let began_ns = play.begun[&request];
    play.lineage.answered(play.now_ns, LOOP, &scope(BASE, flag::DEFERS), request, began_ns);
    assert!(matches!(play.ask(LOOP, &scope(BASE, flag::DEFERS)), Whose::Later(_)));
    play.end(request);
}

#[test]
fn a_thread_that_says_so_runs_a_loop() {
    let mut play = Play::new();
    let request = play.read(1, 0x100);
    play.lineage.read(LOOP, &scope(0x100, flag::LOOP), request.connection, Some(request));
    assert_eq!(play.ask(LOOP, &scope(0x100, flag::LOOP)), Whose::Nobodys(Reason::OutsideCoroutines));
}

#[test]
fn without_births_an_address_is_good_within_its_request() {
    let mut play = Play::new();
    let bare = |context, flags| Scope { context, task: 0, flags: flags | flag::READ, padding: 0 };
    let early = play.ask(LOOP, &bare(0x101, flag::COROUTINE));
    let request = play.read(1, 0x100);
    let mine = play.ask(LOOP, &bare(0x101, flag::COROUTINE));
    let child = play.ask(LOOP, &bare(0x102, flag::COROUTINE));
    for (whose, name) in [(early, "before it began"), (mine, "its own"), (child, "a child's")] {
        let Whose::Later(waits) = whose else { panic!("{name}: {whose:?}") };
        play.lineage.wait(waits, name);
    }
    let (time_ns, began_ns) = (play.step(), play.begun[&request]);
    play.lineage.answered(time_ns, LOOP, &bare(0x101, flag::COROUTINE), request, began_ns);
    let told = play.told();
    assert!(told.contains(&("its own", Ok(request))), "{told:?}");
    assert_eq!(told.iter().filter(|(_, whose)| whose.is_ok()).count(), 1, "{told:?}");
}

#[test]
fn greenlets_serve_their_connection() {
    let mut play = Play::new();
    let greenlet = |task| Scope { context: 0, task, flags: flag::READ | flag::GREENLETS, padding: 0 };
    let first = play.read(1, 0);
    play.lineage.read(LOOP, &greenlet(0xc1), first.connection, Some(first));
    let second = play.read(2, 0);
    play.lineage.read(LOOP, &greenlet(0xc2), second.connection, Some(second));
    assert_eq!(play.ask(LOOP, &greenlet(0xc1)), Whose::Request(first));
    assert_eq!(play.ask(LOOP, &greenlet(0xc2)), Whose::Request(second));
    assert_eq!(play.ask(LOOP, &greenlet(0xc3)), Whose::Nobodys(Reason::NoContext));
    play.lineage.closed(first.connection);
    assert_eq!(play.ask(LOOP, &greenlet(0xc1)), Whose::Nobodys(Reason::NoContext));
}

/// Of a request's greenlet, of threads, and of nobody known.
#[test]
fn greenlets_work_for_whom_they_were_made() {
    let mut play = Play::new();
    let scope = |task, flags| Scope { context: 0, task, flags: flags | flag::READ, padding: 0 };
    let greenlet = |task| scope(task, flag::GREENLETS);
    let first = play.read(1, 0);
    play.lineage.read(LOOP, &greenlet(0xc0), first.connection, Some(first));
    for (greenlet, maker, is_thread) in
        [(0xd0, 0xc0, false), (0xd8, 0xc0, true), (0xe0, 0xd8, false), (0xe8, 0, false)]
    {
        let time_ns = play.step();
        play.lineage.greenlet_made(time_ns, LOOP, &Greenlet { greenlet, maker, is_thread });
    }
    assert_eq!(play.ask(LOOP, &greenlet(0xd0)), Whose::Request(first));
    for unknown in [0xd8, 0xe0, 0xe8, 0] {
        assert_eq!(play.ask(LOOP, &greenlet(unknown)), Whose::Nobodys(Reason::NoContext), "{unknown:#x}");
    }
    // The thread's first greenlet is none of those that serve there; another thread has nothing to do with them.
    assert_eq!(play.ask(LOOP, &scope(0, 0)), Whose::Nobodys(Reason::OutsideCoroutines));
    assert_eq!(play.ask(POOL, &scope(0, 0)), Whose::Nobodys(Reason::NoContext));
}

#[test]
fn what_waits_is_bounded_and_told_as_unknown() {
    let mut play = Play::new();
    let request = play.read(1, 0x100);
    play.copy(0x100, 0x101);
    for _ in 0..5_000 {
        play.call_later(0x101, "one of many");
    }
    play.answer(request, 0x101);
    let told = play.told();
    assert_eq!(told.len(), 5_000);
    assert_eq!(told.iter().filter(|(_, whose)| *whose == Err(Reason::TooMany)).count(), 5_000 - 4_096);
    assert!(told.iter().all(|(_, whose)| *whose == Err(Reason::TooMany) || *whose == Ok(request)));
}

/// Whatever comes, in whatever order: nothing panics, and nothing that is kept grows without bound.
#[test]
fn any_sequence_of_events() {
    let mut state = 7_u64;
    let mut random = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut play = Play::new();
    let mut open: Vec<RequestId> = Vec::new();
    let mut waiting = 0;
    for _ in 0..200_000 {
        let context = random(40);
        match random(8) {
            0 => open.push(play.read(random(20), context)),
            1 | 2 => play.copy_below(random(40), context, random(40)),
            3 if !open.is_empty() => {
                let request = open[random(open.len() as u64) as usize];
                play.answer(request, context);
            }
            4 if !open.is_empty() => {
                let request = open.swap_remove(random(open.len() as u64) as usize);
                play.end(request);
            }
            5 => play.lineage.closed(ConnectionId(random(20))),
            6 => waiting -= play.told().len() as i64,
            _ => {
                let flags = random(512) as u32;
                if let Whose::Later(waits) = play.ask(random(3) as u32, &scope(context, flags)) {
                    play.lineage.wait(waits, "anything");
                    waiting += 1;
                }
            }
        }
        assert!(waiting <= 4_096 + 200_000 / 8);
    }
}
