//! The machine's own apt sources, and entries for other suites derived from them.
//!
//! No host is named here: a machine behind a mirror keeps to its mirror. Both styles of
//! sources.list(5) are read (apt 2.6): one-line `.list` and deb822 `.sources`. This file does not run apt.

use anyhow::{Context, Result, bail};
use std::fmt::Write as _;
use std::path::Path;

/// Suites by which an entry of the Debian archive is known, with or without a suffix such as `-updates`.
const DEBIAN_SUITES: &[&str] = &[
    "buster",
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "duke",
    "sid",
    "oldoldstable",
    "oldstable",
    "stable",
    "testing",
    "unstable",
    "experimental",
    "rc-buggy",
];

/// One `deb` entry: one URI, its suites and components. An entry with several URIs is several of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub uri: String,
    pub suites: Vec<String>,
    pub components: Vec<String>,
    /// Key file or fingerprint; `None` when the entry leaves it to apt's own key ring, or embeds the key.
    pub signed_by: Option<String>,
    /// `trusted=yes`: the owner of this machine told apt not to check signatures.
    pub trusted: bool,
}

/// Which of Debian's two archives a suite is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Archive {
    Main,
    Security,
}

impl Entry {
    /// Which Debian archive this entry names, or `None` when it is somebody else's.
    ///
    /// Other people's archives use Debian's suite names too, so three things must agree: the component
    /// `main`, a suite of Debian's, and either Debian's own key ring or, without any key given, Debian's
    /// directory name.
    fn archive(&self) -> Option<Archive> {
        if !self.components.iter().any(|component| component == "main") {
            return None;
        }
        let archive = self.suites.iter().find_map(|suite| archive_of(suite))?;
        let in_debian_directory = self
            .uri
            .split('/')
            .any(|part| matches!(part.trim_end_matches(".list"), "debian" | "debian-security"));
        let debians = match &self.signed_by {
            Some(key) => key.contains("debian-archive"),
            None => in_debian_directory || archive == Archive::Security,
        };
        debians.then_some(archive)
    }

    /// The one-line form of this entry for another suite, component `main`, architecture amd64.
    fn line_for(&self, suite: &str) -> String {
        let mut options = String::from("arch=amd64");
        if let Some(key) = &self.signed_by {
            // Writing to a String cannot fail.
            let _ = write!(options, " signed-by={key}");
        }
        if self.trusted {
            options.push_str(" trusted=yes");
        }
        format!("deb [{options}] {} {suite} main\n", self.uri)
    }
}

fn archive_of(suite: &str) -> Option<Archive> {
    let (base, rest) = match suite.find(['-', '/']) {
        // `rc-buggy` is the one name of its own with a hyphen.
        Some(_) if suite == "rc-buggy" => (suite, ""),
        Some(at) => suite.split_at(at),
        None => (suite, ""),
    };
    if !DEBIAN_SUITES.contains(&base) {
        return None;
    }
    match rest {
        // Until buster the security suite was called `buster/updates`.
        "-security" | "/updates" => Some(Archive::Security),
        "" | "-updates" | "-proposed-updates" | "-backports" | "-backports-sloppy" => Some(Archive::Main),
        _ => None,
    }
}

/// The line of a `.list` file that gives `suite` from the same place this machine gets that archive from.
///
/// # Errors
/// No entry of that archive is among `entries`.
pub fn derived_line(entries: &[Entry], archive: Archive, suite: &str) -> Result<String> {
    let name = match archive {
        Archive::Main => "the Debian archive",
        Archive::Security => "Debian's security archive",
    };
    entries
        .iter()
        .find(|entry| entry.archive() == Some(archive))
        .map(|entry| entry.line_for(suite))
        .with_context(|| {
            format!("no apt source of this machine is {name}, so suite `{suite}` cannot be derived from one")
        })
}

/// Reads `sources.list` and `sources.list.d` below `etc_apt` (`/etc/apt`), in apt's own order.
///
/// # Errors
/// A file cannot be read, or there is no enabled `deb` entry at all.
pub fn read(etc_apt: &Path) -> Result<Vec<Entry>> {
    let mut files = vec![etc_apt.join("sources.list")];
    if let Ok(directory) = std::fs::read_dir(etc_apt.join("sources.list.d")) {
        let mut parts: Vec<_> = directory.filter_map(|item| item.ok().map(|item| item.path())).collect();
        parts.sort();
        files.extend(parts);
    }
    let mut entries = Vec::new();
    for file in files.iter().filter(|file| file.is_file()) {
        let parse: fn(&str) -> Vec<Entry> = match file.extension().and_then(|extension| extension.to_str()) {
            Some("list") => parse_one_line,
            Some("sources") => parse_deb822,
            _ => continue,
        };
        let text =
            std::fs::read_to_string(file).with_context(|| format!("failed to read `{}`", file.display()))?;
        entries.extend(parse(&text));
    }
    if entries.is_empty() {
        bail!("no enabled apt source in `{}`: packages are fetched by apt", etc_apt.display());
    }
    Ok(entries)
}

