//! Which form a scrape wants, by its `Accept` header (RFC 9110 section 12.5.1; Prometheus documentation,
//! "Content negotiation").

/// A form of exposition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Text format 0.0.4: what every scraper reads.
    Text,
    /// OpenMetrics 1.0.0 text: with exemplars.
    OpenMetrics,
    /// Delimited protobuf: with native histograms and exemplars.
    Protobuf,
}

impl Form {
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }
}

/// The form that is wanted most; text when the header names none that is spoken here.
#[must_use]
pub fn negotiate(accept: &str) -> Form {
    let mut best = (Form::Text, 0.0);
    for choice in accept.split(',').take(32) {
        let mut parts = choice.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default();
        let (mut weight, mut delimited) = (1.0, false);
        for part in parts {
            if let Some(value) = part.strip_prefix("q=") {
                weight = value.parse().unwrap_or(0.0);
            }
            delimited |= part.eq_ignore_ascii_case("encoding=delimited");
        }
        let form = match kind {
            "application/vnd.google.protobuf" if delimited => Form::Protobuf,
            "application/openmetrics-text" => Form::OpenMetrics,
            "text/plain" | "text/*" | "*/*" => Form::Text,
            _ => continue,
        };
        if weight > best.1 {
            best = (form, weight);
        }
    }
    best.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_headers() {
        // What Prometheus 2.42 and 3.5 send.
        let text = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                    text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert_eq!(negotiate(text), Form::OpenMetrics);
        let native = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;\
                      q=0.6,application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        assert_eq!(negotiate(native), Form::Protobuf);
        for other in ["", "*/*", "text/html", "application/json;q=x", ";;;,,,q=1"] {
            assert_eq!(negotiate(other), Form::Text, "{other}");
        }
    }
}
