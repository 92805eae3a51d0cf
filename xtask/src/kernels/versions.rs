//! Which package of a suite holds the wanted kernel: reads the names that apt found, no version is written
//! down.

use anyhow::{Context, Result};
use std::cmp::Ordering;

/// A kernel to look for in a suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Newest release of one line, such as `5.10`.
    Series(&'static str),
    /// Newest release there is.
    Newest,
}

/// The packages of one kernel release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    /// Kernel release as `uname -r` gives it: `5.10.0-46-cloud-amd64`.
    pub(super) release: String,
    /// Kernel first. One package up to 6.12; three from 7.2 on.
    pub(super) packages: Vec<String>,
}

/// Expression for `apt-cache search --names-only` that finds every package [`choose`] can use.
pub(super) const SEARCH: &str = "^linux-(image|binary|modules|base)-[0-9].*-cloud-amd64(-unsigned)?$";

/// Picks the newest release of the line among package names.
///
/// # Errors
/// None of the names is a kernel of that line.
pub(super) fn choose(line: Line, names: &[&str]) -> Result<Choice> {
    names
        .iter()
        .filter_map(|name| choice_of(name, names))
        .filter(|choice| match line {
            Line::Newest => true,
            Line::Series(series) => {
                choice.release.strip_prefix(series).is_some_and(|rest| rest.starts_with(['.', '-', '+']))
            }
        })
        .max_by(|left, right| compare(&left.release, &right.release))
        .with_context(|| match line {
            Line::Newest => "no cloud kernel package is in this suite".to_owned(),
            Line::Series(series) => format!("no cloud kernel package of the {series} line is in this suite"),
        })
}

/// What the package `name` gives, if it is the best one for its release.
///
/// From 7.2 on the kernel is in `linux-binary-R`, its modules in `linux-modules-R`, the list of what is built
/// in in `linux-base-R`, and `linux-image-R` only depends on them. Before, `linux-image-R-unsigned` has both,
/// and is not held back by the signing service.
fn choice_of(name: &str, names: &[&str]) -> Option<Choice> {
    let has = |other: &str| names.contains(&other);
    let (release, packages) = if let Some(release) = name.strip_prefix("linux-binary-") {
        let parts = ["modules", "base"].map(|part| format!("linux-{part}-{release}"));
        if !parts.iter().all(|part| has(part)) {
            return None;
        }
        (release, [vec![name.to_owned()], parts.to_vec()].concat())
    } else {
        let image = name.strip_prefix("linux-image-")?;
        let release = image.strip_suffix("-unsigned").unwrap_or(image);
        let better_unsigned = image == release && has(&format!("linux-image-{release}-unsigned"));
        if better_unsigned || has(&format!("linux-binary-{release}")) {
            return None;
        }
        (release, vec![name.to_owned()])
    };
    // A name without a dot in its version, or `linux-image-6.1-cloud-amd64`, is a meta package.
    let version = release.strip_suffix("-cloud-amd64")?;
    let numbers = version.split(['-', '+']).next()?;
    (numbers.split('.').count() >= 3).then(|| Choice { release: release.to_owned(), packages })
}

/// Orders two Debian versions (deb-version(7), dpkg 1.21) without epochs, which kernels do not use.
pub(super) fn compare(left: &str, right: &str) -> Ordering {
    let (mut left, mut right) = (left.as_bytes(), right.as_bytes());
    loop {
        let (text_left, rest_left) = split_while(left, |byte| !byte.is_ascii_digit());
        let (text_right, rest_right) = split_while(right, |byte| !byte.is_ascii_digit());
        let (number_left, after_left) = split_while(rest_left, u8::is_ascii_digit);
        let (number_right, after_right) = split_while(rest_right, u8::is_ascii_digit);
        let order =
            compare_text(text_left, text_right).then_with(|| compare_numbers(number_left, number_right));
        if order != Ordering::Equal || (after_left.is_empty() && after_right.is_empty()) {
            return order;
        }
        (left, right) = (after_left, after_right);
    }
}

fn split_while(bytes: &[u8], belongs: impl Fn(&u8) -> bool) -> (&[u8], &[u8]) {
    bytes.split_at(bytes.iter().position(|byte| !belongs(byte)).unwrap_or(bytes.len()))
}

/// Letters before other signs, and `~` before everything, the end included.
fn compare_text(left: &[u8], right: &[u8]) -> Ordering {
    let weight = |text: &[u8], at: usize| match text.get(at) {
        Some(b'~') => -1,
        None => 0,
        Some(letter) if letter.is_ascii_alphabetic() => i32::from(*letter),
        Some(sign) => i32::from(*sign) + 256,
    };
    (0..left.len().max(right.len()))
        .map(|at| weight(left, at).cmp(&weight(right, at)))
        .find(|order| *order != Ordering::Equal)
        .unwrap_or(Ordering::Equal)
}

