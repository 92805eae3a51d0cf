//! The rules that look at one file at a time, other than the order of rooms. Each returns what is wrong, as
//! `file:line: sentence`.

use super::rooms::ROOMS;
use super::source::Source;

/// Lines after which a file must say why it is long, and lines it may never have.
const LONG: usize = 500;
const LONGEST: usize = 800;
/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 6] = ["common", "utils", "util", "helpers", "helper", "manager"];

/// All of them, on one file.
#[must_use]
pub fn violations(source: &Source) -> Vec<String> {
    let rules = [crates, length, documentation, names, forbidden, unsafety, ignored];
    rules.iter().flat_map(|rule| rule(source)).collect()
}

/// `aya`, `clap` and `ratatui` stay in their rooms.
fn crates(source: &Source) -> Vec<String> {
    let product = ["agent/", "tui/", "ebpf/wire/"].iter().any(|folder| source.path.starts_with(folder));
    if !product {
        return Vec::new();
    }
    let allowed = [
        ("aya", &["agent/src/probes/", "agent/src/intake/ring.rs"][..]),
        ("clap", &["agent/src/cli/"]),
        ("ratatui", &["tui/"]),
    ];
    let mut found = Vec::new();
    for (name, places) in allowed {
        if places.iter().any(|place| source.path.starts_with(place)) {
            continue;
        }
        for (line, rest) in source.words(name) {
            if rest.starts_with("::") {
                found.push(format!("{}:{line}: `{name}` is for {} only", source.path, places.join(" and ")));
            }
        }
    }
    found
}

/// Files are short. Tests and tables may be as long as they must.
fn length(source: &Source) -> Vec<String> {
    let excepted = source.path.starts_with("tests/")
        || source.path.split('/').any(|part| matches!(part, "tests" | "tests.rs" | "tables" | "tables.rs"));
    let lines = source.text.lines().count();
    if excepted || lines <= LONG {
        return Vec::new();
    }
    if lines > LONGEST {
        return vec![format!("{}:{lines}: more than {LONGEST} lines", source.path)];
    }
    if source.text.lines().any(|line| line.trim_start().starts_with("// Long because")) {
        return Vec::new();
    }
    vec![format!("{}:{lines}: more than {LONG} lines and no `// Long because`", source.path)]
}

/// Each file begins by saying what it is.
fn documentation(source: &Source) -> Vec<String> {
    if source.text.starts_with("//! ") {
        return Vec::new();
    }
    vec![format!("{}:1: does not begin with module documentation (`//! `)", source.path)]
}

fn names(source: &Source) -> Vec<String> {
    let path = source.path.trim_end_matches(".rs");
    let mut found: Vec<String> = path
        .split(['/', '_'])
        .filter(|part| EMPTY_NAMES.contains(part))
        .map(|part| format!("{}:1: `{part}` says nothing about what is inside", source.path))
        .collect();
    for (line, rest) in source.words("mod") {
        let name = rest.trim_start().split([' ', ';', '{']).next().unwrap_or_default();
        if name.split('_').any(|part| EMPTY_NAMES.contains(&part)) {
            found.push(format!("{}:{line}: `{name}` says nothing about what is inside", source.path));
        }
    }
    found
}

/// What could change a target.
fn forbidden(source: &Source) -> Vec<String> {
    if !source.path.starts_with("agent/") && !source.path.starts_with("ebpf/") {
        return Vec::new();
    }
    let words =
        ["uretprobe", "bpf_probe_write_user", "PTRACE_ATTACH", "PTRACE_SEIZE", "ptrace", "process_vm_writev"];
    let found = words.iter().flat_map(|word| source.words(word).map(move |(line, _)| (line, word)));
    found.map(|(line, word)| format!("{}:{line}: `{word}` could change the target", source.path)).collect()
}

/// Clippy holds this too, but is not run for the kernel's target.
fn unsafety(source: &Source) -> Vec<String> {
    let lines: Vec<&str> = source.text.lines().collect();
    let mut found = Vec::new();
    for (number, rest) in source.words("unsafe") {
        let next = rest.trim_start();
        if !next.starts_with('{') && !next.starts_with("impl") {
            continue;
        }
        // The statement and the comment above it stand together: an empty line ends the search.
        let above = lines[..number].iter().rev().take(8).take_while(|line| !line.trim().is_empty());
        if !above.into_iter().any(|line| line.contains("SAFETY:")) {
            found.push(format!("{}:{number}: `unsafe` without a `SAFETY:` sentence above it", source.path));
        }
    }
    found
}

fn ignored(source: &Source) -> Vec<String> {
    let found = source.words("ignore").filter(|(line, _)| {
        source.code.lines().nth(line - 1).is_some_and(|code| code.trim_start().starts_with("#[ignore"))
    });
    found.map(|(line, _)| format!("{}:{line}: a test that is never run", source.path)).collect()
}

/// `docs/architecture.md` names every room.
#[must_use]
pub fn architecture(text: &str) -> Vec<String> {
    let missing = ROOMS.iter().filter(|room| !text.contains(&format!("`{room}`")));
    missing.map(|room| format!("docs/architecture.md:1: room `{room}` is not mentioned")).collect()
}

