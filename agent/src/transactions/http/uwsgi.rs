//! The uwsgi protocol: how nginx, or uWSGI's own HTTP router, hands a request to a uWSGI worker. Each request is one
//! packet of variables, then the body; the answer is HTTP. uWSGI documentation, "The uwsgi Protocol"; source
//! `proto/uwsgi.c`, `core/protocol.c`.
//!
//! ```text
//! modifier1 (1 byte, 0: WSGI)  size of the variables (2 bytes, little endian)  modifier2 (1 byte, 0)
//! variables: size (2 bytes) name  size (2 bytes) value
//! ```

use super::Body;
use super::detect::Likeness;
use super::head::{Framing, RequestHead, request_line};
use super::queued::QueueStart;
use crate::transactions::ids::TraceParent;

const HEADER: usize = 4;
/// Longest name of a variable that is taken for one.
const LONGEST_NAME: usize = 128;
/// Fewest bytes of variables: a request has a method at least.
const FEWEST: usize = 17;

/// Whether bytes are the start of a request's packet.
#[must_use]
pub fn packet_likeness(bytes: &[u8]) -> Likeness {
    match bytes {
        [0, low, high, 0, rest @ ..] => {
            let size = usize::from(u16::from_le_bytes([*low, *high]));
            if size < FEWEST {
                return Likeness::No;
            }
            let [low, high, rest @ ..] = rest else { return Likeness::Maybe };
            let length = usize::from(u16::from_le_bytes([*low, *high]));
            if !(1..=LONGEST_NAME).contains(&length) || length + 4 > size {
                return Likeness::No;
            }
            let name = rest.get(..length).unwrap_or(rest);
            match name.iter().all(|byte| byte.is_ascii_uppercase() || matches!(byte, b'_' | b'0'..=b'9')) {
                true if name.len() == length => Likeness::Yes,
                true => Likeness::Maybe,
                false => Likeness::No,
            }
        }
        [] | [0] | [0, _] | [0, _, _] => Likeness::Maybe,
        _ => Likeness::No,
    }
}

/// Bytes of the packet that begins here, once that is known.
#[must_use]
pub fn packet_length(bytes: &[u8]) -> Option<usize> {
    let (low, high) = (bytes.get(1)?, bytes.get(2)?);
    Some(HEADER + usize::from(u16::from_le_bytes([*low, *high])))
}

/// The request that a whole packet speaks of; `None` when it does not.
#[must_use]
pub fn parse_packet(packet: &[u8]) -> Option<RequestHead> {
    let (mut method, mut target, mut path) = (None, None, None);
    let (mut length, mut traceparent, mut queued) = (Some(0), None, None);
    for (name, value) in Variables(packet.get(HEADER..)?) {
        match name {
            b"REQUEST_METHOD" => method = Some(value),
            b"REQUEST_URI" => target = Some(value),
            b"PATH_INFO" => path = Some(value),
            b"CONTENT_LENGTH" if !value.is_empty() => {
                length = std::str::from_utf8(value).ok().and_then(|text| text.trim().parse::<u64>().ok());
            }
            b"HTTP_X_REQUEST_START" | b"HTTP_X_QUEUE_START" => {
                queued = queued.or_else(|| QueueStart::parse(value));
            }
            b"HTTP_TRACEPARENT" => traceparent = TraceParent::parse(value),
            _ => {}
        }
    }
    // A space in it would end the target.
    let target = target.or(path)?;
    let clean: Vec<u8> = target.iter().map(|byte| if *byte == b' ' { b'+' } else { *byte }).collect();
    let mut head = request_line(&[method?, b" ", &clean, b" HTTP/1.1\r\n"].concat())?;
    head.framing = match length {
        Some(0) => Framing::None,
        Some(length) => Framing::Body(Body::Length(length)),
        None => Framing::Unclear,
    };
    head.traceparent = traceparent;
    head.queued = queued;
    Some(head)
}

/// The variables of a packet, as far as they are whole.
struct Variables<'a>(&'a [u8]);

impl<'a> Iterator for Variables<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, rest) = sized(self.0)?;
        let (value, rest) = sized(rest)?;
        self.0 = rest;
        Some((name, value))
    }
}

fn sized(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let [low, high, rest @ ..] = bytes else { return None };
    rest.split_at_checked(usize::from(u16::from_le_bytes([*low, *high])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(variables: &[(&str, &str)]) -> Vec<u8> {
        let mut body = Vec::new();
        for text in variables.iter().flat_map(|(name, value)| [name, value]) {
            body.extend_from_slice(&u16::try_from(text.len()).unwrap().to_le_bytes());
            body.extend_from_slice(text.as_bytes());
        }
        let size = u16::try_from(body.len()).unwrap().to_le_bytes();
        [&[0, size[0], size[1], 0][..], &body].concat()
    }

    /// The variables that nginx sends by its `uwsgi_params`, in its order.
    #[test]
    fn of_nginx() {
        let bytes = packet(&[
            ("QUERY_STRING", "x=1"),
            ("REQUEST_METHOD", "POST"),
            ("CONTENT_TYPE", ""),
            ("CONTENT_LENGTH", "5"),
            ("REQUEST_URI", "/a%20b?x=1"),
            ("PATH_INFO", "/a b"),
            ("SERVER_PROTOCOL", "HTTP/1.1"),
            ("HTTP_X_REQUEST_START", "t=1700000000.123"),
            ("HTTP_TRACEPARENT", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ]);
        assert_eq!(packet_likeness(&bytes), Likeness::Yes);
        assert_eq!(packet_length(&bytes), Some(bytes.len()));
        let head = parse_packet(&bytes).unwrap();
        assert_eq!((head.method.as_ref(), head.path.as_deref()), ("POST", Some("/a%20b")));
        assert_eq!(head.framing, Framing::Body(Body::Length(5)));
        assert!(head.traceparent.is_some() && head.queued.is_some());
    }

    #[test]
    fn without_a_target_the_path_serves() {
        let head = parse_packet(&packet(&[("REQUEST_METHOD", "GET"), ("PATH_INFO", "/a b")])).unwrap();
        assert_eq!((head.path.as_deref(), head.framing), (Some("/a+b"), Framing::None));
        assert_eq!(parse_packet(&packet(&[("REQUEST_METHOD", "GET")])), None);
        let strange = packet(&[("REQUEST_METHOD", "GET"), ("PATH_INFO", "/"), ("CONTENT_LENGTH", "x")]);
        assert_eq!(parse_packet(&strange).unwrap().framing, Framing::Unclear);
    }

    #[test]
    fn prefixes_are_undecided_and_others_are_not() {
        let whole = packet(&[("REQUEST_METHOD", "GET"), ("PATH_INFO", "/")]);
        for end in 0..whole.len() {
            assert_ne!(packet_likeness(&whole[..end]), Likeness::No, "{end}");
            let _total = parse_packet(&whole[..end]);
        }
        // A greeting of MySQL, a start-up of PostgreSQL, HTTP, TLS, zeroes.
        for other in [
            &b"\x4a\0\0\0\x0a10.11"[..],
            b"\0\0\0\x08\x04\xd2\x16\x2f",
            b"GET / HTTP/1.1\r\n",
            b"\x16\x03\x01\x02\0\x01",
            &[0; 64],
        ] {
            assert_eq!(packet_likeness(other), Likeness::No, "{other:?}");
        }
    }
}
