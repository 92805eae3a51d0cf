//! The command: all rules on all Rust files of the workspace. It changes nothing.

use super::source::Source;
use super::{rooms, rules};
use crate::workspace;
use anyhow::{Context, Result, bail};
use std::path::Path;

/// Writes each violation to stderr.
///
/// # Errors
/// When there is any.
pub fn run() -> Result<()> {
    let (files, found) = violations(&workspace::root())?;
    for violation in &found {
        eprintln!("{violation}");
    }
    if !found.is_empty() {
        bail!("tidy: {} violations in {files} files", found.len());
    }
    eprintln!("tidy: {files} files, no violation");
    Ok(())
}

/// How many files there are, and what is wrong with them.
fn violations(root: &Path) -> Result<(usize, Vec<String>)> {
    let mut found = Vec::new();
    let mut files = 0;
    for member in ["agent", "ebpf", "tui", "tests", "xtask"] {
        for file in workspace::files_below(&root.join(member), &["target"])? {
            if file.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            let path = Path::new(member).join(file);
            let source = Source::new(&path.to_string_lossy(), &read(root, &path.to_string_lossy())?);
            found.extend(rooms::violations(&source));
            found.extend(rules::violations(&source));
            files += 1;
        }
    }
    found.extend(rules::architecture(&read(root, "docs/architecture.md")?));
    found.extend(rules::model_manifest(&read(root, "agent/model/Cargo.toml")?));
    Ok((files, found))
}

fn read(root: &Path, path: &str) -> Result<String> {
    std::fs::read_to_string(root.join(path)).with_context(|| format!("could not read `{path}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_keeps_its_rules() {
        let (files, found) = violations(&workspace::root()).unwrap();
        assert!(files > 40, "only {files} files were looked at");
        assert!(found.is_empty(), "{}", found.join("\n"));
    }
}
