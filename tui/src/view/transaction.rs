//! One transaction: what it was, where its time went, its calls one below the other over time, the stacks of its samples
//! as a tree, and what it raised.

use super::document::{Document, Writer};
use super::{failure, waterfall};
use crate::format;
use crate::state::{Asked, Opened, State};
use crate::theme::Severity;
use pyapm_model::line::{Frame, Outcome, Samples, Transaction, Waits};
use ratatui::text::Span;

/// Columns of the bar of waits, at most.
const BAR: usize = 60;
/// Steps that a tree goes to the right, at most.
const DEEPEST: usize = 24;

pub(super) fn document(state: &State, mut writer: Writer) -> Document {
    let Some(opened) = &state.opened else { return writer.finish() };
    let now = state.now_ns();
    match &opened.whole {
        Asked::Here(transaction) => whole(state, &mut writer, transaction, now),
        Asked::Waiting => {
            dot(&mut writer, opened, now);
            writer.text("the rest is on its way", writer.theme.label());
        }
        Asked::Gone => {
            dot(&mut writer, opened, now);
            writer.text(
                "no more is kept of it: of many in a second, the slow and failed ones are, and",
                writer.theme.label(),
            );
            writer.text("a fair choice of the rest", writer.theme.label());
        }
    }
    writer.finish()
}

/// What is known of every one.
fn dot(writer: &mut Writer, opened: &Opened, now_ns: u64) {
    let point = &opened.point;
    writer.heading(&format::clean(&point.name));
    writer.entry("status", &format::known(point.status, |status| status.to_string()));
    writer.entry("took", &format::duration(point.duration_ns));
    writer.entry("ended", &ago(now_ns, point.ended_ns));
    writer.entry("worker", &point.pid.to_string());
}

fn ago(now_ns: u64, then_ns: u64) -> String {
    format!("{} ago", format::whole_seconds(now_ns.saturating_sub(then_ns)))
}

fn whole(state: &State, writer: &mut Writer, transaction: &Transaction, now_ns: u64) {
    let status = format::known(transaction.status, |status| status.to_string());
    let took = format::duration(transaction.duration_ns);
    writer.heading(&format!("{}  {status}  {took}", format::clean(&transaction.name)));
    if let Some(outcome) = outcome(transaction.outcome) {
        let style = writer.theme.severity(Severity::Warning);
        writer.text(outcome, style);
    }
    writer.entry("path", &format::known(transaction.path.as_deref(), format::clean));
    writer.entry("handler", &format::known(transaction.handler.as_ref(), super::details::full_frame));
    let ended = transaction.start_ns.saturating_add(transaction.duration_ns);
    writer.entry(
        "ended",
        &format!("{}, worker {}, thread {}", ago(now_ns, ended), transaction.pid, transaction.tid),
    );
    let [received, sent] = [transaction.request_bytes, transaction.response_bytes]
        .map(|bytes| format::known(bytes, format::bytes));
    let client = format::known(transaction.client_address.as_deref(), format::clean);
    writer.entry("client", &format!("{client}, {received} in, {sent} out"));
    if let Some(queued) = transaction.queue_ns {
        writer.entry("queued", &format!("{} before its first byte was read", format::duration(queued)));
    }
    if let Some(waited) = transaction.accept_queue_ns {
        writer.entry("accept queue", &format!("{} until its connection was read", format::duration(waited)));
    }
    if let Some(task) = &transaction.task {
        let queue = format::known(task.queue.as_deref(), format::clean);
        let retries = format::known(task.retries, |retries| retries.to_string());
        writer.entry("task", &format!("{} of queue {queue}, retries {retries}", format::clean(&task.system)));
    }
    writer.entry("trace", &format::clean(&transaction.trace_id));
    if let Some(waits) = &transaction.waits {
        waits_of(writer, waits, transaction.duration_ns);
    }
    for warning in &transaction.warnings {
        let style = writer.theme.severity(Severity::Warning);
        let what = warning.db_query.as_deref().unwrap_or(&warning.name);
        let (kind, count) = (super::warning::label(warning.kind), warning.count);
        let took = format::duration(warning.duration_ns);
        let site = warning.call_site.as_ref().map(|frame| format!(" from {}", format::call_site(frame)));
        let text = format!("* {kind}: {count}x {}, {took}{}", format::clean(what), site.unwrap_or_default());
        writer.text(&text, style);
    }
    waterfall::calls(state, writer, transaction);
    samples(writer, &transaction.samples);
    if let Some(error) = &transaction.error {
        failure::traceback(writer, error);
    }
}

