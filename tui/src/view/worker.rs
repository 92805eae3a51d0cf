//! One worker: its figures, its event loops with where they were held up, and what it serves now.

use super::details::full_frame;
use super::document::{Document, Writer};
use crate::format;
use crate::state::State;
use crate::theme::Severity;
use pyapm_model::snapshot::{EventLoop, Snapshot, Worker};

/// Transactions in flight that are listed.
const MOST_ACTIVE: usize = 50;

pub(super) fn document(state: &State, mut writer: Writer) -> Document {
    let (Some(pid), Some(snapshot)) = (state.worker, &state.snapshot) else { return writer.finish() };
    let Some(worker) = snapshot.workers.iter().find(|worker| worker.pid == pid) else {
        writer.heading(&format!("Worker {pid}"));
        let style = writer.theme.severity(Severity::Warning);
        writer.text("it has ended", style);
        return writer.finish();
    };
    let role = if snapshot.is_master(worker) { "Master" } else { "Worker" };
    writer.heading(&format!("{role} {pid}"));
    figures(&mut writer, worker);
    let loops = loops_of(snapshot, pid);
    for one in &loops {
        event_loop(&mut writer, one);
    }
    in_flight(&mut writer, snapshot, pid);
    writer.finish()
}

/// Those of one worker, the longest blocked first.
pub(super) fn loops_of(snapshot: &Snapshot, pid: u32) -> Vec<&EventLoop> {
    snapshot.loops.iter().filter(|one| one.pid == pid).collect()
}

fn figures(writer: &mut Writer, worker: &Worker) {
    let percent = |share: f64| format!("{} % of the time", format::percent(share));
    writer.entry("transactions", &format::grouped(worker.transactions));
    writer.entry("active", &format::grouped(worker.active));
    writer.entry("CPU", &format::known(worker.cpu_cores, |cores| format!("{} cores", format::cores(cores))));
    writer.entry("memory", &format::known(worker.rss_bytes, format::bytes));
    writer.entry("threads", &format::known(worker.threads, format::count));
    writer.entry("GIL held", &format::known(worker.gil_held, percent));
    let waiting = |threads: f64| format!("{} threads on average", format::rate(threads));
    writer.entry("GIL waited", &format::known(worker.gil_waiting, waiting));
    let collections = |rate: f64| format!("{} collections a second", format::rate(rate));
    writer.entry("GC", &format::known(worker.collections, collections));
}

fn event_loop(writer: &mut Writer, one: &EventLoop) {
    writer.heading(&format!("Event loop of thread {}", one.tid));
    let percent = |share: f64| format!("{} % of the last second", format::percent(share));
    writer.entry("busy", &format::known(one.busy_share, percent));
    writer.entry(
        "blocked",
        &format!("{} turns, {}", format::grouped(one.blocked), format::duration(one.blocked_ns)),
    );
    if one.blocked == 0 {
        return;
    }
    writer.entry("longest", &format::duration(one.longest_ns));
    if one.stack.is_empty() {
        writer.text("where it was in the longest is not known", writer.theme.label());
        return;
    }
    writer.text("in the longest it was here, innermost first:", writer.theme.label());
    writer.frames(2, one.stack.iter());
}

fn in_flight(writer: &mut Writer, snapshot: &Snapshot, pid: u32) {
    writer.heading("In flight");
    let mut active: Vec<_> = snapshot.active.iter().filter(|active| active.pid == pid).collect();
    active.sort_by_key(|active| std::cmp::Reverse(active.elapsed_ns));
    if active.is_empty() {
        writer.text("nothing", writer.theme.label());
    }
    for one in active.iter().take(MOST_ACTIVE) {
        let place = one.place.as_ref().map(|frame| format!("  {}", full_frame(frame))).unwrap_or_default();
        let text = format!(
            "{} {}{place}",
            format::right(&format::duration(one.elapsed_ns), 8),
            format::clean(&one.name)
        );
        writer.text(&text, writer.theme.plain());
    }
    if active.len() > MOST_ACTIVE {
        let more = format!("and {} more", active.len() - MOST_ACTIVE);
        writer.text(&more, writer.theme.label());
    }
}
