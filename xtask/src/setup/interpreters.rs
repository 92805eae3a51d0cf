//! Interpreters of other versions than the distribution's own: unpacked from Debian's suites below the target
//! directory, each in a root of its own with all that it depends on, the C library too. Nothing is installed.

use crate::debian::sources::{self, Archive, Entry};
use crate::debian::suite::{Suite, left_out, unpack};
use crate::workspace;
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One version of Python, and where it is looked for.
struct Wanted {
    /// `3.13`
    version: &'static str,
    /// The first that has it is taken.
    suites: &'static [&'static str],
    /// Unpacked beside it.
    more: &'static [&'static str],
}

/// An application server that has libpython in a plugin.
const UWSGI: &[&str] = &["uwsgi-core", "uwsgi-plugin-python3"];

const WANTED: [Wanted; 5] = [
    Wanted { version: "3.9", suites: &["bullseye"], more: &[] },
    Wanted { version: "3.11", suites: &["bookworm"], more: UWSGI },
    Wanted { version: "3.13", suites: &["trixie", "sid"], more: UWSGI },
    Wanted { version: "3.14", suites: &["sid", "forky"], more: &[] },
    Wanted { version: "3.15", suites: &["sid", "forky"], more: &[] },
];

/// Written last into each root: one that has it is complete.
const STAMP: &str = "packages";
/// Links of a merged `/usr`, which older suites' packages do not bring, and the newer ones' do without.
const MERGED: [&str; 4] = ["bin", "sbin", "lib", "lib64"];
/// Where a container has the kernel's file systems, and the tests their files.
const MOUNT_POINTS: [&str; 4] = ["dev", "proc", "tmp", "mnt"];

/// Where the roots are, each named `SUITE-VERSION`; the tests look for them there.
#[must_use]
pub fn folder() -> PathBuf {
    workspace::root().join("target/pyapm/pythons")
}

/// Unpacks those that are missing. What is there is left alone, also when the suite has a newer one by now.
///
/// # Errors
/// When no suite gives one of them.
pub fn install() -> Result<()> {
    let folder = folder();
    fs::create_dir_all(&folder).with_context(|| format!("could not create `{}`", folder.display()))?;
    let missing: Vec<&Wanted> = WANTED.iter().filter(|wanted| !wanted.is_in(&folder)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let entries = sources::read(Path::new("/etc/apt"))?;
    for wanted in missing {
        let mut remarks = Vec::new();
        let unpacked = wanted.suites.iter().any(|name| match wanted.unpack(name, &folder, &entries) {
            Ok(()) => true,
            Err(error) => {
                remarks.push(left_out(name, &error));
                false
            }
        });
        if !unpacked {
            bail!("no Python {} of Debian's: {}", wanted.version, remarks.join("; "));
        }
    }
    Ok(())
}

impl Wanted {
    fn is_in(&self, folder: &Path) -> bool {
        let Ok(entries) = fs::read_dir(folder) else { return false };
        entries.flatten().any(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            self.suites.iter().any(|suite| {
                name.strip_prefix(&format!("{suite}-{}", self.version)).is_some_and(is_rest_of_version)
            }) && entry.path().join(STAMP).is_file()
        })
    }

    fn unpack(&self, suite: &'static str, folder: &Path, entries: &[Entry]) -> Result<()> {
        let suite = Suite::new(suite, Archive::Main, &folder.with_file_name("apt"), entries);
        suite.update(false)?;
        if self.unpack_listed(&suite, folder).is_err() {
            // The archive may have replaced a package since its list was fetched.
            suite.update(true)?;
            self.unpack_listed(&suite, folder)?;
        }
        Ok(())
    }

    fn unpack_listed(&self, suite: &Suite<'_>, folder: &Path) -> Result<()> {
        let interpreter = format!("python{}", self.version);
        let library = format!("libpython{}", self.version);
        let version = suite.version(&interpreter)?;
        eprintln!("setup: unpacking {interpreter} {version} of {}", suite.name);
        let scratch = tempfile::tempdir_in(folder).context("could not create a scratch directory")?;
        let (debs, root) = (scratch.path().join("debs"), scratch.path().join("root"));
        fs::create_dir(&debs).context("could not create the folder of downloads")?;
        prepare(&root).context("could not prepare the root")?;
        let packages: Vec<&str> = [interpreter.as_str(), &library].iter().chain(self.more).copied().collect();
        suite.download_with_dependencies(&packages, &debs)?;
        unpack(&debs, &root)?;
        let program = root.join("usr/bin").join(&interpreter);
        anyhow::ensure!(program.is_file(), "no `{}` in the package", program.display());
        link_shared(&root, self.version)?;
        fs::write(root.join(STAMP), listing(&debs)?).context("could not write the list of packages")?;
        let to = folder.join(format!("{}-{}", suite.name, version.replace(['/', ':', '~'], "_")));
        if to.exists() {
            // Without its stamp: left by a run that was cut short.
            fs::remove_dir_all(&to).with_context(|| format!("could not remove `{}`", to.display()))?;
        }
        fs::rename(&root, &to).with_context(|| format!("could not keep `{}`", to.display()))
    }
}

