//! The kernel half: one probe family per file, all state in [`maps`], all output through [`emit`].
//!
//! Written to what Linux 5.10 verifies: bounded loops, no atomics that return a value, no sleepable
//! programs, no callbacks. On the host this is an empty program, so that `cargo check --workspace` works.
#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]

#[cfg(target_arch = "bpf")]
mod announce;
#[cfg(target_arch = "bpf")]
mod bytecode;
#[cfg(target_arch = "bpf")]
mod connect;
#[cfg(target_arch = "bpf")]
mod connection;
#[cfg(target_arch = "bpf")]
mod context;
#[cfg(target_arch = "bpf")]
mod deep;
#[cfg(target_arch = "bpf")]
mod drivers;
#[cfg(target_arch = "bpf")]
mod emit;
#[cfg(target_arch = "bpf")]
mod exceptions;
#[cfg(target_arch = "bpf")]
mod given_up;
#[cfg(target_arch = "bpf")]
mod greenlets;
#[cfg(target_arch = "bpf")]
mod handed;
#[cfg(target_arch = "bpf")]
mod identity;
#[cfg(target_arch = "bpf")]
mod io;
#[cfg(target_arch = "bpf")]
mod lifecycle;
#[cfg(target_arch = "bpf")]
mod loops;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod memory;
#[cfg(target_arch = "bpf")]
mod met;
#[cfg(target_arch = "bpf")]
mod native;
#[cfg(target_arch = "bpf")]
mod objects;
#[cfg(target_arch = "bpf")]
mod offcpu;
#[cfg(target_arch = "bpf")]
mod queued;
#[cfg(target_arch = "bpf")]
mod registers;
#[cfg(target_arch = "bpf")]
mod sample;
#[cfg(target_arch = "bpf")]
mod scope;
#[cfg(target_arch = "bpf")]
mod sqlite;
#[cfg(target_arch = "bpf")]
mod stack;
#[cfg(target_arch = "bpf")]
mod task;
#[cfg(target_arch = "bpf")]
mod tls;
#[cfg(target_arch = "bpf")]
mod window;

/// `bpf_probe_read_user` and its kin may be called by GPL-compatible programs only (kernel
/// `Documentation/bpf/bpf_licensing.rst`).
#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Nothing here may panic; if something could, this loop is what the verifier would refuse.
#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
