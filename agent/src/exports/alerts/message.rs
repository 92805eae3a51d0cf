//! What a receiver is sent. Two forms, both Alertmanager's: what it sends to its own receivers, and what it takes itself.
//! (<https://prometheus.io/docs/alerting/latest/configuration/#webhook_config>, version 4 of the payload;
//! `api/v2/openapi.yaml` of Alertmanager 0.27, `postAlerts`.)

use super::rule::Metric;
use crate::config::AlertRule;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// One alert, as it is told.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Alert {
    pub(super) name: String,
    pub(super) application: String,
    pub(super) route: Option<String>,
    pub(super) metric: String,
    /// One sentence.
    pub(super) summary: String,
    pub(super) value: Option<f64>,
    /// Seconds since the Unix epoch.
    pub(super) since_s: u64,
    /// `None` while it holds.
    pub(super) until_s: Option<u64>,
}

impl Alert {
    pub(super) fn new(
        rule: &AlertRule,
        metric: Metric,
        application: &str,
        value: Option<f64>,
        since_s: u64,
        until_s: Option<u64>,
    ) -> Self {
        let of = match &rule.route {
            Some(route) => format!("`{route}` of `{application}`"),
            None => format!("`{application}`"),
        };
        let is = value.map_or("unknown".to_owned(), |value| format!("{}{}", figure(value), metric.unit()));
        let bounds: Vec<String> = [("above", rule.above), ("below", rule.below)]
            .iter()
            .filter_map(|(name, bound)| Some(format!("{name} {}{}", figure((*bound)?), metric.unit())))
            .collect();
        let summary =
            format!("{}: {} of {of} is {is} (alert {})", rule.name, rule.metric, bounds.join(" or "));
        Self {
            name: rule.name.clone(),
            application: application.to_owned(),
            route: rule.route.clone(),
            metric: rule.metric.clone(),
            summary,
            value,
            since_s,
            until_s,
        }
    }

    fn labels(&self) -> Value {
        let mut labels = json!({
            "alertname": self.name, "service_name": self.application, "metric": self.metric,
        });
        if let (Some(route), Some(labels)) = (&self.route, labels.as_object_mut()) {
            labels.insert("http_route".to_owned(), route.as_str().into());
        }
        labels
    }

    fn annotations(&self) -> Value {
        let mut annotations = json!({ "summary": self.summary });
        if let (Some(value), Some(annotations)) = (self.value, annotations.as_object_mut()) {
            annotations.insert("value".to_owned(), figure(value).into());
        }
        annotations
    }

    fn status(&self) -> &'static str {
        if self.until_s.is_some() { "resolved" } else { "firing" }
    }

    /// The body of the request that tells it; `is_alertmanager` is whether it is for Alertmanager itself.
    pub(super) fn body(&self, is_alertmanager: bool) -> String {
        let (labels, annotations) = (self.labels(), self.annotations());
        if is_alertmanager {
            let mut alert = json!({
                "labels": labels, "annotations": annotations, "startsAt": instant(self.since_s),
            });
            if let (Some(until_s), Some(alert)) = (self.until_s, alert.as_object_mut()) {
                alert.insert("endsAt".to_owned(), instant(until_s).into());
            }
            return json!([alert]).to_string();
        }
        // The zero time of Go, which is what Alertmanager writes for an end that has not come.
        let ends = self.until_s.map_or("0001-01-01T00:00:00Z".to_owned(), instant);
        json!({
            "version": "4",
            "groupKey": format!("pyapm:{}:{}", self.name, self.application),
            "truncatedAlerts": 0,
            "status": self.status(),
            "receiver": "pyapm",
            "groupLabels": { "alertname": self.name },
            "commonLabels": labels,
            "commonAnnotations": annotations,
            "externalURL": "",
            "alerts": [{
                "status": self.status(),
                "labels": labels,
                "annotations": annotations,
                "startsAt": instant(self.since_s),
                "endsAt": ends,
                "generatorURL": "",
                "fingerprint": self.fingerprint(),
            }],
        })
        .to_string()
    }

    /// Equal for the same alert of the same application.
    fn fingerprint(&self) -> String {
        let mut hasher = DefaultHasher::new();
        (&self.name, &self.application, &self.route, &self.metric).hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    }
}

/// Short, and exact enough to read.
fn figure(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn instant(second: u64) -> String {
    let time = i64::try_from(second).ok().and_then(|second| Timestamp::from_second(second).ok());
    time.unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(until_s: Option<u64>) -> Alert {
        let rule = AlertRule {
            name: "slow".into(),
            route: Some("GET /a".into()),
            above: Some(500.0),
            ..AlertRule::default()
        };
        Alert::new(&rule, Metric::P95, "shop", Some(1234.5678), 1_700_000_000, until_s)
    }

    #[test]
    fn as_alertmanager_sends_it() {
        let body: Value = serde_json::from_str(&alert(None).body(false)).unwrap();
        assert_eq!((&body["version"], &body["status"]), (&json!("4"), &json!("firing")));
        let one = &body["alerts"][0];
        let labels =
            json!({"alertname": "slow", "service_name": "shop", "metric": "p95", "http_route": "GET /a"});
        assert_eq!((&one["labels"], &one["startsAt"]), (&labels, &json!("2023-11-14T22:13:20Z")));
        assert_eq!(one["endsAt"], json!("0001-01-01T00:00:00Z"));
        let summary = "slow: p95 of `GET /a` of `shop` is 1234.568 ms (alert above 500 ms)";
        assert_eq!(one["annotations"]["summary"], json!(summary));
        let over: Value = serde_json::from_str(&alert(Some(1_700_000_060)).body(false)).unwrap();
        assert_eq!(
            (&over["status"], &over["alerts"][0]["endsAt"]),
            (&json!("resolved"), &json!("2023-11-14T22:14:20Z"))
        );
        assert_eq!(over["alerts"][0]["fingerprint"], one["fingerprint"]);
    }

    #[test]
    fn as_alertmanager_takes_it() {
        let body: Value = serde_json::from_str(&alert(None).body(true)).unwrap();
        assert_eq!(body[0]["labels"]["alertname"], json!("slow"));
        assert!(body[0].get("endsAt").is_none(), "it holds: Alertmanager ends it when it is not repeated");
        let over: Value = serde_json::from_str(&alert(Some(1_700_000_060)).body(true)).unwrap();
        assert_eq!(over[0]["endsAt"], json!("2023-11-14T22:14:20Z"));
    }
}
