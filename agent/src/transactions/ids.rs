//! Trace and span ids as W3C Trace Context asks for them.

use pyapm_model::line::TraceSource;
use smol_str::SmolStr;

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

    pub fn span(&mut self) -> SmolStr {
        std::str::from_utf8(&hexadecimal(self.next())).unwrap_or_default().into()
    }

    pub fn trace(&mut self) -> String {
        let mut id = String::with_capacity(32);
        for _ in 0..2 {
            id.push_str(std::str::from_utf8(&hexadecimal(self.next())).unwrap_or_default());
        }
        id
    }
}

/// All sixteen digits. Every call and every transaction has an id: this takes a fraction of what formatting does.
fn hexadecimal(number: u64) -> [u8; 16] {
    std::array::from_fn(|place| {
        let digit = (number >> (60 - 4 * place)) as u8 & 0xf;
        if digit < 10 { b'0' + digit } else { b'a' + digit - 10 }
    })
}

/// Where a transaction stands in its trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    pub trace_id: String,
    pub span_id: String,
    pub parent_span_id: Option<String>,
    /// What told it; `None` for one that begins here.
    pub source: Option<TraceSource>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn digits_are_those_of_the_number() {
        for number in [0, 1, 0x1234_5678_9abc_def0, u64::MAX, 1 << 63] {
            assert_eq!(hexadecimal(number), format!("{number:016x}").as_bytes());
        }
    }

    #[test]
    fn ids_are_distinct_and_well_formed() {
        let mut ids = Ids::new(7);
        let spans: HashSet<SmolStr> = (0..10_000).map(|_| ids.span()).collect();
        assert_eq!(spans.len(), 10_000);
        assert!(spans.iter().all(|id| id.len() == 16 && id.bytes().any(|b| b != b'0')));
        let trace = ids.trace();
        assert_eq!(trace.len(), 32);
        assert!(trace.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase()));
    }
}
