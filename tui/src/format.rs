//! Figures and texts for people: durations, rates, sizes, shares, and texts cut to the columns that they
//! have. Shared by the live view and the text report, so that both say the same thing in the same words.
//! Machines get the raw values instead.
//!
//! No figure is wider than seven columns, so tables can have fixed columns that never jump.

use pyapm_model::line::Frame;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// What stands for a value that is not known. Never a zero: that would be a value.
pub const UNKNOWN: &str = "-";

/// `1.2 ms`: two or three digits, the unit that fits.
pub fn duration(ns: u64) -> String {
    const UNITS: [(f64, &str); 4] = [(1.0, "ns"), (1e3, "µs"), (1e6, "ms"), (1e9, "s")];
    let seconds = ns / 1_000_000_000;
    if seconds >= 60 {
        return long_duration(seconds);
    }
    if ns == 0 {
        // In the unit that most figures around it have.
        return "0 ms".to_owned();
    }
    if ns < 1_000 {
        return format!("{ns} ns");
    }
    let value = ns as f64;
    for (factor, unit) in UNITS {
        let scaled = value / factor;
        // Decided on the rounded figure: 999.7 µs is `1.0 ms`, not `1000 µs`.
        if scaled < 999.5 {
            return if scaled < 99.95 {
                format!("{scaled:.1} {unit}")
            } else {
                format!("{scaled:.0} {unit}")
            };
        }
    }
    long_duration(seconds)
}

fn long_duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600, seconds / 60);
    if hours == 0 {
        format!("{minutes}m{:02}s", seconds % 60)
    } else if days == 0 {
        format!("{hours}h{:02}m", minutes % 60)
    } else if days < 1_000 {
        format!("{days}d{:02}h", hours % 24)
    } else {
        format!("{days}d")
    }
}

/// Whole seconds, for times that run: `12 s`, `90 s`, `2m03s`.
pub fn whole_seconds(ns: u64) -> String {
    let seconds = ns / 1_000_000_000;
    if seconds < 100 { format!("{seconds} s") } else { long_duration(seconds) }
}

/// A rate or another mean per something, without its unit.
pub fn rate(value: f64) -> String {
    if !value.is_finite() {
        UNKNOWN.to_owned()
    } else if value > 0.0 && value < 0.005 {
        // It happens, if seldom: rounding it to zero would say that it does not.
        "<0.01".to_owned()
    } else if value < 9.995 {
        format!("{value:.2}")
    } else if value < 99.95 {
        format!("{value:.1}")
    } else {
        count(value.round() as u64)
    }
}

/// A count in at most five columns: exact below 100,000, then `123k`, `1.2M`.
pub fn count(value: u64) -> String {
    if value < 100_000 {
        return value.to_string();
    }
    let mut scaled = value as f64 / 1e3;
    for unit in ["k", "M", "G", "T", "P", "E"] {
        if scaled < 9.95 {
            return format!("{scaled:.1}{unit}");
        }
        if scaled < 999.5 {
            return format!("{scaled:.0}{unit}");
        }
        scaled /= 1e3;
    }
    value.to_string()
}

/// A count with its digits in groups: `1,234,567`.
pub fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A share from 0.0 to 1.0 in per cent, without the sign.
pub fn percent(share: f64) -> String {
    let value = share * 100.0;
    if !value.is_finite() {
        UNKNOWN.to_owned()
    } else if value > 0.0 && value < 0.05 {
        "<0.1".to_owned()
    } else {
        format!("{value:.1}")
    }
}

/// `part` of `whole` in per cent with its sign; unknown when there is no whole.
pub fn percent_of(part: u64, whole: u64) -> String {
    if whole == 0 { UNKNOWN.to_owned() } else { format!("{} %", percent(part as f64 / whole as f64)) }
}

/// `12.3 M`: powers of 1,024, with the letter only.
pub fn bytes(value: u64) -> String {
    let mut scaled = value as f64;
    for unit in ["B", "K", "M", "G", "T"] {
        if unit == "B" && value < 1_000 {
            return format!("{value} B");
        }
        if scaled < 999.5 {
            return if scaled < 99.95 {
                format!("{scaled:.1} {unit}")
            } else {
                format!("{scaled:.0} {unit}")
            };
        }
        scaled /= 1024.0;
    }
    format!("{scaled:.0} P")
}

