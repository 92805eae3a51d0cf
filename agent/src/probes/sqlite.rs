//! Where the probes of SQLite go, and what its programs must know of a build. As for TLS there are no return probes:
//! a result is seen at an instruction behind the call, in the file that calls. Where nobody but the library's own file
//! does (an extension module with all of SQLite inside), behind its own calls.
//!
//! Where a statement keeps its text, and a database its latest code, differs between versions and builds. SQLite has
//! functions that return just that, and what they return is read from their code.

use super::exit_site::after_call;
use super::site::{ARGUMENTS, Site, SiteError, find_in};
use crate::binaries::{Callee, Calls, Image, ImageError, Symbol, calls};
use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, OpAccess, OpKind, Register,
};
use pyapm_wire::event::{NOT_KNOWN, SqliteLayout};
use std::collections::BTreeSet;

const STEP: &str = "sqlite3_step";
/// All of one shape, as far as their first three arguments go.
const PREPARES: [&str; 3] = ["sqlite3_prepare_v2", "sqlite3_prepare_v3", "sqlite3_prepare"];
const LEAVES: [&str; 2] = ["sqlite3_reset", "sqlite3_finalize"];

/// Code of one function that is looked at.
const MOST_CODE: u64 = 512;
/// Instructions between a load and the `ret` that returns it.
const LOOK_AHEAD: usize = 16;

/// The programs of the kernel half, see `ebpf/src/sqlite.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SqliteProgram {
    Step,
    StepResult,
    Prepare,
    PrepareResult,
    Left,
}

impl SqliteProgram {
    pub(super) const ALL: [Self; 5] =
        [Self::Step, Self::StepResult, Self::Prepare, Self::PrepareResult, Self::Left];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Step => "sqlite_step",
            Self::StepResult => "sqlite_step_result",
            Self::Prepare => "sqlite_prepare",
            Self::PrepareResult => "sqlite_prepare_result",
            Self::Left => "sqlite_left",
        }
    }

    /// It begins a call, and looks its build up by its own address.
    #[must_use]
    pub fn is_start(self) -> bool {
        matches!(self, Self::Step | Self::Prepare)
    }
}

/// One place and what runs there.
pub type SqliteProbe = (SqliteProgram, Site);

/// One file that holds SQLite, or calls it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SqliteFile {
    /// Of its own functions; empty when it holds none.
    own: Vec<SqliteProbe>,
    /// Behind its calls.
    results: Vec<SqliteProbe>,
    /// It also calls in ways whose results are not seen.
    partly: bool,
    layout: SqliteLayout,
}

impl SqliteFile {
    /// # Errors
    /// When the file can no longer be read.
    pub fn inspect(image: &Image) -> Result<Self, ImageError> {
        let symbol = |name: &str| image.exported(name).or_else(|| image.local(name));
        let mut file = Self { layout: layout(image), ..Self::default() };
        let entries = std::iter::once((SqliteProgram::Step, STEP, 1))
            .chain(PREPARES.map(|name| (SqliteProgram::Prepare, name, 3)))
            .chain(LEAVES.map(|name| (SqliteProgram::Left, name, 1)));
        for (program, name, arguments) in entries {
            let kept = ARGUMENTS.get(..arguments).unwrap_or(&ARGUMENTS);
            let site = symbol(name)
                .ok_or_else(|| SiteError::NotExported(name.to_owned()))
                .and_then(|symbol| find_in(image, name, symbol, kept));
            // Two names of one function need one probe.
            if let Ok(site) = site
                && !file.own.contains(&(program, site))
            {
                file.own.push((program, site));
            }
        }
        if !file.own.iter().any(|(program, _)| *program == SqliteProgram::Step) {
            file.own.clear();
        }
        let callees: Vec<Callee<'_>> = std::iter::once(STEP)
            .chain(PREPARES)
            .map(|name| Callee { name, address: symbol(name).map(|symbol| symbol.address) })
            .collect();
        for (position, calls) in calls(image, &callees)?.into_iter().enumerate() {
            let program =
                if position == 0 { SqliteProgram::StepResult } else { SqliteProgram::PrepareResult };
            file.add(image, program, &calls);
        }
        Ok(file)
    }

    fn add(&mut self, image: &Image, program: SqliteProgram, calls: &Calls) {
        self.partly |= calls.escapes || !calls.jumps.is_empty();
        let sites = calls.returns.iter().filter_map(|address| after_call(image, *address));
        self.results.extend(sites.map(|site| (program, site)));
    }

    /// What its programs must know of the build that it holds.
    #[must_use]
    pub fn layout(&self) -> SqliteLayout {
        self.layout
    }

    /// The places at which a build is looked up.
    pub fn starts(&self) -> impl Iterator<Item = Site> + '_ {
        self.own.iter().filter(|(program, _)| program.is_start()).map(|(_, site)| *site)
    }

    #[must_use]
    pub fn holds(&self) -> bool {
        !self.own.is_empty()
    }
}

