//! First stage of the guest: a compressed cpio archive of static busybox, `guest/init.sh` and the modules
//! that this kernel needs to see and mount its disk, in the order in which they must be inserted.

use super::commands::{pipe_to_file, stdout_of, text_of, tool};
use super::packages::Kernel;
use anyhow::{Context, Result, bail};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const INIT: &str = include_str!("guest/init.sh");

/// What the guest needs before it has a root. Some are built into some kernels; modprobe knows.
const MODULES: &[&str] = &["virtio_pci", "virtio_blk", "squashfs"];

/// Writes the archive to `to`, by way of a temporary name.
///
/// # Errors
/// busybox is not static, a module is missing, or a tool fails.
pub(super) fn build(kernel: &Kernel, to: &Path) -> Result<()> {
    let parent = to.parent().with_context(|| format!("`{}` has no parent", to.display()))?;
    let scratch = tempfile::tempdir_in(parent).context("failed to create a scratch directory")?;
    let tree = scratch.path().join("tree");
    let mut names = Vec::new();
    for directory in ["", "bin", "dev", "proc", "sys", "ro", "modules"] {
        fs::create_dir_all(tree.join(directory))?;
        names.push(directory.to_owned());
    }
    names.remove(0);

    fs::copy(static_busybox()?, tree.join("bin/busybox")).context("failed to copy busybox")?;
    fs::write(tree.join("init"), INIT)?;
    fs::set_permissions(tree.join("init"), fs::Permissions::from_mode(0o755))?;
    names.extend(["bin/busybox".to_owned(), "init".to_owned(), "modules/order".to_owned()]);

    let mut order = String::new();
    for module in insertion_order(kernel)? {
        let name = plain_name(&module)?;
        fs::write(tree.join("modules").join(&name), decompressed(&module)?)?;
        names.push(format!("modules/{name}"));
        order.push_str(&name);
        order.push('\n');
    }
    fs::write(tree.join("modules/order"), order)?;

    let plain = scratch.path().join("initramfs.cpio");
    let mut cpio = Command::new(tool("cpio")?);
    cpio.current_dir(&tree).args(["--create", "--format=newc", "--owner=0:0", "--quiet"]);
    pipe_to_file(&mut cpio, (names.join("\n") + "\n").as_bytes(), &plain)?;
    let packed = scratch.path().join("initramfs.zst");
    stdout_of(Command::new(tool("zstd")?).args(["-q", "-3", "-o"]).arg(&packed).arg(&plain))?;
    fs::rename(&packed, to).with_context(|| format!("failed to keep `{}`", to.display()))
}

/// busybox from `busybox-static`; the ordinary package has the same path but needs libraries.
pub(super) fn static_busybox() -> Result<PathBuf> {
    let busybox = tool("busybox")?;
    // ldd fails on a static executable, which is why its status is not looked at.
    let output = Command::new(tool("ldd")?).arg(&busybox).output().context("failed to run ldd")?;
    if output.status.success() && String::from_utf8_lossy(&output.stdout).contains("=>") {
        bail!("`{}` needs shared libraries: install `busybox-static`", busybox.display());
    }
    Ok(busybox)
}

fn insertion_order(kernel: &Kernel) -> Result<Vec<PathBuf>> {
    let mut order = Vec::new();
    for module in MODULES {
        let mut modprobe = Command::new(tool("modprobe")?);
        modprobe.args(["--show-depends", "--ignore-install", "-C", "/dev/null", "-d"]);
        modprobe.arg(&kernel.modules_root).args(["-S", &kernel.release, module]);
        for path in inserted(&text_of(&mut modprobe)?) {
            if !order.contains(&path) {
                order.push(path);
            }
        }
    }
    Ok(order)
}

/// Paths in modprobe's `insmod PATH` lines; `builtin NAME` lines need nothing (kmod 30).
fn inserted(shown: &str) -> Vec<PathBuf> {
    shown
        .lines()
        .filter_map(|line| line.strip_prefix("insmod "))
        .filter_map(|rest| rest.split_whitespace().next())
        .map(PathBuf::from)
        .collect()
}

/// `virtio_blk.ko` for `.../virtio_blk.ko.xz`.
fn plain_name(module: &Path) -> Result<String> {
    let name = module.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    match name.find(".ko") {
        Some(at) => Ok(name[..at + ".ko".len()].to_owned()),
        None => bail!("`{}` is not a kernel module", module.display()),
    }
}

/// busybox's insmod takes plain modules only.
fn decompressed(module: &Path) -> Result<Vec<u8>> {
    let unpacker = match module.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        _ => return fs::read(module).with_context(|| format!("failed to read `{}`", module.display())),
    };
    stdout_of(Command::new(tool(unpacker)?).args(["-d", "-c"]).arg(module))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_to_insert_are_read_from_modprobe() {
        let shown = "builtin virtio_pci\ninsmod /k/lib/modules/6.12/kernel/virtio_blk.ko.xz \n\ninsmod /k/a.ko opt=1\n";
        let paths = inserted(shown);
        assert_eq!(
            paths,
            [PathBuf::from("/k/lib/modules/6.12/kernel/virtio_blk.ko.xz"), PathBuf::from("/k/a.ko")]
        );
    }

    #[test]
    fn compressed_modules_get_their_plain_name() {
        assert_eq!(plain_name(Path::new("/k/virtio_blk.ko.xz")).unwrap(), "virtio_blk.ko");
        assert_eq!(plain_name(Path::new("/k/squashfs.ko")).unwrap(), "squashfs.ko");
        assert!(plain_name(Path::new("/k/modules.dep")).is_err());
    }
}
