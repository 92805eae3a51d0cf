//! Low-cardinality names of transactions, from the path alone. Frameworks' own routes come from elsewhere.

use std::collections::HashSet;

/// What a transaction is called when there are too many names.
pub const OTHER: &str = "{other}";
/// Segments of a path that a name keeps.
const MOST_SEGMENTS: usize = 10;
/// A segment longer than this is a value, not a word.
const LONGEST_SEGMENT: usize = 40;

/// `GET /users/{id}`, by a path that [`of_path`] has made low in variety; `GET (not found)` for 404, where paths are the
/// visitor's invention.
#[must_use]
pub fn of_request(method: &str, path: Option<&str>, status: Option<u16>) -> String {
    match (path, status) {
        (_, Some(404)) => format!("{method} (not found)"),
        (Some(path), _) => format!("{method} {path}"),
        (None, _) => method.to_owned(),
    }
}

/// The path with its variable segments replaced by what they look like.
#[must_use]
pub fn of_path(path: &str) -> String {
    if !path.starts_with('/') {
        // `*`, the server itself (RFC 9110 section 9.3.7).
        return if path == "*" { path.to_owned() } else { OTHER.to_owned() };
    }
    let mut name = String::with_capacity(path.len());
    for (index, segment) in path[1..].split('/').enumerate() {
        name.push('/');
        if index >= MOST_SEGMENTS {
            name.push_str("{rest}");
            break;
        }
        match placeholder(segment) {
            Some(placeholder) => name.push_str(placeholder),
            None => name.push_str(segment),
        }
    }
    name
}

/// What a segment that is a value looks like; `None` for a word of the application's own.
fn placeholder(segment: &str) -> Option<&'static str> {
    let bytes = segment.as_bytes();
    let (stem, extension) = match segment.rsplit_once('.') {
        Some((stem, extension)) if !stem.is_empty() => (stem, Some(extension)),
        _ => (segment, None),
    };
    let digits = bytes.iter().filter(|byte| byte.is_ascii_digit()).count();
    if bytes.is_empty() || is_version(bytes) {
        return None;
    }
    if is_uuid(stem.as_bytes()) {
        return Some("{uuid}");
    }
    if is_date(bytes) {
        return Some("{date}");
    }
    // `7`, `-7`, `1.5`, `10-20`, `7.json`.
    let is_number = |text: &str| {
        let punctuation = |byte: u8| matches!(byte, b'-' | b'_' | b'.' | b',' | b':' | b'+');
        text.bytes().any(|byte| byte.is_ascii_digit())
            && text.bytes().all(|byte| byte.is_ascii_digit() || punctuation(byte))
    };
    if is_number(segment) || is_number(stem) && extension.is_some_and(|e| e.len() <= 5) {
        return Some("{id}");
    }
    let hex = stem.bytes().all(|byte| byte.is_ascii_hexdigit());
    if hex && stem.len() >= 8 && digits > 0 && stem.bytes().any(|byte| byte.is_ascii_alphabetic()) {
        return Some("{hex}");
    }
    if bytes.contains(&b'@') || segment.contains("%40") {
        return Some("{email}");
    }
    // A run of digits in a word (`order-123456`, `img20240131`): the word is not stable.
    if longest_digit_run(bytes) >= 4 {
        return Some("{id}");
    }
    let odd = !bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~:!$'()*,;=".contains(byte));
    if odd || bytes.len() > LONGEST_SEGMENT || bytes.iter().filter(|byte| **byte == b'-').count() >= 4 {
        return Some("{slug}");
    }
    // Letters and digits in turn, mixed case: a token (`dQw4w9WgXcQ`).
    if bytes.len() >= 10 && digits >= 2 && switches(bytes) >= 4 {
        return Some("{token}");
    }
    None
}

/// `v1`, `v2.1`, `v1beta1`: a version of an interface, stable and worth keeping.
fn is_version(bytes: &[u8]) -> bool {
    matches!(bytes, [b'v' | b'V', first, rest @ ..] if first.is_ascii_digit() && rest.len() <= 6
        && longest_digit_run(bytes) <= 3)
}

