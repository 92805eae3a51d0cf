//! `co_linetable` of CPython 3.10: pairs of an unsigned length in bytes and a signed step in lines, where
//! -128 means that the range has no line (PEP 626, `Objects/codeobject.c`). Every pair is a range, also one
//! whose step is zero: unlike in `co_lnotab`, the step comes before the range it belongs to.

/// The step that marks a range without a line.
const NO_LINE: i8 = -128;

pub(super) fn line(table: &[u8], first: i64, offset: u32) -> Option<i64> {
    let mut line = first;
    let mut end = 0_u64;
    let (pairs, _) = table.as_chunks::<2>();
    for [bytes, lines] in pairs {
        let step = lines.cast_signed();
        end += u64::from(*bytes);
        if step != NO_LINE {
            line += i64::from(step);
        }
        if end > u64::from(offset) {
            return (step != NO_LINE).then_some(line);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::line;

    #[test]
    fn ranges() {
        // 0..4 line 10, 4..8 no line, 8..12 line 10 again, 12..14 line 8
        let table = [4, 0, 4, 0x80, 4, 0, 2, 0xfe];
        assert_eq!(line(&table, 10, 0), Some(10));
        assert_eq!(line(&table, 10, 3), Some(10));
        assert_eq!(line(&table, 10, 4), None);
        assert_eq!(line(&table, 10, 8), Some(10));
        assert_eq!(line(&table, 10, 12), Some(8));
        assert_eq!(line(&table, 10, 14), None);
    }

    #[test]
    fn empty_ranges_only_move_the_line() {
        // A step of 300 lines is split: two empty ranges, then the real one.
        let table = [0, 127, 0, 127, 6, 46];
        assert_eq!(line(&table, 1, 0), Some(301));
    }
}
