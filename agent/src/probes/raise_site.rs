//! Where in `PyTraceBack_Here` the probe of exceptions goes.
//!
//! Most exceptions are caught in the frame that raised them and nobody wants to hear of them: for each that leaves its
//! frame there are about eight in a request of Django that do not. Those have no traceback yet, and the function does
//! something with the old traceback, behind a test for there being one, in every build:
//!
//! - up to 3.11 it gives up its reference at the end (`Py_XDECREF(tb)`), when the thread state has the exception again:
//!   the branch behind that subtraction (`decref`);
//! - from 3.12 on the exception holds it; the first branch behind the test (`traced`) has what is needed in registers.
//!
//! Where neither is found, each exception passes the probe: at the first instruction that the kernel emulates, or (where
//! the compiler has moved those away, as in Debian's static 3.14) at the first branch behind the place that takes the
//! exception out of the thread state.

// Long because half of it are functions of real builds, byte by byte, for the tests.

use super::site::{self, SiteError, is_emulated};
use crate::binaries::Image;
use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind,
    Register, RflagsBits,
};
use pyapm_wire::exception::register::RDI;
use std::collections::HashMap;

/// Exported by every CPython; its argument is the frame object.
const FUNCTION: &str = "PyTraceBack_Here";
/// Bytes of it that are looked at: what it calls is inlined into static builds, to some 2,000.
const LOOK_AHEAD_BYTES: usize = 4096;
/// Instructions that are followed from its start.
const LOOK_AHEAD: usize = 64;

/// Where the version keeps what is followed, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct RaiseOffsets {
    /// In the thread state: the exception, or (see `in_three`) its value, with the traceback behind it.
    pub tstate_exception: u32,
    /// In the exception.
    pub traceback: u32,
    /// Type, value and traceback are three words of the thread state (up to 3.11).
    pub in_three: bool,
}

/// Which exceptions pass the probe. Registers by the numbers that x86 gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passes {
    /// Every one.
    All {
        frame_register: u32,
        /// `None`: it is still in the thread state.
        exception_register: Option<u32>,
    },
    /// Those with a traceback, before the frame is put into it.
    Traced {
        /// The frame, or the new head of the traceback that has it.
        frame_register: u32,
        frame_in_traceback: bool,
        exception_register: u32,
        traceback_register: u32,
    },
    /// Those with a traceback, once the frame is in it. All is in the thread state.
    Restored,
}

/// A place for the probe, and where it finds what it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RaiseSite {
    pub file_offset: u64,
    /// The kernel emulates the instruction there; else it single-steps it.
    pub emulated: bool,
    pub passes: Passes,
}

/// # Errors
/// When the file does not export the function.
pub fn find(image: &Image, offsets: &RaiseOffsets) -> Result<RaiseSite, SiteError> {
    let start = site::find(image, FUNCTION)?;
    let symbol = image.exported(FUNCTION).ok_or_else(|| SiteError::NotExported(FUNCTION.to_owned()))?;
    let begins =
        image.file_offset(symbol.address).ok_or_else(|| SiteError::NoFileOffset(FUNCTION.to_owned()))?;
    let size = usize::try_from(symbol.size).unwrap_or(usize::MAX).min(LOOK_AHEAD_BYTES);
    let code = image.bytes(symbol.address, size);
    let found = if offsets.in_three { decref(&code, offsets) } else { traced(&code, offsets) };
    if let Some(found) = found {
        return Ok(RaiseSite { file_offset: begins + found.file_offset, ..found });
    }
    let all = Passes::All { frame_register: RDI, exception_register: None };
    let plain = RaiseSite { file_offset: start.file_offset, emulated: start.emulated, passes: all };
    if plain.emulated {
        return Ok(plain);
    }
    Ok(behind_the_load(&code, offsets.tstate_exception)
        .map_or(plain, |found| RaiseSite { file_offset: begins + found.file_offset, ..found }))
}

