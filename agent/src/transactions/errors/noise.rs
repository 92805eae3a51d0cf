//! Places that raise exceptions which libraries always catch themselves, before the application sees any of it: a
//! request of Django meets five. No transaction ever shows one, so the kernel half need not send each; what it leaves out
//! it still counts.

use std::collections::HashMap;

/// Exceptions of a place that libraries have caught, with none that they have not, until it is quiet.
const ENOUGH: u32 = 32;
/// Places that are remembered. Others stay as loud as they are.
const MOST_PLACES: usize = 4096;

/// What is known of places, by the kernel half's hash of them.
#[derive(Debug, Default)]
pub(super) struct Noise {
    places: HashMap<u64, Heard>,
}

#[derive(Clone, Copy, Debug)]
enum Heard {
    /// So many, and all caught by libraries.
    Caught(u32),
    Quiet,
    /// One was not: never quiet again.
    Matters,
}

impl Noise {
    /// An exception of this place is done; what the kernel half should know now that it did not.
    pub(super) fn done(&mut self, place: u64, is_noise: bool) -> Option<bool> {
        let is_full = self.places.len() >= MOST_PLACES;
        if !is_noise {
            // Said again each time where it cannot be remembered: an earlier run of the process may have left it quiet.
            if let Some(heard) = self.places.get_mut(&place) {
                let before = std::mem::replace(heard, Heard::Matters);
                return (!matches!(before, Heard::Matters)).then_some(false);
            }
            if !is_full {
                self.places.insert(place, Heard::Matters);
            }
            return Some(false);
        }
        if is_full && !self.places.contains_key(&place) {
            return None;
        }
        let heard = self.places.entry(place).or_insert(Heard::Caught(0));
        let Heard::Caught(caught) = heard else { return None };
        *caught += 1;
        if *caught < ENOUGH {
            return None;
        }
        *heard = Heard::Quiet;
        Some(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quiet_until_one_matters() {
        let mut noise = Noise::default();
        for _ in 1..ENOUGH {
            assert_eq!(noise.done(7, true), None);
        }
        assert_eq!(noise.done(7, true), Some(true));
        assert_eq!(noise.done(7, true), None);
        assert_eq!(noise.done(7, false), Some(false));
        for _ in 0..2 * ENOUGH {
            assert_eq!((noise.done(7, true), noise.done(7, false)), (None, None));
        }
    }

    #[test]
    fn what_cannot_be_remembered_is_never_quiet() {
        let mut noise = Noise::default();
        for place in 0..MOST_PLACES as u64 {
            assert_eq!(noise.done(place, false), Some(false));
        }
        for _ in 0..2 * ENOUGH {
            assert_eq!((noise.done(u64::MAX, true), noise.done(u64::MAX, false)), (None, Some(false)));
        }
        assert_eq!(noise.places.len(), MOST_PLACES);
    }
}
