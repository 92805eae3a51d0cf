//! Folded stacks as a flame graph inside the page: a document of its own in a frame that may do nothing but draw.

use super::pieces::escaped;
use inferno::flamegraph::color::{BackgroundColor, MultiPalette, Palette};
use inferno::flamegraph::{self, Options};

/// Narrower frames are not drawn, in percent of the whole.
const MIN_WIDTH_PERCENT: f64 = 0.1;
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
    options.min_width = MIN_WIDTH_PERCENT;
    options.hash = true;
    let mut svg = Vec::new();
    flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), &mut svg).ok()?;
    let svg = String::from_utf8(svg).ok()?;
    let svg = svg.get(svg.find("<svg")?..)?;
    let height = height(svg)?;
    let document = format!("<!doctype html><style>body{{margin:0}}svg{{display:block}}</style>{svg}");
    Some(format!(
        "<iframe class=\"flame\" sandbox=\"allow-scripts\" title=\"flame graph\" style=\"height:{height}px\" \
         srcdoc=\"{}\"></iframe>",
        escaped(&document)
    ))
}

/// Of the picture, in pixels, as it says itself.
fn height(svg: &str) -> Option<u32> {
    let head = svg.get(..svg.find('>')?)?;
    let value = head.split(" height=\"").nth(1)?.split('"').next()?;
    value.parse::<f64>().ok().map(|height| height.clamp(100.0, 20_000.0) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_frame_that_holds_everything() {
        assert_eq!(flame(&[], 0), None);
        let stacks = [("main (a.py);<lambda> (a.py)".to_owned(), 3), ("main (a.py)".to_owned(), 1)];
        let frame = flame(&stacks, 4).unwrap();
        assert!(frame.contains("&amp;lt;lambda&amp;gt; (a.py) (3 samples"), "{frame}");
        assert!(!frame.contains("src=") && !frame.contains("<script"), "{frame}");
    }
}
