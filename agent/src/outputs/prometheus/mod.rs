//! Metrics as Prometheus scrapes them, in the three forms that it asks for.
//!
//! - [`negotiate`]: which form a scrape wants.
//! - [`names`]: from OpenTelemetry names to Prometheus names (OpenTelemetry specification, "Prometheus and
//!   OpenMetrics Compatibility").
//! - [`text`]: the text format 0.0.4, and OpenMetrics 1.0 with exemplars.
//! - [`protobuf`]: the delimited protobuf format, with native histograms and exemplars.
//! - [`documentation`]: every metric under all its names: `docs/metrics.md`.

pub mod documentation;
mod messages;
mod names;
mod negotiate;
mod protobuf;
mod text;

pub use negotiate::{Form, negotiate};
pub use text::TextError;

use pyapm_model::metric::Metrics;

/// All applications' metrics in one document. Families of one name are written together, as the formats
/// demand, each series with its `service_name`.
///
/// # Errors
/// Never in practice: writing to memory does not fail.
pub fn render(form: Form, applications: &[Metrics]) -> Result<Vec<u8>, TextError> {
    match form {
        Form::Text => text::render(applications, false),
        Form::OpenMetrics => text::render(applications, true),
        Form::Protobuf => Ok(protobuf::render(applications)),
    }
}

#[cfg(test)]
mod tests;
