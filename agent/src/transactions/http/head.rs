//! Message heads: gathered over any number of reads, then parsed once. Only what framing, naming and
//! trace continuation need is kept; other headers are not looked at.

use super::detect::{Likeness, request_likeness, response_likeness};
use super::queued::QueueStart;
use super::{Body, body::Progress};
use crate::transactions::trace_context::{TraceContext, TraceHeaders};
use httparse::{Header, ParserConfig, Status};
use std::borrow::Cow;
use std::mem::MaybeUninit;

/// Bytes of one head that are gathered.
pub(super) const LONGEST_HEAD: usize = 64 * 1024;
/// Headers of one head; gunicorn takes at most 100.
const MOST_HEADERS: usize = 256;
/// Longest name of a host (RFC 1035 section 2.3.4).
const LONGEST_HOST: usize = 255;
/// Bytes of a path that are kept.
const LONGEST_PATH: usize = 2048;

/// How a message's body is delimited, by its head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Framing {
    None,
    Body(Body),
    /// The head contradicts itself or could not be parsed.
    Unclear,
}

/// What is kept of a request's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// One of the methods of RFC 9110 and RFC 5789, else `_OTHER` as OpenTelemetry has it.
    pub method: Cow<'static, str>,
    /// Without the query string; `None` for `CONNECT`.
    pub path: Option<String>,
    /// Whom it is for, by its `Host`, without the port.
    pub host: Option<String>,
    pub framing: Framing,
    /// The client waits for an interim response before it sends the body.
    pub expects_continue: bool,
    /// The caller's trace.
    pub trace: Option<TraceContext>,
    /// When a server in front of this one had it.
    pub queued: Option<QueueStart>,
}

impl RequestHead {
    /// Of work that is no HTTP request.
    #[must_use]
    pub fn none() -> Self {
        Self {
            method: Cow::Borrowed(""),
            path: None,
            host: None,
            framing: Framing::None,
            expects_continue: false,
            trace: None,
            queued: None,
        }
    }
}

/// What is kept of a response's head. Framing as the head alone says; the request's method may overrule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    pub status: u16,
    pub framing: Framing,
}

/// Where a complete head in `bytes` ends, if it does; `from` bytes were searched before.
pub(super) fn end_of_head(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from.saturating_sub(2);
    while let Some(line_feed) = bytes.get(at..)?.iter().position(|byte| *byte == b'\n') {
        at += line_feed + 1;
        match bytes.get(at..) {
            Some([b'\n', ..]) => return Some(at + 1),
            Some([b'\r', b'\n', ..]) => return Some(at + 2),
            _ => {}
        }
    }
    None
}

/// Parses a whole head, empty line included. A head whose headers are malformed still gives its request
/// line, with [`Framing::Unclear`]; `None` when not even that is one.
#[must_use]
pub fn parse_request(head: &[u8]) -> Option<RequestHead> {
    if request_likeness(head) != Likeness::Yes {
        return None;
    }
    let mut headers = [const { MaybeUninit::uninit() }; MOST_HEADERS];
    let mut request = httparse::Request::new(&mut []);
    let mut lenient = ParserConfig::default();
    lenient.ignore_invalid_headers_in_requests(true);
    let parsed = lenient.parse_request_with_uninit_headers(&mut request, head, &mut headers);
    if !matches!(parsed, Ok(Status::Complete(_))) {
        return request_line(head);
    }
    let seen = Seen::of(request.headers);
    let framing = match (seen.coding, seen.length) {
        (Coding::Chunked, _) => Framing::Body(Body::chunked()),
        (Coding::Other, _) | (_, Length::Invalid) => Framing::Unclear,
        (Coding::None, Length::Absent | Length::Bytes(0)) => Framing::None,
        (Coding::None, Length::Bytes(length)) => Framing::Body(Body::Length(length)),
    };
    let mut head = request_line(head)?;
    head.framing = framing;
    head.expects_continue = seen.expects_continue;
    head.host = seen.host.and_then(host_of);
    head.trace = seen.trace.context();
    head.queued = seen.queued;
    Some(head)
}

