//! Tasks that are put on a list for Celery's workers: JSON with the task's name and number among its headers (kombu 5
//! `transport/virtual/base.py`: `body`, `content-encoding`, `content-type`, `headers`, `properties`).

/// Bytes of a message that are kept. Its body comes before its headers.
pub const KEPT: usize = 16 * 1024;
/// What comes of the queue's name behind its own (kombu 5 `transport/redis.py`): a priority.
const PRIORITY: &[u8] = b"\x06\x16";
/// Longest number that is kept.
const LONGEST_ID: usize = 255;

/// Whether a value may be one.
#[must_use]
pub fn begins(value: &[u8]) -> bool {
    value.starts_with(b"{\"body\":")
}

/// Queue and number of the task that a command puts on a list.
#[must_use]
pub fn sent(arguments: &[Vec<u8>]) -> Option<(String, String)> {
    let [command, queue, value, ..] = arguments else { return None };
    if !(command.eq_ignore_ascii_case(b"LPUSH") || command.eq_ignore_ascii_case(b"RPUSH")) || !begins(value) {
        return None;
    }
    let mut json = Json { rest: value };
    json.enter()?;
    loop {
        if json.key()? == b"headers" {
            break;
        }
        json.skip()?;
    }
    json.enter()?;
    let (mut id, mut named) = (None, false);
    while id.is_none() || !named {
        match json.key()? {
            b"id" => id = Some(json.string()?),
            b"task" => named = !json.string()?.is_empty(),
            _ => json.skip()?,
        }
    }
    let id = std::str::from_utf8(id?).ok().filter(|id| (1..=LONGEST_ID).contains(&id.len()))?;
    let end = queue.windows(PRIORITY.len()).position(|window| window == PRIORITY).unwrap_or(queue.len());
    let queue = std::str::from_utf8(&queue[..end]).ok()?;
    Some((queue.to_owned(), id.to_owned()))
}

/// A walk through JSON that may be cut anywhere. Strings are left as they are written: none that is looked for has
/// anything to escape.
struct Json<'a> {
    rest: &'a [u8],
}

impl<'a> Json<'a> {
    fn next(&mut self) -> Option<u8> {
        self.rest = self.rest.trim_ascii_start();
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    /// Into an object.
    fn enter(&mut self) -> Option<()> {
        (self.next()? == b'{').then_some(())
    }

    /// The next key of the object; `None` at its end.
    fn key(&mut self) -> Option<&'a [u8]> {
        self.rest = self.rest.trim_ascii_start();
        if let [b',', rest @ ..] = self.rest {
            self.rest = rest;
        }
        let key = self.string()?;
        (self.next()? == b':').then_some(key)
    }

    fn string(&mut self) -> Option<&'a [u8]> {
        if self.next()? != b'"' {
            return None;
        }
        let mut at = 0;
        loop {
            match self.rest.get(at)? {
                b'"' => break,
                b'\\' => at += 2,
                _ => at += 1,
            }
        }
        let (string, rest) = self.rest.split_at_checked(at)?;
        self.rest = rest.get(1..)?;
        Some(string)
    }

    /// Past one value.
    fn skip(&mut self) -> Option<()> {
        let mut depth = 0u32;
        loop {
            self.rest = self.rest.trim_ascii_start();
            match self.rest.first()? {
                b'"' => drop(self.string()?),
                b'{' | b'[' => {
                    depth += 1;
                    self.next()?;
                }
                b'}' | b']' => {
                    depth = depth.checked_sub(1)?;
                    self.next()?;
                }
                b',' | b':' if depth > 0 => drop(self.next()?),
                _ => {
                    let is_end =
                        |byte: &u8| matches!(byte, b',' | b'}' | b']' | b':') || byte.is_ascii_whitespace();
                    let end = self.rest.iter().position(is_end)?;
                    // Nothing where a value should be.
                    self.rest = self.rest.get(end..).filter(|_| end > 0)?;
                }
            }
            if depth == 0 {
                return Some(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(queue: &str, value: &str) -> Option<(String, String)> {
        sent(&[b"LPUSH".to_vec(), queue.into(), value.into()])
    }

    #[test]
    fn a_task() {
        let value = r#"{"body": "W1sxLCAyXV0=", "content-encoding": "utf-8", "content-type": "application/json",
            "headers": {"lang": "py", "stamps": {"id": "no", "a": [1, {"task": 2}]}, "task": "work.add", "retries": 0,
            "argsrepr": "('\"id\": \"x\"', 2)", "id": "bfc3e7db", "shadow": null}, "properties": {"id": "no"}}"#;
        let expected = Some(("celery".to_owned(), "bfc3e7db".to_owned()));
        assert_eq!(of("celery", value), expected);
        assert_eq!(of("celery\u{6}\u{16}3", value), expected);
        for end in 0..value.len() {
            // Cut anywhere it is the same, or nothing.
            assert!(of("celery", &value[..end]).is_none_or(|found| Some(found) == expected));
        }
    }

    #[test]
    fn others() {
        for value in
            ["", "{", "{\"body\":", "{\"body\": 1}", "{\"body\": 1, \"headers\": {\"id\": \"x\"}}", "[1]"]
        {
            assert_eq!(of("celery", value), None, "{value}");
        }
        let value = "{\"body\": 1, \"headers\": {\"id\": \"x\", \"task\": \"\"}}";
        assert_eq!(of("celery", value), None);
        assert_eq!(sent(&[b"SET".to_vec(), b"celery".to_vec(), b"{\"body\": 1".to_vec()]), None);
    }
}