/// Probes for the files of one process: of which file, and which.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SqlitePlan {
    pub probes: Vec<(usize, SqliteProbe)>,
    /// Some results may not be seen: their statements then end when they are reset, with a result that is not known.
    pub partly: bool,
}

/// Nothing when no file holds SQLite.
#[must_use]
pub fn sqlite_plan(files: &[&SqliteFile]) -> SqlitePlan {
    let mut plan = SqlitePlan::default();
    if !files.iter().any(|file| file.holds()) {
        return plan;
    }
    // A library's own use of what others call is no caller's, if it is that library that they call.
    let is_called = files.iter().any(|file| !file.holds() && !file.results.is_empty())
        && files.iter().filter(|file| file.holds()).count() == 1;
    for (index, file) in files.iter().enumerate() {
        plan.probes.extend(file.own.iter().map(|probe| (index, *probe)));
        if !(file.holds() && is_called) {
            plan.probes.extend(file.results.iter().map(|probe| (index, *probe)));
            plan.partly |= file.partly && !file.holds();
        }
    }
    plan
}

fn layout(image: &Image) -> SqliteLayout {
    let returned = |name: &str| {
        let symbol = image.exported(name).or_else(|| image.local(name))?;
        returned_member(symbol.address, &image.bytes(symbol.address, length(symbol)))
    };
    let offset = |names: &[&str]| names.iter().find_map(|name| returned(name)).unwrap_or(NOT_KNOWN);
    SqliteLayout {
        text: offset(&["sqlite3_sql"]),
        database: offset(&["sqlite3_db_handle"]),
        code: offset(&["sqlite3_extended_errcode"]),
        changes: offset(&["sqlite3_changes64", "sqlite3_changes"]),
    }
}

fn length(symbol: Symbol) -> usize {
    let size = if symbol.size == 0 { MOST_CODE } else { symbol.size.min(MOST_CODE) };
    usize::try_from(size).unwrap_or(0)
}

/// The offset of the struct member that a function returns, when it can return one only.
///
/// A member is loaded into some register, from there perhaps into `rax`, perhaps past other calls, and then the function
/// returns. What is loaded into `rax` and looked at before is not what is returned.
fn returned_member(start: u64, code: &[u8]) -> Option<u32> {
    let instructions: Vec<Instruction> = Decoder::with_ip(64, code, start, DecoderOptions::NONE)
        .iter()
        .take_while(|i| !i.is_invalid())
        .collect();
    let mut offsets = BTreeSet::new();
    for (index, instruction) in instructions.iter().enumerate() {
        let Some((register, offset)) = member(instruction) else { continue };
        if is_returned(&instructions, index + 1, register) {
            offsets.insert(offset);
        }
    }
    match offsets.len() {
        1 => offsets.pop_first(),
        _ => None,
    }
}

/// `mov register, [struct + offset]`.
fn member(instruction: &Instruction) -> Option<(Register, u32)> {
    use iced_x86::Mnemonic::{Mov, Movsxd};
    let is_load = matches!(instruction.mnemonic(), Mov | Movsxd)
        && instruction.op0_kind() == OpKind::Register
        && instruction.op1_kind() == OpKind::Memory;
    let base = instruction.memory_base();
    let plain = instruction.memory_index() == Register::None
        && instruction.segment_prefix() == Register::None
        && !matches!(base, Register::None | Register::RSP | Register::RIP);
    let offset = u32::try_from(instruction.memory_displacement64()).ok().filter(|offset| *offset < 4096)?;
    (is_load && plain).then_some((instruction.op0_register().full_register(), offset))
}

/// Whether what is in `register` at this instruction is what the function returns.
fn is_returned(instructions: &[Instruction], from: usize, register: Register) -> bool {
    let mut information = InstructionInfoFactory::new();
    let (mut at, mut holder) = (from, Place::Register(register));
    for _ in 0..LOOK_AHEAD {
        let Some(instruction) = instructions.get(at) else { return false };
        at += 1;
        match instruction.flow_control() {
            FlowControl::Return => return holder == Place::Register(Register::RAX),
            FlowControl::UnconditionalBranch => {
                let target = instruction.near_branch_target();
                match instructions.binary_search_by_key(&target, Instruction::ip) {
                    Ok(index) => at = index,
                    Err(_) => return false,
                }
                continue;
            }
            FlowControl::Call | FlowControl::IndirectCall => {
                // What the callee keeps: System V ABI, AMD64 supplement, section 3.2.1.
                let kept = [
                    Register::RBX,
                    Register::RBP,
                    Register::R12,
                    Register::R13,
                    Register::R14,
                    Register::R15,
                ];
                match holder {
                    Place::Register(register) if !kept.contains(&register) => return false,
                    Place::Register(_) | Place::Stack(_) => continue,
                }
            }
            FlowControl::Next | FlowControl::ConditionalBranch => {}
            _ => return false,
        }
        if let Some(moved) = moved(instruction, holder) {
            holder = moved;
            continue;
        }
        let Place::Register(register) = holder else { continue };
        let touched = information
            .info(instruction)
            .used_registers()
            .iter()
            .any(|used| used.access() != OpAccess::None && used.register().full_register() == register);
        if touched {
            return false;
        }
    }
    false
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Register(Register),
    /// At this offset from the stack pointer.
    Stack(u64),
}

