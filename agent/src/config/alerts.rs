//! `[alerts]`: which figures must stay within which bounds, and who is told when they do not.

use super::patterns::Patterns;
use super::section::{Checked, Wrong, section};
use std::collections::{BTreeMap, BTreeSet};

section! {
    /// Figures that must stay within bounds. When one has been out of them for long enough, that is said in the service's own
    /// log and sent to a webhook, and again when it is over.
    pub struct Alerts {
        /// Who is sent alerts, by POST. Without it they are in the log alone.
        webhook: Option<String> = None => "\"http://127.0.0.1:9093/api/v2/alerts\"",
        /// `webhook`: what Alertmanager sends to its own receivers. `alertmanager`: what Alertmanager takes at `/api/v2/alerts`.
        format: String = "webhook".into(),
        /// Sent with each request; their values are never logged.
        headers: BTreeMap<String, String> = BTreeMap::new() => "{ Authorization = \"Bearer ...\" }",
        /// Of one request, in seconds.
        timeout_seconds: f64 = 5.0,
        /// What still holds is sent again after so many seconds; 0 for never. Alertmanager forgets what is not repeated.
        repeat_seconds: u32 = 60,
        /// Messages that wait for a receiver that is down; the oldest go first, and are counted.
        queue: u32 = 200,
        /// One thing to watch, of each application that fits.
        rule: Vec<AlertRule> = Vec::new(); of AlertRule,
    }
}

section! {
    /// One table of `rule`.
    pub struct AlertRule {
        /// What the alert is called: one name for one rule.
        name: String = String::new() => "\"slow requests\"",
        /// Names of applications; without it, all.
        application: Patterns = Patterns::default() => "\"shop*\"",
        /// One route, as reports have it; without it, all transactions of the application together.
        route: Option<String> = None => "\"GET /users/{id}\"",
        /// `error_rate` (0 to 1), `p50`, `p95`, `p99` (milliseconds), `throughput` (a second), `apdex` (0 to 1), or `active`
        /// (transactions in flight; of applications only, so without `route`).
        metric: String = "p95".into() => "\"p95\"",
        /// Out of bounds above this.
        above: Option<f64> = None => "500.0",
        /// Out of bounds below this.
        below: Option<f64> = None => "0.5",
        /// The figure is that of the last so many seconds.
        over_seconds: u32 = 60 => "60",
        /// How long it must be out of bounds to be told.
        for_seconds: u32 = 60 => "60",
        /// How long it must be back to be over.
        resolve_seconds: u32 = 60 => "60",
        /// How far within its bound it must be to be back, as a share of the bound.
        hysteresis: f64 = 0.1 => "0.1",
        /// Of fewer transactions in `over_seconds` no rate, percentile or apdex is made: nothing is known then, and nothing changes.
        minimum: u32 = 10 => "10",
        /// What apdex takes for satisfying, in milliseconds; four times that is tolerable.
        apdex_milliseconds: f64 = 500.0 => "500.0",
    }
}

/// What a rule may be about.
const METRICS: [&str; 7] = ["error_rate", "p50", "p95", "p99", "throughput", "apdex", "active"];

impl Checked for Alerts {
    fn check(&self) -> Vec<Wrong> {
        let mut wrong = Vec::new();
        if self
            .webhook
            .as_ref()
            .is_some_and(|url| !url.starts_with("http://") && !url.starts_with("https://"))
        {
            wrong.push(Wrong::key("webhook", "neither `http://` nor `https://`"));
        }
        if !["webhook", "alertmanager"].contains(&self.format.as_str()) {
            wrong.push(Wrong::key("format", "not one of `webhook`, `alertmanager`"));
        }
        for (name, value) in &self.headers {
            // The value is not told: it may be secret.
            let is_name = http::HeaderName::from_bytes(name.as_bytes()).is_ok();
            if !is_name || http::HeaderValue::from_str(value).is_err() {
                let path = vec!["headers".to_owned(), name.clone()];
                wrong.push(Wrong { path, message: "cannot be sent as a header".to_owned() });
            }
        }
        if !(0.1..=300.0).contains(&self.timeout_seconds) {
            wrong.push(Wrong::key("timeout_seconds", "not from 0.1 to 300"));
        }
        if !(1..=100_000).contains(&self.queue) {
            wrong.push(Wrong::key("queue", "not from 1 to 100000"));
        }
        if self.rule.len() > 1_000 {
            wrong.push(Wrong::key("rule", "more than 1000 rules"));
        }
        let mut names = BTreeSet::new();
        for (index, rule) in self.rule.iter().enumerate() {
            let mut all = rule.wrong();
            if !rule.name.is_empty() && !names.insert(rule.name.as_str()) {
                all.push(Wrong::key("name", "another rule has this name"));
            }
            wrong.extend(all.into_iter().map(|mut one| {
                one.path.splice(0..0, ["rule".to_owned(), index.to_string()]);
                one
            }));
        }
        wrong
    }
}