/// Up to 3.11: the branch behind the one `sub qword [tb], 1` of the function, where `tb` is known to be the old
/// traceback: from the variable that `PyErr_Fetch` was given for it, or (inlined) from the thread state.
/// The offset is relative to the function, as below.
fn decref(code: &[u8], offsets: &RaiseOffsets) -> Option<RaiseSite> {
    let instructions: Vec<Instruction> = Decoder::with_ip(64, code, 0, DecoderOptions::NONE).iter().collect();
    let variable = fetched_into(&instructions);
    let kept = kept_traceback(&instructions, offsets.tstate_exception + 8);
    let mut found = None;
    for (at, pair) in instructions.windows(2).enumerate() {
        let [given_up, branch] = pair else { continue };
        if !gives_up_reference(given_up) || !branch.is_jcc_short_or_near() {
            continue;
        }
        let holder = given_up.memory_base();
        let loaded_here = instructions.get(at.saturating_sub(3)..at).is_some_and(|before| {
            let [load, test, skip] = before else { return false };
            variable.is_some()
                && place(load) == variable
                && load.op0_register() == holder
                && tested(test) == Some(holder)
                && skip.is_jcc_short_or_near()
        });
        if !loaded_here && kept != Some(holder) {
            continue;
        }
        if found.is_some() {
            return None;
        }
        found = Some(RaiseSite { file_offset: branch.ip(), emulated: true, passes: Passes::Restored });
    }
    found
}

/// `sub qword ptr [register], 1`.
fn gives_up_reference(instruction: &Instruction) -> bool {
    let subtracts = (instruction.mnemonic() == Mnemonic::Sub
        && instruction.try_immediate(1).is_ok_and(|taken| taken == 1))
        || instruction.mnemonic() == Mnemonic::Dec;
    subtracts
        && instruction.op0_kind() == OpKind::Memory
        && instruction.memory_size().size() == 8
        && instruction.memory_index() == Register::None
        && instruction.memory_displacement64() == 0
}

/// The variable on the stack that the first call is given as its third argument: base register and displacement.
fn fetched_into(instructions: &[Instruction]) -> Option<(Register, u64)> {
    let first_call = instructions.iter().position(|one| one.flow_control() == FlowControl::Call)?;
    let lea = instructions.get(..first_call)?.iter().rfind(|one| {
        one.mnemonic() == Mnemonic::Lea && one.op0_register() == Register::RDX && is_stack(one.memory_base())
    })?;
    Some((lea.memory_base(), lea.memory_displacement64()))
}

/// Which variable on the stack a `mov` loads.
fn place(instruction: &Instruction) -> Option<(Register, u64)> {
    let loads = instruction.mnemonic() == Mnemonic::Mov
        && instruction.op0_register().is_gpr64()
        && instruction.op1_kind() == OpKind::Memory
        && instruction.memory_index() == Register::None
        && is_stack(instruction.memory_base());
    loads.then(|| (instruction.memory_base(), instruction.memory_displacement64()))
}

fn is_stack(register: Register) -> bool {
    matches!(register, Register::RSP | Register::RBP)
}

/// The register that keeps the old traceback for the whole function: loaded once from the thread state, which by
/// then is in a register too, and never written but to give the caller his own value back.
fn kept_traceback(instructions: &[Instruction], tstate_traceback: u32) -> Option<Register> {
    let mut information = InstructionInfoFactory::new();
    let mut writes: HashMap<Register, usize> = HashMap::new();
    let mut loads = Vec::new();
    for instruction in instructions {
        if instruction.mnemonic() == Mnemonic::Mov
            && instruction.op0_register().is_gpr64()
            && instruction.op1_kind() == OpKind::Memory
            && instruction.memory_index() == Register::None
            && !is_stack(instruction.memory_base())
            && instruction.memory_displacement64() == u64::from(tstate_traceback)
        {
            loads.push(instruction.op0_register());
        }
        if instruction.mnemonic() != Mnemonic::Pop {
            for register in written(&mut information, instruction) {
                *writes.entry(register).or_default() += 1;
            }
        }
    }
    let first = *loads.first()?;
    (SAVED.contains(&first) && writes.get(&first) == Some(&1)).then_some(first)
}