/// `.2-1` after `3.9`, but not `0.2-1` after `3.1`.
fn is_rest_of_version(rest: &str) -> bool {
    !rest.starts_with(|first: char| first.is_ascii_digit())
}

/// An empty root whose `/usr` is merged. Where an older package brings a folder of that name, that takes the place of
/// the link.
fn prepare(root: &Path) -> std::io::Result<()> {
    for name in MERGED {
        fs::create_dir_all(root.join("usr").join(name))?;
        symlink(Path::new("usr").join(name), root.join(name))?;
    }
    MOUNT_POINTS.iter().try_for_each(|name| fs::create_dir(root.join(name)))
}

/// The executable of the package holds the interpreter itself. This makes another one beside it that has it from
/// libpython, as application servers do. It is linked against the root's own libraries, and without this machine's
/// start files, which may need a newer C library than the root has.
fn link_shared(root: &Path, version: &str) -> Result<()> {
    const SOURCE: &str = "extern int Py_BytesMain(int, char **); extern void exit(int);\n\
        __asm__(\".globl _start\\n_start: mov %rsp, %rdi\\n and $-16, %rsp\\n call begin\\n\");\n\
        void begin(long *stack) { exit(Py_BytesMain((int)stack[0], (char **)(stack + 1))); }\n";
    let libraries = root.join("usr/lib/x86_64-linux-gnu");
    let source = root.join("shared.c");
    fs::write(&source, SOURCE).context("could not write a source file")?;
    workspace::run(
        Command::new("cc")
            .args(["-nostartfiles", "-nodefaultlibs", "-Wl,--allow-shlib-undefined", "-o"])
            .arg(root.join("usr/bin").join(format!("python{version}-shared")))
            .arg(&source)
            .arg(libraries.join(format!("libpython{version}.so.1.0")))
            .arg(root.join("lib/x86_64-linux-gnu/libc.so.6")),
    )?;
    fs::remove_file(&source).context("could not remove a source file")
}

/// The names of the downloaded packages, which hold their versions.
fn listing(debs: &Path) -> Result<String> {
    let mut names: Vec<String> = fs::read_dir(debs)
        .context("could not list the downloads")?
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".deb"))
        .collect();
    names.sort();
    Ok(names.join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_complete_root_of_the_same_version_counts() {
        let folder = tempfile::tempdir().unwrap();
        let wanted = Wanted { version: "3.1", suites: &["sid"], more: &[] };
        for name in ["sid-3.14.10-1", "trixie-3.1.2-1"] {
            fs::create_dir(folder.path().join(name)).unwrap();
            fs::write(folder.path().join(name).join(STAMP), "").unwrap();
        }
        assert!(!wanted.is_in(folder.path()));
        fs::create_dir(folder.path().join("sid-3.1.2-1")).unwrap();
        assert!(!wanted.is_in(folder.path()));
        fs::write(folder.path().join("sid-3.1.2-1").join(STAMP), "").unwrap();
        assert!(wanted.is_in(folder.path()));
    }

    #[test]
    fn a_prepared_root_is_merged() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        prepare(&root).unwrap();
        fs::write(root.join("lib64/ld.so"), "").unwrap();
        assert!(root.join("usr/lib64/ld.so").is_file());
    }
}
