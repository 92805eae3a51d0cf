//! From a key to its pattern: `user:42:name` is `user:{id}:name`. Applications build keys from a few words of
//! their own and from ids; what is left are the words.

/// Characters of a pattern that are kept.
const LONGEST: usize = 96;

/// The key's pattern.
#[must_use]
pub fn pattern(key: &[u8]) -> String {
    let mut pattern = String::with_capacity(key.len().min(LONGEST));
    let mut at = 0;
    while let Some(byte) = key.get(at) {
        if pattern.len() >= LONGEST {
            pattern.push_str("...");
            break;
        }
        let rest = &key[at..];
        if rest.get(..36).is_some_and(is_uuid) {
            pattern.push_str("{uuid}");
            at += 36;
        } else if byte.is_ascii_alphanumeric() {
            let run = rest.iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
            word(&rest[..run], &mut pattern);
            at += run;
        } else if byte.is_ascii_graphic() {
            pattern.push(char::from(*byte));
            at += 1;
        } else {
            let run = rest.iter().take_while(|byte| !byte.is_ascii_graphic()).count();
            pattern.push_str("{binary}");
            at += run;
        }
    }
    if key.contains(&b'@') {
        // An address names a person.
        let words = pattern.split(':').map(|part| if part.contains('@') { "{email}" } else { part });
        pattern = words.collect::<Vec<_>>().join(":");
    }
    pattern
}

/// Letters and digits: a word, with its numbers taken out, or nothing but an id.
fn word(run: &[u8], pattern: &mut String) {
    let digits = run.iter().filter(|byte| byte.is_ascii_digit()).count();
    if run.len() >= 8 && digits > 0 && digits < run.len() && run.iter().all(u8::is_ascii_hexdigit) {
        return pattern.push_str("{hex}");
    }
    // Letters of both cases and digits in turn, or more of them than a word has.
    if run.len() > 40 || (run.len() >= 16 && digits >= 2 && run.iter().any(u8::is_ascii_uppercase)) {
        return pattern.push_str("{token}");
    }
    if matches!(run, [b'v' | b'V', version @ ..] if !version.is_empty() && version.len() == digits && digits <= 2)
    {
        return pattern.push_str(&String::from_utf8_lossy(run));
    }
    let mut in_digits = false;
    for byte in run {
        if !byte.is_ascii_digit() {
            pattern.push(char::from(*byte));
        } else if !in_digits {
            pattern.push_str("{id}");
        }
        in_digits = byte.is_ascii_digit();
    }
}

fn is_uuid(bytes: &[u8]) -> bool {
    bytes.iter().enumerate().all(|(index, byte)| match index {
        8 | 13 | 18 | 23 => *byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (key, expected) in [
            ("user:42:name", "user:{id}:name"),
            ("counter", "counter"),
            ("user_42", "user_{id}"),
            ("cart42", "cart{id}"),
            ("api:v2:user:7", "api:v2:user:{id}"),
            ("celery-task-meta-123e4567-e89b-12d3-a456-426614174000", "celery-task-meta-{uuid}"),
            ("session:ab12cd34ef56ab12cd34ef56ab12cd34", "session:{hex}"),
            (
                ":1:views.cache_page.GET.d41d8cd98f00b204e9800998ecf8427e.en-us.UTC",
                ":{id}:views.cache_page.GET.{hex}.en-us.UTC",
            ),
            ("mail:bob@example.org:unread", "mail:{email}:unread"),
            ("tok:AbC9dEf8GhIjKlMnOp", "tok:{token}"),
            ("a b", "a{binary}b"),
            ("\u{e9}t\u{e9}", "{binary}t{binary}"),
            ("", ""),
        ] {
            assert_eq!(pattern(key.as_bytes()), expected, "{key}");
        }
        assert!(pattern(&[b':'; 5_000]).len() <= LONGEST + 3);
        assert!(pattern(&[0xff; 5_000]).len() <= LONGEST + 16);
    }
}
