//! Identity of a code object: a fold over fields that change when its address is reused by another one.
//! The kernel half computes the same fold over the same fields; the two must never differ.

use pyapm_wire::python::ENTRIES;

/// The fields that are folded, as they lie in the code object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IdentityFields {
    /// Address of `co_filename`.
    pub filename: u64,
    /// Address of `co_name`.
    pub name: u64,
    /// Address of `co_linetable` (3.10 on) or `co_lnotab`.
    pub linetable: u64,
    pub firstlineno: u32,
    /// `co_version`; 0 where there is none (before 3.12).
    pub version: u32,
}

/// Start value: the offset basis of 64-bit FNV-1a.
const START: u64 = 0xcbf2_9ce4_8422_2325;
/// 2^64 divided by the golden ratio, odd: spreads each word over the high bits.
const MULTIPLIER: u64 = 0x9E37_79B9_7F4A_7C15;

/// The fold.
#[must_use]
pub fn identity(fields: IdentityFields) -> u32 {
    let words = [
        fields.filename,
        fields.name,
        fields.linetable,
        u64::from(fields.firstlineno),
        u64::from(fields.version),
    ];
    let mut hash = START;
    for word in words {
        hash = (hash ^ word).wrapping_mul(MULTIPLIER);
        hash ^= hash >> 29;
    }
    let folded = (hash ^ (hash >> 32)) & 0xffff_ffff;
    // The bits that are left free are counters of the kernel half.
    u32::try_from(folded).unwrap_or(u32::MAX) & !ENTRIES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_counts() {
        let base = IdentityFields {
            filename: 0x7f00_0000_1000,
            name: 0x7f00_0000_2000,
            linetable: 0x7f00_0000_3000,
            firstlineno: 10,
            version: 7,
        };
        let changed = [
            IdentityFields { filename: base.filename + 16, ..base },
            IdentityFields { name: base.name + 16, ..base },
            IdentityFields { linetable: base.linetable + 16, ..base },
            IdentityFields { firstlineno: 11, ..base },
            IdentityFields { version: 8, ..base },
        ];
        for other in changed {
            assert_ne!(identity(base), identity(other));
        }
        assert_eq!(identity(base), identity(base));
    }

    /// Pins the fold: the kernel half has its own copy of these two lines.
    #[test]
    fn known_values() {
        assert_eq!(identity(IdentityFields::default()), KNOWN_ZERO);
        let fields = IdentityFields { filename: 1, name: 2, linetable: 3, firstlineno: 4, version: 5 };
        assert_eq!(identity(fields), KNOWN_SMALL);
    }

    const KNOWN_ZERO: u32 = 0x1264_676d;
    const KNOWN_SMALL: u32 = 0xb2ae_57aa;
}