/// Compares digits of any length, so that no number can overflow.
fn compare_numbers(left: &[u8], right: &[u8]) -> Ordering {
    let (_, left) = split_while(left, |digit| *digit == b'0');
    let (_, right) = split_while(right, |digit| *digit == b'0');
    left.len().cmp(&right.len()).then_with(|| left.cmp(right))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names as bullseye, its security suite, trixie and sid listed them in November 2026.
    const BULLSEYE: &[&str] = &[
        "linux-image-5.10.0-30-cloud-amd64-unsigned",
        "linux-image-5.10.0-32-cloud-amd64-unsigned",
        "linux-image-5.10.0-9-cloud-amd64-unsigned",
        "linux-image-5.10.0-32-cloud-amd64",
        "linux-image-6.1-cloud-amd64",
        "linux-image-6.1.0-0.deb11.52-cloud-amd64-unsigned",
    ];
    const SID: &[&str] = &[
        "linux-modules-7.2.13+deb14-cloud-amd64",
        "linux-base-7.2.13+deb14-cloud-amd64",
        "linux-binary-7.2.13+deb14-cloud-amd64",
        "linux-image-7.2.13+deb14-cloud-amd64",
        "linux-binary-7.2.9+deb14-cloud-amd64",
        "linux-modules-7.2.9+deb14-cloud-amd64",
        "linux-base-7.2.9+deb14-cloud-amd64",
        "linux-image-6.19.5+deb14-cloud-amd64-unsigned",
    ];

    #[test]
    fn newest_release_of_a_series_is_picked_by_number_not_by_letter() {
        let choice = choose(Line::Series("5.10"), BULLSEYE).unwrap();
        assert_eq!(choice.release, "5.10.0-32-cloud-amd64");
        assert_eq!(choice.packages, ["linux-image-5.10.0-32-cloud-amd64-unsigned"]);
    }

    #[test]
    fn a_series_is_not_taken_for_one_that_begins_alike() {
        let names =
            ["linux-image-6.12.107+deb13-cloud-amd64-unsigned", "linux-image-6.1.0-56-cloud-amd64-unsigned"];
        assert_eq!(choose(Line::Series("6.1"), &names).unwrap().release, "6.1.0-56-cloud-amd64");
        assert_eq!(choose(Line::Series("6.12"), &names).unwrap().release, "6.12.107+deb13-cloud-amd64");
    }

    #[test]
    fn a_kernel_in_parts_is_taken_whole() {
        let choice = choose(Line::Newest, SID).unwrap();
        assert_eq!(
            choice.packages,
            ["binary", "modules", "base"].map(|part| format!("linux-{part}-7.2.13+deb14-cloud-amd64"))
        );
    }

    #[test]
    fn a_kernel_whose_modules_are_not_there_yet_is_passed_over() {
        let names = [&["linux-binary-7.3.1+deb14-cloud-amd64"], SID].concat();
        assert_eq!(choose(Line::Newest, &names).unwrap().release, "7.2.13+deb14-cloud-amd64");
    }

    #[test]
    fn a_signed_image_is_taken_only_when_there_is_nothing_else() {
        let signed = ["linux-image-5.10.0-40-cloud-amd64"];
        assert_eq!(choose(Line::Series("5.10"), &signed).unwrap().packages, signed);
    }

    #[test]
    fn meta_packages_and_strangers_are_not_kernels() {
        for names in [
            &["linux-image-6.1-cloud-amd64"][..],
            &["linux-image-cloud-amd64"],
            &["linux-image-5.10.0-32-amd64-unsigned"],
            &["linux-headers-5.10.0-32-cloud-amd64"],
            &[],
        ] {
            assert!(choose(Line::Newest, names).is_err(), "{names:?}");
        }
        let error = choose(Line::Series("4.19"), BULLSEYE).unwrap_err();
        assert!(error.to_string().contains("4.19"), "{error}");
    }

    #[test]
    fn versions_compare_as_dpkg_does() {
        for (lower, higher) in [
            ("5.10.223-1", "5.10.251-1"),
            ("5.9.1", "5.10.1"),
            ("7.2~rc3", "7.2"),
            ("7.2.13", "7.2.13+deb14"),
            ("6.1.0-0.deb11.9", "6.1.0-0.deb11.52"),
            ("1.0", "1.0a"),
            ("1.0a", "1.0+"),
            ("99999999999999999999998", "99999999999999999999999"),
        ] {
            assert_eq!(compare(lower, higher), Ordering::Less, "{lower} {higher}");
            assert_eq!(compare(higher, lower), Ordering::Greater, "{lower} {higher}");
        }
        assert_eq!(compare("5.010", "5.10"), Ordering::Equal);
        assert_eq!(compare("", ""), Ordering::Equal);
    }
}
