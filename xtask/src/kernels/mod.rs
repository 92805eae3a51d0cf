//! `cargo xtask test kernels`: boots Debian's own kernels in qemu, with the real release `pyapm` in
//! a small guest, and runs one whole attach there. All programs are loaded by that attach.
//!
//! | file | subject |
//! |---|---|
//! | `matrix` | which kernels, in which order, and the report |
//! | `versions` | which of the archive's packages holds the wanted kernel |
//! | `packages` | the wanted kernel, downloaded and unpacked; nothing is installed |
//! | `initramfs` | first stage: busybox and the modules that reach the disk |
//! | `image` | the guest's root: one squashfs for every kernel |
//! | `machine` | the qemu command line and its time limit |
//! | `verdict` | what a serial log proves |
//!
//! What runs inside the guest is `guest/*.sh` and `tests/workloads/kernel_guest.py`.

mod image;
mod initramfs;
mod machine;
mod matrix;
mod packages;
mod verdict;
mod versions;

pub use matrix::run;

use crate::debian::{commands, sources};
