//! What a connection speaks, by its first bytes. Guesses only; framing is elsewhere.

/// Whether bytes are the start of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Likeness {
    Yes,
    /// Nothing speaks against it, but more bytes are needed.
    Maybe,
    No,
}

/// Longest method that is taken for one. Registered methods have at most 17 letters.
const LONGEST_METHOD: usize = 32;
/// Longest request line; gunicorn and uWSGI refuse far shorter ones.
const LONGEST_LINE: usize = 32 * 1024;

/// An HTTP/1 request line: `method SP target SP HTTP/1.x` (RFC 9112 section 3). Empty lines before it are
/// skipped, as servers do (section 2.2).
#[must_use]
pub fn request_likeness(bytes: &[u8]) -> Likeness {
    let start = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    let line = &bytes[start..];
    let method = line.iter().take_while(|byte| is_token(**byte)).count();
    if method > LONGEST_METHOD {
        return Likeness::No;
    }
    let Some((b' ', target)) = line[method..].split_first() else {
        return if method == line.len() { Likeness::Maybe } else { Likeness::No };
    };
    if method == 0 {
        return Likeness::No;
    }
    let length = target.iter().take_while(|byte| **byte > b' ' && **byte != 0x7f).count();
    if length > LONGEST_LINE {
        return Likeness::No;
    }
    match target[length..].split_first() {
        None => Likeness::Maybe,
        Some((b' ', version)) if length > 0 => prefix_likeness(version, b"HTTP/1."),
        Some(_) => Likeness::No,
    }
}

/// An HTTP/1 status line.
#[must_use]
pub fn response_likeness(bytes: &[u8]) -> Likeness {
    prefix_likeness(bytes, b"HTTP/1.")
}

fn prefix_likeness(bytes: &[u8], prefix: &[u8]) -> Likeness {
    let common = bytes.len().min(prefix.len());
    match bytes[..common] == prefix[..common] {
        true if common == prefix.len() => Likeness::Yes,
        true => Likeness::Maybe,
        false => Likeness::No,
    }
}

/// `tchar` of RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_lines() {
        for (bytes, expected) in [
            (&b"GET / HTTP/1.1\r\n"[..], Likeness::Yes),
            (b"\r\nGET / HTTP/1.0", Likeness::Yes),
            (b"OPTIONS * HTTP/1.1", Likeness::Yes),
            (b"M-SEARCH * HTTP/1.1", Likeness::Yes),
            (b"GET http://host/a?b HTTP/1.1", Likeness::Yes),
            (b"", Likeness::Maybe),
            (b"G", Likeness::Maybe),
            (b"GET ", Likeness::Maybe),
            (b"GET /abc", Likeness::Maybe),
            (b"GET /abc HTT", Likeness::Maybe),
            (b"PRI * HTTP/2.0\r\n", Likeness::No),
            (b"GET  HTTP/1.1", Likeness::No),
            (b"GET /\r\n", Likeness::No),
            (b"HTTP/1.1 200 OK\r\n", Likeness::No),
            (b"*1\r\n$4\r\nPING\r\n", Likeness::No),
            (b"\x16\x03\x01\x02\x00\x01", Likeness::No),
            (b"J\0\0\0\x0a5.5.5-10.11", Likeness::No),
            (b" / HTTP/1.1", Likeness::No),
        ] {
            assert_eq!(request_likeness(bytes), expected, "{}", String::from_utf8_lossy(bytes));
        }
        assert_eq!(request_likeness(&[b'A'; 40]), Likeness::No);
    }
}
