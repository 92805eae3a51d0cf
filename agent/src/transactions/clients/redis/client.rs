//! One connection to a Redis server: its commands are answered in their order, but for what is published,
//! which comes unasked.

use super::commands::named;
use super::reply::{Replies, Reply};
use super::request::{Request, Requests};
use super::task;
use crate::transactions::clients::calls::{CallResult, ended};
use crate::transactions::clients::{Call, Calls, Operation, Protocol, Wants};
use crate::transactions::http::Part;
use pyapm_model::line::SpanKind;
use std::collections::VecDeque;

/// Commands in flight on one connection; the largest pipelines that are sensible have fewer.
const MOST_WAITING: usize = 16_384;
/// What is wanted of each call: the first arguments of many commands in a pipeline, their short answers.
const WANT_SENT: u32 = 4096;
const WANT_RECEIVED: u32 = 2048;
/// The same where tasks are sent.
const WANT_TASK: u32 = 16 * 1024;

#[derive(Debug, Default)]
pub struct Redis {
    requests: Requests,
    replies: Replies,
    state: State,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Expected>,
    /// The client has subscribed to something, so arrays may be what others have published.
    subscribed: bool,
    overflowed: bool,
    /// Tasks of Celery have gone out, whose numbers stand behind their arguments.
    sends_tasks: bool,
}

/// What answers a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Value,
    /// So many confirmations of subscriptions, or their ends.
    Confirmations(u64),
}

impl Protocol for Redis {
    fn sent(&mut self, part: Part<'_>, first: bool, calls: &mut Calls) {
        if self.replies.is_lost() && first {
            self.give_up(calls);
        }
        let (state, was_lost) = (&mut self.state, self.requests.is_lost());
        self.requests.follow(part, first, |request| state.asked(&request, calls));
        if self.requests.is_lost() && !was_lost {
            calls.push(Call::Lost);
        }
    }

    fn received(&mut self, part: Part<'_>, _first: bool, calls: &mut Calls) {
        let state = &mut self.state;
        self.replies.follow(part, |reply| state.answered(&reply, calls));
    }

    fn wants(&self) -> Wants {
        Wants {
            received: WANT_RECEIVED,
            sent: if self.state.sends_tasks { WANT_TASK } else { WANT_SENT },
            indifferent_received: 0,
            indifferent_sent: 0,
            stacks: true,
        }
    }

    fn system(&self) -> &'static str {
        "redis"
    }

    fn closed(&mut self, calls: &mut Calls) {
        calls.extend(self.state.waiting.drain(..).map(|_| ended(CallResult::unseen())));
    }
}

impl Redis {
    /// The client goes on, so it has all its answers, although their ends were not found. Of the one that had
    /// begun it is known that it was no error.
    fn give_up(&mut self, calls: &mut Calls) {
        let reply = self.replies.restart();
        if reply.kind != 0 && reply.error.is_none() && self.state.waiting.pop_front().is_some() {
            calls.push(ended(CallResult { earlier: true, ..CallResult::default() }));
        }
        if !self.state.waiting.is_empty() {
            calls.push(Call::Lost);
        }
        self.closed(calls);
        self.state.overflowed = false;
    }
}

impl State {
    fn asked(&mut self, request: &Request, calls: &mut Calls) {
        self.overflowed |= self.waiting.len() >= MOST_WAITING;
        if self.overflowed {
            calls.push(Call::Overflow);
            return;
        }
        let (name, target) = named(&request.arguments).unwrap_or_else(|| ("OTHER".to_owned(), None));
        let subscription = name.ends_with("SUBSCRIBE");
        self.subscribed |= subscription;
        self.waiting.push_back(match subscription {
            true => Expected::Confirmations(request.count.saturating_sub(1).max(1)),
            false => Expected::Value,
        });
        let operation = match task::sent(&request.arguments) {
            Some((queue, id)) => {
                self.sends_tasks = true;
                Operation::Message {
                    system: "redis",
                    name: "publish".into(),
                    destination: Some(queue),
                    id: Some(id),
                    bytes: None,
                }
            }
            None => Operation::Command { kind: SpanKind::Cache, system: "redis", name: name.into(), target },
        };
        calls.push(Call::Began { tag: 0, operation });
    }

    fn answered(&mut self, reply: &Reply, calls: &mut Calls) {
        let pushed = reply.kind == b'>' || (self.subscribed && reply.kind == b'*');
        let confirms = pushed && reply.first.ends_with(b"subscribe");
        let published = pushed
            && (reply.kind == b'>' || matches!(&reply.first[..], b"message" | b"pmessage" | b"smessage"));
        if published && !confirms {
            return;
        }
        match self.waiting.front_mut() {
            Some(Expected::Confirmations(left)) if confirms && *left > 1 => {
                *left -= 1;
                return;
            }
            // A confirmation that nobody waits for: of more subscriptions than were named.
            Some(Expected::Value) if confirms => return,
            _ => {}
        }
        if self.waiting.pop_front().is_some() {
            calls.push(ended(CallResult { error: reply.error.clone(), ..CallResult::default() }));
        }
        self.overflowed &= !self.waiting.is_empty();
    }
}
