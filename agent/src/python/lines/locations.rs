//! The location table of CPython 3.11 and later (`Objects/locations.md`, `Objects/codeobject.c`). Entries
//! begin with a byte whose high bit is set: bits 3 to 6 are the kind, bits 0 to 2 the length less one, in
//! code units of two bytes. Columns are skipped.

/// The entry has no location at all; the line it counts from stays.
const KIND_NONE: u8 = 15;
/// A line step follows as a signed varint: with columns (14) or without (13).
const KIND_LONG: u8 = 14;
const KIND_NO_COLUMNS: u8 = 13;
/// Line step 0, 1 or 2 is in the kind itself.
const KIND_ONE_LINE_0: u8 = 10;
const KIND_ONE_LINE_2: u8 = 12;

pub(super) fn line(table: &[u8], first: i64, offset: u32) -> Option<i64> {
    let mut line = first;
    let mut end = 0_u64;
    let mut rest = table;
    while let Some((head, after)) = rest.split_first() {
        let kind = (head >> 3) & 15;
        end += (u64::from(head & 7) + 1) * 2;
        line = line.wrapping_add(match kind {
            KIND_NO_COLUMNS | KIND_LONG => signed_varint(after),
            KIND_ONE_LINE_0..=KIND_ONE_LINE_2 => i64::from(kind - KIND_ONE_LINE_0),
            _ => 0,
        });
        if end > u64::from(offset) {
            return (kind != KIND_NONE).then_some(line);
        }
        let next = after.iter().position(|byte| byte & 0x80 != 0)?;
        rest = after.get(next..)?;
    }
    None
}

/// Six bits a byte, lowest first, bit 6 says that more follow; the lowest bit of the whole is the sign.
fn signed_varint(bytes: &[u8]) -> i64 {
    let mut value = 0_u64;
    for (index, byte) in bytes.iter().enumerate() {
        // Eleven groups fill 64 bits: what is longer is not a line.
        if let Some(part) = u32::try_from(index * 6).ok().filter(|shift| *shift < 60) {
            value |= u64::from(byte & 0x3f) << part;
        }
        if byte & 0x40 == 0 {
            break;
        }
    }
    let magnitude = (value >> 1).cast_signed();
    if value & 1 == 0 { magnitude } else { -magnitude }
}

#[cfg(test)]
mod tests {
    use super::{line, signed_varint};

    #[test]
    fn kinds() {
        let table = [
            0x80 | (10 << 3), // 0..2, +0, two column bytes
            4,
            8,
            0x80 | (11 << 3) | 1, // 2..6, +1
            4,
            8,
            0x80 | (15 << 3),     // 6..8, none
            0x80 | (13 << 3) | 7, // 8..24, -3
            7,
            0x80 | 1, // 24..28, short form, +0
            0,
            0x80 | (14 << 3), // 28..30, long form, +100 in two groups
            0x40 | 8,
            3,
            0,
            1,
            1,
        ];
        assert_eq!(line(&table, 10, 0), Some(10));
        assert_eq!(line(&table, 10, 2), Some(11));
        assert_eq!(line(&table, 10, 5), Some(11));
        assert_eq!(line(&table, 10, 6), None);
        assert_eq!(line(&table, 10, 8), Some(8));
        assert_eq!(line(&table, 10, 24), Some(8));
        assert_eq!(line(&table, 10, 28), Some(108));
        assert_eq!(line(&table, 10, 30), None);
    }

    #[test]
    fn varints() {
        assert_eq!(signed_varint(&[0]), 0);
        assert_eq!(signed_varint(&[2]), 1);
        assert_eq!(signed_varint(&[3]), -1);
        assert_eq!(signed_varint(&[0x40, 1]), 32);
        assert_eq!(signed_varint(&[]), 0);
        let _ = signed_varint(&[0x7f; 64]);
    }
}
