//! A transaction that has not ended: what it is doing at this moment, and how it came there.

use super::active::waits;
use super::details::full_frame;
use super::document::{Document, Writer};
use crate::format;
use crate::state::State;
use crate::theme::Severity;
use pyapm_model::snapshot::Doing;

pub(super) fn document(state: &State, mut writer: Writer) -> Document {
    let Some(in_flight) = &state.in_flight else { return writer.finish() };
    let active = &in_flight.active;
    writer.heading(&format!("{}  {}", format::clean(&active.name), format::duration(active.elapsed_ns)));
    if in_flight.has_ended {
        let style = writer.theme.severity(Severity::Warning);
        writer.text("it has ended; this is what was last seen of it", style);
    }
    writer.entry("path", &format::known(active.path.as_deref(), format::clean));
    writer.entry("worker", &format!("{}, thread {}", active.pid, active.tid));
    writer.entry("calls so far", &format::count(active.calls));
    writer.entry("waits for", &format::known(active.state.as_ref(), waits));
    match &active.doing {
        Doing::Statement { text, elapsed_ns } => {
            writer.entry("in call for", &format::duration(*elapsed_ns));
            writer.entry("call", &format::clean(text));
        }
        Doing::Function(frame) => writer.entry("in", &full_frame(frame)),
        Doing::Unknown => writer.entry("in", format::UNKNOWN),
    }
    writer.entry("application", &format::known(active.place.as_ref(), full_frame));
    writer.heading("Stack, innermost first");
    if active.stack.is_empty() {
        writer.text("not known: it runs, or shares its thread with others", writer.theme.label());
    }
    writer.frames(0, active.stack.iter());
    writer.finish()
}