/// CPU cores: 1.0 is one core.
pub fn cores(value: f64) -> String {
    if value.is_finite() { format!("{value:.2}") } else { UNKNOWN.to_owned() }
}

/// The formatted value, or the sign for unknown.
pub fn known<T>(value: Option<T>, format: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| UNKNOWN.to_owned(), format)
}

/// Makes a text from a watched process safe to print: it is hostile. Control characters could drive the
/// terminal, and the bidirectional ones reorder what stands beside them. White space becomes one blank.
pub fn clean(text: &str) -> String {
    let mut cleaned = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_whitespace() {
            if !cleaned.ends_with(' ') {
                cleaned.push(' ');
            }
        } else if character.is_control() || is_invisible_format(character) {
            cleaned.push(char::REPLACEMENT_CHARACTER);
        } else {
            cleaned.push(character);
        }
    }
    cleaned
}

/// The bidirectional controls of Unicode (UAX #9) and the line and paragraph separators' relatives.
fn is_invisible_format(character: char) -> bool {
    matches!(character, '\u{200B}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}')
}

/// Columns that the text takes on a terminal.
pub fn width(text: &str) -> usize {
    UnicodeWidthStr::width(text)
}

/// The text in at most `columns`, its end replaced by `…` when it is cut.
pub fn fit(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let Some(room) = columns.checked_sub(1) else { return String::new() };
    let mut cut = String::new();
    let mut used = 0;
    for character in text.chars() {
        let wide = character.width().unwrap_or(0);
        if used + wide > room {
            break;
        }
        used += wide;
        cut.push(character);
    }
    cut.push('…');
    cut
}

/// The text in at most `columns`, its beginning replaced by `…` when it is cut.
pub fn fit_end(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let Some(room) = columns.checked_sub(1) else { return String::new() };
    let (mut start, mut used) = (text.len(), 0);
    for (index, character) in text.char_indices().rev() {
        used += character.width().unwrap_or(0);
        if used > room {
            break;
        }
        start = index;
    }
    format!("…{}", &text[start..])
}

/// The text on lines of at most `columns`, broken at blanks where there are any. At least one line.
pub fn wrap(text: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(2);
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split_inclusive(' ') {
        let wide = width(word.trim_end_matches(' '));
        if used > 0 && used + wide > columns {
            lines.push(String::new());
            used = 0;
        }
        for character in word.chars() {
            let wide = character.width().unwrap_or(0);
            // A blank that does not fit any more is the break itself.
            if used + wide > columns {
                if character == ' ' {
                    continue;
                }
                lines.push(String::new());
                used = 0;
            }
            used += wide;
            if let Some(line) = lines.last_mut() {
                line.push(character);
            }
        }
    }
    lines
}

/// The text cut and filled to exactly `columns`, at the left edge.
pub fn left(text: &str, columns: usize) -> String {
    let mut text = fit(text, columns);
    text.extend(std::iter::repeat_n(' ', columns.saturating_sub(width(&text))));
    text
}

/// The text cut and filled to exactly `columns`, at the right edge.
pub fn right(text: &str, columns: usize) -> String {
    let text = fit(text, columns);
    let mut padded = " ".repeat(columns.saturating_sub(width(&text)));
    padded.push_str(&text);
    padded
}

/// The file's last two parts, which tell `shop/views.py` from `blog/views.py`.
pub fn short_file(file: &str) -> &str {
    let mut slashes = file.char_indices().rev().filter(|(_, character)| *character == '/');
    match slashes.nth(1) {
        Some((index, _)) => &file[index + 1..],
        None => file.trim_start_matches('/'),
    }
}

/// `shop/views.py:12`, without the line when it is not known.
pub fn place(frame: &Frame) -> String {
    let file = clean(short_file(&frame.file));
    match frame.line {
        Some(line) => format!("{file}:{line}"),
        None => file,
    }
}

/// `shop/views.py:12 user_detail`: a place in the code, which has to survive being cut.
pub fn call_site(frame: &Frame) -> String {
    format!("{} {}", place(frame), clean(&frame.function))
}

