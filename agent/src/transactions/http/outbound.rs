//! The outbound half of [`Server`]: responses, in the order of the requests they answer.

use super::body::Progress;
use super::detect::{Likeness, request_likeness, response_likeness};
use super::head::{Framing, Gathered, Gathering, parse_response, request_line};
use super::server::{Inbound, Outbound, Part, Server, Sink};
use pyapm_model::line::Outcome;

impl<W: Default> Server<W> {
    /// Outbound bytes, as [`Self::inbound`].
    pub fn outbound(&mut self, time_ns: u64, part: Part<'_>, first: bool, sink: &mut Sink<'_, W>) {
        let count = match part {
            Part::Bytes(bytes) => bytes.len() as u64,
            Part::Absent(count) | Part::Lost(count) => count,
        };
        if count == 0 {
            return;
        }
        self.last_out_ns = time_ns;
        match part {
            Part::Bytes(bytes) => self.outbound_bytes(time_ns, bytes, first, sink),
            Part::Absent(count) => self.outbound_unseen(time_ns, count, false, sink),
            Part::Lost(count) => self.outbound_unseen(time_ns, count, true, sink),
        }
    }

    fn outbound_bytes(&mut self, time_ns: u64, mut bytes: &[u8], mut first: bool, sink: &mut Sink<'_, W>) {
        while !bytes.is_empty() {
            let taken = match &mut self.outbound {
                Outbound::Head(_) => self.response_head(time_ns, bytes, sink),
                Outbound::Body { body, stray } => {
                    let stray = *stray;
                    let (taken, progress) = body.bytes(bytes);
                    self.responded(time_ns, taken as u64, stray);
                    self.after_body(time_ns, progress, stray, false, sink);
                    taken
                }
                Outbound::Lost if first && starts_response(bytes) => {
                    // The response that was being followed had begun, so this is the next one's head.
                    if self.open.front().is_some_and(|front| front.status.is_some()) {
                        self.end(Outcome::Incomplete, None, sink);
                    }
                    self.outbound = Outbound::Head(Gathering::default());
                    0
                }
                Outbound::Lost => {
                    self.responded(time_ns, bytes.len() as u64, false);
                    return;
                }
                Outbound::Ignored => return,
            };
            bytes = &bytes[taken..];
            first = false;
        }
    }

    fn outbound_unseen(&mut self, time_ns: u64, count: u64, lost: bool, sink: &mut Sink<'_, W>) {
        match &mut self.outbound {
            Outbound::Body { body, stray } => {
                let stray = *stray;
                let (taken, progress) = body.absent(count);
                self.responded(time_ns, taken, stray);
                // A last byte in a lost record was written at a time that nobody knows.
                self.after_body(time_ns, progress, stray, lost, sink);
                if taken < count {
                    self.outbound_lost(sink);
                }
            }
            Outbound::Head(_) => {
                self.responded(time_ns, count, false);
                self.outbound_lost(sink);
            }
            Outbound::Lost => self.responded(time_ns, count, false),
            Outbound::Ignored => {}
        }
    }

