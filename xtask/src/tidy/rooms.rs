//! The one-way flow of the agent: a room imports only from its left. `pipeline` and `cli` stand outside and may
//! import all; no room may import them.

use super::source::Source;

/// From left to right.
pub const ROOMS: [&str; 17] = [
    "telemetry",
    "config",
    "binaries",
    "host",
    "probes",
    "intake",
    "targets",
    "python",
    "symbols",
    "native",
    "profile",
    "frameworks",
    "transactions",
    "store",
    "history",
    "outputs",
    "exports",
];

/// Import all, are imported by none.
const OUTSIDE: [&str; 2] = ["pipeline", "cli"];
const AGENT: &str = "agent/src/";

/// Imports against the flow, and modules of the agent that have no place in it.
#[must_use]
pub fn violations(source: &Source) -> Vec<String> {
    let Some(below) = source.path.strip_prefix(AGENT) else { return Vec::new() };
    if below == "lib.rs" {
        return unknown_modules(source);
    }
    let parts: Vec<&str> = below.trim_end_matches(".rs").split('/').filter(|part| *part != "mod").collect();
    let Some(own) = parts.first().and_then(|room| place(room)) else { return Vec::new() };
    let mut found = Vec::new();
    for (line, name) in imported(source, parts.len()) {
        let wrong = match place(&name) {
            Some(other) => other > own,
            None => OUTSIDE.contains(&name.as_str()),
        };
        if wrong {
            let room = ROOMS[own];
            found.push(format!(
                "{}:{line}: room `{room}` imports `{name}`, which lies to its right",
                source.path
            ));
        }
    }
    found
}

fn place(room: &str) -> Option<usize> {
    ROOMS.iter().position(|name| *name == room)
}

fn unknown_modules(source: &Source) -> Vec<String> {
    let modules = source.words("mod").filter_map(|(line, rest)| Some((line, rest.trim().strip_suffix(';')?)));
    modules
        .filter(|(_, name)| place(name).is_none() && !OUTSIDE.contains(name))
        .map(|(line, name)| {
            format!("{}:{line}: module `{name}` has no place in the order of rooms", source.path)
        })
        .collect()
}

/// First names after `crate::`, and after as many `super::` as lead out of the room.
fn imported(source: &Source, depth: usize) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut start = 0;
    // Over the whole text, because a list of imports may go over several lines.
    while let Some(place) = next_path(&source.code[start..]) {
        let here = start + place.offset;
        let line = source.code[..here].matches('\n').count() + 1;
        let after = here + place.length;
        if place.supers == 0 || place.supers >= depth {
            found.extend(first_names(&source.code[after..]).into_iter().map(|name| (line, name)));
        }
        start = after;
    }
    found
}

struct Path {
    offset: usize,
    length: usize,
    /// How many `super::` there are; 0 for `crate::`.
    supers: usize,
}

fn next_path(code: &str) -> Option<Path> {
    let standing = |word: &str| {
        let alone = |place: &usize| {
            !code[..*place].ends_with(|letter: char| letter.is_alphanumeric() || letter == '_')
        };
        code.match_indices(word).map(|(place, _)| place).find(alone)
    };
    let (by_crate, by_super) = (standing("crate::"), standing("super::"));
    match (by_crate, by_super) {
        (None, None) => None,
        (Some(offset), None) => Some(Path { offset, length: "crate::".len(), supers: 0 }),
        (Some(offset), Some(other)) if offset < other => {
            Some(Path { offset, length: "crate::".len(), supers: 0 })
        }
        (_, Some(offset)) => {
            let mut supers = 0;
            while code[offset + supers * "super::".len()..].starts_with("super::") {
                supers += 1;
            }
            Some(Path { offset, length: supers * "super::".len(), supers })
        }
    }
}

/// `host::x` gives `host`; `{host, probes::{a, b}}` gives `host` and `probes`.
fn first_names(after: &str) -> Vec<String> {
    let Some(list) = after.strip_prefix('{') else { return name(after).into_iter().collect() };
    let mut names = Vec::new();
    let mut depth = 1;
    let mut begins = true;
    for (place, letter) in list.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => begins = true,
            _ if letter.is_whitespace() => {}
            _ if begins => {
                names.extend(name(&list[place..]));
                begins = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names
}

fn name(text: &str) -> Option<String> {
    let end = text.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(text.len());
    (end > 0).then(|| text[..end].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(path: &str, text: &str) -> usize {
        violations(&Source::new(path, text)).len()
    }

    #[test]
    fn to_the_left_is_allowed_and_to_the_right_is_not() {
        assert_eq!(count("agent/src/intake/ring.rs", "use crate::probes::Ring;"), 0);
        assert_eq!(count("agent/src/intake/ring.rs", "use crate::intake::event::Event;"), 0);
        assert_eq!(count("agent/src/intake/ring.rs", "use crate::python::Frame;"), 1);
        assert_eq!(count("agent/src/host/mod.rs", "fn f() { crate::store::g() }"), 1);
    }

    #[test]
    fn lists_are_read_name_by_name() {
        let text = "use crate::{\n    host::{Facts, outputs},\n    telemetry,\n    transactions::Http,\n    store,\n};";
        assert_eq!(count("agent/src/probes/load.rs", text), 2);
    }

    #[test]
    fn a_way_out_by_super_is_seen() {
        assert_eq!(count("agent/src/host/mod.rs", "use super::store::Store;"), 1);
        assert_eq!(count("agent/src/host/btf.rs", "use super::super::store::Store;"), 1);
        assert_eq!(count("agent/src/host/btf.rs", "use super::store::Store;"), 0);
        assert_eq!(count("agent/src/targets/procfs/read.rs", "use super::super::super::cli::Options;"), 1);
    }

    #[test]
    fn pipeline_and_cli_import_all_and_nobody_imports_them() {
        assert_eq!(count("agent/src/pipeline.rs", "use crate::{outputs, cli};"), 0);
        assert_eq!(count("agent/src/pipeline/start.rs", "use crate::outputs;"), 0);
        assert_eq!(count("agent/src/outputs/json.rs", "use crate::pipeline::Stop;"), 1);
        assert_eq!(count("agent/src/outputs/json.rs", "use crate::cli::Options;"), 1);
    }

    #[test]
    fn a_new_module_needs_a_place() {
        assert_eq!(count("agent/src/lib.rs", "pub mod host;\npub mod cli;\npub mod attic;"), 1);
    }

    #[test]
    fn sentences_are_no_imports() {
        assert_eq!(
            count("agent/src/host/mod.rs", "//! See [`crate::store`].\nconst A: &str = \"crate::store\";"),
            0
        );
    }
}
