//! The calls of a transaction, one below the other, each where it lay in time. A call unfolds into its statement, its
//! result and the Python lines that made it.

use super::document::Writer;
use crate::format;
use crate::state::State;
use crate::theme::Severity;
use pyapm_model::line::{Span as Call, SpanKind, Transaction};
use ratatui::text::Span;

/// Columns before a call's bar: its mark, when it began, how long it took.
const FIGURES: usize = 19;
/// From this width on the place that made the call has a column of its own.
const SITE_FROM: usize = 110;
/// Margin of what a call unfolds into.
const MARGIN: usize = 6;

/// How the width is shared out.
struct Columns {
    bar: usize,
    name: usize,
    site: usize,
}

impl Columns {
    fn of(width: usize) -> Self {
        let left = width.saturating_sub(FIGURES + 2);
        let bar = (left / 4).clamp(8, 60);
        let rest = left.saturating_sub(bar);
        if width < SITE_FROM {
            Self { bar, name: rest, site: 0 }
        } else {
            let name = rest * 3 / 5;
            Self { bar, name, site: rest.saturating_sub(name + 1) }
        }
    }
}

pub(super) fn calls(state: &State, writer: &mut Writer, transaction: &Transaction) {
    let spent: u64 = transaction.spans.iter().fold(0, |sum, call| sum.saturating_add(call.duration_ns));
    let share = format::percent_of(spent, transaction.duration_ns);
    writer.heading(&format!("Calls {}, {} ({share})", transaction.spans.len(), format::duration(spent)));
    if transaction.spans.is_empty() {
        writer.text("it made none that was seen", writer.theme.label());
    }
    let columns = Columns::of(writer.width);
    for (index, call) in transaction.spans.iter().enumerate() {
        let is_unfolded = state.reading.unfolded.contains(&index);
        line(writer, &columns, transaction, index, call, is_unfolded);
        if is_unfolded {
            unfolded(writer, call);
        }
    }
}

fn line(
    writer: &mut Writer,
    columns: &Columns,
    transaction: &Transaction,
    index: usize,
    call: &Call,
    is_unfolded: bool,
) {
    let theme = writer.theme;
    let since = call.start_ns.saturating_sub(transaction.start_ns);
    let failed = call.error_type.is_some() || call.status.is_some_and(|status| status >= 500);
    let style = if failed { theme.severity(Severity::Critical) } else { theme.plain() };
    let mark = match (is_unfolded, failed) {
        (true, _) => "▾",
        (false, true) => "!",
        (false, false) => "▸",
    };
    let mut spans = vec![
        Span::styled(format!("{mark} "), style),
        Span::raw(format::right(&format!("+{}", format::duration(since)), 8)),
        Span::raw(format::right(&format::duration(call.duration_ns), 8)),
        Span::raw(" "),
        Span::styled(
            bar(columns.bar, since, call.duration_ns, transaction.duration_ns),
            theme.part(kind(call.kind)),
        ),
        Span::raw(" "),
        Span::styled(format::left(&format::clean(&what(call)), columns.name), style),
    ];
    if columns.site > 0 {
        let site = format::known(call.stack.first(), format::call_site);
        spans.push(Span::raw(" "));
        spans.push(Span::raw(format::fit(&site, columns.site)));
    }
    writer.call(index, spans);
}

/// The statement or command; of HTTP the request line without its query, and the status.
fn what(call: &Call) -> String {
    match (&call.db_query, &call.method) {
        (Some(query), _) => query.to_string(),
        (None, Some(method)) => {
            let path = call.path.as_deref().unwrap_or_default();
            let status = call.status.map(|status| format!(" {status}")).unwrap_or_default();
            format!("{method} {path}{status}")
        }
        (None, None) => call.name.to_string(),
    }
}

/// `   ▆▆▆   `: where the call lay within the transaction. Never nothing: what is short is still there.
fn bar(columns: usize, since_ns: u64, duration_ns: u64, whole_ns: u64) -> String {
    let at = |ns: u64| {
        (u128::from(ns) * columns as u128 / u128::from(whole_ns.max(1))).min(columns as u128) as usize
    };
    let start = at(since_ns).min(columns.saturating_sub(1));
    let end = at(since_ns.saturating_add(duration_ns)).clamp(start + 1, columns.max(start + 1));
    format!("{}{}{}", "·".repeat(start), "▆".repeat(end - start), "·".repeat(columns.saturating_sub(end)))
}

fn kind(kind: SpanKind) -> usize {
    match kind {
        SpanKind::Db => 3,
        SpanKind::Cache => 5,
        SpanKind::Http => 4,
        SpanKind::Messaging => 2,
        SpanKind::Point => 0,
    }
}

fn unfolded(writer: &mut Writer, call: &Call) {
    let theme = writer.theme;
    writer.indented(MARGIN, &format::clean(&what(call)), theme.statement());
    let mut facts = Vec::new();
    let mut fact = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            facts.push(format!("{name} {}", format::clean(&value)));
        }
    };
    fact("error", call.error_type.clone());
    fact("system", call.db_system.as_deref().or(call.messaging_system.as_deref()).map(str::to_owned));
    fact(
        "server",
        call.server_address.as_ref().map(|address| match call.server_port {
            Some(port) => format!("{address}:{port}"),
            None => address.to_string(),
        }),
    );
    fact("host", call.host.clone());
    fact("destination", call.destination.clone());
    fact("rows", call.returned_rows.map(format::grouped));
    fact("changed", call.affected_rows.map(format::grouped));
    fact("sent", call.request_bytes.map(format::bytes));
    fact("received", call.response_bytes.map(format::bytes));
    fact("looked up in", call.dns_ns.map(format::duration));
    fact("connected in", call.connect_ns.map(format::duration));
    fact("connection held before it for", call.checkout_ns.map(format::duration));
    fact("first byte after", call.first_byte_ns.map(format::duration));
    if !call.reply_seen {
        facts.push("its reply was not seen".to_owned());
    }
    writer.indented(MARGIN, &facts.join(", "), theme.plain());
    if call.stack.is_empty() {
        writer.indented(MARGIN, "where it was made is not known", theme.label());
    }
    writer.frames(MARGIN, call.stack.iter());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_wide_as_their_column_and_never_empty() {
        assert_eq!(bar(8, 0, 100, 100), "▆▆▆▆▆▆▆▆");
        assert_eq!(bar(8, 50, 25, 100), "····▆▆··");
        assert_eq!(bar(8, 100, 0, 100), "·······▆");
        assert_eq!(bar(8, 0, 0, 0), "▆·······");
        for columns in [1, 8, 60] {
            for (since, duration) in [(0, 1), (99, 1), (u64::MAX, u64::MAX), (30, u64::MAX)] {
                let bar = bar(columns, since, duration, 100);
                assert_eq!(format::width(&bar), columns, "{bar}");
                assert!(bar.contains('▆'));
            }
        }
    }
}
