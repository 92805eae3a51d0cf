//! The line of screens: which there are, under which digit, and which is shown.

use crate::format;
use crate::state::{Screen, State};
use crate::theme::Theme;
use ratatui::text::{Line, Span};

/// With as much of the names as there is room for.
pub(super) fn line(state: &State, theme: Theme, width: usize) -> Line<'static> {
    // Of what was gone into, the screen that it was gone into from.
    let base = state.before.first().copied().unwrap_or(state.screen);
    let deeper: Vec<Screen> = state.before.iter().copied().skip(1).chain([state.screen]).collect();
    let way: Vec<&str> =
        if state.before.is_empty() { Vec::new() } else { deeper.into_iter().map(Screen::label).collect() };
    let way = if way.is_empty() { String::new() } else { format!(" > {}", way.join(" > ")) };
    let labels = |most: usize| -> Vec<String> {
        let digits = 0..;
        let tabs = Screen::TABS.into_iter().zip(digits);
        tabs.map(|(tab, digit): (Screen, u32)| {
            let most = if tab == base { usize::MAX } else { most };
            format!("{digit} {}", tab.label().chars().take(most).collect::<String>())
        })
        .collect()
    };
    let needs = |labels: &[String]| {
        labels.iter().map(|label| format::width(label) + 2).sum::<usize>() + format::width(&way)
    };
    let fitting = (0..=9).rev().map(labels).find(|labels| needs(labels) <= width);
    let labels = fitting.unwrap_or_else(|| labels(0));
    let mut spans = Vec::new();
    for (label, tab) in labels.into_iter().zip(Screen::TABS) {
        let label = format!("{} ", label.trim_end());
        if tab == base {
            spans.push(Span::styled(label.trim_end().to_owned(), theme.tab()));
            spans.push(Span::styled(way.clone(), theme.strong()));
            spans.push(Span::raw(" "));
        } else {
            spans.push(Span::styled(label, theme.label()));
        }
        spans.push(Span::raw(" "));
    }
    Line::from(spans)
}
