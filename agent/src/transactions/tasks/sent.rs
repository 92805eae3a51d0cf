//! Messages that were sent, by their ids: what is done because of one belongs to the trace of whoever sent it. Bounded;
//! the oldest are forgotten first.

use std::collections::{HashMap, VecDeque};

/// Messages that are remembered.
const MAX_SENT: usize = 65_536;

/// Where a message was sent: trace and span ids as in every output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub trace_id: String,
    pub span_id: String,
}

#[derive(Debug, Default)]
pub struct Sent {
    links: HashMap<String, Link>,
    order: VecDeque<String>,
    /// What others have not been told yet.
    news: Vec<(String, Link)>,
}

impl Sent {
    /// A message was sent here.
    pub fn add(&mut self, id: &str, link: Link) {
        if self.news.len() < MAX_SENT {
            self.news.push((id.to_owned(), link.clone()));
        }
        self.learn(id, link);
    }

    /// A message was sent. One that is sent again (a task that is tried once more) is the latest sender's.
    pub fn learn(&mut self, id: &str, link: Link) {
        if self.links.insert(id.to_owned(), link).is_none() {
            self.order.push_back(id.to_owned());
        }
        if self.order.len() > MAX_SENT
            && let Some(oldest) = self.order.pop_front()
        {
            self.links.remove(&oldest);
        }
    }

    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Link> {
        self.links.get(id)
    }

    /// What was added since the last time.
    pub fn take_news(&mut self) -> Vec<(String, Link)> {
        std::mem::take(&mut self.news)
    }
}
