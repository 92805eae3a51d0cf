//! HTTP/1.1 as a client speaks it: the server's framing with the directions exchanged.

use super::{Call, CallResult, Calls, Operation, Protocol, Wants};
use crate::transactions::Counts;
use crate::transactions::http::{Ended, Part, RequestHead, Server, Sink};
use pyapm_model::line::Outcome;

/// Most of a call that is of use: heads and, of chunked bodies, the chunks' heads.
const WANTED: u32 = 16 * 1024;
/// Requests that may be open at once on one connection (pipelining, which clients hardly do).
const MOST_OPEN: usize = 64;

#[derive(Debug, Default)]
pub struct Http {
    exchanges: Server<Told>,
    ended: Vec<Ended<Told>>,
}

/// What has been told of one exchange.
#[derive(Debug, Default)]
struct Told {
    began: bool,
    answering: bool,
    accepted: bool,
}

impl Protocol for Http {
    fn sent(&mut self, part: Part<'_>, first: bool, calls: &mut Calls) {
        self.step(calls, |server, sink| server.inbound(0, part, first, sink));
    }

    fn received(&mut self, part: Part<'_>, first: bool, calls: &mut Calls) {
        self.step(calls, |server, sink| server.outbound(0, part, first, sink));
    }

    fn wants(&self) -> Wants {
        let (sent, received) = self.exchanges.indifferent();
        let most = if self.exchanges.is_ignored() { 0 } else { WANTED };
        Wants {
            received: most,
            sent: most,
            indifferent_received: received,
            indifferent_sent: sent,
            stacks: most != 0,
        }
    }

    fn system(&self) -> &'static str {
        "http"
    }

    fn closed(&mut self, calls: &mut Calls) {
        self.step(calls, |server, sink| server.finish(0, Outcome::Aborted, true, sink));
    }
}

impl Http {
    fn step(&mut self, calls: &mut Calls, feed: impl FnOnce(&mut Server<Told>, &mut Sink<'_, Told>)) {
        // Framing that is lost shows in the result of the call; it is no loss of a transaction.
        let mut counts = Counts::default();
        let room = MOST_OPEN.saturating_sub(self.exchanges.open().len());
        let mut sink = Sink { ended: &mut self.ended, counts: &mut counts, room, room_here: MOST_OPEN };
        feed(&mut self.exchanges, &mut sink);
        for ended in self.ended.drain(..) {
            let exchange = ended.exchange;
            if !exchange.work.began {
                calls.push(began(&exchange.request, exchange.position));
            }
            let unseen = ended.outcome != Outcome::Complete || exchange.status.is_none();
            let body = |all: u64, head| (!unseen).then(|| all.saturating_sub(head));
            let result = CallResult {
                unseen,
                request_bytes: body(exchange.request_bytes, exchange.request_head),
                response_bytes: body(exchange.response_bytes, exchange.response_head),
                ..result_of(exchange.status)
            };
            calls.push(Call::Ended { tag: 0, result });
        }
        for (index, exchange) in self.exchanges.open_mut().enumerate() {
            if !std::mem::replace(&mut exchange.work.began, true) {
                calls.push(began(&exchange.request, exchange.position));
            }
            let answering = index == 0 && exchange.response_bytes > 0;
            if answering && !std::mem::replace(&mut exchange.work.answering, true) {
                calls.push(Call::Answering { tag: 0 });
            }
            // A client need not read what follows the head, nor close the connection while its request lasts.
            if index == 0
                && exchange.status.is_some()
                && !std::mem::replace(&mut exchange.work.accepted, true)
            {
                let result = CallResult { unseen: true, ..result_of(exchange.status) };
                calls.push(Call::Accepted { tag: 0, result });
            }
        }
    }
}

/// As the OpenTelemetry conventions have it for clients: 4xx and 5xx are errors.
pub(super) fn result_of(status: Option<u16>) -> CallResult {
    let error = status.filter(|status| *status >= 400).map(|status| status.to_string());
    CallResult { error, status, ..CallResult::default() }
}

fn began(request: &RequestHead, position: u64) -> Call {
    let operation = Operation::Http {
        method: Some(request.method.clone()),
        path: request.path.clone(),
        host: request.host.clone(),
        position: Some(position),
    };
    Call::Began { tag: 0, operation }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASK: &[u8] = b"POST /a/7?q=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc";
    const ANSWER: &[u8] = b"HTTP/1.1 503 No\r\nContent-Length: 5\r\n\r\nhello";

    fn expected() -> [Call; 3] {
        let operation = Operation::Http {
            method: Some("POST".into()),
            path: Some("/a/7".into()),
            host: Some("x".into()),
            position: Some(0),
        };
        let result = CallResult {
            error: Some("503".into()),
            status: Some(503),
            request_bytes: Some(3),
            response_bytes: Some(5),
            ..CallResult::default()
        };
        [Call::Began { tag: 0, operation }, Call::Answering { tag: 0 }, Call::Ended { tag: 0, result }]
    }

    #[test]
    fn cut_at_every_byte() {
        for ask in 1..ASK.len() {
            for answer in 1..ANSWER.len() {
                let (mut http, mut calls) = (Http::default(), Calls::new());
                http.sent(Part::Bytes(&ASK[..ask]), true, &mut calls);
                http.sent(Part::Bytes(&ASK[ask..]), true, &mut calls);
                http.received(Part::Bytes(&ANSWER[..answer]), true, &mut calls);
                http.received(Part::Bytes(&ANSWER[answer..]), true, &mut calls);
                calls.retain(|call| !matches!(call, Call::Accepted { .. }));
                assert_eq!(calls, expected(), "cut at {ask}, {answer}");
            }
        }
    }

    #[test]
    fn an_answer_in_one_piece_has_no_step_between() {
        let (mut http, mut calls) = (Http::default(), Calls::new());
        http.sent(Part::Bytes(ASK), true, &mut calls);
        http.received(Part::Bytes(ANSWER), true, &mut calls);
        let [began, _, ended] = expected();
        assert_eq!(calls, [began, ended]);
    }

    #[test]
    fn an_answer_that_nobody_reads_has_its_status() {
        let (mut http, mut calls) = (Http::default(), Calls::new());
        http.sent(Part::Bytes(ASK), true, &mut calls);
        http.received(Part::Bytes(&ANSWER[..ANSWER.len() - 5]), true, &mut calls);
        let result = CallResult { unseen: true, ..result_of(Some(503)) };
        assert_eq!(calls[2..], [Call::Accepted { tag: 0, result }]);
    }

    #[test]
    fn a_call_that_nobody_answers() {
        let (mut http, mut calls) = (Http::default(), Calls::new());
        http.sent(Part::Bytes(ASK), true, &mut calls);
        http.closed(&mut calls);
        let result = CallResult { unseen: true, ..CallResult::default() };
        assert_eq!(calls[1..], [Call::Ended { tag: 0, result }]);
    }
}