/// The request line alone.
pub(super) fn request_line(head: &[u8]) -> Option<RequestHead> {
    let mut parts = head.trim_ascii_start().splitn(3, |byte| *byte == b' ');
    let (method, target) = (parts.next()?, parts.next()?);
    parts.next()?;
    Some(RequestHead {
        method: known_method(method),
        path: path_of(target),
        host: None,
        framing: Framing::Unclear,
        expects_continue: false,
        trace: None,
        queued: None,
    })
}

/// Parses a whole response head; `None` when it is not one.
#[must_use]
pub fn parse_response(head: &[u8]) -> Option<ResponseHead> {
    if response_likeness(head) != Likeness::Yes {
        return None;
    }
    let mut headers = [const { MaybeUninit::uninit() }; MOST_HEADERS];
    let mut response = httparse::Response::new(&mut []);
    let mut lenient = ParserConfig::default();
    lenient
        .ignore_invalid_headers_in_responses(true)
        .allow_spaces_after_header_name_in_responses(true)
        .allow_obsolete_multiline_headers_in_responses(true);
    let parsed = lenient.parse_response_with_uninit_headers(&mut response, head, &mut headers);
    if !matches!(parsed, Ok(Status::Complete(_))) {
        // The status may still be readable; where the body ends is not.
        let code = head.get(9..12)?;
        let status = std::str::from_utf8(code).ok()?.parse().ok()?;
        return (100..=999).contains(&status).then_some(ResponseHead { status, framing: Framing::Unclear });
    }
    let status = response.code?;
    let seen = Seen::of(response.headers);
    let framing = match (status, seen.coding, seen.length) {
        (100..=199 | 204 | 304, ..) | (_, Coding::None, Length::Bytes(0)) => Framing::None,
        (_, Coding::Chunked, _) => Framing::Body(Body::chunked()),
        (_, Coding::None, Length::Bytes(length)) => Framing::Body(Body::Length(length)),
        (_, Coding::Other, _) | (_, Coding::None, _) => Framing::Body(Body::UntilClose),
    };
    Some(ResponseHead { status, framing })
}

/// The methods that OpenTelemetry's HTTP conventions know.
#[must_use]
pub fn known_method(method: &[u8]) -> Cow<'static, str> {
    const KNOWN: [&str; 9] = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "CONNECT", "TRACE"];
    let known = KNOWN.into_iter().find(|known| known.as_bytes() == method);
    Cow::Borrowed(known.unwrap_or("_OTHER"))
}

/// The path of a request target in origin, absolute or asterisk form (RFC 9112 section 3.2); an
/// authority has none.
#[must_use]
pub fn path_of(target: &[u8]) -> Option<String> {
    let end = target.iter().position(|byte| matches!(byte, b'?' | b'#')).unwrap_or(target.len());
    let target = &target[..end];
    let path = match target {
        [b'/', ..] | b"*" => target,
        _ => {
            let scheme = target.windows(3).position(|window| window == b"://")?;
            let rest = &target[scheme + 3..];
            rest.iter().position(|byte| *byte == b'/').map_or(&b"/"[..], |slash| &rest[slash..])
        }
    };
    Some(String::from_utf8_lossy(&path[..path.len().min(LONGEST_PATH)]).into_owned())
}

