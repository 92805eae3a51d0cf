//! Trace and span ids as W3C Trace Context asks for them, and the `traceparent` header.

/// A stream of pseudo-random ids (SplitMix64, Steele, Lea and Flood 2014). Not for secrets: an id only
/// has to be unique and not zero.
#[derive(Clone, Debug)]
pub struct Ids {
    state: u64,
}

impl Ids {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// Never 0: the specification reserves it. The generator visits each 64-bit value once per period,
    /// so ids of one daemon do not repeat.
    fn next(&mut self) -> u64 {
        loop {
            self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = self.state;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^= mixed >> 31;
            if mixed != 0 {
                return mixed;
            }
        }
    }

    pub fn span(&mut self) -> String {
        format!("{:016x}", self.next())
    }

    pub fn trace(&mut self) -> String {
        format!("{:016x}{:016x}", self.next(), self.next())
    }
}

/// Where a transaction stands in its trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    pub trace_id: String,
    pub span_id: String,
    pub parent_span_id: Option<String>,
}

/// Where a caller's trace stands, from its `traceparent` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    trace: u128,
    parent: u64,
}

impl TraceParent {
    /// `version-traceid-parentid-flags` (W3C Trace Context level 1, section 3.2); `None` when it is not
    /// valid, which the specification answers with a new trace.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let value = value.trim_ascii();
        let (fixed, rest) = value.split_at_checked(55)?;
        let [v0, v1, b'-', ids @ .., b'-', f0, f1] = fixed else { return None };
        let version = hex(&[*v0, *v1])?;
        hex(&[*f0, *f1])?;
        // Version 0 ends here; later versions may go on after another dash; 255 is forbidden.
        let ended = rest.is_empty() || (version != 0 && rest.first() == Some(&b'-'));
        let (trace, parent) = ids.split_at_checked(32)?;
        let [b'-', parent @ ..] = parent else { return None };
        let (trace, parent) = (hex(trace)?, u64::try_from(hex(parent)?).ok()?);
        (ended && version != 255 && trace != 0 && parent != 0).then_some(Self { trace, parent })
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

/// Lower-case digits only, as the specification demands.
fn hex(digits: &[u8]) -> Option<u128> {
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
    use std::collections::HashSet;

    #[test]
    fn ids_are_distinct_and_well_formed() {
        let mut ids = Ids::new(7);
        let spans: HashSet<String> = (0..10_000).map(|_| ids.span()).collect();
        assert_eq!(spans.len(), 10_000);
        assert!(spans.iter().all(|id| id.len() == 16 && id.bytes().any(|b| b != b'0')));
        let trace = ids.trace();
        assert_eq!(trace.len(), 32);
        assert!(trace.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase()));
    }

    #[test]
    fn traceparent_by_the_specification() {
        let good = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let parsed = TraceParent::parse(good).unwrap();
        assert_eq!(parsed.trace_id(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(parsed.parent_id(), "b7ad6b7169203331");
        assert!(
            TraceParent::parse(b"cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more").is_some()
        );
        for bad in [
            &b""[..],
            b"00",
            b"ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            b"00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            b"00-00000000000000000000000000000000-b7ad6b7169203331-01",
            b"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            b"00-0af7651916cd43dd8448eb211c80319c+b7ad6b7169203331-01",
            b"cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01.more",
        ] {
            assert_eq!(TraceParent::parse(bad), None, "{}", String::from_utf8_lossy(bad));
        }
    }
}
