//! Attributes as OTLP has them, and the ids that go with spans.

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use pyapm_model::line::Frame;

/// A list of attributes; what is unknown is left out.
#[derive(Debug, Default)]
pub(super) struct Attributes(pub(super) Vec<KeyValue>);

impl Attributes {
    pub(super) fn text(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.push(key, Value::StringValue(value.to_owned()));
        }
    }

    pub(super) fn number(&mut self, key: &str, value: Option<impl TryInto<i64>>) {
        if let Some(value) = value {
            self.push(key, Value::IntValue(value.try_into().unwrap_or(i64::MAX)));
        }
    }

    pub(super) fn flag(&mut self, key: &str, value: bool) {
        self.push(key, Value::BoolValue(value));
    }

    pub(super) fn ratio(&mut self, key: &str, value: f64) {
        self.push(key, Value::DoubleValue(value));
    }

    /// Where in the code, by the conventions of `code.*` attributes.
    pub(super) fn place(&mut self, frame: Option<&Frame>) {
        let Some(frame) = frame else { return };
        self.text("code.function.name", Some(&frame.function));
        self.text("code.file.path", Some(&frame.file));
        self.number("code.line.number", frame.line);
    }

    fn push(&mut self, key: &str, value: Value) {
        self.0.push(KeyValue { key: key.to_owned(), value: Some(any(value)), ..KeyValue::default() });
    }
}

pub(super) fn any(value: Value) -> AnyValue {
    AnyValue { value: Some(value) }
}

/// The bytes of an id in hexadecimal; empty (absent, by the specification) when it is not one of `length` bytes.
pub(super) fn id(hex: &str, length: usize) -> Vec<u8> {
    let digits = hex.as_bytes();
    let pairs = digits.chunks_exact(2).map(|pair| {
        let pair = std::str::from_utf8(pair).ok()?;
        u8::from_str_radix(pair, 16).ok()
    });
    let bytes: Option<Vec<u8>> = pairs.collect();
    bytes.filter(|bytes| digits.len() == 2 * length && bytes.len() == length).unwrap_or_default()
}

pub(super) const TRACE: usize = 16;
pub(super) const SPAN: usize = 8;