    /// Gathers a response head; returns how many bytes it took.
    fn response_head(&mut self, time_ns: u64, bytes: &[u8], sink: &mut Sink<'_, W>) -> usize {
        let Outbound::Head(gathering) = &mut self.outbound else { return bytes.len() };
        let gathered = gathering.offer(bytes);
        let head = if gathering.bytes.is_empty() { bytes } else { &gathering.bytes };
        let likeness = response_likeness(head);
        let (taken, parsed) = match gathered {
            _ if likeness == Likeness::No => (bytes.len(), None),
            Gathered::Whole(taken) if gathering.bytes.is_empty() => (taken, parse_response(&head[..taken])),
            Gathered::Whole(taken) => (taken, parse_response(head)),
            Gathered::TooLong => (bytes.len(), None),
            Gathered::More => {
                self.responded_head(time_ns, bytes.len() as u64);
                return bytes.len();
            }
        };
        let Some(response) = parsed else {
            self.responded_head(time_ns, taken as u64);
            self.outbound_lost(sink);
            return taken;
        };
        self.outbound = Outbound::Head(Gathering::default());
        if self.open.is_empty() {
            self.begin_from_unfinished_head(sink);
        }
        self.responded_head(time_ns, taken as u64);
        let interim = (100..=199).contains(&response.status) && response.status != 101;
        let Some(current) = self.open.front_mut() else {
            if !interim {
                sink.counts.response_unmatched += 1;
                match response.framing {
                    Framing::None => {}
                    Framing::Body(body) => self.outbound = Outbound::Body { body, stray: true },
                    Framing::Unclear => self.outbound_lost(sink),
                }
            }
            return taken;
        };
        if interim {
            if let Inbound::Body { awaited, sequence, .. } = &mut self.inbound
                && *sequence == current.sequence
            {
                *awaited = false;
            }
            return taken;
        }
        current.status = Some(response.status);
        let is = |method| current.request.method == method;
        let tunnel = response.status == 101 || (is("CONNECT") && (200..=299).contains(&response.status));
        if tunnel {
            self.end(Outcome::Complete, Some(time_ns), sink);
            self.upgraded = true;
            self.ignore(sink);
            return taken;
        }
        match response.framing {
            _ if is("HEAD") => self.end(Outcome::Complete, Some(time_ns), sink),
            Framing::None => self.end(Outcome::Complete, Some(time_ns), sink),
            Framing::Body(body) => self.outbound = Outbound::Body { body, stray: false },
            Framing::Unclear => self.outbound_lost(sink),
        }
        taken
    }

    /// The server answers a head that is not whole (a time-out, a limit): its request line is enough.
    fn begin_from_unfinished_head(&mut self, sink: &mut Sink<'_, W>) {
        let Inbound::Head(gathering) = &self.inbound else { return };
        if request_likeness(&gathering.bytes) != Likeness::Yes {
            return;
        }
        let (began, length) = (gathering.began(), gathering.bytes.len() as u64);
        if let Some(request) = request_line(&gathering.bytes) {
            self.begin(request, began, length, sink);
        }
    }

    fn responded_head(&mut self, time_ns: u64, count: u64) {
        self.responded(time_ns, count, false);
        if let Some(current) = self.open.front_mut() {
            current.response_head += count;
        }
    }

    fn responded(&mut self, time_ns: u64, count: u64, stray: bool) {
        if let Some(current) = self.open.front_mut().filter(|_| !stray && count > 0) {
            current.response_bytes += count;
            current.last_out_ns = time_ns;
        }
    }

    fn after_body(
        &mut self,
        time_ns: u64,
        progress: Progress,
        stray: bool,
        lost: bool,
        sink: &mut Sink<'_, W>,
    ) {
        match progress {
            Progress::More => {}
            Progress::Done => {
                self.outbound = Outbound::Head(Gathering::default());
                if !stray {
                    let outcome = if lost { Outcome::Incomplete } else { Outcome::Complete };
                    self.end(outcome, Some(time_ns), sink);
                }
            }
            Progress::Broken | Progress::Unknown => self.outbound_lost(sink),
        }
    }

    fn outbound_lost(&mut self, sink: &mut Sink<'_, W>) {
        // Some servers send a body after HEAD, 204 or 304 all the same; nothing is lost by that.
        let count =
            if self.open.is_empty() { &mut sink.counts.stray_output } else { &mut sink.counts.framing_lost };
        *count += 1;
        self.outbound = Outbound::Lost;
        for exchange in &mut self.open {
            exchange.guessed = true;
        }
    }
}

fn starts_response(bytes: &[u8]) -> bool {
    match response_likeness(bytes) {
        Likeness::Yes => true,
        Likeness::Maybe => bytes.len() >= 5,
        Likeness::No => false,
    }
}
