//! Where the result of a function can be seen without a return probe: at an instruction that runs after the
//! result is in its register (`rax`) and before anything else is put there. In the function itself, in front
//! of its `ret`, or in its caller, behind the call. See `site.rs` for which instructions are cheap.

use super::site::{Plain as _, Site, is_emulated};
use crate::binaries::{Image, Symbol};
use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, Register,
};
use std::collections::{BTreeMap, HashSet};

/// Code of one function that is looked at.
const MOST_CODE: usize = 4096;
/// The same where only `ret`s are looked for.
const MOST_RARE_CODE: u64 = 64 * 1024;
/// Instructions looked at behind a call.
const LOOK_AHEAD: usize = 16;
/// The longest instruction has 15 bytes.
const CALLER_CODE: usize = LOOK_AHEAD * 15;

/// Places before the `ret`s of a function, one for each, at which `rax` holds what it returns: the cheap
/// instruction nearest to it, or the `ret` itself. Empty when the function leaves in another way too (it jumps
/// into another function), or its code could not be followed.
pub(super) fn at_returns(image: &Image, function: Symbol) -> Vec<Site> {
    let length = match usize::try_from(function.size) {
        Ok(size @ 1..=MOST_CODE) => size,
        _ => MOST_CODE,
    };
    let code = image.bytes(function.address, length);
    returns(function.address, &code)
        .into_iter()
        .flatten()
        .map(|(address, emulated)| {
            image.file_offset(address).map(|file_offset| Site { file_offset, emulated })
        })
        .collect::<Option<Vec<Site>>>()
        .unwrap_or_default()
}

/// The `ret`s of a function that may be long and may leave in other ways, too: those are not seen, and neither are the
/// parts of it that a compiler has put elsewhere. The kernel single-steps them, so it is for what is called rarely.
pub(super) fn plain_returns(image: &Image, function: Symbol) -> Vec<Site> {
    let length = usize::try_from(function.size.min(MOST_RARE_CODE)).unwrap_or(0);
    let code = image.bytes(function.address, length);
    let sites = reachable_returns(function.address, &code).into_iter();
    sites
        .filter_map(|address| Some(Site { file_offset: image.file_offset(address)?, emulated: false }))
        .collect()
}

/// The cheap place behind a call that returns to `address`, if the caller has one.
pub(super) fn behind_call(image: &Image, address: u64) -> Option<Site> {
    let code = image.bytes(address, CALLER_CODE);
    let file_offset = image.file_offset(behind(address, &code)?)?;
    Some(Site { file_offset, emulated: true })
}

/// The place behind a call that returns to `address`: the cheap one, else the very instruction that it returns to,
/// which the kernel has to single-step.
pub(super) fn after_call(image: &Image, address: u64) -> Option<Site> {
    behind_call(image, address)
        .or_else(|| Some(Site { file_offset: image.file_offset(address)?, emulated: false }))
}

/// `None` when some path leaves the function other than by a `ret`.
fn returns(start: u64, code: &[u8]) -> Option<Vec<(u64, bool)>> {
    let body = Body::decode(start, code)?;
    let returns: Vec<u64> = body
        .instructions
        .values()
        .filter(|i| i.flow_control() == FlowControl::Return)
        .map(Instruction::ip)
        .collect();
    if returns.is_empty() {
        return None;
    }
    Some(returns.into_iter().map(|ret| body.before(ret).map_or((ret, false), |site| (site, true))).collect())
}

fn reachable_returns(start: u64, code: &[u8]) -> Vec<u64> {
    let (mut pending, mut seen, mut returns) = (vec![start], HashSet::new(), Vec::new());
    while let Some(from) = pending.pop() {
        let rest = from.checked_sub(start).and_then(|offset| code.get(usize::try_from(offset).ok()?..));
        for instruction in &mut Decoder::with_ip(64, rest.unwrap_or_default(), from, DecoderOptions::NONE) {
            if instruction.is_invalid() || !seen.insert(instruction.ip()) {
                break;
            }
            match instruction.flow_control() {
                FlowControl::Next | FlowControl::Call | FlowControl::IndirectCall => {}
                FlowControl::ConditionalBranch => pending.push(instruction.near_branch_target()),
                FlowControl::UnconditionalBranch => {
                    pending.push(instruction.near_branch_target());
                    break;
                }
                FlowControl::Return => {
                    returns.push(instruction.ip());
                    break;
                }
                _ => break,
            }
        }
    }
    returns.sort_unstable();
    returns
}

