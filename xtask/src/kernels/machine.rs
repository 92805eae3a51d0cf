//! One guest: the qemu command line and the time it may take. What its log means is `verdict`'s subject.
//!
//! The flags are measured on qemu 7.2: under emulation with several processors, or with `cmpxchg16b`, guests
//! crash in the allocator or while the kernel patches its own text, which attaching probes makes it do.

use super::commands::{shown, tool};
use super::packages::Kernel;
use super::verdict::End;
use anyhow::{Context, Result};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Above the 1,100 s that `guest/second.sh` gives its test, so that a `pyapm` which hangs is a failure reported
/// from inside and only a guest which hangs ends here.
pub(super) const LIMIT: Duration = Duration::from_secs(1_200);

/// Overrides emulation on hosts whose KVM runs stock kernels: `kvm`. The mere presence of `/dev/kvm` says
/// nothing about that (nested hypervisors exist that cannot).
const ACCELERATION: &str = "PYAPM_QEMU_ACCEL";

/// What one guest is made of.
pub(super) struct Machine<'a> {
    pub(super) kernel: &'a Kernel,
    pub(super) initramfs: &'a Path,
    pub(super) root: &'a Path,
    /// Receives the serial line and qemu's own messages.
    pub(super) log: &'a Path,
}

impl Machine<'_> {
    /// Boots the guest and waits until it powered off, or until `limit` has passed.
    ///
    /// # Errors
    /// qemu cannot be started or its log cannot be written. A guest that misbehaves is not an error.
    pub(super) fn run(&self, limit: Duration) -> Result<End> {
        let log =
            File::create(self.log).with_context(|| format!("failed to create `{}`", self.log.display()))?;
        let acceleration = std::env::var(ACCELERATION).unwrap_or_else(|_| "tcg".to_owned());
        let mut command = Command::new(tool("qemu-system-x86_64")?);
        command.args(self.arguments(&acceleration));
        let stderr = log.try_clone().context("failed to share the log")?;
        command.stdin(Stdio::null()).stdout(log).stderr(stderr);
        // SAFETY: the closure makes one system call, which is allowed between fork and exec, and touches no
        // memory of the parent.
        unsafe {
            // However this program ends, the guest ends with it.
            command.pre_exec(|| Ok(prctl::set_pdeathsig(Signal::SIGKILL)?));
        }
        let child = command.spawn().with_context(|| format!("failed to start `{}`", shown(&command)))?;
        Guest(child).wait(limit)
    }

    fn arguments(&self, acceleration: &str) -> Vec<String> {
        let processor = if acceleration.starts_with("tcg") { "max,-cx16" } else { "host" };
        let drive = format!("file={},format=raw,if=virtio,readonly=on", self.root.display());
        let vmlinuz = self.kernel.vmlinuz.display().to_string();
        let initramfs = self.initramfs.display().to_string();
        // With `-no-reboot` a panic ends qemu; an oops must become a panic, since it may hang instead.
        let kernel_line = "console=ttyS0 panic=-1 oops=panic quiet";
        [
            ["-nodefaults", "-no-user-config"].as_slice(),
            &["-display", "none", "-serial", "stdio", "-no-reboot"],
            &["-M", "q35", "-accel", acceleration, "-cpu", processor, "-smp", "1", "-m", "1024"],
            &["-kernel", &vmlinuz, "-initrd", &initramfs, "-drive", &drive, "-append", kernel_line],
        ]
        .concat()
        .into_iter()
        .map(str::to_owned)
        .collect()
    }
}

/// Ends the guest whenever it is left.
struct Guest(Child);

impl Guest {
    fn wait(mut self, limit: Duration) -> Result<End> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().context("failed to wait for qemu")? {
                return Ok(if status.success() { End::PoweredOff } else { End::Broke(status.to_string()) });
            }
            if started.elapsed() > limit {
                return Ok(End::TimedOut(limit));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // Both fail only when it has ended and been waited for, which is what is wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emulation_is_the_default_and_a_real_accelerator_uses_the_hosts_processor() {
        let kernel = Kernel {
            label: "5.10",
            release: "5.10.0-46-cloud-amd64".to_owned(),
            vmlinuz: "/k/vmlinuz".into(),
            modules_root: "/k".into(),
            remarks: Vec::new(),
        };
        let machine = Machine {
            kernel: &kernel,
            initramfs: Path::new("/k/initramfs"),
            root: Path::new("/k/root"),
            log: Path::new("/k/log"),
        };
        let after = |arguments: &[String], flag: &str| {
            arguments.iter().skip_while(|argument| *argument != flag).nth(1).cloned().unwrap()
        };
        let emulated = machine.arguments("tcg,thread=single");
        assert_eq!(after(&emulated, "-cpu"), "max,-cx16");
        assert_eq!(after(&emulated, "-kernel"), "/k/vmlinuz");
        assert!(after(&emulated, "-append").contains("oops=panic"));
        assert_eq!(after(&machine.arguments("kvm"), "-cpu"), "host");
    }

    #[test]
    fn a_guest_that_never_ends_is_ended() {
        let child = Command::new("sleep").arg("600").spawn().unwrap();
        let id = child.id();
        assert_eq!(Guest(child).wait(Duration::ZERO).unwrap(), End::TimedOut(Duration::ZERO));
        assert!(!Path::new(&format!("/proc/{id}")).exists());
    }
}
