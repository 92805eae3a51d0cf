//! `co_lnotab` of CPython 3.8 and 3.9: pairs of an unsigned step in bytes and a signed step in lines
//! (`Objects/lnotab_notes.txt`). An instruction has the line reached by all pairs that begin at or before it.

pub(super) fn line(table: &[u8], first: i64, offset: u32) -> i64 {
    let mut line = first;
    let mut address = 0_u64;
    let (pairs, _) = table.as_chunks::<2>();
    for [bytes, lines] in pairs {
        address += u64::from(*bytes);
        if address > u64::from(offset) {
            break;
        }
        line += i64::from(lines.cast_signed());
    }
    line
}

#[cfg(test)]
mod tests {
    use super::line;

    #[test]
    fn steps_forth_and_back() {
        // 0..6 line 10, 6..50 line 11, 50.. line 9
        let table = [6, 1, 44, 0xfe];
        assert_eq!(line(&table, 10, 0), 10);
        assert_eq!(line(&table, 10, 5), 10);
        assert_eq!(line(&table, 10, 6), 11);
        assert_eq!(line(&table, 10, 49), 11);
        assert_eq!(line(&table, 10, 50), 9);
        assert_eq!(line(&table, 10, 5000), 9);
    }

    #[test]
    fn steps_longer_than_a_byte() {
        // 300 bytes and 200 lines in one step, as the compiler splits them.
        let table = [255, 0, 45, 127, 0, 73];
        assert_eq!(line(&table, 1, 299), 1);
        assert_eq!(line(&table, 1, 300), 201);
    }
}
