//! What the object is built from, as one hash: every file of `ebpf/`, what the workspace's manifest says
//! about it, the locked versions of everything it depends on, and the flags. It does not look at the object.

use super::{build, lockfile};
use crate::workspace;
use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use std::path::Path;

/// SHA-256 over the sources below `root`, as hexadecimal digits.
///
/// # Errors
/// When a source cannot be read.
pub fn hash(root: &Path) -> Result<String> {
    let mut hasher = Sha256::new();
    let folder = root.join("ebpf");
    for file in workspace::files_below(&folder, &["target"])? {
        let path = folder.join(&file);
        let bytes = std::fs::read(&path).with_context(|| format!("could not read `{}`", path.display()))?;
        add(&mut hasher, &format!("file {}", file.display()), &bytes);
    }
    let manifest = read(&root.join("Cargo.toml"))?;
    let locked = lockfile::closure(&read(&root.join("Cargo.lock"))?, build::PACKAGE);
    add(&mut hasher, "manifest", manifest_part(&manifest, &locked).as_bytes());
    add(&mut hasher, "locked", locked.join("\n").as_bytes());
    add(&mut hasher, "flags", build::recipe().as_bytes());
    Ok(hex(&hasher.finalize()))
}

/// SHA-256 of bytes, as hexadecimal digits.
#[must_use]
pub fn hash_bytes(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// `[workspace.package]`, and those lines of `[workspace.dependencies]` that name a locked package.
fn manifest_part(manifest: &str, locked: &[String]) -> String {
    let mut part = String::new();
    let mut section = "";
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line;
        }
        let named = || {
            let name = line.split([' ', '=']).next().unwrap_or_default();
            locked.iter().any(|package| package.split(' ').next() == Some(name))
        };
        if section == "[workspace.package]" || (section == "[workspace.dependencies]" && named()) {
            part.push_str(line);
            part.push('\n');
        }
    }
    part
}

/// Each part goes in with its label and its length, so that no two lists of parts read the same.
fn add(hasher: &mut Sha256, label: &str, bytes: &[u8]) {
    hasher.update(label.as_bytes());
    hasher.update([0]);
    hasher.update((bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("could not read `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(program: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("ebpf/src")).unwrap();
        std::fs::write(root.path().join("ebpf/src/main.rs"), program).unwrap();
        std::fs::write(root.path().join("Cargo.toml"), "[workspace.package]\nedition = \"2024\"\n").unwrap();
        std::fs::write(root.path().join("Cargo.lock"), "version = 4\n").unwrap();
        root
    }

    #[test]
    fn the_same_sources_hash_the_same_anywhere_and_others_do_not() {
        let (one, same, other) = (tree("fn main() {}"), tree("fn main() {}"), tree("fn main() { }"));
        assert_eq!(hash(one.path()).unwrap(), hash(same.path()).unwrap());
        assert_ne!(hash(one.path()).unwrap(), hash(other.path()).unwrap());
    }

    #[test]
    fn only_the_lines_that_concern_the_kernel_half_count() {
        let manifest = "[workspace]\nx = 1\n[workspace.package]\nversion = \"1\"\n[workspace.dependencies]\n\
                        bytemuck = \"1\"\ntokio = \"1\"\n[profile.dev]\ndebug = 1\n";
        let part = manifest_part(manifest, &["bytemuck 1.0.0 aa".to_owned()]);
        assert_eq!(part, "[workspace.package]\nversion = \"1\"\nbytemuck = \"1\"\n");
    }
}
