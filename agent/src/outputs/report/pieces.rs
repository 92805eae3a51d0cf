//! Words and marks that more than one form uses.

use pyapm_model::line::WarningKind;
use pyapm_model::report::{Change, ErrorGroup};

/// The class with its module, but for Python's own.
pub(super) fn kind(group: &ErrorGroup) -> String {
    match group.module.as_deref() {
        Some(module) if module != "builtins" => format!("{module}.{}", group.kind),
        _ => group.kind.clone(),
    }
}

pub(super) fn warning(kind: WarningKind) -> &'static str {
    match kind {
        WarningKind::RepeatedCalls => "N+1",
        WarningKind::SlowCall => "slow call",
        WarningKind::ConnectionOpened => "connection opened",
        WarningKind::HeldConnection => "connection held",
    }
}

/// How the mean has changed: `+40 %`; `-` when there is nothing to compare.
pub(super) fn ratio(change: &Change) -> String {
    match (&change.before, &change.now) {
        (Some(before), Some(now)) if before.mean_ns > 0 => {
            let percent = (now.mean_ns as f64 / before.mean_ns as f64 - 1.0) * 100.0;
            format!("{percent:+.0} %")
        }
        _ => "-".to_owned(),
    }
}

/// Text that stands for itself in HTML, in content and in attributes. Control characters are left out.
pub(super) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len() + 8);
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            '\n' | '\t' => safe.push(letter),
            letter if letter.is_control() => {}
            letter => safe.push(letter),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_gets_out_of_its_place() {
        assert_eq!(escaped("<a href=\"x\">'&\u{1b}</a>"), "&lt;a href=&quot;x&quot;&gt;&#39;&amp;&lt;/a&gt;");
    }
}
