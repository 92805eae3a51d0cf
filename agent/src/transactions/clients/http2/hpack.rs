//! Header blocks (HPACK, RFC 7541). A decoder that takes part knows every entry of the dynamic table; this one may have
//! come late, or missed a block. Entries are counted from the newest, so those that were seen keep their numbers
//! whatever came before: an index beyond them is a field that nobody here knows, and is said to be that.
//!
//! Only the values of the fields that matter are kept, in the table too; of all others, their size.

use httlib_huffman::DecoderSpeed;
use std::collections::VecDeque;
use std::sync::Arc;

/// Size of a table before anything is said of it (RFC 7540 section 6.5.2, `SETTINGS_HEADER_TABLE_SIZE`).
const FIRST_SIZE: usize = 4096;
/// Largest table that is kept; what does not fit is not known when it is referred to.
const LARGEST_TABLE: usize = 64 * 1024;
/// What an entry costs besides its name and value (RFC 7541 section 4.1).
const ENTRY: usize = 32;
/// Entries from this size on may not have fitted a table whose limit is not known.
const SURELY_FITS: usize = 2048;
/// Largest number that stands for a length or an index.
const LARGEST_NUMBER: usize = 1 << 24;
/// Longest value that is kept.
const LONGEST_VALUE: usize = 4096;

/// What a field is, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Method,
    Path,
    Authority,
    Status,
    Other,
    /// It stands in an entry that was not seen.
    Unknown,
}

/// Names of the static table (RFC 7541 appendix A), by their index less one. Values are below.
const STATIC: [&str; 61] = [
    ":authority",
    ":method",
    ":method",
    ":path",
    ":path",
    ":scheme",
    ":scheme",
    ":status",
    ":status",
    ":status",
    ":status",
    ":status",
    ":status",
    ":status",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "accept",
    "access-control-allow-origin",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "etag",
    "expect",
    "expires",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "link",
    "location",
    "max-forwards",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "referer",
    "refresh",
    "retry-after",
    "server",
    "set-cookie",
    "strict-transport-security",
    "transfer-encoding",
    "user-agent",
    "vary",
    "via",
    "www-authenticate",
];

/// Values of the static table that matter: of the entries from the second on.
const STATIC_VALUES: [&[u8]; 13] =
    [b"GET", b"POST", b"/", b"/index.html", b"", b"", b"200", b"204", b"206", b"304", b"400", b"404", b"500"];

impl Name {
    fn of(name: &[u8]) -> Self {
        match name {
            b":method" => Self::Method,
            b":path" => Self::Path,
            b":authority" => Self::Authority,
            b":status" => Self::Status,
            _ => Self::Other,
        }
    }

    fn matters(self) -> bool {
        !matches!(self, Self::Other | Self::Unknown)
    }
}

#[derive(Clone, Debug)]
struct Entry {
    name: Name,
    /// Bytes of its name; 0 when that is not known.
    name_length: usize,
    /// `None` for what does not matter.
    value: Option<Arc<[u8]>>,
    /// By RFC 7541 section 4.1.
    size: usize,
}

/// The table of one direction.
#[derive(Debug)]
pub(super) struct Hpack {
    /// Newest first.
    entries: VecDeque<Entry>,
    size: usize,
    most: usize,
    /// Nothing went by unseen, and `most` is what both sides hold it for.
    complete: bool,
    /// Whether the latest entry was added could not be told: no index means anything until the table is emptied.
    doubtful: bool,
    scratch: Vec<u8>,
}

/// One field of a block; values of names that do not matter are empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Field<'a> {
    pub name: Name,
    /// `None` when it is not known.
    pub value: Option<&'a [u8]>,
}