/// `user_detail shop/views.py:12`
pub fn frame(frame: &Frame) -> String {
    format!("{} {}", clean(&frame.function), place(frame))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_change_their_unit_on_the_rounded_figure() {
        let cases = [
            (0, "0 ms"),
            (999, "999 ns"),
            (1_000, "1.0 µs"),
            (1_234_000, "1.2 ms"),
            (99_940_000, "99.9 ms"),
            (99_960_000, "100 ms"),
            (999_499_999, "999 ms"),
            (999_500_000, "1.0 s"),
            (59_900_000_000, "59.9 s"),
            (60_000_000_000, "1m00s"),
            (3_599_000_000_000, "59m59s"),
            (3_600_000_000_000, "1h00m"),
            (90_000_000_000_000, "1d01h"),
        ];
        for (ns, expected) in cases {
            assert_eq!(duration(ns), expected, "{ns}");
        }
    }

    #[test]
    fn figures_fit_their_columns_whatever_the_value() {
        let mut value = 1_u64;
        loop {
            for near in [value - 1, value, value.saturating_add(1)] {
                assert!(width(&count(near)) <= 5, "{near}: {}", count(near));
                assert!(width(&bytes(near)) <= 7, "{near}: {}", bytes(near));
                assert!(width(&duration(near)) <= 7, "{near}: {}", duration(near));
                assert!(width(&rate(near as f64)) <= 5, "{near}: {}", rate(near as f64));
            }
            match value.checked_mul(10) {
                Some(next) => value = next,
                None => break,
            }
        }
    }

    #[test]
    fn rare_is_not_never_and_no_number_is_unknown() {
        assert_eq!((rate(0.0).as_str(), rate(0.001).as_str()), ("0.00", "<0.01"));
        assert_eq!((percent(0.0).as_str(), percent(0.0001).as_str()), ("0.0", "<0.1"));
        assert_eq!(rate(f64::NAN), UNKNOWN);
        assert_eq!(percent_of(0, 0), UNKNOWN);
        assert_eq!(known(None, duration), UNKNOWN);
    }

    #[test]
    fn digits_are_grouped() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(123), "123");
        assert_eq!(grouped(1_234), "1,234");
        assert_eq!(grouped(12_345_678), "12,345,678");
    }

    #[test]
    fn texts_are_cut_by_columns_not_by_characters() {
        assert_eq!(fit("GET /users", 10), "GET /users");
        assert_eq!(fit("GET /users", 6), "GET /…");
        assert_eq!(fit("订单查询", 8), "订单查询");
        // Four columns hold one wide character and the ellipsis; half a character is never drawn.
        assert_eq!(fit("订单查询", 4), "订…");
        assert_eq!(fit("anything", 0), "");
        assert_eq!(left("订单查询", 4), "订… ");
        assert_eq!(right("12", 5), "   12");
    }

    #[test]
    fn texts_are_cut_at_either_end_and_wrapped_at_blanks() {
        assert_eq!(fit_end("a long filter", 7), "…filter");
        assert_eq!(fit_end("订单查询", 4), "…询");
        assert_eq!(wrap("SELECT name FROM users", 11), ["SELECT name", "FROM users"]);
        assert_eq!(wrap("abcdefgh", 3), ["abc", "def", "gh"]);
        assert_eq!(wrap("", 3), [""]);
        for columns in 0..30 {
            for line in wrap("SELECT 订单查询 FROM a_very_long_table_name WHERE x = ?", columns) {
                assert!(width(&line) <= columns.max(2), "{columns}: {line:?}");
            }
        }
    }

    #[test]
    fn hostile_texts_cannot_drive_the_terminal() {
        assert_eq!(clean("a\x1b[2Jb\u{9b}c"), "a\u{fffd}[2Jb\u{fffd}c");
        assert_eq!(clean("SELECT *\n\t  FROM users"), "SELECT * FROM users");
        assert_eq!(clean("moc\u{202e}txt"), "moc\u{fffd}txt");
    }

    #[test]
    fn files_are_shortened_to_what_tells_them_apart() {
        assert_eq!(short_file("/srv/shop/views.py"), "shop/views.py");
        assert_eq!(short_file("/views.py"), "views.py");
        assert_eq!(short_file("views.py"), "views.py");
        assert_eq!(short_file("shop/views.py"), "shop/views.py");
    }
}
