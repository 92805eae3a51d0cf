//! Where a caller's trace stands, by the headers of its request. What is malformed counts as absent, which the
//! specifications answer with a new trace.
//!
//! - `traceparent` and `tracestate`: W3C Trace Context, levels 1 (<https://www.w3.org/TR/trace-context-1/>) and 2.
//! - `elastic-apm-traceparent`: what Elastic's agents sent before the W3C's had its name; same form.
//! - `b3` and `X-B3-*`: Zipkin's (<https://github.com/openzipkin/b3-propagation>), in one header or several.
//!
//! Where a request has several, the first of this order that is valid counts.

use pyapm_model::line::TraceSource;

/// Characters of a `tracestate` that are kept (level 1, section 3.3.1.5: at least 512 should be propagated).
const LONGEST_STATE: usize = 512;
/// Members of a `tracestate` (section 3.3.1.1).
const MOST_MEMBERS: usize = 32;
/// Members that are longer go first when there is too much (section 3.3.1.5).
const LONG_MEMBER: usize = 128;

/// A caller's trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    trace: u128,
    parent: u64,
    /// What the caller decided on recording it; `None` when it left that open.
    pub sampled: Option<bool>,
    /// As the caller sent it, as far as it is valid.
    pub state: Option<String>,
    pub source: TraceSource,
}

impl TraceContext {
    /// From a `traceparent` alone.
    #[must_use]
    pub fn traceparent(value: &[u8]) -> Option<Self> {
        let mut headers = TraceHeaders::default();
        headers.traceparent.add(value);
        headers.context()
    }

    #[must_use]
    pub fn trace_id(&self) -> String {
        format!("{:032x}", self.trace)
    }

    #[must_use]
    pub fn parent_id(&self) -> String {
        format!("{:016x}", self.parent)
    }
}

/// The headers of one request that may speak of a trace; to be offered every header.
#[derive(Clone, Copy, Debug, Default)]
pub struct TraceHeaders<'a> {
    traceparent: Once<'a>,
    elastic: Once<'a>,
    /// Its header may come in several lines.
    states: [Option<&'a [u8]>; 8],
    b3: Once<'a>,
    b3_trace: Once<'a>,
    b3_span: Once<'a>,
    b3_sampled: Once<'a>,
    b3_flags: Once<'a>,
}

/// A header that may come once.
#[derive(Clone, Copy, Debug, Default)]
enum Once<'a> {
    #[default]
    Absent,
    Is(&'a [u8]),
    Repeated,
}

impl<'a> Once<'a> {
    fn add(&mut self, value: &'a [u8]) {
        *self = match self {
            Self::Absent => Self::Is(value.trim_ascii()),
            Self::Is(_) | Self::Repeated => Self::Repeated,
        };
    }

    fn value(self) -> Option<&'a [u8]> {
        match self {
            Self::Is(value) => Some(value),
            Self::Absent | Self::Repeated => None,
        }
    }
}

impl<'a> TraceHeaders<'a> {
    /// A header of HTTP.
    pub fn header(&mut self, name: &[u8], value: &'a [u8]) {
        // Lengths first: nearly every header is another.
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        match name.len() {
            2 if is("b3") => self.b3.add(value),
            10 if is("tracestate") => {
                if let Some(free) = self.states.iter_mut().find(|state| state.is_none()) {
                    *free = Some(value);
                }
            }
            10 if is("x-b3-flags") => self.b3_flags.add(value),
            11 if is("traceparent") => self.traceparent.add(value),
            11 if is("x-b3-spanid") => self.b3_span.add(value),
            12 if is("x-b3-traceid") => self.b3_trace.add(value),
            12 if is("x-b3-sampled") => self.b3_sampled.add(value),
            23 if is("elastic-apm-traceparent") => self.elastic.add(value),
            _ => {}
        }
    }

    /// A variable as CGI and its kin name headers (RFC 3875 section 4.1.18): `HTTP_X_B3_TRACEID`.
    pub fn variable(&mut self, name: &[u8], value: &'a [u8]) {
        let Some(name) = name.strip_prefix(b"HTTP_") else { return };
        let mut header = [0; 23];
        let Some(header) = header.get_mut(..name.len()) else { return };
        for (to, from) in header.iter_mut().zip(name) {
            *to = if *from == b'_' { b'-' } else { *from };
        }
        self.header(header, value);
    }

