//! A flame graph: an SVG that is searched and zoomed in a browser. With a baseline, frames that take a greater share
//! than before are red, those that take a smaller one blue.

use super::folded;
use super::names::{self, Origin};
use super::recording::Recording;
use inferno::differential;
use inferno::flamegraph::color::{BackgroundColor, Color, PaletteMap};
use inferno::flamegraph::{self, Options};
use std::io::{self, Write};

/// Narrower frames are not drawn, in percent of the whole: the picture of 100,000 stacks would open in no browser.
const MIN_WIDTH_PERCENT: f64 = 0.05;

/// `baseline` is folded stacks of an earlier recording.
pub(super) fn write(
    recording: &Recording<'_>,
    baseline: Option<&[u8]>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let stacks = folded::lines(recording);
    if stacks.is_empty() {
        return empty(recording, out);
    }
    let mut colors = colors(recording);
    let mut options = options(recording);
    let lines: Vec<String> = stacks.iter().map(|(line, sum)| format!("{line} {sum}")).collect();
    let Some(baseline) = baseline else {
        if let Some(figures) = &mut options.subtitle {
            figures.push_str("; orange: application, green: packages, blue: standard library");
        }
        options.palette_map = Some(&mut colors);
        return draw(&mut options, &lines, out);
    };
    let now = lines.join("\n");
    let mut both = Vec::new();
    let normalize = differential::Options { normalize: true, strip_hex: false };
    differential::from_readers(normalize, baseline, now.as_bytes(), &mut both)?;
    let both = String::from_utf8_lossy(&both);
    let mut lines: Vec<String> = both.lines().map(str::to_owned).collect();
    lines.sort_unstable();
    options.title.push_str(", against an earlier recording");
    // What has not changed is white.
    options.bgcolors = Some(BackgroundColor::Flat(Color::new(226, 226, 222)));
    draw(&mut options, &lines, out)
}

fn options(recording: &Recording<'_>) -> Options<'static> {
    let mut options = Options::default();
    options.title.clone_from(&recording.about.title);
    options.subtitle = Some(recording.figures());
    recording.unit().clone_into(&mut options.count_name);
    "Frame:".clone_into(&mut options.name_type);
    options.bgcolors = Some(BackgroundColor::Flat((250, 250, 248).into()));
    options.min_width = MIN_WIDTH_PERCENT;
    options.hash = true;
    options
}

/// A frame's colour says whose code it is; shades keep neighbours apart.
fn colors(recording: &Recording<'_>) -> PaletteMap {
    let mut colors = PaletteMap::default();
    // The whole, processes and threads.
    let neutral = Color::new(222, 222, 228);
    colors.insert("", neutral);
    for thread in recording.profile.threads() {
        colors.insert(names::process(thread), neutral);
        colors.insert(names::thread(thread), neutral);
    }
    // What was waited for.
    for mark in recording.profile.entries().iter().filter_map(|entry| entry.state.mark()) {
        colors.insert(mark, Color::new(205, 190, 222));
    }
    for frame in recording.profile.frames() {
        let name = names::frame(frame, recording.look);
        let shade = name.bytes().fold(0_u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte)) % 5;
        let darker = |part: u8| part - shade * 7;
        let (red, green, blue) = match Origin::of(frame) {
            Origin::Application => (darker(250), darker(178), 92),
            Origin::Package => (darker(160), darker(215), 140),
            Origin::Library => (darker(160), darker(196), 232),
            Origin::Nobody => (darker(200), darker(200), darker(200)),
        };
        colors.insert(name, Color::new(red, green, blue));
    }
    colors
}

fn draw(options: &mut Options<'_>, lines: &[String], out: &mut dyn Write) -> io::Result<()> {
    flamegraph::from_lines(options, lines.iter().map(String::as_str), out)
}

/// A picture that says that there is nothing, instead of an error about having nothing to draw.
fn empty(recording: &Recording<'_>, out: &mut dyn Write) -> io::Result<()> {
    let mut options = options(recording);
    options.subtitle = Some("no samples: nothing of it ran meanwhile".to_owned());
    draw(&mut options, &["[no samples] 1".to_owned()], out)
}