/// The block makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl Hpack {
    /// `complete`: nothing has been sent before.
    pub(super) fn new(complete: bool) -> Self {
        Self {
            entries: VecDeque::new(),
            size: 0,
            most: FIRST_SIZE,
            complete,
            doubtful: false,
            scratch: Vec::new(),
        }
    }

    /// A block went by unseen: what it added is not known, nor what was there.
    pub(super) fn forget(&mut self) {
        self.entries.clear();
        self.size = 0;
        self.complete = false;
    }

    /// Reads one whole block. What it adds to the table is added, up to where it stops making sense.
    pub(super) fn block(
        &mut self,
        mut bytes: &[u8],
        mut each: impl FnMut(Field<'_>),
    ) -> Result<(), Malformed> {
        let read = self.fields(&mut bytes, &mut each);
        if read.is_err() {
            self.forget();
        }
        read
    }

    fn fields(&mut self, bytes: &mut &[u8], each: &mut impl FnMut(Field<'_>)) -> Result<(), Malformed> {
        while let Some(first) = bytes.first().copied() {
            match first {
                // An indexed field (section 6.1).
                0x80.. => {
                    let index = number(bytes, 7)?;
                    self.indexed(index, each)?;
                }
                // A literal that is added to the table (section 6.2.1).
                0x40.. => self.literal(bytes, 6, true, each)?,
                // A new size of the table (section 6.3).
                0x20.. => {
                    let size = number(bytes, 5)?;
                    self.most = size.min(LARGEST_TABLE);
                    self.evict(self.most);
                    self.doubtful &= size > 0;
                }
                // A literal that is not (sections 6.2.2 and 6.2.3).
                _ => self.literal(bytes, 4, false, each)?,
            }
        }
        Ok(())
    }

    fn indexed(&self, index: usize, each: &mut impl FnMut(Field<'_>)) -> Result<(), Malformed> {
        let place = index.checked_sub(1).ok_or(Malformed)?;
        if let Some(name) = STATIC.get(place) {
            let name = Name::of(name.as_bytes());
            let value = place.checked_sub(1).and_then(|place| STATIC_VALUES.get(place)).copied();
            each(Field { name, value: Some(value.filter(|_| name.matters()).unwrap_or_default()) });
            return Ok(());
        }
        each(match self.entry(place) {
            Some(entry) if entry.name == Name::Unknown => Field { name: Name::Unknown, value: None },
            Some(entry) => {
                Field { name: entry.name, value: Some(entry.value.as_deref().unwrap_or_default()) }
            }
            None => Field { name: Name::Unknown, value: None },
        });
        Ok(())
    }

    /// An entry of the dynamic table by its index less one.
    fn entry(&self, place: usize) -> Option<&Entry> {
        let place = place.checked_sub(STATIC.len())?;
        self.entries.get(place).filter(|_| !self.doubtful)
    }

    fn literal(
        &mut self,
        bytes: &mut &[u8],
        prefix: u32,
        added: bool,
        each: &mut impl FnMut(Field<'_>),
    ) -> Result<(), Malformed> {
        let index = number(bytes, prefix)?;
        let (name, name_length) = match index.checked_sub(1) {
            None => {
                string(bytes, &mut self.scratch)?;
                (Name::of(&self.scratch), self.scratch.len())
            }
            Some(place) => match STATIC.get(place) {
                Some(name) => (Name::of(name.as_bytes()), name.len()),
                None => self.entry(place).map_or((Name::Unknown, 0), |entry| (entry.name, entry.name_length)),
            },
        };
        string(bytes, &mut self.scratch)?;
        let value = self.scratch.as_slice();
        let kept = &value[..value.len().min(LONGEST_VALUE)];
        let known = name != Name::Unknown;
        each(Field { name, value: known.then_some(if name.matters() { kept } else { &[] }) });
        if added {
            let value_length = value.len();
            let value = name.matters().then(|| Arc::from(kept));
            self.add(Entry { name, name_length, value, size: name_length + value_length + ENTRY });
        }
        Ok(())
    }

    fn add(&mut self, entry: Entry) {
        let certain = self.complete && entry.name_length > 0;
        if !certain && entry.size > SURELY_FITS.min(self.most) {
            self.doubtful = true;
        }
        // One that does not fit empties the table, and is not in it (section 4.4).
        self.evict(self.most.saturating_sub(entry.size));
        if entry.size <= self.most {
            self.size += entry.size;
            self.entries.push_front(entry);
        }
    }

    /// Drops the oldest until no more than so much is left.
    fn evict(&mut self, most: usize) {
        while self.size > most
            && let Some(oldest) = self.entries.pop_back()
        {
            self.size = self.size.saturating_sub(oldest.size);
        }
    }
}

/// A number whose first bits share a byte with others (section 5.1).
fn number(bytes: &mut &[u8], prefix: u32) -> Result<usize, Malformed> {
    let (first, mut rest) = bytes.split_first().ok_or(Malformed)?;
    let most = (1_usize << prefix) - 1;
    let mut value = usize::from(*first) & most;
    if value == most {
        let mut shift = 0;
        loop {
            let (byte, after) = rest.split_first().ok_or(Malformed)?;
            rest = after;
            value += (usize::from(byte & 0x7f)) << shift;
            shift += 7;
            if value > LARGEST_NUMBER || shift > 28 {
                return Err(Malformed);
            }
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    *bytes = rest;
    Ok(value)
}

/// A string, as it is or by Huffman's code (section 5.2), into `text`.
fn string(bytes: &mut &[u8], text: &mut Vec<u8>) -> Result<(), Malformed> {
    let coded = bytes.first().is_some_and(|first| first & 0x80 != 0);
    let length = number(bytes, 7)?;
    let (string, rest) = bytes.split_at_checked(length).ok_or(Malformed)?;
    *bytes = rest;
    text.clear();
    if coded {
        httlib_huffman::decode(string, text, DecoderSpeed::FourBits).map_err(|_invalid| Malformed)?;
    } else {
        text.extend_from_slice(string);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(table: &mut Hpack, block: &[u8]) -> Result<Vec<(Name, Option<String>)>, Malformed> {
        let mut fields = Vec::new();
        let text = |value: Option<&[u8]>| value.map(|value| String::from_utf8_lossy(value).into_owned());
        table.block(block, |field| fields.push((field.name, text(field.value))))?;
        Ok(fields)
    }

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    fn is(name: Name, value: &str) -> (Name, Option<String>) {
        (name, Some(value.to_owned()))
    }

    const OTHER: Name = Name::Other;

    /// RFC 7541 appendices C.3 and C.4: three requests on one connection, without and with Huffman's code.
    #[test]
    fn requests_of_the_rfc() {
        let plain = [
            "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            "8286 84be 5808 6e6f 2d63 6163 6865",
            "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
        ];
        let coded = [
            "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
            "8286 84be 5886 a8eb 1064 9cbf",
            "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
        ];
        for blocks in [plain, coded] {
            let mut table = Hpack::new(true);
            let host = is(Name::Authority, "www.example.com");
            let first = [is(Name::Method, "GET"), is(OTHER, ""), is(Name::Path, "/"), host.clone()];
            assert_eq!(read(&mut table, &hex(blocks[0])).unwrap(), first);
            assert_eq!(table.size, 57);
            let second = read(&mut table, &hex(blocks[1])).unwrap();
            assert_eq!(second[3..], [host.clone(), is(OTHER, "")]);
            assert_eq!(table.size, 110);
            let third = read(&mut table, &hex(blocks[2])).unwrap();
            assert_eq!(third[2..], [is(Name::Path, "/index.html"), host, is(OTHER, "")]);
            assert_eq!(table.size, 164);
        }
    }

    /// Appendix C.6: answers, with a table of 256 bytes that entries are put out of.
    #[test]
    fn answers_of_the_rfc() {
        let mut table = Hpack::new(true);
        table.most = 256;
        let blocks = [
            "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
            "4883 640e ffc1 c0bf",
            "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
        ];
        for (block, (status, size)) in blocks.iter().zip([("302", 222), ("307", 222), ("200", 215)]) {
            let fields = read(&mut table, &hex(block)).unwrap();
            assert_eq!(fields[0], is(Name::Status, status));
            assert_eq!(table.size, size);
        }
    }

    /// Of every byte, by the code that the same library writes.
    #[test]
    fn huffman_s_code_of_every_byte() {
        let text: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
        let mut coded = Vec::new();
        httlib_huffman::encode(&text, &mut coded).unwrap();
        let mut decoded = Vec::new();
        httlib_huffman::decode(&coded, &mut decoded, DecoderSpeed::FourBits).unwrap();
        assert_eq!(decoded, text);
    }

    #[test]
    fn what_was_added_before_is_unknown_and_what_was_seen_keeps_its_number() {
        let mut table = Hpack::new(false);
        // Two that are in the table: indices 62 and 63.
        assert_eq!(read(&mut table, &[0xbe, 0xbf]).unwrap(), [(Name::Unknown, None), (Name::Unknown, None)]);
        // `:path: /a` is added, and is 62 from then on; what was 62 is 63.
        assert_eq!(read(&mut table, b"\x44\x02/a").unwrap(), [is(Name::Path, "/a")]);
        assert_eq!(read(&mut table, &[0xbe, 0xbf]).unwrap(), [is(Name::Path, "/a"), (Name::Unknown, None)]);
        // A name out of an entry that was not seen.
        assert_eq!(read(&mut table, b"\x7f\x00\x01x").unwrap(), [(Name::Unknown, None)]);
        assert_eq!(read(&mut table, &[0xbe, 0xbf]).unwrap(), [(Name::Unknown, None), is(Name::Path, "/a")]);
        table.forget();
        assert_eq!(read(&mut table, &[0xbf]).unwrap(), [(Name::Unknown, None)]);
    }

    #[test]
    fn whether_a_large_entry_was_added_is_known_only_with_the_table_s_size() {
        // `:path` with a value of 3,000 bytes.
        let large = [&b"\x44\x7f\xb9\x16"[..], &[b'x'; 3000]].concat();
        for (complete, name) in [(true, Name::Path), (false, Name::Unknown)] {
            let mut table = Hpack::new(complete);
            read(&mut table, &large).unwrap();
            assert_eq!(read(&mut table, &[0xbe]).unwrap()[0].0, name);
            // Emptied and filled again.
            read(&mut table, b"\x20\x3f\xe1\x1f\x44\x02/b").unwrap();
            assert_eq!(read(&mut table, &[0xbe]).unwrap(), [is(Name::Path, "/b")]);
        }
    }

    #[test]
    fn an_entry_that_does_not_fit_empties_the_table() {
        let mut table = Hpack::new(true);
        read(&mut table, b"\x44\x02/a\x3f\x09").unwrap();
        assert_eq!((table.entries.len(), table.most), (1, 40));
        read(&mut table, b"\x44\x05/abcd").unwrap();
        assert_eq!((table.entries.len(), table.size), (0, 0));
    }

    #[test]
    fn nonsense_is_refused() {
        for block in [
            &b"\x80"[..],
            b"\x44",
            b"\x44\x05/a",
            b"\x7f",
            b"\xff\xff\xff\xff\xff\xff",
            b"\x44\x84\xff\xff\xff\xff",
            b"\x00\x01a",
        ] {
            let mut table = Hpack::new(true);
            assert_eq!(read(&mut table, block), Err(Malformed), "{block:?}");
            assert!(!table.complete);
        }
        assert_eq!(read(&mut Hpack::new(true), b""), Ok(Vec::new()));
    }
}