/// Registers that a called function gives back as they were (System V ABI, AMD64 supplement, section 3.2.1).
const SAVED: [Register; 6] =
    [Register::RBX, Register::RBP, Register::R12, Register::R13, Register::R14, Register::R15];

/// The register that is tested for being 0.
fn tested(instruction: &Instruction) -> Option<Register> {
    let same = instruction.mnemonic() == Mnemonic::Test
        && instruction.op1_kind() == OpKind::Register
        && instruction.op0_register() == instruction.op1_register();
    same.then(|| instruction.op0_register())
}

/// From 3.12 on: follows the registers to the test of the old traceback, takes the way of those that have one, and
/// there the first branch at which all that is needed is in registers.
///
/// What functions return is known by their order and arguments: `PyErr_GetRaisedException()` first, then
/// `PyException_GetTraceback(exception)`, then `_PyTraceBack_FromFrame(traceback, frame)`. The kernel half believes it
/// only when the exception has the traceback.
fn traced(code: &[u8], offsets: &RaiseOffsets) -> Option<RaiseSite> {
    let mut information = InstructionInfoFactory::new();
    let mut decoder = Decoder::with_ip(64, code, 0, DecoderOptions::NONE);
    let mut known: Vec<(Register, Holds)> = vec![(Register::RDI, Holds::Frame)];
    // The flags say whether there is a traceback; then, that there is one.
    let (mut in_flags, mut has_one) = (false, false);
    for _ in 0..LOOK_AHEAD {
        if !decoder.can_decode() {
            return None;
        }
        let instruction = decoder.decode();
        let holder = |what| known.iter().find(|(_, holds)| *holds == what).map(|(register, _)| *register);
        let held = |register| known.iter().find(|(known, _)| *known == register).map(|(_, holds)| *holds);
        if has_one && is_emulated(&instruction) {
            let frame = holder(Holds::Frame).or_else(|| holder(Holds::NewTraceback))?;
            let passes = Passes::Traced {
                frame_register: number(frame)?,
                frame_in_traceback: held(frame) == Some(Holds::NewTraceback),
                exception_register: number(holder(Holds::Exception)?)?,
                traceback_register: number(holder(Holds::Traceback)?)?,
            };
            return Some(RaiseSite { file_offset: instruction.ip(), emulated: true, passes });
        }
        match instruction.flow_control() {
            FlowControl::Next => {
                let gives = loaded(&instruction, &known, offsets);
                let is_test = tested(&instruction).and_then(held) == Some(Holds::Traceback);
                in_flags = is_test || (in_flags && instruction.rflags_modified() == RflagsBits::NONE);
                for register in written(&mut information, &instruction) {
                    known.retain(|(known, _)| *known != register);
                }
                known.extend(gives);
            }
            FlowControl::Call | FlowControl::IndirectCall => {
                let result = match (held(Register::RDI), held(Register::RSI)) {
                    _ if holder(Holds::Exception).is_none() => Some(Holds::Exception),
                    (Some(Holds::Exception), _) => Some(Holds::Traceback),
                    (Some(Holds::Traceback), Some(Holds::Frame)) => Some(Holds::NewTraceback),
                    _ => None,
                };
                known.retain(|(register, _)| SAVED.contains(register));
                known.extend(result.map(|holds| (Register::RAX, holds)));
                in_flags = false;
            }
            FlowControl::ConditionalBranch if in_flags => {
                match instruction.mnemonic() {
                    Mnemonic::Je => {}
                    Mnemonic::Jne => {
                        let target = usize::try_from(instruction.near_branch_target()).ok()?;
                        decoder.set_position(target).ok()?;
                        decoder.set_ip(instruction.near_branch_target());
                    }
                    _ => return None,
                }
                has_one = true;
            }
            _ => return None,
        }
    }
    None
}

