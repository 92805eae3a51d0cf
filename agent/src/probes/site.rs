//! Where in a function a uprobe goes. The kernel emulates `push`, `nop`, `jmp`, `call` and conditional jumps in
//! the probe's own trap (kernel `arch/x86/kernel/uprobes.c`, `push_setup_xol_ops`, `branch_setup_xol_ops`); any
//! other instruction costs a second trap to single-step, about twenty times as much on virtual machines.

use crate::binaries::{Image, Symbol};
use iced_x86::{
    Code, Decoder, DecoderOptions, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, Register,
};

/// Instructions looked at from the function's start.
const LOOK_AHEAD: usize = 8;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SiteError {
    #[error("`{0}` is not exported")]
    NotExported(String),
    #[error("`{0}` lies in no part of the file")]
    NoFileOffset(String),
}

/// A place for a probe that still sees the function's arguments in their registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    pub file_offset: u64,
    /// The kernel emulates the instruction there; else it single-steps it.
    pub emulated: bool,
}

/// The first instruction of an exported function that the kernel emulates, with the argument registers
/// still as the caller set them; the function's first instruction where there is none.
///
/// # Errors
/// When the function is not exported by this file.
pub fn find(image: &Image, function: &str) -> Result<Site, SiteError> {
    let symbol = image.exported(function).ok_or_else(|| SiteError::NotExported(function.to_owned()))?;
    find_in(image, function, symbol, &ARGUMENTS)
}

/// The first instruction of the function at this address of the file that the kernel emulates, before anything but
/// straight-line code has run; `None` where there is none.
#[must_use]
pub fn at(image: &Image, address: u64) -> Option<Site> {
    let start = image.file_offset(address)?;
    let offset = emulated_offset(&image.bytes(address, 64), &[])?;
    Some(Site { file_offset: start + offset, emulated: true })
}

/// As [`find`], for a function at this address of the file, of which only the first argument is needed. `function` is
/// what errors call it.
///
/// # Errors
/// When the address lies in no part of the file.
pub fn find_at(image: &Image, function: &str, address: u64) -> Result<Site, SiteError> {
    find_in(image, function, Symbol { address, size: 0 }, &[Register::RDI])
}

/// As [`find`], for a function at a known place, of whose arguments only those in `kept` are needed.
pub(super) fn find_in(
    image: &Image,
    function: &str,
    symbol: Symbol,
    kept: &[Register],
) -> Result<Site, SiteError> {
    let start =
        image.file_offset(symbol.address).ok_or_else(|| SiteError::NoFileOffset(function.to_owned()))?;
    let code = image.bytes(symbol.address, 64);
    Ok(match emulated_offset(&code, kept) {
        Some(offset) => Site { file_offset: start + offset, emulated: true },
        None => Site { file_offset: start, emulated: false },
    })
}

/// Offset of the first emulated instruction, if only harmless ones precede it.
fn emulated_offset(code: &[u8], kept: &[Register]) -> Option<u64> {
    let mut information = InstructionInfoFactory::new();
    for instruction in Decoder::with_ip(64, code, 0, DecoderOptions::NONE).iter().take(LOOK_AHEAD) {
        if is_emulated(&instruction) {
            return Some(instruction.ip());
        }
        if instruction.is_invalid() || !instruction.is_plain() {
            return None;
        }
        let writes_argument = information.info(&instruction).used_registers().iter().any(|used| {
            matches!(used.access(), OpAccess::Write | OpAccess::ReadWrite | OpAccess::CondWrite)
                && kept.contains(&used.register().full_register())
        });
        if writes_argument {
            return None;
        }
    }
    None
}

pub(super) fn is_emulated(instruction: &Instruction) -> bool {
    match instruction.mnemonic() {
        // A `push` of a register. With a memory or immediate operand it is single-stepped.
        Mnemonic::Push => matches!(instruction.code(), Code::Push_r64),
        Mnemonic::Nop => true,
        Mnemonic::Jmp => matches!(instruction.code(), Code::Jmp_rel8_64 | Code::Jmp_rel32_64),
        Mnemonic::Call => instruction.code() == Code::Call_rel32_64,
        _ => instruction.is_jcc_short_or_near(),
    }
}

/// Where arguments are, in their order (System V ABI, AMD64 supplement, section 3.2.3).
pub(super) const ARGUMENTS: [Register; 6] =
    [Register::RDI, Register::RSI, Register::RDX, Register::RCX, Register::R8, Register::R9];

/// Straight-line code: the next instruction always runs after it.
pub(super) trait Plain {
    fn is_plain(&self) -> bool;
}

impl Plain for Instruction {
    fn is_plain(&self) -> bool {
        self.flow_control() == iced_x86::FlowControl::Next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offset(code: &[u8]) -> Option<u64> {
        emulated_offset(code, &ARGUMENTS)
    }

    #[test]
    fn conditional_jump() {
        // sub $0x18,%rsp; test %edx,%edx; js +24
        assert_eq!(offset(&[0x48, 0x83, 0xec, 0x18, 0x85, 0xd2, 0x78, 0x18]), Some(6));
    }

    #[test]
    fn push_at_once() {
        // push %rbp
        assert_eq!(offset(&[0x55, 0x48, 0x89, 0xe5]), Some(0));
    }

    #[test]
    fn after_endbr64() {
        // endbr64; push %rbx
        assert_eq!(offset(&[0xf3, 0x0f, 0x1e, 0xfa, 0x53]), Some(4));
    }

    #[test]
    fn not_past_a_changed_argument() {
        // mov %rsi,%rdi; push %rbx
        assert_eq!(offset(&[0x48, 0x89, 0xf7, 0x53]), None);
    }

    #[test]
    fn not_past_a_branch() {
        // jmp *%rax; push %rbx
        assert_eq!(offset(&[0xff, 0xe0, 0x53]), None);
    }

    #[test]
    fn garbage_and_nothing() {
        assert_eq!(offset(&[]), None);
        assert_eq!(offset(&[0x06, 0x06]), None);
    }
}
