//! Where in `PyTraceBack_Here` the probe of exceptions goes. Most builds begin it with instructions that the kernel
//! emulates. Where the compiler has moved those away (Debian's static 3.14), the first branch behind the place
//! that takes the exception out of the thread state will do: the exception is in a register by then.

use super::site::{self, SiteError, is_emulated};
use crate::binaries::Image;
use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind,
    Register,
};
use pyapm_wire::exception::register::RDI;

/// Exported by every CPython; its argument is the frame object.
const FUNCTION: &str = "PyTraceBack_Here";
/// Bytes and instructions looked at from the function's start.
const LOOK_AHEAD_BYTES: usize = 128;
const LOOK_AHEAD: usize = 32;

/// A place for the probe, and where it finds what it needs. Registers by the numbers that x86 gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RaiseSite {
    pub file_offset: u64,
    /// The kernel emulates the instruction there; else it single-steps it.
    pub emulated: bool,
    pub frame_register: u32,
    /// `None`: the exception is still in the thread state.
    pub exception_register: Option<u32>,
}

/// # Errors
/// When the file does not export the function.
pub fn find(image: &Image, tstate_exception: u32) -> Result<RaiseSite, SiteError> {
    let start = site::find(image, FUNCTION)?;
    let plain = RaiseSite {
        file_offset: start.file_offset,
        emulated: start.emulated,
        frame_register: RDI,
        exception_register: None,
    };
    if plain.emulated {
        return Ok(plain);
    }
    let code = image.exported(FUNCTION).map(|symbol| image.bytes(symbol.address, LOOK_AHEAD_BYTES));
    Ok(behind_the_load(&code.unwrap_or_default(), tstate_exception)
        .map_or(plain, |found| RaiseSite { file_offset: start.file_offset + found.file_offset, ..found }))
}

/// What a register is known to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    Frame,
    ThreadState,
    Exception,
}

/// Follows the registers through straight-line code up to the first emulated instruction behind the load of the
/// exception; `file_offset` is relative to the function.
fn behind_the_load(code: &[u8], tstate_exception: u32) -> Option<RaiseSite> {
    let mut information = InstructionInfoFactory::new();
    let mut known: Vec<(Register, Holds)> = vec![(Register::RDI, Holds::Frame)];
    for instruction in Decoder::with_ip(64, code, 0, DecoderOptions::NONE).iter().take(LOOK_AHEAD) {
        let holder = |what| known.iter().find(|(_, holds)| *holds == what).map(|(register, _)| *register);
        let is_branch = matches!(instruction.flow_control(), FlowControl::ConditionalBranch)
            // `loop` and `jrcxz` are not emulated, and no compiler writes them.
            && instruction.is_jcc_short_or_near();
        if (is_emulated(&instruction) || is_branch)
            && let (Some(frame), Some(exception)) = (holder(Holds::Frame), holder(Holds::Exception))
        {
            return Some(RaiseSite {
                file_offset: instruction.ip(),
                emulated: true,
                frame_register: number(frame)?,
                exception_register: Some(number(exception)?),
            });
        }
        if instruction.is_invalid() || instruction.flow_control() != FlowControl::Next {
            return None;
        }
        let loaded = loaded(&instruction, &known, tstate_exception);
        for used in information.info(&instruction).used_registers() {
            if matches!(used.access(), OpAccess::Write | OpAccess::ReadWrite | OpAccess::CondWrite) {
                known.retain(|(register, _)| *register != used.register().full_register());
            }
        }
        known.extend(loaded);
    }
    None
}

/// What a plain `mov` to a register brings there.
fn loaded(
    instruction: &Instruction,
    known: &[(Register, Holds)],
    tstate_exception: u32,
) -> Option<(Register, Holds)> {
    if instruction.mnemonic() != Mnemonic::Mov || !instruction.op0_register().is_gpr64() {
        return None;
    }
    let held = |register| known.iter().find(|(known, _)| *known == register).map(|(_, holds)| *holds);
    let holds = match instruction.op1_kind() {
        OpKind::Register => held(instruction.op1_register())?,
        // A variable of the thread: the only one that this function reads is `_Py_tss_tstate`.
        OpKind::Memory if instruction.memory_segment() == Register::FS => Holds::ThreadState,
        OpKind::Memory
            if held(instruction.memory_base()) == Some(Holds::ThreadState)
                && instruction.memory_index() == Register::None
                && instruction.memory_displacement64() == u64::from(tstate_exception) =>
        {
            Holds::Exception
        }
        _ => return None,
    };
    Some((instruction.op0_register(), holds))
}

fn number(register: Register) -> Option<u32> {
    u32::try_from(register.full_register().number()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Debian's static 3.14, as far as the first branch.
    const STATIC_3_14: &[u8] = &[
        0xf3, 0x0f, 0x1e, 0xfa, // endbr64
        0x48, 0x83, 0xec, 0x58, // sub $0x58,%rsp
        0x49, 0x89, 0xfb, // mov %rdi,%r11
        0x48, 0x89, 0x6c, 0x24, 0x38, // mov %rbp,0x38(%rsp)
        0x64, 0x48, 0x8b, 0x1c, 0x25, 0xe8, 0xff, 0xff, 0xff, // mov %fs:-0x18,%rbx
        0x4c, 0x8b, 0x4b, 0x70, // mov 0x70(%rbx),%r9
        0x48, 0xc7, 0x43, 0x70, 0, 0, 0, 0, // movq $0,0x70(%rbx)
        0x48, 0x89, 0xdf, // mov %rbx,%rdi
        0x4d, 0x8b, 0x51, 0x28, // mov 0x28(%r9),%r10
        0x4d, 0x85, 0xd2, // test %r10,%r10
        0x0f, 0x85, 0x9b, 0x03, 0x00, 0x00, // jne
    ];

    #[test]
    fn exception_in_a_register() {
        let found = behind_the_load(STATIC_3_14, 112).unwrap();
        let expected =
            RaiseSite { file_offset: 47, emulated: true, frame_register: 11, exception_register: Some(9) };
        assert_eq!(found, expected);
    }

    #[test]
    fn nothing_is_guessed() {
        // Another version's offset: the load is of something else.
        assert_eq!(behind_the_load(STATIC_3_14, 136), None);
        // The register is written again before the branch: xor %r9d,%r9d.
        let mut changed = STATIC_3_14.to_vec();
        changed.splice(44..47, [0x45, 0x31, 0xc9]);
        assert_eq!(behind_the_load(&changed, 112), None);
        for end in 0..STATIC_3_14.len() - 6 {
            assert_eq!(behind_the_load(&STATIC_3_14[..end], 112), None);
        }
    }
}
