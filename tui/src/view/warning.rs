//! What a warning is called.

use pyapm_model::line::WarningKind;

pub(super) fn label(kind: WarningKind) -> &'static str {
    match kind {
        WarningKind::RepeatedCalls => "the same call again and again",
        WarningKind::SlowCall => "a slow call",
        WarningKind::ConnectionOpened => "a connection was opened for it",
        WarningKind::HeldConnection => "a connection was held idle before it",
    }
}
