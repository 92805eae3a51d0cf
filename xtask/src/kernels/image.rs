//! The guest's root: one squashfs with busybox, a Python with its standard library, `pyapm` and the test
//! script. The host's own executables run on every kernel of the matrix, so the same image serves them all.

use super::commands::{stdout_of, text_of, tool};
use super::initramfs::static_busybox;
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

const SECOND_STAGE: &str = include_str!("guest/second.sh");

/// Mount points, and directories that every program expects.
const DIRECTORIES: &[&str] =
    &["dev", "proc", "sys", "tmp", "run", "var", "root", "etc", "t", "usr/bin", "usr/sbin"];

/// Parts of the standard library that no workload imports; they are half of its size.
const LEFT_OUT: &[&str] = &[
    "test",
    "tests",
    "idlelib",
    "tkinter",
    "turtledemo",
    "ensurepip",
    "lib2to3",
    "site-packages",
    "dist-packages",
];

/// The standard library is three deep; a link that leads back into itself must not be followed for ever.
const MAX_DEPTH: usize = 12;

/// What goes into the image besides busybox.
pub(super) struct Contents<'a> {
    pub(super) pyapm: &'a Path,
    pub(super) script: &'a Path,
}

/// A CPython 3.11 of the host.
#[derive(Debug)]
struct Python {
    executable: PathBuf,
    library: PathBuf,
}

/// Writes the image to `to`, by way of a temporary name: a guest that still runs keeps the one it opened.
///
/// # Errors
/// No Python 3.11 on this host, a shared library is missing, or a tool fails.
pub(super) fn build(contents: &Contents<'_>, to: &Path) -> Result<()> {
    let parent = to.parent().with_context(|| format!("`{}` has no parent", to.display()))?;
    let scratch = tempfile::tempdir_in(parent).context("failed to create a scratch directory")?;
    let root = Root { path: scratch.path().join("root") };
    root.lay_out()?;
    let python = find_python()?;
    let extensions = root.add_python(&python)?;
    fs::copy(contents.pyapm, root.path.join("t/pyapm"))
        .with_context(|| format!("failed to copy `{}`", contents.pyapm.display()))?;
    fs::copy(contents.script, root.path.join("t/kernel_guest.py"))
        .with_context(|| format!("failed to copy `{}`", contents.script.display()))?;
    root.add_libraries(&[contents.pyapm.to_owned(), python.executable], &extensions)?;

    let image = scratch.path().join("root.squashfs");
    let mut squash = Command::new(tool("mksquashfs")?);
    squash.arg(&root.path).arg(&image);
    squash.args(["-comp", "zstd", "-Xcompression-level", "3", "-noappend", "-all-root", "-no-progress"]);
    stdout_of(&mut squash)?;
    fs::rename(&image, to).with_context(|| format!("failed to keep `{}`", to.display()))
}

struct Root {
    path: PathBuf,
}

