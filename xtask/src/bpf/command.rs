//! The command: build and install the object, or check the one that is committed.

use super::{build, sources, toolchain::Toolchain};
use crate::workspace;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

const OBJECT: &str = "agent/src/probes/pyapm.bpf.o";
const RECORD: &str = "agent/src/probes/pyapm.bpf.json";

/// What the committed object was built from and with.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
struct Record {
    sources_sha256: String,
    rustc: String,
    cargo: String,
    bpf_linker: String,
    objcopy: String,
    object_sha256: String,
}

/// Builds the object, or with `check` compares the committed one with the sources.
///
/// # Errors
/// When the build fails, or the check finds a difference.
pub fn run(check: bool) -> Result<()> {
    let root = workspace::root();
    if check { compare(&root) } else { install(&root) }
}

fn install(root: &Path) -> Result<()> {
    let toolchain = Toolchain::find()?;
    let object = build::object(&toolchain, root, &root.join("target/bpf"))?;
    // The hash is taken after the build: cargo may have completed the lock file.
    let record = Record {
        sources_sha256: sources::hash(root)?,
        rustc: toolchain.rustc_version,
        cargo: toolchain.cargo_version,
        bpf_linker: toolchain.linker_version,
        objcopy: toolchain.objcopy_version,
        object_sha256: sources::hash_bytes(&object),
    };
    let mut text = serde_json::to_string_pretty(&record)?;
    text.push('\n');
    write(&root.join(OBJECT), &object)?;
    write(&root.join(RECORD), text.as_bytes())?;
    eprintln!("wrote {OBJECT} ({} bytes, sha256 {}) and {RECORD}", object.len(), record.object_sha256);
    Ok(())
}

fn compare(root: &Path) -> Result<()> {
    let text = std::fs::read_to_string(root.join(RECORD))
        .with_context(|| format!("could not read `{RECORD}`; try `cargo xtask bpf`"))?;
    let record: Record =
        serde_json::from_str(&text).with_context(|| format!("`{RECORD}` is not a record of a build"))?;
    let sources = sources::hash(root)?;
    if sources != record.sources_sha256 {
        bail!(
            "the kernel half has changed since `{OBJECT}` was built (sources {sources}, built from {}); \
             try `cargo xtask bpf`",
            record.sources_sha256
        );
    }
    let committed = std::fs::read(root.join(OBJECT)).with_context(|| format!("could not read `{OBJECT}`"))?;
    if sources::hash_bytes(&committed) != record.object_sha256 {
        bail!("`{OBJECT}` is not the object that `{RECORD}` describes; try `cargo xtask bpf`");
    }
    eprintln!("sources and object are as recorded (sources {sources})");
    let toolchain = match Toolchain::find() {
        Ok(toolchain) => toolchain,
        Err(error) => {
            eprintln!("not rebuilt: {error:#}");
            return Ok(());
        }
    };
    let recorded = [&record.rustc, &record.cargo, &record.bpf_linker, &record.objcopy];
    let Toolchain { rustc_version, cargo_version, linker_version, objcopy_version, .. } = &toolchain;
    let present = [rustc_version, cargo_version, linker_version, objcopy_version];
    if recorded != present {
        eprintln!("not rebuilt: recorded toolchain {recorded:?}, here {present:?}");
        return Ok(());
    }
    let elsewhere = root.join("target/bpf-check");
    let tree = elsewhere.join("another/place");
    copy_workspace(root, &tree)?;
    let rebuilt = build::object(&toolchain, &tree, &elsewhere.join("target"))?;
    if rebuilt != committed {
        let kept = elsewhere.join("rebuilt.o");
        write(&kept, &rebuilt)?;
        bail!(
            "a rebuild with the recorded toolchain gives other bytes than `{OBJECT}`: see `{}`",
            kept.display()
        );
    }
    eprintln!("rebuilt in another folder with {}: the same {} bytes", record.rustc, rebuilt.len());
    Ok(())
}

/// What cargo needs to see a whole workspace; the sources of other packages are only there to be members.
fn copy_workspace(root: &Path, tree: &Path) -> Result<()> {
    if tree.exists() {
        std::fs::remove_dir_all(tree).with_context(|| format!("could not remove `{}`", tree.display()))?;
    }
    let mut files: Vec<PathBuf> = vec!["Cargo.toml".into(), "Cargo.lock".into()];
    for member in ["agent", "ebpf", "tui", "tests", "xtask"] {
        let below = workspace::files_below(&root.join(member), &["target", "node_modules", "__pycache__"])?;
        files.extend(below.into_iter().map(|file| Path::new(member).join(file)));
    }
    for file in files {
        let to = tree.join(&file);
        let folder = to.parent().unwrap_or(tree);
        std::fs::create_dir_all(folder).with_context(|| format!("could not make `{}`", folder.display()))?;
        std::fs::copy(root.join(&file), &to)
            .with_context(|| format!("could not copy `{}`", file.display()))?;
    }
    Ok(())
}

/// By a temporary name, so that no build ever embeds half an object.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = path.with_extension("new");
    std::fs::write(&temporary, bytes)
        .with_context(|| format!("could not write `{}`", temporary.display()))?;
    std::fs::rename(&temporary, path).with_context(|| format!("could not write `{}`", path.display()))
}
