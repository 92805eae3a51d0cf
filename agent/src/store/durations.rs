//! Response times, small enough to keep sixty seconds of them by route, exact enough for percentiles.

use hdrhistogram::Histogram;

/// Bits of a duration that are kept below its highest one: an error of at most 1/256 in the middle of a bucket.
const KEPT_BITS: u32 = 7;

/// Counts of durations by bucket, in order; only buckets that hold something take room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Durations {
    buckets: Vec<(u16, u32)>,
}

impl Durations {
    pub fn record(&mut self, duration_ns: u64) {
        let bucket = bucket_of(duration_ns);
        match self.buckets.binary_search_by_key(&bucket, |(known, _)| *known) {
            Ok(index) => {
                if let Some((_, count)) = self.buckets.get_mut(index) {
                    *count = count.saturating_add(1);
                }
            }
            Err(index) => self.buckets.insert(index, (bucket, 1)),
        }
    }

    /// Whether nothing was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    /// As bytes, to be kept: for each bucket how far it is from the one before and its count, both in seven bits a byte,
    /// the lowest first, the highest bit for "more follow".
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.buckets.len() * 3);
        let mut before = 0;
        for (bucket, count) in &self.buckets {
            put(&mut bytes, u32::from(bucket - before));
            put(&mut bytes, *count);
            before = *bucket;
        }
        bytes
    }

    /// What [`Self::encode`] made; `None` when it did not make these.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut bytes = bytes.iter().copied();
        let mut buckets: Vec<(u16, u32)> = Vec::new();
        while bytes.len() > 0 {
            let step = u16::try_from(get(&mut bytes)?).ok()?;
            let bucket = match buckets.last() {
                Some((before, _)) => before.checked_add(step).filter(|bucket| bucket > before)?,
                None => step,
            };
            buckets.push((bucket, get(&mut bytes)?));
        }
        Some(Self { buckets })
    }

    /// Adds what is here to a histogram made by [`histogram`].
    pub fn add_to(&self, histogram: &mut Histogram<u64>) {
        for (bucket, count) in &self.buckets {
            histogram.saturating_record_n(middle_of(*bucket), u64::from(*count));
        }
    }
}

fn put(bytes: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn get(bytes: &mut impl Iterator<Item = u8>) -> Option<u32> {
    let mut value = 0_u32;
    for shift in [0, 7, 14, 21, 28] {
        let byte = bytes.next()?;
        value |= u32::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// An empty histogram for all durations that can occur, exact to two digits as the buckets are; `None` if the library refuses its bounds.
#[must_use]
pub fn histogram() -> Option<Histogram<u64>> {
    /// A day: longer ones count as a day.
    const LONGEST_NS: u64 = 86_400_000_000_000;
    Histogram::new_with_bounds(1, LONGEST_NS, 2).ok()
}

/// The bucket: position of the highest bit, and the bits below it.
fn bucket_of(value: u64) -> u16 {
    let highest = value.checked_ilog2().unwrap_or(0);
    let shift = highest.saturating_sub(KEPT_BITS);
    let kept = (value >> shift) & ((1 << (KEPT_BITS + 1)) - 1);
    // Both fit: 64 shifts of 256 values.
    u16::try_from((u64::from(shift) << (KEPT_BITS + 1)) | kept).unwrap_or(u16::MAX)
}

/// The value in the middle of a bucket.
fn middle_of(bucket: u16) -> u64 {
    let shift = u32::from(bucket >> (KEPT_BITS + 1));
    let kept = u64::from(bucket) & ((1 << (KEPT_BITS + 1)) - 1);
    let half = 1u64.checked_shl(shift).map_or(0, |width| width / 2);
    kept.checked_shl(shift).unwrap_or(u64::MAX).saturating_add(half)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_ordered_and_close() {
        let mut before = 0;
        let mut value = 1u64;
        while value < u64::MAX / 3 {
            let bucket = bucket_of(value);
            assert!(bucket >= before);
            before = bucket;
            let middle = middle_of(bucket);
            assert!(middle.abs_diff(value) * 200 <= value, "{value} {middle}");
            value += value / 50 + 1;
        }
        bucket_of(0);
        middle_of(bucket_of(u64::MAX));
        middle_of(u16::MAX);
    }

    #[test]
    fn bytes_give_back_what_made_them_and_garbage_gives_nothing() {
        let mut durations = Durations::default();
        for value in [0, 1, 77, 1_000_000, 1_000_000, 3_600_000_000_000, u64::MAX] {
            durations.record(value);
        }
        durations.buckets[2].1 = u32::MAX;
        assert_eq!(Durations::decode(&durations.encode()), Some(durations));
        assert_eq!(Durations::decode(&[]), Some(Durations::default()));
        for garbage in [&[1][..], &[0xff; 9], &[1, 1, 0, 1], &[0x80], &[0xff, 0xff, 0x03, 1, 1, 1]] {
            assert_eq!(Durations::decode(garbage), None, "{garbage:?}");
        }
    }

    #[test]
    fn percentiles_within_two_percent() {
        let mut durations = Durations::default();
        for millisecond in 1..=1_000u64 {
            durations.record(millisecond * 1_000_000);
        }
        let mut histogram = histogram().unwrap();
        durations.add_to(&mut histogram);
        assert_eq!(histogram.len(), 1_000);
        for (quantile, exact) in [(0.5, 500_000_000u64), (0.95, 950_000_000), (0.99, 990_000_000)] {
            let got = histogram.value_at_quantile(quantile);
            assert!(got.abs_diff(exact) * 50 <= exact, "{quantile}: {got}");
        }
    }
}
