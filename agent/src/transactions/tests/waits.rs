//! Where a request's time went, by what its thread waited for while which call was open.

use super::{DB, OFFSET, OK, PID, Player, WEB, command};
use crate::intake::{Body, Context, Left, OffCpu, StackStatus};
use pyapm_model::line::Waits;
use pyapm_wire::scope::{Scope, flag};

const GET: &[u8] = b"GET /a HTTP/1.1\r\n\r\n";
const OK5: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
const RECVFROM: u64 = 45;
const EPOLL_WAIT: u64 = 232;
const MS: u64 = 1_000_000;
/// Contexts: the loop's own, and those of the tasks of two requests.
const BASE: u64 = 0x1000;
const FIRST: u64 = 0x2000;
const SECOND: u64 = 0x3000;

impl Player {
    /// The thread is away for so long, in this call, from now on.
    fn waits(&mut self, call: u64, milliseconds: u64) {
        self.now_ns += milliseconds * MS;
        let left = Left {
            stack: None,
            status: StackStatus::NotAsked,
            state: 1,
            call: Some(call),
            arguments: [3, 8, 0],
            fd: None,
            mode: 0,
            holds_gil: false,
            waits_for_gil: false,
        };
        let (duration_ns, scope) = (Some(milliseconds * MS), std::mem::take(&mut self.scope));
        self.event(Body::OffCpu(OffCpu { duration_ns, queued_ns: 0, left }), None);
        self.scope = scope;
    }

    fn works(&mut self, milliseconds: u64) {
        self.now_ns += milliseconds * MS;
    }

    /// Who runs from now on: the loop itself, or a coroutine.
    fn runs(&mut self, context: u64) {
        let coroutine = if context == BASE { 0 } else { flag::COROUTINE | flag::ENTERED };
        let flags = flag::READ | flag::BIRTHS | coroutine;
        self.scope = Scope { context, task: 0, flags, padding: 0 };
    }

    fn copies(&mut self, parent: u64, context: u64) {
        let scope = std::mem::take(&mut self.scope);
        self.event(Body::Context(Context { context, parent, grandparent: 0, empty: false }), None);
        self.scope = scope;
    }

    fn waits_of(&self, path: &str) -> Waits {
        let finished = self.finished();
        let is_it = |path_found: Option<&str>| path_found == Some(path);
        let one = finished.iter().find(|one| is_it(one.path.as_deref())).expect("it is finished");
        let waits = one.waits.expect("waits are followed");
        assert_eq!(waits.total_ns(), one.duration_ns, "{waits:?}");
        assert!(one.start_ns > OFFSET.unsigned_abs());
        waits
    }
}

/// What the process is, its first answer shows: until then its calls belong to nobody, and its waits must not go by that.
#[test]
fn the_first_request_of_a_process_waits_for_its_database() {
    let mut player = Player::new();
    player.open(WEB);
    player.open(DB);
    // Contexts are told, but no loop runs: it reads, asks and answers by itself.
    player.scope = Scope { context: BASE, task: 0, flags: flag::READ | flag::BIRTHS, padding: 0 };
    player.read(WEB, GET);
    player.statement(7, "SELECT 1 FROM a", None);
    player.write(DB, &command("SELECT 1 FROM a"));
    player.waits(RECVFROM, 40);
    player.read(DB, OK);
    player.waits(RECVFROM, 3);
    player.write(WEB, OK5);
    let waits = player.waits_of("/a");
    assert_eq!((waits.database_ns, waits.network_ns, waits.unknown_ns), (40 * MS, 3 * MS, 0), "{waits:?}");
    assert_eq!(player.only().spans.len(), 1);
}

/// Two requests of one loop: one asks its database, the other computes, sleeps, and computes again.
fn two_on_a_loop(player: &mut Player, first: u64, second: u64) {
    for connection in [first, second] {
        player.open(connection);
    }
    player.runs(BASE);
    player.read(first, b"GET /asks HTTP/1.1\r\n\r\n");
    player.copies(BASE, FIRST);
    player.read(second, b"GET /works HTTP/1.1\r\n\r\n");
    player.copies(BASE, SECOND);
    player.runs(FIRST);
    player.statement(7, "SELECT 1 FROM a", None);
    player.write(DB, &command("SELECT 1 FROM a"));
    player.runs(SECOND);
    player.works(20);
    // A timer is set with a copy of the context.
    player.copies(SECOND, SECOND + 0x100);
    player.runs(BASE);
    player.waits(EPOLL_WAIT, 50);
    player.runs(SECOND);
    player.works(10);
    player.write(second, OK5);
    player.runs(BASE);
    player.waits(EPOLL_WAIT, 5);
    player.read(DB, OK);
    player.runs(FIRST);
    player.works(2);
    player.copies(FIRST, FIRST + 0x100);
    player.runs(BASE);
    player.waits(EPOLL_WAIT, 7);
    player.runs(FIRST);
    player.write(first, OK5);
}

#[test]
fn on_a_loop_each_has_its_own_work_and_what_others_did_meanwhile() {
    let mut player = Player::new();
    player.open(DB);
    // In the first round the answers tell whose the contexts are, in the second they are known when they are made.
    for round in 0..2 {
        two_on_a_loop(&mut player, 10 + round, 20 + round);
        player.now_ns += 20_000 * MS;
        let (now_ns, mut out) = (player.now_ns, std::mem::take(&mut player.out));
        player.transactions.advance(now_ns, &mut out);
        player.out = out;
        let rough = |ns: u64| (ns + MS / 2) / MS;
        let asks = player.waits_of("/asks");
        let parts = [asks.on_cpu_ns, asks.database_ns, asks.awaiting_ns, asks.loop_busy_ns];
        assert_eq!(parts.map(rough), [2, 55, 7, 30], "{asks:?}");
        let works = player.waits_of("/works");
        let parts = [works.on_cpu_ns, works.database_ns, works.awaiting_ns, works.loop_busy_ns];
        assert_eq!(parts.map(rough), [30, 0, 50, 0], "{works:?}");
        assert_eq!(asks.unknown_ns + works.unknown_ns, 0);
        assert_eq!(player.finished().len(), 2);
        player.out = super::Output::default();
    }
}

#[test]
fn a_time_that_was_not_seen_is_unknown() {
    let mut player = Player::new();
    player.open(DB);
    player.open(WEB);
    player.runs(BASE);
    player.read(WEB, b"GET /asks HTTP/1.1\r\n\r\n");
    player.copies(BASE, FIRST);
    player.runs(FIRST);
    player.write(DB, &command("SELECT 1 FROM a"));
    player.works(10);
    player.event(
        Body::OffCpu(OffCpu {
            duration_ns: None,
            queued_ns: 0,
            left: Left {
                stack: None,
                status: StackStatus::NotAsked,
                state: 0,
                call: None,
                arguments: [0; 3],
                fd: None,
                mode: 0,
                holds_gil: false,
                waits_for_gil: false,
            },
        }),
        None,
    );
    player.runs(BASE);
    player.read(DB, OK);
    player.runs(FIRST);
    player.write(WEB, OK5);
    let mut out = std::mem::take(&mut player.out);
    player.transactions.finish(&mut out);
    player.out = out;
    let waits = player.waits_of("/asks");
    assert_eq!(waits.loop_busy_ns, 0, "{waits:?}");
    assert_eq!(player.only().tid, PID);
}