/// The host of an authority, without user and port (RFC 3986 section 3.2).
#[must_use]
pub fn host_of(authority: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(authority).ok()?.trim_ascii();
    let text = text.rsplit_once('@').map_or(text, |(_user, host)| host);
    let host = match text.strip_prefix('[') {
        Some(literal) => literal.split_once(']')?.0,
        None => text.split_once(':').map_or(text, |(host, _port)| host),
    };
    (!host.is_empty() && host.len() <= LONGEST_HOST).then(|| host.to_owned())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Coding {
    None,
    /// `chunked` is the last coding.
    Chunked,
    Other,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Length {
    Absent,
    Bytes(u64),
    Invalid,
}

/// The headers that matter.
struct Seen<'a> {
    coding: Coding,
    length: Length,
    expects_continue: bool,
    host: Option<&'a [u8]>,
    trace: TraceHeaders<'a>,
    queued: Option<QueueStart>,
}

impl<'a> Seen<'a> {
    fn of(headers: &[Header<'a>]) -> Self {
        let mut seen = Self {
            coding: Coding::None,
            length: Length::Absent,
            expects_continue: false,
            host: None,
            trace: TraceHeaders::default(),
            queued: None,
        };
        for header in headers {
            let value = header.value;
            match header.name.len() {
                4 if header.name.eq_ignore_ascii_case("host") => seen.host = Some(value),
                14 if header.name.eq_ignore_ascii_case("content-length") => seen.add_length(value),
                17 if header.name.eq_ignore_ascii_case("transfer-encoding") => {
                    let last = value.rsplit(|byte| *byte == b',').next().unwrap_or(value).trim_ascii();
                    seen.coding = if last.eq_ignore_ascii_case(b"chunked") {
                        Coding::Chunked
                    } else if last.eq_ignore_ascii_case(b"identity") {
                        Coding::None
                    } else {
                        Coding::Other
                    };
                }
                6 if header.name.eq_ignore_ascii_case("expect") => {
                    seen.expects_continue = value.trim_ascii().eq_ignore_ascii_case(b"100-continue");
                }
                // The outermost server's stands first where several wrote one.
                13 | 15 if seen.queued.is_none() && is_queue_start(header.name) => {
                    seen.queued = QueueStart::parse(value);
                }
                _ => seen.trace.header(header.name.as_bytes(), value),
            }
        }
        seen
    }

    /// Repeated lengths are valid when they agree (RFC 9110 section 8.6).
    fn add_length(&mut self, value: &[u8]) {
        for part in value.split(|byte| *byte == b',') {
            let part = part.trim_ascii();
            let digits = !part.is_empty() && part.iter().all(u8::is_ascii_digit);
            let parsed = std::str::from_utf8(part).ok().and_then(|text| text.parse().ok());
            self.length = match (self.length, parsed.filter(|_| digits)) {
                (Length::Absent, Some(length)) => Length::Bytes(length),
                (Length::Bytes(before), Some(length)) if before == length => Length::Bytes(length),
                _ => Length::Invalid,
            };
        }
    }
}

fn is_queue_start(name: &str) -> bool {
    name.eq_ignore_ascii_case("x-request-start") || name.eq_ignore_ascii_case("x-queue-start")
}

/// A head that has not ended yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Gathering {
    pub bytes: Vec<u8>,
    /// When its first byte was moved.
    pub started_ns: u64,
    /// Where that byte stands among all that were offered.
    pub position: u64,
}

/// What gathering some more bytes came to.
pub(super) enum Gathered {
    /// The head ended after so many of the bytes offered.
    Whole(usize),
    More,
    TooLong,
}

impl Gathering {
    /// When and where its first byte was.
    pub fn began(&self) -> (u64, u64) {
        (self.started_ns, self.position)
    }

    /// Adds bytes up to the head's end. When the head lies whole in `offered` nothing is copied: the
    /// buffer stays empty and the head is `offered[..n]`.
    pub fn offer(&mut self, offered: &[u8]) -> Gathered {
        if self.bytes.is_empty()
            && let Some(end) = end_of_head(offered, 0)
        {
            return if end > LONGEST_HEAD { Gathered::TooLong } else { Gathered::Whole(end) };
        }
        let before = self.bytes.len();
        let room = LONGEST_HEAD.saturating_sub(before).min(offered.len());
        self.bytes.extend_from_slice(&offered[..room]);
        match end_of_head(&self.bytes, before) {
            Some(end) => {
                self.bytes.truncate(end);
                Gathered::Whole(end - before)
            }
            None if self.bytes.len() >= LONGEST_HEAD => Gathered::TooLong,
            None => Gathered::More,
        }
    }
}

impl Progress {
    /// Whether the message's end can no longer be found.
    pub(super) fn is_lost(self) -> bool {
        matches!(self, Self::Broken | Self::Unknown)
    }
}