    /// What they say together.
    #[must_use]
    pub fn context(&self) -> Option<TraceContext> {
        let w3c = |value: Once<'_>, source| {
            let (trace, parent, sampled) = traceparent(value.value()?)?;
            Some(TraceContext { trace, parent, sampled: Some(sampled), state: self.state(), source })
        };
        w3c(self.traceparent, TraceSource::Traceparent)
            .or_else(|| w3c(self.elastic, TraceSource::ElasticApmTraceparent))
            .or_else(|| b3(self.b3.value()?))
            .or_else(|| self.b3_of_many())
    }

    fn b3_of_many(&self) -> Option<TraceContext> {
        let sampled = match (self.b3_flags.value(), self.b3_sampled.value()) {
            (Some(b"1"), _) => Some(true),
            (_, value) => value.and_then(b3_decision),
        };
        b3_context(self.b3_trace.value()?, self.b3_span.value()?, sampled)
    }

    /// The members of all lines in their order; `None` when there are none, or one is malformed.
    fn state(&self) -> Option<String> {
        let mut members: Vec<&str> = Vec::new();
        for line in self.states.iter().flatten() {
            for member in line.split(|byte| *byte == b',') {
                let member = member.trim_ascii();
                if member.is_empty() {
                    continue;
                }
                let (key, _) = state_member(member)?;
                let is_known = |known: &&str| {
                    let known = known.as_bytes();
                    known.get(key.len()) == Some(&b'=') && known.starts_with(key)
                };
                if members.len() >= MOST_MEMBERS || members.iter().any(is_known) {
                    return None;
                }
                members.push(std::str::from_utf8(member).ok()?);
            }
        }
        let length = |members: &[&str]| members.iter().map(|member| member.len() + 1).sum::<usize>();
        if length(&members) > LONGEST_STATE + 1 {
            members.retain(|member| member.len() <= LONG_MEMBER);
        }
        while length(&members) > LONGEST_STATE + 1 {
            members.pop();
        }
        (!members.is_empty()).then(|| members.join(","))
    }
}

/// `version-traceid-parentid-flags` (section 3.2): trace, parent, and whether it is sampled.
fn traceparent(value: &[u8]) -> Option<(u128, u64, bool)> {
    let (fixed, rest) = value.split_at_checked(55)?;
    let [v0, v1, b'-', ids @ .., b'-', f0, f1] = fixed else { return None };
    let version = hex(&[*v0, *v1])?;
    let flags = hex(&[*f0, *f1])?;
    // Version 0 ends here; later versions may go on after another dash; 255 is forbidden.
    let ended = rest.is_empty() || (version != 0 && rest.first() == Some(&b'-'));
    let (trace, parent) = ids.split_at_checked(32)?;
    let [b'-', parent @ ..] = parent else { return None };
    let (trace, parent) = (hex(trace)?, u64::try_from(hex(parent)?).ok()?);
    (ended && version != 255 && trace != 0 && parent != 0).then_some((trace, parent, flags & 1 == 1))
}

/// `traceid-spanid`, `-decision` and `-parentspanid` after them if they like. The header may be a decision alone:
/// that is no trace.
fn b3(value: &[u8]) -> Option<TraceContext> {
    let mut parts = value.split(|byte| *byte == b'-');
    let (trace, span) = (parts.next()?, parts.next()?);
    let sampled = match parts.next() {
        None => None,
        Some(decision) => Some(b3_decision(decision)?),
    };
    let has_parent = parts.next().map(|parent| parent.len() == 16 && hex(parent).is_some());
    (has_parent != Some(false) && parts.next().is_none()).then(|| b3_context(trace, span, sampled))?
}

fn b3_context(trace: &[u8], span: &[u8], sampled: Option<bool>) -> Option<TraceContext> {
    // A trace id of 64 bits is the lower half of one of 128.
    let lengths = matches!(trace.len(), 16 | 32) && span.len() == 16;
    let (trace, parent) = (hex(trace)?, u64::try_from(hex(span)?).ok()?);
    let source = TraceSource::B3;
    (lengths && trace != 0 && parent != 0).then_some(TraceContext {
        trace,
        parent,
        sampled,
        state: None,
        source,
    })
}

/// `d` is a decision for sampling that nobody may take back. Early senders wrote words.
fn b3_decision(value: &[u8]) -> Option<bool> {
    match value {
        b"1" | b"d" | b"true" => Some(true),
        b"0" | b"false" => Some(false),
        _ => None,
    }
}