/// The model is at the bottom: it depends on no crate of the workspace.
#[must_use]
pub fn model_manifest(text: &str) -> Vec<String> {
    let mut section = "";
    let mut found = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.starts_with('[') {
            section = line;
        } else if section.ends_with("dependencies]") && line.starts_with("pyapm") {
            found.push(format!("agent/model/Cargo.toml:{number}: the model depends on `{line}`"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(rule: fn(&Source) -> Vec<String>, path: &str, text: &str) -> usize {
        rule(&Source::new(path, text)).len()
    }

    #[test]
    fn crates_stay_in_their_rooms() {
        assert_eq!(count(crates, "agent/src/probes/load.rs", "use aya::Ebpf;"), 0);
        assert_eq!(count(crates, "agent/src/intake/ring.rs", "use aya::maps::RingBuf;"), 0);
        assert_eq!(count(crates, "agent/src/intake/decode.rs", "use aya::maps::RingBuf;"), 1);
        assert_eq!(count(crates, "agent/src/pipeline.rs", "use clap::Parser;"), 1);
        assert_eq!(count(crates, "agent/src/cli/attach.rs", "use clap::Parser;"), 0);
        assert_eq!(count(crates, "agent/src/outputs/text.rs", "fn f(_: ratatui::Frame) {}"), 1);
        assert_eq!(count(crates, "tui/src/view.rs", "use ratatui::Frame;"), 0);
    }

    #[test]
    fn long_files_say_why_and_none_is_longer_than_that() {
        let lines = |count: usize| "x\n".repeat(count);
        assert_eq!(count(length, "agent/src/a.rs", &lines(500)), 0);
        assert_eq!(count(length, "agent/src/a.rs", &lines(501)), 1);
        assert_eq!(count(length, "agent/src/a.rs", &format!("// Long because tables\n{}", lines(600))), 0);
        assert_eq!(count(length, "agent/src/a.rs", &format!("// Long because tables\n{}", lines(800))), 1);
        assert_eq!(count(length, "tui/src/view/tests.rs", &lines(900)), 0);
    }

    #[test]
    fn a_file_without_documentation_is_found() {
        assert_eq!(count(documentation, "agent/src/a.rs", "use std::fs;\n"), 1);
        assert_eq!(count(documentation, "agent/src/a.rs", "//! What it is.\n"), 0);
    }

    #[test]
    fn empty_names_are_found() {
        assert_eq!(count(names, "agent/src/common/mod.rs", ""), 1);
        assert_eq!(count(names, "agent/src/ring_helpers.rs", ""), 1);
        assert_eq!(count(names, "agent/src/ring.rs", "mod utils;\n"), 1);
        assert_eq!(count(names, "agent/src/ring.rs", "mod reader;\n"), 0);
    }

    #[test]
    fn what_could_change_a_target_is_found() {
        assert_eq!(count(forbidden, "ebpf/src/io.rs", "#[uretprobe]\nfn f() {}"), 1);
        assert_eq!(count(forbidden, "ebpf/src/io.rs", "unsafe { bpf_probe_write_user(a, b) }"), 1);
        assert_eq!(count(forbidden, "agent/src/a.rs", "nix::sys::ptrace::attach(pid);"), 1);
        assert_eq!(count(forbidden, "agent/src/a.rs", "// no uretprobe, no ptrace\n"), 0);
    }

    #[test]
    fn unsafe_needs_its_sentence() {
        assert_eq!(count(unsafety, "ebpf/src/io.rs", "fn f() {\n    unsafe { g() }\n}\n"), 1);
        assert_eq!(count(unsafety, "ebpf/src/io.rs", "// SAFETY: g is total.\nlet a = unsafe { g() };\n"), 0);
        assert_eq!(count(unsafety, "ebpf/src/io.rs", "// SAFETY: old.\n\nlet a = unsafe { g() };\n"), 1);
        assert_eq!(count(unsafety, "ebpf/src/io.rs", "unsafe impl Pod for A {}\n"), 1);
        assert_eq!(count(unsafety, "ebpf/src/io.rs", "unsafe fn f() {}\n"), 0);
    }

    #[test]
    fn a_test_that_is_never_run_is_found() {
        assert_eq!(count(ignored, "agent/src/a.rs", "#[test]\n#[ignore = \"slow\"]\nfn f() {}"), 1);
        assert_eq!(count(ignored, "agent/src/a.rs", "let ignore = 1;"), 0);
    }

    #[test]
    fn rooms_that_are_not_in_the_documentation_are_found() {
        let all: String = ROOMS.iter().map(|room| format!("`{room}` ")).collect();
        assert!(architecture(&all).is_empty());
        assert_eq!(architecture(&all.replace("`store`", "")).len(), 1);
    }

    #[test]
    fn the_model_depends_on_nothing_of_ours() {
        assert!(model_manifest("[package]\nname = \"pyapm-model\"\n[dependencies]\nserde = 1\n").is_empty());
        assert_eq!(model_manifest("[dependencies]\npyapm = 1\n").len(), 1);
    }
}