/// Where the value is after a `mov` that takes it on.
fn moved(instruction: &Instruction, holder: Place) -> Option<Place> {
    if instruction.mnemonic() != iced_x86::Mnemonic::Mov {
        return None;
    }
    let on_stack = || {
        (instruction.memory_base() == Register::RSP && instruction.memory_index() == Register::None)
            .then_some(Place::Stack(instruction.memory_displacement64()))
    };
    let place = |kind: OpKind, register: Register| match kind {
        OpKind::Register => Some(Place::Register(register.full_register())),
        OpKind::Memory => on_stack(),
        _ => None,
    };
    let source = place(instruction.op1_kind(), instruction.op1_register())?;
    let destination = place(instruction.op0_kind(), instruction.op0_register())?;
    (source == holder).then_some(destination)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_that_are_returned() {
        // test %rdi,%rdi; je; mov 0xf8(%rdi),%rax; ret; xor %eax,%eax; ret
        let sql = [0x48, 0x85, 0xff, 0x74, 0x08, 0x48, 0x8b, 0x87, 0xf8, 0, 0, 0, 0xc3, 0x31, 0xc0, 0xc3];
        assert_eq!(returned_member(0x1000, &sql), Some(0xf8));
        // 3.34: mov 0x70(%rdi),%eax (its magic); cmp $1,%eax; jne; mov 0x50(%rdi),%eax; ret; ret
        let code = [0x8b, 0x47, 0x70, 0x83, 0xf8, 0x01, 0x75, 0x04, 0x8b, 0x47, 0x50, 0xc3, 0xc3];
        assert_eq!(returned_member(0, &code), Some(0x50));
        // 3.53: mov 0x18(%rbx),%rdi; mov 0x78(%rbx),%rbp; call; add $8,%rsp; mov %rbp,%rax; pop; pop; ret
        let changes = [
            0x48, 0x8b, 0x7b, 0x18, 0x48, 0x8b, 0x6b, 0x78, 0xe8, 0, 0, 0, 0, 0x48, 0x83, 0xc4, 0x08, 0x48,
            0x89, 0xe8, 0x5b, 0x5d, 0xc3,
        ];
        assert_eq!(returned_member(0, &changes), Some(0x78));
        // Kept on the stack during a call: mov 0x50(%rbx),%eax; mov %eax,0xc(%rsp); call; mov 0xc(%rsp),%eax; ret
        let kept = [0x8b, 0x43, 0x50, 0x89, 0x44, 0x24, 0x0c, 0xe8, 0, 0, 0, 0, 0x8b, 0x44, 0x24, 0x0c, 0xc3];
        assert_eq!(returned_member(0, &kept), Some(0x50));
    }

    #[test]
    fn members_that_are_not() {
        // Two of them: mov 8(%rdi),%rax; ret; mov 16(%rdi),%rax; ret
        let two = [0x48, 0x8b, 0x47, 0x08, 0xc3, 0x48, 0x8b, 0x47, 0x10, 0xc3];
        assert_eq!(returned_member(0, &two), None);
        // Changed on the way: mov 8(%rdi),%eax; add $1,%eax; ret
        assert_eq!(returned_member(0, &[0x8b, 0x47, 0x08, 0x83, 0xc0, 0x01, 0xc3]), None);
        // A loop: mov 8(%rdi),%eax; jmp to itself
        assert_eq!(returned_member(0, &[0x8b, 0x47, 0x08, 0xeb, 0xfe]), None);
        assert_eq!(returned_member(0, &[]), None);
        assert_eq!(returned_member(0, &[0x06]), None);
    }

    fn site(file_offset: u64) -> Site {
        Site { file_offset, emulated: true }
    }

    #[test]
    fn whose_calls_count() {
        let own = vec![(SqliteProgram::Step, site(1))];
        let results = |at| vec![(SqliteProgram::StepResult, site(at))];
        let library =
            SqliteFile { own: own.clone(), results: results(2), partly: true, ..SqliteFile::default() };
        let caller = SqliteFile { results: results(3), ..SqliteFile::default() };
        let places = |files: &[&SqliteFile]| -> Vec<(usize, u64)> {
            sqlite_plan(files).probes.iter().map(|(file, (_, site))| (*file, site.file_offset)).collect()
        };
        assert_eq!(places(&[&caller]), []);
        assert_eq!(places(&[&library, &caller]), [(0, 1), (1, 3)]);
        assert!(!sqlite_plan(&[&library, &caller]).partly);
        // Nobody else calls it.
        assert_eq!(places(&[&library]), [(0, 1), (0, 2)]);
        // Which of two the caller calls is not known.
        assert_eq!(places(&[&library, &library, &caller]).len(), 5);
    }
}
