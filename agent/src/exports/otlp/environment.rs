//! The standard variables (OpenTelemetry specification, "OpenTelemetry Protocol Exporter", "Environment variables"): a
//! signal's own goes before the one for all signals, what is empty is not set, and what cannot be read is ignored and said.

use super::signal::Signal;
use std::time::Duration;

/// How a variable is read; tests hand in their own.
pub(super) type Read<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The variables, and what was wrong with them.
pub(super) struct Environment<'a> {
    read: Read<'a>,
    /// One sentence for each that is ignored.
    pub(super) ignored: Vec<String>,
}

/// A value of `OTEL_EXPORTER_OTLP_*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Value {
    pub text: String,
    /// Of this signal alone.
    pub is_own: bool,
}

impl<'a> Environment<'a> {
    pub(super) fn new(read: Read<'a>) -> Self {
        Self { read, ignored: Vec::new() }
    }

    pub(super) fn variable(&self, name: &str) -> Option<String> {
        (self.read)(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    /// `OTEL_EXPORTER_OTLP_SIGNAL_NAME`, else `OTEL_EXPORTER_OTLP_NAME`.
    pub(super) fn exporter(&self, signal: Signal, name: &str) -> Option<Value> {
        let own = self.variable(&format!("OTEL_EXPORTER_OTLP_{}_{name}", signal.upper()));
        let all = || self.variable(&format!("OTEL_EXPORTER_OTLP_{name}"));
        let is_own = own.is_some();
        own.or_else(all).map(|text| Value { text, is_own })
    }

    /// Whether `OTEL_TRACES_EXPORTER` and its kin leave the signal to OTLP.
    pub(super) fn wants(&self, signal: Signal) -> bool {
        let chosen = self.variable(&format!("OTEL_{}_EXPORTER", signal.upper()));
        chosen.is_none_or(|chosen| chosen.split(',').any(|name| name.trim() == "otlp"))
    }

    pub(super) fn milliseconds(&mut self, value: Option<String>, name: &str) -> Option<Duration> {
        let value = value?;
        let parsed = value.parse().ok().map(Duration::from_millis);
        if parsed.is_none() {
            self.ignore(name, "is no number of milliseconds");
        }
        parsed
    }

    /// Values are not told: they may be secret.
    pub(super) fn ignore(&mut self, name: &str, what: &str) {
        let sentence = format!("the variable `{name}` {what}; it is ignored");
        if !self.ignored.contains(&sentence) {
            self.ignored.push(sentence);
        }
    }
}

/// `key=value,key=value`, values percent-encoded (W3C Baggage, as the specification wants).
pub(super) fn pairs(text: &str) -> Vec<(String, String)> {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(key, value)| (key.trim().to_owned(), decoded(value.trim())))
        .filter(|(key, _)| !key.is_empty())
        .collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = match rest {
            [b'%', digits @ ..] => {
                digits.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok())
            }
            _ => None,
        };
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { rest.get(3..).unwrap_or_default() } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signals_own_variable_goes_before_the_one_for_all() {
        let read = |name: &str| match name {
            "OTEL_EXPORTER_OTLP_HEADERS" => Some("a=1".to_owned()),
            "OTEL_EXPORTER_OTLP_TRACES_HEADERS" => Some(" b=2 ".to_owned()),
            "OTEL_EXPORTER_OTLP_LOGS_HEADERS" => Some("  ".to_owned()),
            _ => None,
        };
        let environment = Environment::new(&read);
        let value = |signal| environment.exporter(signal, "HEADERS").unwrap();
        assert_eq!(value(Signal::Traces), Value { text: "b=2".into(), is_own: true });
        assert_eq!(value(Signal::Logs), Value { text: "a=1".into(), is_own: false }, "empty is not set");
        assert_eq!(environment.exporter(Signal::Traces, "TIMEOUT"), None);
    }

    #[test]
    fn what_cannot_be_read_is_ignored_and_told_once() {
        let read = |_: &str| None;
        let mut environment = Environment::new(&read);
        assert_eq!(environment.milliseconds(Some("25".into()), "A"), Some(Duration::from_millis(25)));
        for _ in 0..2 {
            assert_eq!(environment.milliseconds(Some("soon".into()), "A"), None);
        }
        assert_eq!(environment.ignored, ["the variable `A` is no number of milliseconds; it is ignored"]);
    }

    #[test]
    fn lists_of_pairs() {
        let expected = [("api-key".to_owned(), "se cret".to_owned()), ("b".to_owned(), "100%".to_owned())];
        assert_eq!(pairs("api-key=se%20cret, b=100%,=x,nothing"), expected);
    }
}