/// What a register is known to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    Frame,
    ThreadState,
    Exception,
    /// That the exception had so far.
    Traceback,
    /// That it is about to have.
    NewTraceback,
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
            let passes =
                Passes::All { frame_register: number(frame)?, exception_register: Some(number(exception)?) };
            return Some(RaiseSite { file_offset: instruction.ip(), emulated: true, passes });
        }
        if instruction.is_invalid() || instruction.flow_control() != FlowControl::Next {
            return None;
        }
        let offsets = RaiseOffsets { tstate_exception, traceback: u32::MAX, in_three: false };
        let loaded = loaded(&instruction, &known, &offsets);
        for register in written(&mut information, &instruction) {
            known.retain(|(known, _)| *known != register);
        }
        known.extend(loaded);
    }
    None
}

/// What a plain `mov` to a register brings there.
fn loaded(
    instruction: &Instruction,
    known: &[(Register, Holds)],
    offsets: &RaiseOffsets,
) -> Option<(Register, Holds)> {
    if instruction.mnemonic() != Mnemonic::Mov || !instruction.op0_register().is_gpr64() {
        return None;
    }
    let held = |register| known.iter().find(|(known, _)| *known == register).map(|(_, holds)| *holds);
    let holds = match instruction.op1_kind() {
        OpKind::Register => held(instruction.op1_register())?,
        // A variable of the thread: the only one that this function reads is `_Py_tss_tstate`.
        OpKind::Memory if instruction.memory_segment() == Register::FS => Holds::ThreadState,
        OpKind::Memory if instruction.memory_index() == Register::None => {
            let at = |offset: u32| instruction.memory_displacement64() == u64::from(offset);
            match held(instruction.memory_base())? {
                Holds::ThreadState if at(offsets.tstate_exception) => Holds::Exception,
                Holds::Exception if at(offsets.traceback) => Holds::Traceback,
                _ => return None,
            }
        }
        _ => return None,
    };
    Some((instruction.op0_register(), holds))
}

