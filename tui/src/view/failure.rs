//! Exceptions: a group with its latest, and a traceback as Python prints it.

use super::details::full_frame;
use super::document::{Document, Writer};
use crate::format;
use crate::state::State;
use crate::theme::Severity;
use pyapm_model::error::{Error, Relation};
use pyapm_model::stack::Stack;

pub(super) fn document(state: &State, mut writer: Writer) -> Document {
    let Some(group) = &state.failure else { return writer.finish() };
    let ago = |ns: u64| format!("{} ago", format::whole_seconds(state.now_ns().saturating_sub(ns)));
    writer.heading(&qualified(group.module.as_deref(), &group.kind));
    writer.entry("count", &format::grouped(group.count));
    writer.entry("unhandled", &format::grouped(group.unhandled));
    if group.suppressed > 0 {
        writer.entry("counted only", &format::grouped(group.suppressed));
    }
    writer.entry("first seen", &ago(group.first_seen_ns));
    writer.entry("last seen", &ago(group.last_seen_ns));
    writer.entry("raised in", &format::known(group.frame.as_ref(), full_frame));
    writer.entry("transaction", &format::known(group.transaction.as_deref(), format::clean));
    traceback(&mut writer, &group.latest);
    writer.finish()
}

fn qualified(module: Option<&str>, kind: &str) -> String {
    match module {
        Some(module) if module != "builtins" => format::clean(&format!("{module}.{kind}")),
        _ => format::clean(kind),
    }
}

/// The chain first, as it came about; then the exception itself.
pub(super) fn traceback(writer: &mut Writer, error: &Error) {
    let handled = match error.handled {
        Some(true) => ", handled",
        Some(false) => ", unhandled",
        None => "",
    };
    writer.heading(&format!("Exception{handled}"));
    for chained in error.chain.iter().rev() {
        let kind = qualified(chained.module.as_deref(), &chained.kind);
        one(writer, &kind, chained.message.as_deref(), &chained.stack);
        let relation = match chained.relation {
            Relation::Cause => "which was the direct cause of:",
            Relation::Context => "during the handling of which came:",
        };
        writer.text(relation, writer.theme.label());
    }
    let kind = qualified(error.module.as_deref(), &error.kind);
    one(writer, &kind, error.message.as_deref(), &error.stack);
    if error.cut {
        writer.text("there was more of it than is told", writer.theme.label());
    }
}

fn one(writer: &mut Writer, kind: &str, message: Option<&str>, stack: &Stack) {
    writer.text("Traceback, most recent call last:", writer.theme.plain());
    writer.frames(2, stack.iter().rev());
    let text =
        message.map_or_else(|| kind.to_owned(), |message| format!("{kind}: {}", format::clean(message)));
    let style = writer.theme.severity(Severity::Critical);
    writer.indented(0, &text, style);
}