impl Root {
    fn lay_out(&self) -> Result<()> {
        for directory in DIRECTORIES {
            fs::create_dir_all(self.path.join(directory))?;
        }
        // A host with a merged /usr gives library paths that only resolve with the same links.
        for name in ["bin", "sbin", "lib", "lib32", "lib64"] {
            if let Ok(target) = fs::read_link(Path::new("/").join(name)) {
                fs::create_dir_all(self.path.join("usr").join(name))?;
                symlink(target, self.path.join(name))?;
            } else {
                fs::create_dir_all(self.path.join(name))?;
            }
        }
        let busybox = static_busybox()?;
        fs::copy(&busybox, self.path.join("usr/bin/busybox")).context("failed to copy busybox")?;
        for applet in text_of(Command::new(&busybox).arg("--list"))?.lines() {
            if applet != "busybox" {
                symlink("busybox", self.path.join("usr/bin").join(applet))?;
            }
        }
        let shell = self.path.join("bin/sh");
        if !shell.is_symlink() {
            symlink("/usr/bin/busybox", &shell)?;
        }
        let init = self.path.join("sbin/init");
        fs::write(&init, SECOND_STAGE)?;
        fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?;
        fs::write(self.path.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")?;
        fs::write(self.path.join("etc/group"), "root:x:0:\n")?;
        fs::write(self.path.join("etc/hosts"), "127.0.0.1 localhost\n")?;
        fs::write(self.path.join("etc/nsswitch.conf"), "hosts: files\n")?;
        Ok(())
    }

    /// Copies a Python to the path it has on the host, so that it finds its library. Returns its extension
    /// modules.
    fn add_python(&self, python: &Python) -> Result<Vec<PathBuf>> {
        self.copy(&python.executable)?;
        let mut extensions = Vec::new();
        self.copy_tree(&python.library, 0, &mut extensions)?;
        symlink(&python.executable, self.path.join("t/python3"))?;
        Ok(extensions)
    }

    /// Copies a directory of the host, following links, without [`LEFT_OUT`]; shared objects are also listed.
    fn copy_tree(&self, directory: &Path, depth: usize, shared: &mut Vec<PathBuf>) -> Result<()> {
        if depth > MAX_DEPTH {
            bail!("`{}` is nested too deeply", directory.display());
        }
        let listed =
            fs::read_dir(directory).with_context(|| format!("failed to list `{}`", directory.display()))?;
        for item in listed {
            let path = item?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            // A link that leads nowhere cannot be imported on the host either.
            let Ok(metadata) = fs::metadata(&path) else { continue };
            if metadata.is_dir() {
                // `config-3.11-...` holds the static library, for embedding.
                if !LEFT_OUT.contains(&name.as_str()) && !name.starts_with("config-") {
                    self.copy_tree(&path, depth + 1, shared)?;
                }
            } else if metadata.is_file() {
                self.copy(&path)?;
                if path.extension() == Some(OsStr::new("so")) {
                    shared.push(path);
                }
            }
        }
        Ok(())
    }

    /// Copies what the path leads to, under the same path with links in its directories resolved. Keeps the
    /// time of modification: Python compares it with the one in the cached bytecode.
    fn copy(&self, source: &Path) -> Result<()> {
        let failed = || format!("failed to copy `{}`", source.display());
        let (parent, name) = source.parent().zip(source.file_name()).with_context(failed)?;
        let parent = parent.canonicalize().with_context(failed)?;
        let directory = self.path.join(parent.strip_prefix("/").unwrap_or(&parent));
        fs::create_dir_all(&directory).with_context(failed)?;
        let target = directory.join(name);
        fs::copy(source, &target).with_context(failed)?;
        let modified = fs::metadata(source).and_then(|metadata| metadata.modified()).with_context(failed)?;
        // Opened for reading: a file without write permission keeps its time too.
        fs::File::open(&target).and_then(|file| file.set_modified(modified)).with_context(failed)
    }

    /// Copies the shared libraries that the loader would map for these files.
    fn add_libraries(&self, executables: &[PathBuf], extensions: &[PathBuf]) -> Result<()> {
        let mut libraries = BTreeSet::new();
        for executable in executables {
            let listed = text_of(Command::new(tool("ldd")?).arg(executable))?;
            if let Some(line) = listed.lines().find(|line| line.contains("not found")) {
                bail!("`{}` cannot run here, and so not in a guest: {}", executable.display(), line.trim());
            }
            libraries.extend(mapped(&listed));
        }
        if !extensions.is_empty() {
            // An extension whose library is missing on the host only fails for whoever imports it.
            let listed = text_of(Command::new(tool("ldd")?).args(extensions))?;
            libraries.extend(mapped(&listed));
        }
        libraries.iter().try_for_each(|library| self.copy(library))
    }
}

/// Paths in ldd's output: `libc.so.6 => /lib/libc.so.6 (0x...)` and the loader's `/lib64/ld-linux.so.2
/// (0x...)`.
fn mapped(listed: &str) -> Vec<PathBuf> {
    listed
        .lines()
        .filter(|line| line.starts_with([' ', '\t']))
        .map(|line| line.split_once("=>").map_or(line, |(_, path)| path).trim())
        .filter(|path| path.starts_with('/'))
        .filter_map(|path| path.split_whitespace().next())
        .map(PathBuf::from)
        .collect()
}

/// A shared-library build under pyenv if there is one, else Debian's own, which is static.
fn find_python() -> Result<Python> {
    let pyenv = std::env::var_os("PYENV_ROOT")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".pyenv")));
    let debian = Python { executable: "/usr/bin/python3.11".into(), library: "/usr/lib/python3.11".into() };
    pyenv
        .and_then(|root| newest_pyenv(&root))
        .or_else(|| (debian.executable.is_file() && debian.library.is_dir()).then_some(debian))
        .context("no Python 3.11 for the guest: install `python3.11` or a 3.11 under pyenv")
}