fn outcome(outcome: Outcome) -> Option<&'static str> {
    match outcome {
        Outcome::Complete => None,
        Outcome::Aborted => Some("the client went away before the response was whole"),
        Outcome::WorkerExited => Some("the worker ended before the response was whole"),
        Outcome::Incomplete => Some("events were lost on the way: some of this is a guess"),
    }
}

fn waits_of(writer: &mut Writer, waits: &Waits, duration_ns: u64) {
    let parts = [
        ("on a CPU", waits.on_cpu_ns),
        ("GIL", waits.gil_ns),
        ("lock", waits.lock_ns),
        ("database", waits.database_ns),
        ("network", waits.network_ns),
        ("disk", waits.disk_ns),
        ("sleep", waits.sleep_ns),
        ("for a CPU", waits.runnable_ns),
        ("other", waits.other_ns),
        ("loop busy", waits.loop_busy_ns),
        ("awaiting", waits.awaiting_ns),
        ("unknown", waits.unknown_ns),
    ];
    writer.heading("Where its time went");
    let room = writer.width.min(BAR) as u64;
    let (mut upto, mut given) = (0_u64, 0_u64);
    let mut bar = Vec::new();
    for (index, (_, ns)) in parts.iter().enumerate() {
        upto = upto.saturating_add(*ns);
        let end = (u128::from(upto) * u128::from(room) / u128::from(duration_ns.max(1))) as u64;
        let columns = end.min(room).saturating_sub(given) as usize;
        given += columns as u64;
        bar.push(Span::styled(mark(index).repeat(columns), writer.theme.part(index)));
    }
    writer.line(bar);
    for (index, (name, ns)) in parts.into_iter().enumerate().filter(|(_, (_, ns))| *ns > 0) {
        let style = writer.theme.part(index);
        let share = format::percent_of(ns, duration_ns);
        writer.line(vec![
            Span::styled(format!("{} ", mark(index)), style),
            Span::raw(format::left(name, 11)),
            Span::raw(format::right(&format::duration(ns), 8)),
            Span::raw(format::right(&share, 9)),
        ]);
    }
}

/// What a part of the bar is drawn with, so that it is told apart without colour, too.
fn mark(part: usize) -> &'static str {
    const MARKS: [&str; 12] = ["█", "▓", "▒", "▆", "░", "▚", "▄", "=", "+", "#", "~", "?"];
    MARKS[part % MARKS.len()]
}

/// One function or line of the tree.
#[derive(Default)]
struct Node<'a> {
    frame: Option<&'a Frame>,
    count: u64,
    own: u64,
    children: Vec<Node<'a>>,
}

/// The samples that fell into it, by who called whom.
fn samples(writer: &mut Writer, samples: &[Samples]) {
    let total: u64 = samples.iter().fold(0, |sum, sample| sum.saturating_add(sample.count));
    if total == 0 {
        return;
    }
    writer.heading(&format!("Stack samples {total}, on a CPU: in it, itself, function"));
    let mut root = Node::default();
    for sample in samples {
        let mut node = &mut root;
        for frame in sample.stack.iter().rev() {
            let known = node.children.iter().position(|child| child.frame == Some(frame));
            let index = known.unwrap_or_else(|| {
                node.children.push(Node { frame: Some(frame), ..Node::default() });
                node.children.len() - 1
            });
            node = &mut node.children[index];
            node.count = node.count.saturating_add(sample.count);
        }
        node.own = node.own.saturating_add(sample.count);
    }
    if root.own > 0 {
        writer.text(&format!("{} without a stack", root.own), writer.theme.label());
    }
    // Not by recursion: a stack may be deeper than ours.
    root.children.sort_by_key(|child| std::cmp::Reverse(child.count));
    let mut open: Vec<(usize, Node<'_>)> = root.children.into_iter().rev().map(|child| (0, child)).collect();
    while let Some((depth, mut node)) = open.pop() {
        let (count, own) = (format::percent_of(node.count, total), format::percent_of(node.own, total));
        let own = if node.own == 0 { String::new() } else { own };
        let head = format!("{}{} ", format::right(&count, 8), format::right(&own, 9));
        let text = node.frame.map(format::frame).unwrap_or_default();
        let text = format!("{}{text}", " ".repeat(depth.min(DEEPEST)));
        let style = if node.own > 0 { writer.theme.strong() } else { writer.theme.plain() };
        let room = writer.width.saturating_sub(format::width(&head));
        writer.line(vec![Span::raw(head), Span::styled(format::fit(&text, room), style)]);
        node.children.sort_by_key(|child| std::cmp::Reverse(child.count));
        open.extend(node.children.into_iter().rev().map(|child| (depth + 1, child)));
    }
}
