//! One transaction in the page: when each of its calls was made and how long it took, what ran meanwhile, how it failed.

use super::pieces::{escaped, warning};
use super::tables::traceback;
use super::times;
use pyapm_model::line::{SpanKind, Transaction, Waits};
use pyapm_tui::format::{call_site, duration, known};

/// Calls that are drawn of one transaction.
const SPANS: usize = 200;
/// Stacks that are shown of one transaction.
const STACKS: usize = 5;

/// A line that opens.
pub(super) fn waterfall(transaction: &Transaction) -> String {
    let status = known(transaction.status, |status| status.to_string());
    let mut html = format!(
        "<details><summary><b>{}</b> {} <span class=\"dim\">{} · {status} · {} calls</span></summary>\
         <div class=\"inside\">",
        duration(transaction.duration_ns),
        escaped(&transaction.name),
        escaped(&times::local(transaction.start_ns)),
        transaction.spans.len()
    );
    let path = transaction.path.iter().map(|path| format!("path <code>{}</code>", escaped(path)));
    let handler = transaction.handler.iter().map(|frame| format!("handler {}", escaped(&call_site(frame))));
    let ids = format!("process {} · trace <code>{}</code>", transaction.pid, escaped(&transaction.trace_id));
    let about: Vec<String> = path.chain(handler).chain([ids]).collect();
    html.push_str(&format!("<p class=\"dim\">{}</p>", about.join(" · ")));
    html.push_str(&lane(
        transaction,
        &escaped(&transaction.name),
        "all",
        transaction.start_ns,
        transaction.duration_ns,
    ));
    let mut spans: Vec<_> = transaction.spans.iter().collect();
    spans.sort_by_key(|span| span.start_ns);
    let mut last = None;
    for span in spans.iter().take(SPANS) {
        let class = match span.kind {
            SpanKind::Db => "db",
            SpanKind::Cache => "cache",
            SpanKind::Http => "http",
            SpanKind::Messaging => "messaging",
            SpanKind::Point => "point",
        };
        let mut name = escaped(&span.name);
        if let Some(error) = &span.error_type {
            name.push_str(&format!(" <b class=\"bad\">{}</b>", escaped(error)));
        }
        // Of one statement after the other the text is there once.
        if let Some(text) = span.db_query.as_deref().filter(|text| last != Some(*text)) {
            name.push_str(&format!("<small><code>{}</code></small>", escaped(text)));
        }
        if let Some(frame) = span.stack.first() {
            name.push_str(&format!("<small>{}</small>", escaped(&call_site(frame))));
        }
        last = span.db_query.as_deref();
        html.push_str(&lane(transaction, &name, class, span.start_ns, span.duration_ns));
    }
    if spans.len() > SPANS {
        html.push_str(&format!("<p class=\"dim\">and {} more calls</p>", spans.len() - SPANS));
    }
    for one in &transaction.warnings {
        let text = one.db_query.as_ref().unwrap_or(&one.name);
        html.push_str(&format!(
            "<p><b>{}</b>: {} times, {}: <code>{}</code></p>",
            warning(one.kind),
            one.count,
            duration(one.duration_ns),
            escaped(text)
        ));
    }
    if let Some(waits) = &transaction.waits {
        html.push_str(&format!("<p class=\"dim\">{}</p>", parts(waits)));
    }
    for samples in transaction.samples.iter().take(STACKS) {
        let frames: Vec<String> = samples.stack.iter().take(12).map(call_site).collect();
        html.push_str(&format!(
            "<pre>on a CPU, samples: {}\n{}</pre>",
            samples.count,
            escaped(&frames.join("\n"))
        ));
    }
    if let Some(error) = &transaction.error {
        html.push_str(&traceback(error));
    }
    html.push_str("</div></details>\n");
    html
}

/// One line of the waterfall. `name` is HTML.
fn lane(transaction: &Transaction, name: &str, class: &str, start_ns: u64, duration_ns: u64) -> String {
    let whole = transaction.duration_ns.max(1) as f64;
    let from = start_ns.saturating_sub(transaction.start_ns) as f64 / whole * 100.0;
    let from = from.clamp(0.0, 100.0);
    let wide = (duration_ns as f64 / whole * 100.0).min(100.0 - from);
    format!(
        "<div class=\"span\"><span>{name}</span><span class=\"lane\"><i class=\"{class}\" \
         style=\"left:{from:.2}%;width:{wide:.2}%\"></i></span><span>{}</span></div>",
        duration(duration_ns)
    )
}

/// Where the time went, without what took none.
fn parts(waits: &Waits) -> String {
    let all = [
        ("on a CPU", waits.on_cpu_ns),
        ("waiting for the GIL", waits.gil_ns),
        ("for a lock", waits.lock_ns),
        ("for the database", waits.database_ns),
        ("for the network", waits.network_ns),
        ("for the disk", waits.disk_ns),
        ("asleep", waits.sleep_ns),
        ("for a CPU", waits.runnable_ns),
        ("for something else", waits.other_ns),
        ("event loop busy with others", waits.loop_busy_ns),
        ("awaiting a timer, a task, a thread or the client", waits.awaiting_ns),
        ("unknown", waits.unknown_ns),
    ];
    let parts = all.iter().filter(|(_, ns)| *ns > 0);
    parts.map(|(name, ns)| format!("{name} {}", duration(*ns))).collect::<Vec<_>>().join(" · ")
}