impl AlertRule {
    fn wrong(&self) -> Vec<Wrong> {
        let mut wrong = Vec::new();
        if self.name.is_empty() {
            wrong.push(Wrong::key("name", "a rule needs a name"));
        }
        if let Some(message) = self.application.wrong() {
            wrong.push(Wrong::key("application", message));
        }
        if !METRICS.contains(&self.metric.as_str()) {
            wrong.push(Wrong::key("metric", format!("not one of `{}`", METRICS.join("`, `"))));
        } else if self.metric == "active" && self.route.is_some() {
            wrong.push(Wrong::key("route", "`active` is known of whole applications only"));
        }
        match (self.above, self.below) {
            (None, None) => wrong.push(Wrong::key("name", "a rule needs `above` or `below`")),
            (Some(above), Some(below)) if above < below => {
                wrong.push(Wrong::key("above", "less than `below`: always out of bounds"));
            }
            _ => {}
        }
        for (key, value) in [("above", self.above), ("below", self.below)] {
            if value.is_some_and(|value| !value.is_finite() || value < 0.0) {
                wrong.push(Wrong::key(key, "not a number from 0 on"));
            }
        }
        if !(1..=3_600).contains(&self.over_seconds) {
            wrong.push(Wrong::key("over_seconds", "not from 1 to 3600"));
        }
        for (key, value) in [("for_seconds", self.for_seconds), ("resolve_seconds", self.resolve_seconds)] {
            if value > 86_400 {
                wrong.push(Wrong::key(key, "more than a day"));
            }
        }
        if !(0.0..1.0).contains(&self.hysteresis) {
            wrong.push(Wrong::key("hysteresis", "not from 0 to 1"));
        }
        if !(0.001..=86_400_000.0).contains(&self.apdex_milliseconds) {
            wrong.push(Wrong::key("apdex_milliseconds", "not from 0.001 to a day"));
        }
        wrong
    }
}

#[cfg(test)]
mod tests {
    use crate::config::parse;

    fn problems(text: &str) -> Vec<String> {
        parse(text).unwrap_err().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn wrong_rules_are_told_with_their_place() {
        let text = "[alerts]\nwebhook = 'ftp://x'\n[[alerts.rule]]\nname = 'a'\nmetric = 'p42'\nabove = 1.0\n\
                    [[alerts.rule]]\nname = 'a'\nmetric = 'active'\nroute = 'GET /'\nabove = -1.0\n\
                    [[alerts.rule]]\nabove = 1.0\nbelow = 2.0\nhysteresis = 1.5\n";
        let found = problems(text);
        let starts = [
            "2:11: `alerts.webhook`",
            "5:10: `alerts.rule.0.metric`: not one of `error_rate`",
            "8:8: `alerts.rule.1.name`: another rule",
            "10:9: `alerts.rule.1.route`",
            "11:9: `alerts.rule.1.above`",
        ];
        for start in starts {
            assert!(found.iter().any(|one| one.starts_with(start)), "{start} in {found:?}");
        }
        assert!(
            found.iter().any(|one| one.contains("`alerts.rule.2.name`: a rule needs a name")),
            "{found:?}"
        );
        assert!(
            found.iter().any(|one| one.starts_with("13:9: `alerts.rule.2.above`: less than")),
            "{found:?}"
        );
        assert!(found.iter().any(|one| one.starts_with("15:14: `alerts.rule.2.hysteresis`")), "{found:?}");
        let unknown = problems("[[alerts.rule]]\nname = 'a'\nabov = 1.0\n");
        assert!(unknown[0].starts_with("3:1: unknown key `abov`; did you mean `above`?"), "{unknown:?}");
    }

    #[test]
    fn what_is_wrong_with_a_secret_is_told_without_it() {
        let found = problems("[alerts]\nheaders = { Authorization = \"to\\nken\" }\n").join("\n");
        assert!(
            found.contains("2:29: `alerts.headers.Authorization`") && !found.contains("ken\""),
            "{found}"
        );
    }
}