fn behind(start: u64, code: &[u8]) -> Option<u64> {
    let mut information = InstructionInfoFactory::new();
    for instruction in Decoder::with_ip(64, code, start, DecoderOptions::NONE).iter().take(LOOK_AHEAD) {
        if is_emulated(&instruction) {
            return Some(instruction.ip());
        }
        if instruction.is_invalid()
            || !instruction.is_plain()
            || writes_result(&mut information, &instruction)
        {
            return None;
        }
    }
    None
}

/// A function's instructions, as far as they can be reached from its start.
struct Body {
    instructions: BTreeMap<u64, Instruction>,
    /// Where jumps lead to.
    targets: HashSet<u64>,
}

impl Body {
    fn decode(start: u64, code: &[u8]) -> Option<Self> {
        let end = start + code.len() as u64;
        let mut body = Self { instructions: BTreeMap::new(), targets: HashSet::new() };
        let mut pending = vec![start];
        while let Some(from) = pending.pop() {
            if from < start || from >= end {
                return None;
            }
            let offset = usize::try_from(from - start).ok()?;
            for instruction in &mut Decoder::with_ip(64, code.get(offset..)?, from, DecoderOptions::NONE) {
                if instruction.is_invalid() {
                    return None;
                }
                if body.instructions.insert(instruction.ip(), instruction).is_some() {
                    break;
                }
                match instruction.flow_control() {
                    FlowControl::Next | FlowControl::Call | FlowControl::IndirectCall => {
                        // Where the code ends, the last call is one that does not come back.
                        if instruction.next_ip() >= end {
                            break;
                        }
                    }
                    FlowControl::ConditionalBranch => {
                        body.targets.insert(instruction.near_branch_target());
                        pending.push(instruction.near_branch_target());
                    }
                    FlowControl::UnconditionalBranch => {
                        body.targets.insert(instruction.near_branch_target());
                        pending.push(instruction.near_branch_target());
                        break;
                    }
                    FlowControl::Return => break,
                    _ => return None,
                }
            }
        }
        Some(body)
    }

    /// The cheap instruction that runs before this `ret`, on every way to it, with the result in place.
    fn before(&self, ret: u64) -> Option<u64> {
        let mut information = InstructionInfoFactory::new();
        let mut at = ret;
        for _ in 0..LOOK_AHEAD {
            // Whoever jumps here has not come by what lies before.
            if self.targets.contains(&at) {
                return None;
            }
            let (_, before) = self.instructions.range(..at).next_back()?;
            let flows = matches!(before.flow_control(), FlowControl::Next | FlowControl::ConditionalBranch);
            if before.next_ip() != at || !flows || writes_result(&mut information, before) {
                return None;
            }
            if is_emulated(before) {
                return Some(before.ip());
            }
            at = before.ip();
        }
        None
    }
}