/// `key=value` of a `tracestate` (section 3.3.1.3; keys as level 2 has them, which may begin with a digit).
fn state_member(member: &[u8]) -> Option<(&[u8], &[u8])> {
    let equals = member.iter().position(|byte| *byte == b'=')?;
    let (key, value) = (&member[..equals], &member[equals + 1..]);
    let part = |part: &[u8], most: usize| {
        let begins = part.first().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        let known = |byte: &u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-' | b'*' | b'/')
        };
        begins && part.len() <= most && part.iter().all(known)
    };
    let is_key = match key.iter().position(|byte| *byte == b'@') {
        Some(at) => part(&key[..at], 241) && part(&key[at + 1..], 14),
        None => part(key, 256),
    };
    let is_value = (1..=256).contains(&value.len())
        && value.iter().all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b',' | b'='))
        && value.last() != Some(&b' ');
    (is_key && is_value).then_some((key, value))
}

/// Lower-case digits only, as all of the specifications demand; at most 32 of them.
fn hex(digits: &[u8]) -> Option<u128> {
    if digits.len() > 32 {
        return None;
    }
    digits.iter().try_fold(0u128, |value, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some((value << 4) | u128::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    fn of(headers: &[(&str, &str)]) -> Option<TraceContext> {
        let mut seen = TraceHeaders::default();
        for (name, value) in headers {
            seen.header(name.as_bytes(), value.as_bytes());
        }
        seen.context()
    }

    fn parent(value: &str) -> Option<TraceContext> {
        of(&[("TraceParent", value)])
    }

    #[test]
    fn traceparent_by_the_specification() {
        let parsed = parent(&format!("00-{TRACE}-{SPAN}-01")).unwrap();
        assert_eq!((parsed.trace_id().as_str(), parsed.parent_id().as_str()), (TRACE, SPAN));
        assert_eq!((parsed.sampled, parsed.source), (Some(true), TraceSource::Traceparent));
        assert_eq!(parent(&format!("00-{TRACE}-{SPAN}-02")).unwrap().sampled, Some(false));
        assert_eq!(parent(&format!(" 00-{TRACE}-{SPAN}-ff\t")).unwrap().sampled, Some(true));
        assert!(parent(&format!("cc-{TRACE}-{SPAN}-01-more")).is_some());
        let upper = TRACE.to_uppercase();
        for bad in [
            String::new(),
            "00".into(),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("00-{upper}-{SPAN}-01"),
            format!("00-{}-{SPAN}-01", "0".repeat(32)),
            format!("00-{TRACE}-{}-01", "0".repeat(16)),
            format!("00-{TRACE}+{SPAN}-01"),
            format!("00-{TRACE}-{SPAN}-0x"),
            format!("cc-{TRACE}-{SPAN}-01.more"),
        ] {
            assert_eq!(parent(&bad), None, "{bad}");
        }
        let value = format!("00-{TRACE}-{SPAN}-01");
        assert_eq!(of(&[("traceparent", &value), ("traceparent", &value)]), None, "twice is not valid");
    }

    #[test]
    fn tracestate_by_the_specification() {
        let traceparent = format!("00-{TRACE}-{SPAN}-01");
        let state = |lines: &[&str]| {
            let states = lines.iter().map(|line| ("tracestate", *line));
            let headers: Vec<_> =
                std::iter::once(("traceparent", traceparent.as_str())).chain(states).collect();
            of(&headers).unwrap().state
        };
        assert_eq!(state(&["rojo=00f067aa0ba902b7"]).as_deref(), Some("rojo=00f067aa0ba902b7"));
        assert_eq!(state(&["a=1 , ,\tb=x y", "", "t@v=3"]).as_deref(), Some("a=1,b=x y,t@v=3"));
        assert_eq!(state(&["0a=1"]).as_deref(), Some("0a=1"), "level 2");
        let too_many = (0..33).map(|n| format!("k{n}=v")).collect::<Vec<_>>().join(",");
        let long_key = format!("{}=1", "k".repeat(257));
        for bad in ["a", "a=", "=1", "A=1", "a=1,a=2", "a=1=2", "a=\u{e9}", "a@=1", &too_many, &long_key] {
            assert_eq!(state(&[bad]), None, "{bad}");
        }
        assert_eq!(state(&["a=1", "a=2"]), None, "keys are distinct over all lines");
        let long = format!("long={}", "v".repeat(200));
        let many = (0..30).map(|n| format!("key{n:02}=0123456789")).collect::<Vec<_>>().join(",");
        let kept = state(&[&format!("{long},{many}")]).unwrap();
        assert!(kept.starts_with("key00=") && kept.len() <= LONGEST_STATE, "{kept}");
        assert_eq!(of(&[("tracestate", "a=1")]), None, "alone it says nothing");
    }

    #[test]
    fn b3_in_one_header() {
        let b3 = |value: &str| of(&[("b3", value)]);
        let parsed = b3(&format!("{TRACE}-{SPAN}-1-05e3ac9a4f6e3b90")).unwrap();
        assert_eq!((parsed.trace_id().as_str(), parsed.parent_id().as_str()), (TRACE, SPAN));
        assert_eq!((parsed.sampled, parsed.source), (Some(true), TraceSource::B3));
        assert_eq!(b3(&format!("{SPAN}-{SPAN}")).unwrap().trace_id(), format!("0000000000000000{SPAN}"));
        assert_eq!(b3(&format!("{TRACE}-{SPAN}-0")).unwrap().sampled, Some(false));
        assert_eq!(b3(&format!("{TRACE}-{SPAN}-d")).unwrap().sampled, Some(true));
        assert_eq!(b3(&format!("{TRACE}-{SPAN}")).unwrap().sampled, None);
        for bad in [
            "0".to_owned(),
            "1".into(),
            format!("{TRACE}-{SPAN}-x"),
            format!("{TRACE}-{SPAN}-1-short"),
            format!("{TRACE}-{SPAN}-1-{SPAN}-more"),
            format!("{SPAN}{SPAN}0-{SPAN}-1"),
            format!("0000000000000000-{SPAN}"),
        ] {
            assert_eq!(b3(&bad), None, "{bad}");
        }
    }

    #[test]
    fn b3_in_several_headers() {
        let ids = [("X-B3-TraceId", TRACE), ("x-b3-spanid", SPAN)];
        let with = |more: &[(&str, &str)]| of(&[&ids[..], more].concat());
        assert_eq!(with(&[]).unwrap().sampled, None);
        assert_eq!(with(&[("X-B3-Sampled", "0")]).unwrap().sampled, Some(false));
        assert_eq!(with(&[("X-B3-Sampled", "1")]).unwrap().sampled, Some(true));
        assert_eq!(with(&[("X-B3-Flags", "1")]).unwrap().sampled, Some(true));
        assert_eq!(of(&ids[..1]), None);
    }

    #[test]
    fn the_first_that_is_valid_counts() {
        let w3c = format!("00-{TRACE}-{SPAN}-01");
        let elastic = format!("00-{}-{SPAN}-00", "1".repeat(32));
        let b3 = format!("{}-{SPAN}-1", "2".repeat(32));
        let many = [("x-b3-traceid", TRACE), ("x-b3-spanid", SPAN)];
        let mut headers = vec![
            ("traceparent", w3c.as_str()),
            ("elastic-apm-traceparent", &elastic),
            ("b3", &b3),
            many[0],
            many[1],
        ];
        let source = |headers: &[(&str, &str)]| of(headers).map(|context| context.source);
        assert_eq!(source(&headers), Some(TraceSource::Traceparent));
        headers[0].1 = "00-zz";
        assert_eq!(source(&headers), Some(TraceSource::ElasticApmTraceparent));
        headers[1].1 = "";
        assert_eq!(of(&headers).unwrap().trace_id(), "2".repeat(32));
        headers[2].1 = "1";
        assert_eq!(of(&headers).unwrap().trace_id(), TRACE);
        assert_eq!(source(&headers[..3]), None);
    }

    #[test]
    fn variables_name_headers() {
        let mut seen = TraceHeaders::default();
        seen.variable(b"HTTP_X_B3_TRACEID", TRACE.as_bytes());
        seen.variable(b"HTTP_X_B3_SPANID", SPAN.as_bytes());
        seen.variable(b"HTTP_A_HEADER_WITH_A_NAME_LONGER_THAN_ANY_OF_THESE", b"");
        seen.variable(b"B3", b"");
        assert_eq!(seen.context().unwrap().source, TraceSource::B3);
    }

    #[test]
    fn garbage_is_no_trace() {
        for length in 0..120 {
            for byte in [0, b'-', b'0', b'f', b'=', b',', 0xff] {
                let value = vec![byte; length];
                let mut seen = TraceHeaders::default();
                for name in ["traceparent", "tracestate", "b3", "x-b3-traceid", "x-b3-spanid"] {
                    seen.header(name.as_bytes(), &value);
                }
                let read = seen.context();
                assert!(
                    read.is_none() || (byte == b'f' && matches!(length, 16)),
                    "{byte} {length}: {read:?}"
                );
            }
        }
    }
}
