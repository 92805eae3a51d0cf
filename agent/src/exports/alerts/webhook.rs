//! The receiver: what waits for it is bounded, an attempt that fails is made again after a while that grows. A header's
//! value is never written anywhere.

use crate::config;
use anyhow::Context;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use std::collections::VecDeque;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// Before the second attempt; twice as long before each one after that.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Messages that wait, and when the next attempt is due.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: VecDeque<String>,
    most: usize,
    failures: u32,
    /// `None`: at once.
    due: Option<Instant>,
}

/// What came of an attempt.
#[derive(Debug)]
pub(super) enum Sent {
    Taken,
    /// The receiver may take it later.
    Later(anyhow::Error),
    /// The receiver will never take it.
    Never(anyhow::Error),
}

impl Queue {
    pub(super) fn new(most: usize) -> Self {
        Self { waiting: VecDeque::new(), most: most.max(1), failures: 0, due: None }
    }

    /// Appends; gives how many old ones had to go for it.
    pub(super) fn push(&mut self, body: String) -> u64 {
        self.waiting.push_back(body);
        let mut gone = 0;
        while self.waiting.len() > self.most {
            self.waiting.pop_front();
            gone += 1;
        }
        gone
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// The message that is due now.
    pub(super) fn due(&mut self, now: Instant) -> Option<String> {
        if self.due.is_some_and(|due| now < due) {
            return None;
        }
        self.waiting.pop_front()
    }

    /// When the next attempt is due; `None` when nothing waits.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        (!self.waiting.is_empty()).then(|| self.due.unwrap_or(now))
    }

    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
        self.due = None;
    }

    /// Back to the front, to be tried again; gives how many had to go for it.
    pub(super) fn failed(&mut self, body: String, now: Instant) -> u64 {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(16)).min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        self.due = Some(now + pause);
        // The newest say most: one that failed is the oldest.
        if self.waiting.len() >= self.most {
            return 1;
        }
        self.waiting.push_front(body);
        0
    }
}

/// Who is told.
#[derive(Clone, Debug)]
pub(super) struct Receiver {
    client: reqwest::Client,
    url: String,
    headers: HeaderMap,
}

impl Receiver {
    pub(super) fn new(settings: &config::Alerts, url: &str) -> anyhow::Result<Self> {
        let mut headers = HeaderMap::new();
        for (name, value) in &settings.headers {
            let key =
                HeaderName::from_str(name).with_context(|| format!("`{name}` is no name of a header"))?;
            let mut value = HeaderValue::from_str(value)
                .with_context(|| format!("the value of `{name}` cannot be sent as a header"))?;
            value.set_sensitive(true);
            headers.insert(key, value);
        }
        let client = reqwest::Client::builder()
            .timeout(Duration::from_secs_f64(settings.timeout_seconds))
            // A secret goes where it was meant to go, and nowhere else.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .context("cannot make an HTTP client")?;
        Ok(Self { client, url: url.to_owned(), headers })
    }

    pub(super) async fn send(&self, body: String) -> Sent {
        let request = self.client.post(&self.url).headers(self.headers.clone());
        let request = request.header(CONTENT_TYPE, "application/json").body(body);
        match request.send().await {
            Ok(answer) if answer.status().is_success() => Sent::Taken,
            Ok(answer) => {
                let status = answer.status();
                let error = anyhow::anyhow!("it answers {status}");
                // What is wrong with the request will be wrong with it the next time; these pass.
                let passes = status.is_server_error() || [408, 425, 429].contains(&status.as_u16());
                if passes { Sent::Later(error) } else { Sent::Never(error) }
            }
            // The address may hold a secret, too.
            Err(error) => Sent::Later(error.without_url().into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_and_attempts_become_rare() {
        let mut queue = Queue::new(2);
        let now = Instant::now();
        assert_eq!((queue.push("a".into()), queue.push("b".into()), queue.push("c".into())), (0, 0, 1));
        assert_eq!((queue.next(now), queue.len()), (Some(now), 2));
        let mut at = now;
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            let body = queue.due(at).unwrap();
            assert_eq!((body.as_str(), queue.failed(body.clone(), at)), ("b", 0));
            at += Duration::from_secs(seconds);
            assert_eq!(queue.next(now), Some(at));
            assert_eq!(queue.due(at - Duration::from_millis(1)), None);
        }
        let body = queue.due(at).unwrap();
        queue.push("d".into());
        assert_eq!(queue.failed(body, at), 1, "newer ones took its place");
        at += Duration::from_secs(60);
        assert_eq!(queue.due(at).as_deref(), Some("c"));
        queue.succeeded();
        assert_eq!(queue.due(at).as_deref(), Some("d"));
        assert_eq!(queue.next(at), None);
    }
}