fn writes_result(information: &mut InstructionInfoFactory, instruction: &Instruction) -> bool {
    instruction.mnemonic() == Mnemonic::Call
        || information.info(instruction).used_registers().iter().any(|used| {
            matches!(
                used.access(),
                OpAccess::Write | OpAccess::ReadWrite | OpAccess::CondWrite | OpAccess::ReadCondWrite
            ) && used.register().full_register() == Register::RAX
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `SSL_read` of OpenSSL 3.0 as Debian builds it: the check of the stack's guard is before the only `ret`
    /// of the good path.
    #[test]
    fn guard_of_the_stack() {
        let code = [
            0x48, 0x83, 0xec, 0x18, // 0: sub $0x18,%rsp
            0xe8, 0x00, 0x10, 0x00, 0x00, // 4: call inner
            0x85, 0xc0, // 9: test %eax,%eax
            0x7e, 0x03, // 11: jle 16
            0x8b, 0x04, 0x24, // 13: mov (%rsp),%eax
            0x48, 0x8b, 0x54, 0x24, 0x08, // 16: mov 8(%rsp),%rdx
            0x75, 0x07, // 21: jne 30
            0x48, 0x83, 0xc4, 0x18, // 23: add $0x18,%rsp
            0x31, 0xd2, // 27: xor %edx,%edx
            0xc3, // 29: ret
            0xe8, 0x00, 0x10, 0x00, 0x00, // 30: call __stack_chk_fail
        ];
        assert_eq!(returns(0, &code), Some(vec![(21, true)]));
    }

    /// `SSL_read_ex`: nothing between the inner call and the `ret` is cheap.
    #[test]
    fn nothing_but_the_return() {
        let code = [
            0x48, 0x83, 0xec, 0x08, // sub $8,%rsp
            0xe8, 0x00, 0x10, 0x00, 0x00, // call inner
            0x31, 0xd2, // xor %edx,%edx
            0x85, 0xc0, // test %eax,%eax
            0x0f, 0x48, 0xc2, // cmovs %edx,%eax
            0x48, 0x83, 0xc4, 0x08, // add $8,%rsp
            0xc3, // 20: ret
        ];
        assert_eq!(returns(0, &code), Some(vec![(20, false)]));
    }

    /// `jle` past the load of the result: it runs before the result is there, and the load is jumped over.
    #[test]
    fn not_before_the_result_is_there() {
        let code = [
            0xe8, 0x00, 0x10, 0x00, 0x00, // call inner
            0x85, 0xc0, // test %eax,%eax
            0x7e, 0x03, // 7: jle 12
            0x8b, 0x04, 0x24, // mov (%rsp),%eax
            0xc3, // 12: ret
        ];
        assert_eq!(returns(0, &code), Some(vec![(12, false)]));
    }

    #[test]
    fn a_function_that_jumps_away() {
        // mov %rcx,%r8; xor %ecx,%ecx; jmp elsewhere
        assert_eq!(returns(0, &[0x49, 0x89, 0xc8, 0x31, 0xc9, 0xe9, 0xe2, 0x7c, 0xfe, 0xff]), None);
        // jmp *%rax
        assert_eq!(returns(0, &[0xff, 0xe0]), None);
        assert_eq!(returns(0, &[]), None);
        assert_eq!(returns(0, &[0x06]), None);
    }

    #[test]
    fn rets_of_a_long_function() {
        // test; je 8; jmp far away; nop; nop; ret -- and what nobody jumps to
        let code = [0x85, 0xc0, 0x74, 0x05, 0xe9, 0, 0x10, 0, 0, 0x90, 0x90, 0xc3, 0xc3];
        assert_eq!(reachable_returns(0x100, &code), [0x10b]);
        assert_eq!(reachable_returns(0x100, &[0xc3]), [0x100]);
        assert!(reachable_returns(0x100, &[0xeb, 0xfe]).is_empty());
        assert!(reachable_returns(0, &[]).is_empty());
        assert!(reachable_returns(0, &[0x06]).is_empty());
    }

    #[test]
    fn behind_a_call() {
        // CPython 3.12's `_ssl`: mov %eax,%ebp; test %eax,%eax; je
        assert_eq!(behind(0, &[0x89, 0xc5, 0x85, 0xc0, 0x0f, 0x84, 0x2a, 0x02, 0x00, 0x00]), Some(4));
        // Debian's 3.11: mov 0x18(%rbx),%rsi; xor %edi,%edi; test; mov %eax,%edx; sete %dil; call
        let debian = [
            0x48, 0x8b, 0x73, 0x18, 0x31, 0xff, 0x85, 0xc0, 0x89, 0xc2, 0x40, 0x0f, 0x94, 0xc7, 0xe8, 0, 0,
            0, 0,
        ];
        assert_eq!(behind(0, &debian), Some(14));
        // The result is gone: xor %eax,%eax; je
        assert_eq!(behind(0, &[0x31, 0xc0, 0x74, 0x02]), None);
        // The caller returns it: pop %rbp; ret
        assert_eq!(behind(0, &[0x5d, 0xc3]), None);
        assert_eq!(behind(0, &[]), None);
    }
}
