//! The package's tree and its control files (Debian policy 4.6), packed by `dpkg-deb`. The configuration, the manual pages and the
//! completions are those that the binary writes itself.

use crate::debian::commands::{stdout_of, tool};
use crate::workspace;
use anyhow::{Context, Result};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Each shell's name to the binary, and where the distribution looks for its completions.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "usr/share/bash-completion/completions/pyapm"),
    ("zsh", "usr/share/zsh/vendor-completions/_pyapm"),
    ("fish", "usr/share/fish/vendor_completions.d/pyapm.fish"),
];

const CONFIGURATION: &str = "etc/pyapm/pyapm.toml";
const UNIT: &str = "usr/lib/systemd/system/pyapm.service";

/// The service is not started by the installation: who watches whom is the administrator's to say.
const AFTER_INSTALLATION: &str = "#!/bin/sh
set -e
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
    # One that runs already goes on with the new version.
    systemctl try-restart pyapm.service
fi
";
const BEFORE_REMOVAL: &str = "#!/bin/sh
set -e
if [ \"$1\" = remove ] && [ -d /run/systemd/system ]; then
    systemctl disable --now pyapm.service
fi
";

/// Packs the binary; gives the package's path.
///
/// # Errors
/// When a file cannot be read or written, or a tool fails.
pub(super) fn build(binary: &Path, folder: &Path) -> Result<PathBuf> {
    let staging = tempfile::tempdir_in(folder).context("no folder to pack in")?;
    let root = staging.path().join("root");
    put(&root, "usr/bin/pyapm", &read(binary)?, 0o755)?;
    let version = version(binary)?;
    let init = stdout_of(Command::new(binary).args(["config", "init"]))?;
    put(&root, CONFIGURATION, &init, 0o644)?;
    put(&root, UNIT, &read(&workspace::root().join("packaging/pyapm.service"))?, 0o644)?;
    put(&root, "usr/share/doc/pyapm/copyright", COPYRIGHT.as_bytes(), 0o644)?;
    for (shell, place) in COMPLETIONS {
        put(&root, place, &stdout_of(Command::new(binary).args(["completions", shell]))?, 0o644)?;
    }
    manual(binary, staging.path(), &root)?;
    let size = size_of(&root)?.div_ceil(1024);
    put(&root, "DEBIAN/control", control(&version, size).as_bytes(), 0o644)?;
    put(&root, "DEBIAN/conffiles", format!("/{CONFIGURATION}\n").as_bytes(), 0o644)?;
    put(&root, "DEBIAN/postinst", AFTER_INSTALLATION.as_bytes(), 0o755)?;
    put(&root, "DEBIAN/prerm", BEFORE_REMOVAL.as_bytes(), 0o755)?;
    let package = folder.join(format!("pyapm_{version}_amd64.deb"));
    let mut pack = Command::new(tool("dpkg-deb")?);
    stdout_of(pack.args(["--root-owner-group", "-Zxz", "--build"]).arg(&root).arg(&package))?;
    Ok(package)
}

/// As the binary says: `pyapm 0.1.0`.
fn version(binary: &Path) -> Result<String> {
    let said = stdout_of(Command::new(binary).arg("--version"))?;
    let said = String::from_utf8_lossy(&said);
    said.split_whitespace().nth(1).map(str::to_owned).context("the binary does not say its version")
}

fn manual(binary: &Path, staging: &Path, root: &Path) -> Result<()> {
    let pages = staging.join("pages");
    fs::create_dir_all(&pages).context("no folder for manual pages")?;
    stdout_of(Command::new(binary).arg("manual").arg(&pages))?;
    let mut names: Vec<_> = fs::read_dir(&pages)?.filter_map(|page| Some(page.ok()?.path())).collect();
    names.sort();
    for page in names {
        let name = page.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // Without the time, so that the same page is the same bytes.
        let packed = stdout_of(Command::new(tool("gzip")?).args(["-9nc"]).arg(&page))?;
        put(root, &format!("usr/share/man/man1/{name}.gz"), &packed, 0o644)?;
    }
    Ok(())
}

fn control(version: &str, kilobytes: u64) -> String {
    format!(
        "Package: pyapm\nVersion: {version}\nArchitecture: amd64\nMaintainer: pyapm <pyapm@localhost>\n\
         Installed-Size: {kilobytes}\nDepends: libc6 (>= 2.36), libgcc-s1\nSection: admin\nPriority: optional\n\
         Description: zero-code APM and profiler for Python\n \
         Watches running Python applications from outside, by eBPF: transactions, SQL, errors,\n \
         stacks. The applications are not changed, restarted or paused.\n"
    )
}

const COPYRIGHT: &str = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: pyapm

Files: *
License: MIT or Apache-2.0
";

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("could not read `{}`", path.display()))
}

fn put(root: &Path, place: &str, bytes: &[u8], mode: u32) -> Result<()> {
    let path = root.join(place);
    let failed = || format!("could not write `{}`", path.display());
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(failed)?;
    }
    fs::write(&path, bytes).with_context(failed)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).with_context(failed)
}

fn size_of(root: &Path) -> Result<u64> {
    let mut bytes = 0;
    for file in workspace::files_below(root, &[])? {
        bytes += fs::metadata(root.join(file))?.len();
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_is_what_dpkg_reads() {
        let text = control("1.2.3", 4);
        assert!(text.contains("\nVersion: 1.2.3\n") && text.ends_with('\n'));
        // A line is a field, or goes on with a blank.
        for line in text.lines() {
            assert!(line.starts_with(' ') || line.contains(": "), "{line}");
        }
    }

    #[test]
    fn the_unit_starts_what_the_package_brings() {
        let unit = read(&workspace::root().join("packaging/pyapm.service")).unwrap();
        let unit = String::from_utf8(unit).unwrap();
        assert!(unit.contains(&format!("ExecStart=/usr/bin/pyapm run --config /{CONFIGURATION}\n")));
    }
}