/// The registers that an instruction writes, whole.
fn written(information: &mut InstructionInfoFactory, instruction: &Instruction) -> Vec<Register> {
    let used = information.info(instruction).used_registers().iter();
    used.filter(|used| {
        matches!(
            used.access(),
            OpAccess::Write | OpAccess::ReadWrite | OpAccess::CondWrite | OpAccess::ReadCondWrite
        )
    })
    .map(|used| used.register().full_register())
    .collect()
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

    /// A shared 3.11: all of it.
    const SHARED_3_11: &[u8] = &[
        0x53, // 0: push %rbx
        0x48, 0x89, 0xfb, // 1: mov %rdi,%rbx
        0x48, 0x83, 0xec, 0x20, // 4: sub $0x20,%rsp
        0x48, 0x8d, 0x74, 0x24, 0x10, // 8: lea 0x10(%rsp),%rsi
        0x48, 0x8d, 0x7c, 0x24, 0x08, // d: lea 0x8(%rsp),%rdi
        0x48, 0x8d, 0x54, 0x24, 0x18, // 12: lea 0x18(%rsp),%rdx
        0xe8, 0xa4, 0xe5, 0xe4, 0xff, // 17: call f8430
        0x48, 0x8b, 0x7c, 0x24, 0x18, // 1c: mov 0x18(%rsp),%rdi
        0x48, 0x89, 0xde, // 21: mov %rbx,%rsi
        0xe8, 0xb7, 0xf0, 0xe4, 0xff, // 24: call f8f50
        0x48, 0x85, 0xc0, // 29: test %rax,%rax
        0x74, 0x39, // 2c: je 2a9ed7
        0x48, 0x8b, 0x7c, 0x24, 0x08, // 2e: mov 0x8(%rsp),%rdi
        0x48, 0x8b, 0x74, 0x24, 0x10, // 33: mov 0x10(%rsp),%rsi
        0x48, 0x89, 0xc2, // 38: mov %rax,%rdx
        0xe8, 0xb0, 0xdc, 0xe4, 0xff, // 3b: call f7b60
        0x48, 0x8b, 0x7c, 0x24, 0x18, // 40: mov 0x18(%rsp),%rdi
        0x48, 0x85, 0xff, // 45: test %rdi,%rdi
        0x74, 0x06, // 48: je 2a9ec0
        0x48, 0x83, 0x2f, 0x01, // 4a: subq $0x1,(%rdi)
        0x74, 0x10, // 4e: je 2a9ed0
        0x31, 0xc0, // 50: xor %eax,%eax
        0x48, 0x83, 0xc4, 0x20, // 52: add $0x20,%rsp
        0x5b, // 56: pop %rbx
        0xc3, // 57: ret
        0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00, // 58: nopl 0x0(%rax,%rax,1)
        0xe8, 0x8b, 0xf5, 0xe4, 0xff, // 60: call f9460
        0xeb, 0xe9, // 65: jmp 2a9ec0
        0x48, 0x8b, 0x54, 0x24, 0x18, // 67: mov 0x18(%rsp),%rdx
        0x48, 0x8b, 0x74, 0x24, 0x10, // 6c: mov 0x10(%rsp),%rsi
        0x48, 0x8b, 0x7c, 0x24, 0x08, // 71: mov 0x8(%rsp),%rdi
        0xe8, 0x85, 0xbd, 0xe4, 0xff, // 76: call f5c70
        0xb8, 0xff, 0xff, 0xff, 0xff, // 7b: mov $0xffffffff,%eax
        0xeb, 0xd0, // 80: jmp 2a9ec2
    ];

    /// A shared 3.12, as far as the branch that is taken for immortal objects.
    const SHARED_3_12: &[u8] = &[
        0x41, 0x54, // 0: push %r12
        0x55, // 2: push %rbp
        0x53, // 3: push %rbx
        0x48, 0x89, 0xfb, // 4: mov %rdi,%rbx
        0xe8, 0x44, 0x98, 0xe1, 0xff, // 7: call 1082d0
        0x48, 0x89, 0xc7, // c: mov %rax,%rdi
        0x49, 0x89, 0xc4, // f: mov %rax,%r12
        0xe8, 0x99, 0xce, 0xe1, 0xff, // 12: call 10b930
        0x48, 0x89, 0xde, // 17: mov %rbx,%rsi
        0x48, 0x89, 0xc7, // 1a: mov %rax,%rdi
        0x48, 0x89, 0xc5, // 1d: mov %rax,%rbp
        0xe8, 0x8b, 0xb6, 0xe1, 0xff, // 20: call 10a130
        0x48, 0x89, 0xc3, // 25: mov %rax,%rbx
        0x48, 0x85, 0xed, // 28: test %rbp,%rbp
        0x74, 0x12, // 2b: je 2eeabf
        0x48, 0x8b, 0x45, 0x00, // 2d: mov 0x0(%rbp),%rax
        0x85, 0xc0, // 31: test %eax,%eax
        0x78, 0x0a, // 33: js
    ];

    /// What compilers make of 3.13 when everything is inlined, shortened.
    const STATIC_3_13: &[u8] = &[
        0x48, 0x89, 0xfd, // mov %rdi,%rbp
        0x64, 0x48, 0x8b, 0x1c, 0x25, 0xe8, 0xff, 0xff, 0xff, // mov %fs:-0x18,%rbx
        0x4c, 0x8b, 0x7b, 0x70, // mov 0x70(%rbx),%r15
        0x4d, 0x8b, 0x77, 0x28, // mov 0x28(%r15),%r14
        0x4d, 0x85, 0xf6, // test %r14,%r14
        0x0f, 0x85, 0x01, 0x00, 0x00, 0x00, // jne +1
        0xc3, // ret
        0x41, 0x8b, 0x16, // mov (%r14),%edx
        0x83, 0xc2, 0x01, // add $0x1,%edx
        0x0f, 0x84, 0x00, 0x00, 0x00, 0x00, // je
    ];

    const UP_TO_3_11: RaiseOffsets = RaiseOffsets { tstate_exception: 104, traceback: 40, in_three: true };
    const FROM_3_12_ON: RaiseOffsets = RaiseOffsets { tstate_exception: 112, traceback: 40, in_three: false };

    #[test]
    fn behind_the_reference_that_is_given_up() {
        let site = RaiseSite { file_offset: 0x4e, emulated: true, passes: Passes::Restored };
        assert_eq!(decref(SHARED_3_11, &UP_TO_3_11), Some(site));
        // The variable that is loaded is another one.
        let mut changed = SHARED_3_11.to_vec();
        changed[0x44] = 0x10;
        assert_eq!(decref(&changed, &UP_TO_3_11), None);
        // Two of them: which one it is cannot be told.
        let twice = [&SHARED_3_11[..0x50], &SHARED_3_11[0x40..]].concat();
        assert_eq!(decref(&twice, &UP_TO_3_11), None);
        for end in 0..0x4e {
            assert_eq!(decref(&SHARED_3_11[..end], &UP_TO_3_11), None);
        }
    }

    #[test]
    fn a_register_keeps_the_traceback() {
        let code = [
            0x4c, 0x8b, 0x68, 0x70, // mov 0x70(%rax),%r13
            0x49, 0x83, 0x6d, 0x00, 0x01, // subq $0x1,0x0(%r13)
            0x75, 0x00, // jne
            0x41, 0x5d, // pop %r13
        ];
        let site = RaiseSite { file_offset: 9, emulated: true, passes: Passes::Restored };
        assert_eq!(decref(&code, &UP_TO_3_11), Some(site));
        assert_eq!(decref(&code, &RaiseOffsets { tstate_exception: 96, ..UP_TO_3_11 }), None);
        // Written once more: xor %r13d,%r13d.
        assert_eq!(decref(&[&code[..], &[0x45, 0x31, 0xed]].concat(), &UP_TO_3_11), None);
    }

    #[test]
    fn on_the_way_of_those_with_a_traceback() {
        let passes = Passes::Traced {
            frame_register: 3,
            frame_in_traceback: true,
            exception_register: 12,
            traceback_register: 5,
        };
        let site = RaiseSite { file_offset: 0x33, emulated: true, passes };
        assert_eq!(traced(SHARED_3_12, &FROM_3_12_ON), Some(site));
        let passes = Passes::Traced {
            // The argument's own register still has it.
            frame_register: 7,
            frame_in_traceback: false,
            exception_register: 15,
            traceback_register: 14,
        };
        let site = RaiseSite { file_offset: 36, emulated: true, passes };
        assert_eq!(traced(STATIC_3_13, &FROM_3_12_ON), Some(site));
    }

    #[test]
    fn no_way_is_guessed() {
        for code in [SHARED_3_12, STATIC_3_13] {
            for end in 0..code.len() - 1 {
                assert_eq!(traced(&code[..end], &FROM_3_12_ON), None);
            }
        }
        // The traceback lies elsewhere in the exception.
        assert_eq!(traced(STATIC_3_13, &RaiseOffsets { traceback: 48, ..FROM_3_12_ON }), None);
        // The branch is on another register: test %rbx,%rbx.
        let mut changed = SHARED_3_12.to_vec();
        changed[0x28..0x2b].copy_from_slice(&[0x48, 0x85, 0xdb]);
        assert_eq!(traced(&changed, &FROM_3_12_ON), None);
    }

    #[test]
    fn exception_in_a_register() {
        let found = behind_the_load(STATIC_3_14, 112).unwrap();
        let passes = Passes::All { frame_register: 11, exception_register: Some(9) };
        assert_eq!(found, RaiseSite { file_offset: 47, emulated: true, passes });
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