fn is_uuid(bytes: &[u8]) -> bool {
    bytes.len() == 36
        && bytes.iter().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// `2024-01-31`, also with a time behind it. A path of `2024/01/31` gives three ids.
fn is_date(bytes: &[u8]) -> bool {
    let [y @ .., b'-', m0, m1, b'-', d0, d1] = bytes.get(..10).unwrap_or_default() else { return false };
    let month = u32::from(m0.wrapping_sub(b'0')) * 10 + u32::from(m1.wrapping_sub(b'0'));
    let day = u32::from(d0.wrapping_sub(b'0')) * 10 + u32::from(d1.wrapping_sub(b'0'));
    let digits = [m0, m1, d0, d1].into_iter().chain(y).all(u8::is_ascii_digit);
    let ends = bytes.get(10).is_none_or(|next| matches!(next, b'T' | b't' | b'_' | b' ' | b'.' | b'%'));
    digits && ends && (1..=12).contains(&month) && (1..=31).contains(&day)
}

fn longest_digit_run(bytes: &[u8]) -> usize {
    bytes.split(|byte| !byte.is_ascii_digit()).map(<[u8]>::len).max().unwrap_or(0)
}

/// Changes between lower case, upper case and digits.
fn switches(bytes: &[u8]) -> usize {
    let class = |byte: &u8| match byte {
        b'0'..=b'9' => 0,
        b'A'..=b'Z' => 1,
        _ => 2,
    };
    bytes.windows(2).filter(|pair| class(&pair[0]) != class(&pair[1])).count()
}

/// The names given so far, up to a bound.
#[derive(Debug)]
pub struct Names {
    known: HashSet<String>,
    most: usize,
}

impl Names {
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { known: HashSet::new(), most }
    }

    /// The name itself while there is room for it, else [`OTHER`].
    pub fn admit(&mut self, name: String) -> String {
        if self.known.contains(&name) {
            return name;
        }
        if self.known.len() >= self.most {
            return OTHER.to_owned();
        }
        self.known.insert(name.clone());
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments() {
        for (path, expected) in [
            ("/", "/"),
            ("/users/7", "/users/{id}"),
            ("/users/7/orders/12-3/", "/users/{id}/orders/{id}/"),
            ("/api/v1/users", "/api/v1/users"),
            ("/api/v2.1/x", "/api/v2.1/x"),
            ("/o/123e4567-e89b-12d3-a456-426614174000", "/o/{uuid}"),
            ("/c/deadbeef01", "/c/{hex}"),
            ("/c/deadbeef", "/c/deadbeef"),
            ("/facade/feedface1", "/facade/{hex}"),
            ("/log/2024-01-31", "/log/{date}"),
            ("/log/2024-01-31T10:00:00Z", "/log/{date}"),
            ("/log/2024-13-31", "/log/{id}"),
            ("/blog/2024/01/31/why-i-like-long-slugs-so-much", "/blog/{id}/{id}/{id}/{slug}"),
            ("/u/a@b.example", "/u/{email}"),
            ("/order/order-123456", "/order/{id}"),
            ("/v/dQw4w9WgXcQ", "/v/{token}"),
            ("/static/app.css", "/static/app.css"),
            ("/img/7.png", "/img/{id}"),
            ("/a b/c", "/{slug}/c"),
            ("/x/%D0%B0", "/x/{slug}"),
            ("/oauth2/token", "/oauth2/token"),
            ("/health_check", "/health_check"),
            ("/nplus1", "/nplus1"),
            ("/a/b/c/d/e/f/g/h/i/j/k/l", "/a/b/c/d/e/f/g/h/i/j/{rest}"),
            ("*", "*"),
        ] {
            assert_eq!(of_path(path), expected, "{path}");
        }
    }

    #[test]
    fn not_found_is_one_name() {
        assert_eq!(of_request("GET", Some("/wp-login.php"), Some(404)), "GET (not found)");
        assert_eq!(of_request("GET", Some(&of_path("/users/7")), Some(200)), "GET /users/{id}");
        assert_eq!(of_request("CONNECT", None, None), "CONNECT");
    }

    #[test]
    fn names_are_bounded() {
        let mut names = Names::new(2);
        assert_eq!(names.admit("a".into()), "a");
        assert_eq!(names.admit("b".into()), "b");
        assert_eq!(names.admit("c".into()), OTHER);
        assert_eq!(names.admit("a".into()), "a");
    }
}
