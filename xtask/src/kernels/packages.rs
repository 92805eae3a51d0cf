//! Fetches Debian's kernels without installing them. Unpacked kernels are kept by package version.
//!
//! Not here: how packages are downloaded (`debian`), which one is wanted (`versions`).

use super::commands::{stdout_of, text_of, tool};
use super::sources::{Archive, Entry};
use super::versions::{Choice, Line, SEARCH, choose, compare};
use crate::debian::suite::{Suite, left_out, unpack};
use anyhow::{Context, Result, anyhow, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A kernel of the matrix and the suites that may have it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) label: &'static str,
    pub(super) line: Line,
    pub(super) suites: &'static [(Archive, &'static str)],
}

/// An unpacked kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kernel {
    pub(super) label: &'static str,
    /// As `uname -r` will say.
    pub(super) release: String,
    pub(super) vmlinuz: PathBuf,
    /// The directory that has `lib/modules/RELEASE`, as `modprobe -d` wants it.
    pub(super) modules_root: PathBuf,
    /// What was not as it should be while fetching, for the report.
    pub(super) remarks: Vec<String>,
}

struct Found<'a> {
    suite: Suite<'a>,
    choice: Choice,
    version: String,
}

/// Finds the wanted kernel, downloads and unpacks it below `home`, unless that version is there already.
///
/// The newest release of all its suites is taken. One that is listed but cannot be downloaded gives way to
/// the next suite's, and to the release unpacked by an earlier run at last; `remarks` says so.
///
/// # Errors
/// No suite gives it and none was unpacked before.
pub(super) fn fetch(wanted: &Wanted, entries: &[Entry], home: &Path) -> Result<Kernel> {
    let unpacked = home.join("unpacked");
    fs::create_dir_all(&unpacked).with_context(|| format!("failed to create `{}`", unpacked.display()))?;
    let mut remarks = Vec::new();
    let mut found = Vec::new();
    for &(archive, name) in wanted.suites {
        match find(&Suite::new(name, archive, &home.join("apt"), entries), wanted.line, false) {
            Ok(release) => found.push(release),
            Err(error) => remarks.push(left_out(name, &error)),
        }
    }
    found.sort_by(|left, right| compare(&right.version, &left.version));
    for release in found {
        let name = release.suite.name;
        match release.obtain(wanted, &unpacked) {
            Ok(directory) => {
                remove_others(&unpacked, wanted.label, &directory)?;
                return Kernel::open(wanted.label, &directory, remarks);
            }
            Err(error) => remarks.push(left_out(name, &error)),
        }
    }
    let Some(kept) = directories_of(&unpacked, wanted.label)?.pop() else {
        bail!("kernel {} cannot be fetched: {}", wanted.label, remarks.join("; "));
    };
    remarks.push("the release unpacked by an earlier run is used".to_owned());
    Kernel::open(wanted.label, &kept, remarks)
}

fn directory_of(unpacked: &Path, label: &str, version: &str) -> PathBuf {
    unpacked.join(format!("{label}-{}", version.replace(['/', ':'], "_")))
}

fn directories_of(unpacked: &Path, label: &str) -> Result<Vec<PathBuf>> {
    let prefix = format!("{label}-");
    let mut directories = Vec::new();
    for item in fs::read_dir(unpacked).with_context(|| format!("failed to list `{}`", unpacked.display()))? {
        let item = item?;
        if item.file_name().to_string_lossy().starts_with(&prefix) {
            directories.push(item.path());
        }
    }
    Ok(directories)
}

/// Keeps one release of each kernel of the matrix: each is about 100 MB unpacked.
fn remove_others(unpacked: &Path, label: &str, keep: &Path) -> Result<()> {
    for directory in directories_of(unpacked, label)?.iter().filter(|directory| *directory != keep) {
        fs::remove_dir_all(directory)
            .with_context(|| format!("failed to remove `{}`", directory.display()))?;
    }
    Ok(())
}

/// Looks for the kernel in this suite's package list, fetching the list if it is old or `refresh` is set.
fn find<'a>(suite: &Suite<'a>, line: Line, refresh: bool) -> Result<Found<'a>> {
    suite.update(refresh)?;
    let listed = text_of(suite.apt("apt-cache")?.args(["search", "--names-only", SEARCH]))?;
    let names: Vec<&str> = listed.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let choice = choose(line, &names)?;
    let first = choice.packages.first().context("a kernel without packages")?;
    Ok(Found { version: suite.version(first)?, choice, suite: suite.clone() })
}

impl Found<'_> {
    /// Returns the directory with this release, or, should the archive have replaced it since its list was
    /// fetched, with the one that came after it.
    fn obtain(self, wanted: &Wanted, unpacked: &Path) -> Result<PathBuf> {
        let directory = directory_of(unpacked, wanted.label, &self.version);
        if directory.is_dir() {
            return Ok(directory);
        }
        let Err(error) = self.unpack_into(&directory) else { return Ok(directory) };
        let again = find(&self.suite, wanted.line, true)?;
        if again.version == self.version {
            return Err(error);
        }
        let directory = directory_of(unpacked, wanted.label, &again.version);
        again.unpack_into(&directory)?;
        Ok(directory)
    }

    /// Downloads and unpacks into a temporary neighbour of `directory`, which gets its name only when
    /// complete.
    fn unpack_into(&self, directory: &Path) -> Result<()> {
        let parent =
            directory.parent().with_context(|| format!("`{}` has no parent", directory.display()))?;
        let scratch = tempfile::tempdir_in(parent).context("failed to create a scratch directory")?;
        let (debs, root) = (scratch.path().join("debs"), scratch.path().join("root"));
        fs::create_dir(&debs)?;
        self.suite.download(&self.choice.packages, &debs)?;
        unpack(&debs, &root)?;
        let kernel = Kernel::open("downloaded", &root, Vec::new())?;
        stdout_of(Command::new(tool("depmod")?).arg("-b").arg(&kernel.modules_root).arg(&kernel.release))?;
        fs::rename(&root, directory).with_context(|| format!("failed to keep `{}`", directory.display()))
    }
}

