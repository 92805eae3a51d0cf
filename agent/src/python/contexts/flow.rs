//! A function's instructions, and which can run before which. It follows direct jumps, into other functions too
//! (compilers make a jump of a call that comes last), and never calls.

use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfo, InstructionInfoFactory,
    OpAccess, OpKind, Register,
};
use std::collections::{BTreeMap, HashMap};

/// Instructions that are decoded at most. `PyContext_CopyCurrent` has about 80 with all that it jumps to.
const MAX_INSTRUCTIONS: usize = 1024;
/// Bytes that are read of a file at once.
const WINDOW: usize = 4096;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Flow {
    instructions: BTreeMap<u64, Instruction>,
    before: HashMap<u64, Vec<u64>>,
}

/// What an instruction does to a register that holds a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// It holds the value before as it does after.
    Keeps,
    /// The value was in this other register before.
    MovedFrom(Register),
    /// Something else was there before.
    Defines,
}

impl Flow {
    /// Decodes what can be reached from the address `start`. `read` gives the bytes at an address, so many at most.
    pub(super) fn of(start: u64, read: impl Fn(u64, usize) -> Vec<u8>) -> Self {
        let mut flow = Self::default();
        let mut windows: HashMap<u64, Vec<u8>> = HashMap::new();
        let mut waiting = vec![start];
        while let Some(mut address) = waiting.pop() {
            while !flow.instructions.contains_key(&address) && flow.instructions.len() < MAX_INSTRUCTIONS {
                let window = address & !(WINDOW as u64 - 1);
                // One instruction may reach into the next window.
                let bytes = windows.entry(window).or_insert_with(|| read(window, WINDOW + 16));
                let Some(code) = bytes.get((address - window) as usize..) else { break };
                let Some(instruction) =
                    Decoder::with_ip(64, code, address, DecoderOptions::NONE).iter().next()
                else {
                    break;
                };
                if instruction.is_invalid() {
                    break;
                }
                flow.instructions.insert(address, instruction);
                let next = instruction.next_ip();
                match instruction.flow_control() {
                    FlowControl::Next | FlowControl::Call | FlowControl::IndirectCall => {
                        flow.connect(address, next);
                        address = next;
                    }
                    FlowControl::ConditionalBranch => {
                        flow.connect(address, next);
                        flow.connect(address, instruction.near_branch_target());
                        waiting.push(instruction.near_branch_target());
                        address = next;
                    }
                    FlowControl::UnconditionalBranch if instruction.op0_kind() == OpKind::NearBranch64 => {
                        flow.connect(address, instruction.near_branch_target());
                        address = instruction.near_branch_target();
                    }
                    _ => break,
                }
            }
        }
        flow
    }

    fn connect(&mut self, from: u64, to: u64) {
        self.before.entry(to).or_default().push(from);
    }

    pub(super) fn instructions(&self) -> impl Iterator<Item = &Instruction> {
        self.instructions.values()
    }

    pub(super) fn at(&self, address: u64) -> Option<&Instruction> {
        self.instructions.get(&address)
    }

    /// The instructions that can run directly before this one.
    pub(super) fn before(&self, address: u64) -> &[u64] {
        self.before.get(&address).map_or(&[], Vec::as_slice)
    }
}

/// What `instruction` does to the value that `register` holds after it.
pub(super) fn effect(
    instruction: &Instruction,
    register: Register,
    information: &mut InstructionInfoFactory,
) -> Effect {
    if matches!(instruction.flow_control(), FlowControl::Call | FlowControl::IndirectCall) {
        // System V ABI, x86-64: what a function must leave as it was.
        let kept = matches!(
            register,
            Register::RBX | Register::RBP | Register::R12 | Register::R13 | Register::R14 | Register::R15
        );
        return if kept { Effect::Keeps } else { Effect::Defines };
    }
    if !writes(information.info(instruction), register) {
        return Effect::Keeps;
    }
    let is_move = matches!(instruction.code(), Code::Mov_rm64_r64 | Code::Mov_r64_rm64)
        && instruction.op0_kind() == OpKind::Register
        && instruction.op1_kind() == OpKind::Register;
    if is_move { Effect::MovedFrom(instruction.op1_register()) } else { Effect::Defines }
}

fn writes(information: &InstructionInfo, register: Register) -> bool {
    information.used_registers().iter().any(|used| {
        used.register().full_register() == register
            && matches!(
                used.access(),
                OpAccess::Write | OpAccess::ReadWrite | OpAccess::CondWrite | OpAccess::ReadCondWrite
            )
    })
}

/// Whether the kernel emulates it: kernel `arch/x86/kernel/uprobes.c`, `branch_setup_xol_ops` (which refuses
/// prefixed forms) and `push_setup_xol_ops`.
pub(super) fn is_emulated(instruction: &Instruction) -> bool {
    match instruction.code() {
        Code::Push_r64 => instruction.len() <= 2,
        Code::Call_rel32_64 | Code::Jmp_rel32_64 => instruction.len() == 5,
        Code::Jmp_rel8_64 => instruction.len() == 2,
        _ => {
            instruction.is_jcc_short() && instruction.len() == 2
                || instruction.is_jcc_near() && instruction.len() == 6
        }
    }
}
