//! Folded stacks as a flame graph inside the page: a picture with a script of its own, in a frame that may
//! do nothing but draw.

use inferno::flamegraph::color::{BackgroundColor, MultiPalette, Palette};
use inferno::flamegraph::{self, Options, TextTruncateDirection};

/// Narrower frames are not drawn, in percent of the whole.
const MIN_WIDTH_PERCENT: f64 = 0.1;
/// Of the picture, in pixels: what the page has on a wide screen. On a narrow one it is scrolled in its frame. One that
/// follows the frame's width is drawn anew by its script after it was drawn once, wrongly.
const WIDTH: usize = 1_140;
/// Of a scroll bar below it.
const BAR: u32 = 18;
/// Stacks that are drawn, the most frequent: what is left out is narrower than can be seen.
const STACKS: usize = 20_000;

/// `None` when there is nothing to draw, or the library refuses it.
pub(super) fn flame(stacks: &[(String, u64)], samples: u64) -> Option<String> {
    if stacks.is_empty() {
        return None;
    }
    let mut lines: Vec<String> =
        stacks.iter().take(STACKS).map(|(stack, samples)| format!("{stack} {samples}")).collect();
    lines.sort_unstable();
    let mut options = Options::default();
    options.title = "on-CPU samples".to_owned();
    options.subtitle = Some(format!("{samples} samples; click a frame to zoom, Ctrl-F searches"));
    options.count_name = "samples".to_owned();
    options.name_type = "Frame:".to_owned();
    options.colors = Palette::Multi(MultiPalette::Python);
    options.bgcolors = Some(BackgroundColor::Flat((250, 250, 248).into()));
    options.image_width = Some(WIDTH);
    options.min_width = MIN_WIDTH_PERCENT;
    options.hash = true;
    options.text_truncate_direction = TextTruncateDirection::Right;
    let mut svg = Vec::new();
    flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), &mut svg).ok()?;
    let svg = String::from_utf8(svg).ok()?;
    let svg = svg.get(svg.find("<svg")?..)?;
    let height = height(svg)?;
    Some(format!(
        "<iframe class=\"flame\" sandbox=\"allow-scripts\" title=\"flame graph\" style=\"height:{height}px\" \
         src=\"data:image/svg+xml,{}\"></iframe>",
        encoded(svg)
    ))
}

/// As an address has it (RFC 3986, section 2.1), and as an attribute in quotes may have it.
fn encoded(svg: &str) -> String {
    let mut address = String::with_capacity(svg.len() * 3 / 2);
    for byte in svg.bytes() {
        let is_plain = byte.is_ascii_alphanumeric() || b" -_.~=:/;,()+*!$@?|[]{}".contains(&byte);
        if is_plain {
            address.push(char::from(byte));
        } else {
            address.push_str(&format!("%{byte:02X}"));
        }
    }
    address
}

/// Of the frame, in pixels: the picture's, as it says itself, and room for a scroll bar.
fn height(svg: &str) -> Option<u32> {
    let head = svg.get(..svg.find('>')?)?;
    let value = head.split(" height=\"").nth(1)?.split('"').next()?;
    value.parse::<f64>().ok().map(|height| height.clamp(100.0, 20_000.0) as u32 + BAR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_frame_that_holds_everything() {
        assert_eq!(flame(&[], 0), None);
        let stacks = [("main (a.py);<lambda> (a.py)".to_owned(), 3), ("main (a.py)".to_owned(), 1)];
        let frame = flame(&stacks, 4).unwrap();
        assert!(frame.contains("%26lt;lambda%26gt; (a.py) (3 samples"), "{frame}");
        assert!(
            frame.contains("src=\"data:image/svg+xml,%3Csvg") && frame.matches('<').count() == 2,
            "{frame}"
        );
    }
}