fn newest_pyenv(pyenv: &Path) -> Option<Python> {
    let mut patches: Vec<(u32, PathBuf)> = fs::read_dir(pyenv.join("versions"))
        .ok()?
        .filter_map(|item| {
            let path = item.ok()?.path();
            let patch = path.file_name()?.to_str()?.strip_prefix("3.11.")?.parse().ok()?;
            Some((patch, path))
        })
        .collect();
    patches.sort();
    patches.into_iter().rev().find_map(|(_, prefix)| {
        let python =
            Python { executable: prefix.join("bin/python3.11"), library: prefix.join("lib/python3.11") };
        (python.executable.is_file() && python.library.is_dir()).then_some(python)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_from_ldd() {
        let listed = "\tlinux-vdso.so.1 (0x00007ffd)\n\
                      \tlibm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x00007f)\n\
                      \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n\
                      \tlibtcl8.6.so => not found\n\
                      /usr/lib/python3.11/lib-dynload/_ssl.so:\n\
                      \tstatically linked\n";
        assert_eq!(
            mapped(listed),
            [PathBuf::from("/lib/x86_64-linux-gnu/libm.so.6"), PathBuf::from("/lib64/ld-linux-x86-64.so.2")]
        );
    }

    #[test]
    fn newest_complete_build_under_pyenv_is_taken() {
        let pyenv = tempfile::tempdir().unwrap();
        for (version, complete) in [("3.11.9", true), ("3.11.10", true), ("3.11.12", false), ("3.12.1", true)]
        {
            let prefix = pyenv.path().join("versions").join(version);
            fs::create_dir_all(prefix.join("bin")).unwrap();
            if complete {
                fs::create_dir_all(prefix.join("lib/python3.11")).unwrap();
                fs::write(prefix.join("bin/python3.11"), "").unwrap();
            }
        }
        let python = newest_pyenv(pyenv.path()).unwrap();
        assert!(python.executable.ends_with("versions/3.11.10/bin/python3.11"), "{python:?}");
        assert!(newest_pyenv(Path::new("/nonexistent")).is_none());
    }

    #[test]
    fn copies_keep_their_time_and_leave_tests_out() {
        let host = tempfile::tempdir().unwrap();
        let library = host.path().join("lib");
        for directory in ["json", "test", "config-3.11-x86_64-linux-gnu"] {
            fs::create_dir_all(library.join(directory)).unwrap();
            fs::write(library.join(directory).join("a.py"), "pass").unwrap();
        }
        fs::write(library.join("_ssl.so"), "").unwrap();
        symlink("nowhere", library.join("dangling.py")).unwrap();
        let image = tempfile::tempdir().unwrap();
        let root = Root { path: image.path().to_owned() };
        let mut shared = Vec::new();
        root.copy_tree(&library, 0, &mut shared).unwrap();

        assert_eq!(shared, [library.join("_ssl.so")]);
        let real = library.canonicalize().unwrap();
        let copied = image.path().join(real.strip_prefix("/").unwrap());
        assert!(!copied.join("test").exists() && !copied.join("config-3.11-x86_64-linux-gnu").exists());
        let time = |path: PathBuf| fs::metadata(path).unwrap().modified().unwrap();
        assert_eq!(time(copied.join("json/a.py")), time(library.join("json/a.py")));
    }
}