impl Kernel {
    /// Finds kernel and modules in an unpacked package: `/boot` and `/lib/modules` up to 6.1,
    /// `/usr/lib/modules` from 6.12 on, and from 7.2 on the kernel beside its modules.
    fn open(label: &'static str, directory: &Path, remarks: Vec<String>) -> Result<Self> {
        let (modules_root, release) = [directory.join("usr"), directory.to_owned()]
            .into_iter()
            .find_map(|root| {
                let release = fs::read_dir(root.join("lib/modules")).ok()?.next()?.ok()?.file_name();
                Some((root, release.to_string_lossy().into_owned()))
            })
            .ok_or_else(|| {
                anyhow!("no `lib/modules` in the packages unpacked at `{}`", directory.display())
            })?;
        let vmlinuz = [
            directory.join(format!("boot/vmlinuz-{release}")),
            modules_root.join("lib/modules").join(&release).join("vmlinuz"),
        ]
        .into_iter()
        .find(|path| path.is_file())
        .ok_or_else(|| anyhow!("no kernel image of {release} is unpacked at `{}`", directory.display()))?;
        Ok(Self { label, release, vmlinuz, modules_root, remarks })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(root: &Path, path: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }

    #[test]
    fn kernels_are_found_in_each_layout_debian_used() {
        for (vmlinuz, module, root) in [
            ("boot/vmlinuz-5.10.0-46-cloud-amd64", "lib/modules/5.10.0-46-cloud-amd64/modules.order", ""),
            (
                "boot/vmlinuz-6.12.107-cloud-amd64",
                "usr/lib/modules/6.12.107-cloud-amd64/modules.order",
                "usr",
            ),
            (
                "usr/lib/modules/7.2.13-cloud-amd64/vmlinuz",
                "usr/lib/modules/7.2.13-cloud-amd64/modules.order",
                "usr",
            ),
        ] {
            let directory = tempfile::tempdir().unwrap();
            touch(directory.path(), vmlinuz);
            touch(directory.path(), module);
            let kernel = Kernel::open("test", directory.path(), Vec::new()).unwrap();
            assert_eq!(kernel.vmlinuz, directory.path().join(vmlinuz));
            assert_eq!(kernel.modules_root.join(""), directory.path().join(root).join(""));
            assert!(module.contains(&kernel.release));
        }
    }

    #[test]
    fn a_package_without_a_kernel_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        assert!(Kernel::open("test", directory.path(), Vec::new()).is_err());
        touch(directory.path(), "lib/modules/5.10.0-46-cloud-amd64/modules.order");
        let error = Kernel::open("test", directory.path(), Vec::new()).unwrap_err();
        assert!(error.to_string().contains("5.10.0-46-cloud-amd64"), "{error}");
    }

    #[test]
    fn only_other_releases_of_the_same_kernel_are_removed() {
        let unpacked = tempfile::tempdir().unwrap();
        for name in ["6.1-6.1.190-1", "6.1-6.1.192-1", "6.12-6.12.107-1"] {
            fs::create_dir(unpacked.path().join(name)).unwrap();
        }
        remove_others(unpacked.path(), "6.1", &unpacked.path().join("6.1-6.1.192-1")).unwrap();
        assert!(!unpacked.path().join("6.1-6.1.190-1").exists());
        assert!(unpacked.path().join("6.1-6.1.192-1").exists());
        assert!(unpacked.path().join("6.12-6.12.107-1").exists());
    }

    #[test]
    fn a_kernel_of_an_earlier_run_serves_when_no_suite_can_be_asked() {
        let home = tempfile::tempdir().unwrap();
        let kept = home.path().join("unpacked/5.10-5.10.223-1");
        touch(&kept, "boot/vmlinuz-5.10.0-32-cloud-amd64");
        touch(&kept, "lib/modules/5.10.0-32-cloud-amd64/modules.order");
        let wanted =
            Wanted { label: "5.10", line: Line::Series("5.10"), suites: &[(Archive::Main, "bullseye")] };
        let kernel = fetch(&wanted, &[], home.path()).unwrap();
        assert_eq!(kernel.release, "5.10.0-32-cloud-amd64");
        assert!(kernel.remarks.last().unwrap().contains("earlier run"), "{:?}", kernel.remarks);
    }

    #[test]
    fn a_kernel_nobody_offers_is_an_error_that_names_it() {
        let home = tempfile::tempdir().unwrap();
        let wanted =
            Wanted { label: "5.10", line: Line::Series("5.10"), suites: &[(Archive::Main, "bullseye")] };
        let error = fetch(&wanted, &[], home.path()).unwrap_err().to_string();
        assert!(error.contains("5.10") && error.contains("`bullseye`"), "{error}");
    }
}