/// One-line style: `deb [option=value ...] uri suite component...`.
fn parse_one_line(text: &str) -> Vec<Entry> {
    text.lines().filter_map(one_line).collect()
}

fn one_line(line: &str) -> Option<Entry> {
    let line = line.split('#').next()?.trim();
    let rest = line.strip_prefix("deb").filter(|rest| rest.starts_with([' ', '\t', '[']))?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(bracketed) => bracketed.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace().map(str::to_owned);
    let (uri, suite) = (words.next()?, words.next()?);
    let option = |name: &str| {
        options
            .split_whitespace()
            .filter_map(|option| option.split_once('='))
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    };
    Some(Entry {
        uri,
        suites: vec![suite],
        components: words.collect(),
        signed_by: option("signed-by").map(str::to_owned),
        trusted: option("trusted").is_some_and(is_yes),
    })
}

/// deb822 style: stanzas of `Field: value`, continued on lines that begin with a blank.
fn parse_deb822(text: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut stanza: Vec<(String, String)> = Vec::new();
    // The blank line at the end closes the last stanza.
    for line in text.lines().chain([""]) {
        if line.starts_with('#') {
            continue;
        }
        if line.trim().is_empty() {
            entries.extend(entries_of(&stanza));
            stanza.clear();
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = stanza.last_mut() {
                value.push('\n');
                value.push_str(line.trim());
            }
        } else if let Some((field, value)) = line.split_once(':') {
            stanza.push((field.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    entries
}

fn entries_of(stanza: &[(String, String)]) -> Vec<Entry> {
    let field = |name: &str| stanza.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str());
    let words = |name: &str| -> Vec<String> {
        field(name).unwrap_or_default().split_whitespace().map(str::to_owned).collect()
    };
    let disabled = field("enabled").is_some_and(|value| !is_yes(value));
    if disabled || !words("types").iter().any(|kind| kind == "deb") {
        return Vec::new();
    }
    // An embedded key has several lines: it cannot be written in a one-line entry, and Debian's own is not
    // one.
    let signed_by = field("signed-by")
        .filter(|value| !value.is_empty())
        .map(|value| if value.contains('\n') { "embedded".to_owned() } else { value.to_owned() });
    words("uris")
        .into_iter()
        .map(|uri| Entry {
            uri,
            suites: words("suites"),
            components: words("components"),
            signed_by: signed_by.clone(),
            trusted: field("trusted").is_some_and(is_yes),
        })
        .collect()
}

/// apt's spellings of true (`StringToBool` in apt-pkg/contrib/strutl.cc, apt 2.6).
fn is_yes(value: &str) -> bool {
    ["yes", "true", "with", "on", "enable", "1"].iter().any(|yes| value.trim().eq_ignore_ascii_case(yes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn main_line(entries: &[Entry]) -> Option<String> {
        derived_line(entries, Archive::Main, "sid").ok()
    }

    #[test]
    fn one_line_entries_are_read_with_their_options() {
        let entries = parse_one_line(
            "# deb http://commented.test/debian bookworm main\n\
             deb-src http://mirror.test/debian bookworm main\n\
             deb http://mirror.test/debian/ bookworm main contrib # a remark\n\
             deb\t[ arch=amd64 signed-by=/k/debian-archive-keyring.gpg trusted=yes ] http://s.test/x bookworm-security main\n\
             deb http://broken.test/debian\n\
             debug http://no.test/debian bookworm main\n",
        );
        assert_eq!(entries.len(), 2, "{entries:?}");
        assert_eq!(entries[0].uri, "http://mirror.test/debian/");
        assert_eq!(entries[0].components, ["main", "contrib"]);
        assert_eq!(entries[0].signed_by, None);
        assert_eq!(entries[1].signed_by.as_deref(), Some("/k/debian-archive-keyring.gpg"));
        assert!(entries[1].trusted);
    }

    #[test]
    fn deb822_stanzas_are_read_with_comments_continuations_and_several_suites() {
        let entries = parse_deb822(
            "# first a comment\n\
             Types: deb deb-src\n\
             # http://old.test/debian\n\
             URIs: http://one.test/debian http://two.test/debian\n\
             Suites: bookworm\n bookworm-updates\n\
             Components: main\n\
             Signed-By: /k/debian-archive-keyring.gpg\n\
             \n\
             Types: deb\nURIs: http://off.test/debian\nSuites: bookworm\nComponents: main\nEnabled: no\n\
             \n\n\
             Types: deb-src\nURIs: http://src.test/debian\nSuites: bookworm\nComponents: main\n\
             \n\
             types: deb\nuris: http://last.test/debian-security\nsuites: bookworm-security\ncomponents: main",
        );
        let uris: Vec<&str> = entries.iter().map(|entry| entry.uri.as_str()).collect();
        assert_eq!(
            uris,
            ["http://one.test/debian", "http://two.test/debian", "http://last.test/debian-security"]
        );
        assert_eq!(entries[0].suites, ["bookworm", "bookworm-updates"]);
        assert_eq!(entries[0].archive(), Some(Archive::Main));
        assert_eq!(entries[2].archive(), Some(Archive::Security));
    }

    #[test]
    fn a_derived_entry_keeps_place_key_and_trust() {
        let entries = parse_one_line(
            "deb [signed-by=/k/debian-archive-keyring.gpg trusted=yes] http://cache.test:3142/up/debian bookworm main",
        );
        assert_eq!(
            main_line(&entries).unwrap(),
            "deb [arch=amd64 signed-by=/k/debian-archive-keyring.gpg trusted=yes] http://cache.test:3142/up/debian sid main\n"
        );
        let error = derived_line(&entries, Archive::Security, "bullseye-security").unwrap_err();
        assert!(error.to_string().contains("`bullseye-security`"), "{error}");
    }

    #[test]
    fn mirrors_and_mirror_lists_are_recognised() {
        for uri in [
            "http://mirror.test/debian",
            "https://mirror.test/pub/linux/debian/",
            "mirror+file:/etc/apt/mirrors/debian.list",
            "http://past.test/archive/debian/20250520T000000Z",
            "file:///srv/debian",
        ] {
            let entries = parse_one_line(&format!("deb {uri} bookworm-updates main"));
            assert!(main_line(&entries).is_some_and(|line| line.contains(uri)), "{uri}");
        }
    }

    #[test]
    fn other_peoples_archives_are_not_taken_for_debians() {
        for line in [
            "deb [signed-by=/k/docker.asc] https://x.test/linux/debian bookworm stable",
            "deb https://x.test/linux/debian bookworm stable",
            "deb [signed-by=/k/vendor.gpg] https://x.test/debian/12/prod bookworm main",
            "deb https://x.test/apt stable main",
            "deb https://x.test/debian nodistro main",
            "deb https://x.test/pub/repos/apt bookworm-pgdg main",
            "deb https://x.test/debian ./",
            "deb http://x.test/ubuntu noble main",
        ] {
            let entries = parse_one_line(line);
            assert_eq!(entries[0].archive(), None, "{line}");
        }
        let embedded = parse_deb822(
            "Types: deb\nURIs: http://x.test/debian\nSuites: sid\nComponents: main\nSigned-By:\n -----BEGIN\n .\n abc\n",
        );
        assert_eq!(embedded[0].archive(), None);
    }

    #[test]
    fn old_security_suites_are_recognised_by_name() {
        let entries = parse_one_line(
            "deb http://s.test/ buster/updates main\ndeb http://s.test bookworm-security main",
        );
        assert!(entries.iter().all(|entry| entry.archive() == Some(Archive::Security)));
    }

    #[test]
    fn directory_is_read_in_order_and_other_files_are_left_alone() {
        let etc = tempfile::tempdir().unwrap();
        let parts = etc.path().join("sources.list.d");
        std::fs::create_dir(&parts).unwrap();
        std::fs::write(parts.join("b.list"), "deb http://b.test/debian bookworm main\n").unwrap();
        std::fs::write(
            parts.join("a.sources"),
            "Types: deb\nURIs: http://a.test/debian\nSuites: bookworm\nComponents: main\n",
        )
        .unwrap();
        std::fs::write(parts.join("c.list.disabled"), "deb http://c.test/debian bookworm main\n").unwrap();
        let entries = read(etc.path()).unwrap();
        let uris: Vec<&str> = entries.iter().map(|entry| entry.uri.as_str()).collect();
        assert_eq!(uris, ["http://a.test/debian", "http://b.test/debian"]);

        let empty = tempfile::tempdir().unwrap();
        assert!(read(empty.path()).is_err());
    }
}
