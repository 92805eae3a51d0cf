//! Which panels are on the screen, and where: a function of the size and the focus alone. Heights do not
//! follow the contents, or the panels would jump while figures change.

use crate::state::Panel;
use ratatui::layout::Rect;

/// Below this the figures would be cut beyond use.
pub(super) const MIN_WIDTH: u16 = 60;
pub(super) const MIN_HEIGHT: u16 = 12;

/// From here on two columns of panels stand side by side.
const SIDE_BY_SIDE: u16 = 150;
/// Blank columns between them.
const GUTTER: u16 = 2;
/// From here on all panels fit one above the other.
const ALL_STACKED: u16 = 40;
/// From here on three panels fit one above the other.
const THREE_STACKED: u16 = 14;

/// Places for the panels within `area`, the focused one always among them.
pub(super) fn panels(area: Rect, focus: Panel) -> Vec<(Panel, Rect)> {
    let third = match focus {
        Panel::Statements | Panel::Workers => focus,
        _ => Panel::Functions,
    };
    if area.height < THREE_STACKED {
        return vec![(focus, area)];
    }
    if area.width < SIDE_BY_SIDE {
        return if area.height < ALL_STACKED {
            stack(area, &[(Panel::Routes, 9), (Panel::Active, 6), (third, 5)])
        } else {
            stack(
                area,
                &[
                    (Panel::Routes, 12),
                    (Panel::Active, 9),
                    (Panel::Functions, 8),
                    (Panel::Statements, 8),
                    (Panel::Workers, 6),
                ],
            )
        };
    }
    let left = Rect { width: (area.width - GUTTER) * 11 / 20, ..area };
    let right = Rect { x: left.right() + GUTTER, width: area.width - GUTTER - left.width, ..area };
    let mut panels = stack(left, &[(Panel::Routes, 6), (Panel::Active, 5)]);
    if area.height < THREE_STACKED * 2 {
        let other = if third == Panel::Functions { Panel::Statements } else { third };
        panels.extend(stack(right, &[(Panel::Functions, 1), (other, 1)]));
    } else {
        panels.extend(stack(right, &[(Panel::Functions, 8), (Panel::Statements, 8), (Panel::Workers, 6)]));
    }
    panels
}

/// Divides the height by weights; by running sums, so that rounding neither loses nor adds a line.
fn stack(area: Rect, shares: &[(Panel, u32)]) -> Vec<(Panel, Rect)> {
    let total: u32 = shares.iter().map(|(_, share)| share).sum();
    let (mut given, mut top) = (0, 0);
    let mut places = Vec::with_capacity(shares.len());
    for &(panel, share) in shares {
        given += share;
        let bottom = (u32::from(area.height) * given / total.max(1)) as u16;
        places.push((panel, Rect { y: area.y + top, height: bottom - top, ..area }));
        top = bottom;
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_never_overlap_or_leave_the_area_and_the_focus_is_always_among_them() {
        for width in [60, 80, 149, 150, 200, 300] {
            for height in 1..70 {
                let area = Rect::new(0, 3, width, height);
                for focus in Panel::OVERVIEW {
                    let places = panels(area, focus);
                    assert!(places.iter().any(|(panel, place)| *panel == focus && place.height > 0));
                    for (index, (_, place)) in places.iter().enumerate() {
                        assert_eq!(area.intersection(*place), *place, "{width}x{height}");
                        for (_, other) in &places[index + 1..] {
                            assert!(!place.intersects(*other), "{width}x{height}: {places:?}");
                        }
                    }
                }
            }
        }
    }
}
