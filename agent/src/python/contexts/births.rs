//! Where a new context can be seen: instructions that the kernel can emulate, each path to a new context past
//! exactly one of them, with the context's address in a register.
//!
//! CPython 3.8 to 3.15, `Python/context.c`: whatever else is inlined or moved, the function that makes a context
//! stores its variables into `ctx_vars`, at offset 24 of the object. From that store it is traced back where the
//! object's address was before.

use super::flow::{Effect, Flow, effect, is_emulated};
use crate::binaries::Image;
use iced_x86::{Code, InstructionInfoFactory, OpKind, Register};
use std::collections::HashSet;

/// `PyContext.ctx_vars`: `Include/internal/pycore_context.h` of CPython 3.8 to 3.15.
const VARIABLES: u64 = 24;
/// Instructions between the store and a place for a probe, over all paths.
const MAX_STEPS: usize = 4096;

/// Places at which new contexts can be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Births {
    /// Where the probes go.
    pub file_offsets: Vec<u64>,
    /// Offset, in the kernel's `struct pt_regs`, of the register that holds the new context's address, or 0 where
    /// there was no memory for one.
    pub register: u32,
}

/// Copies of the current context: `PyContext_CopyCurrent`. `None` where this build has no such place.
#[must_use]
pub fn of_copies(image: &Image) -> Option<Births> {
    births(image, "PyContext_CopyCurrent")
}

/// New empty contexts: `PyContext_New`. As [`of_copies`].
#[must_use]
pub fn of_empty(image: &Image) -> Option<Births> {
    births(image, "PyContext_New")
}

fn births(image: &Image, function: &str) -> Option<Births> {
    let start = image.exported(function)?.address;
    let flow = Flow::of(start, |address, length| image.bytes(address, length));
    let places = places(&flow)?;
    let register = places.first()?.register;
    if places.iter().any(|place| place.register != register) {
        return None;
    }
    let file_offsets: Option<Vec<u64>> =
        places.iter().map(|place| image.file_offset(place.address)).collect();
    Some(Births { file_offsets: file_offsets?, register: in_saved_registers(register)? })
}

/// Before the instruction at `address`, `register` holds the new context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Place {
    address: u64,
    register: Register,
}

fn places(flow: &Flow) -> Option<Vec<Place>> {
    let mut chosen: Vec<Place> = Vec::new();
    for store in flow.instructions().filter(|instruction| {
        instruction.code() == Code::Mov_rm64_r64
            && instruction.op0_kind() == OpKind::Memory
            && instruction.memory_displacement64() == VARIABLES
            && instruction.memory_index() == Register::None
            && instruction.segment_prefix() == Register::None
            && !matches!(instruction.memory_base(), Register::RSP | Register::RIP | Register::None)
    }) {
        let from = Place { address: store.ip(), register: store.memory_base().full_register() };
        let found = before_store(flow, from)?;
        chosen.extend(found.into_iter().filter(|place| !chosen.contains(place)).collect::<Vec<_>>());
    }
    chosen.sort_unstable();
    (!chosen.is_empty()).then_some(chosen)
}

/// Places such that every path to the store passes exactly one.
fn before_store(flow: &Flow, store: Place) -> Option<Vec<Place>> {
    let all = trace_back(flow, store, |_| false);
    let mut candidates: Vec<Place> = Vec::new();
    for place in &all.met {
        if !candidates.contains(place) && flow.at(place.address).is_some_and(is_emulated) {
            candidates.push(*place);
        }
    }
    // One that no path goes around.
    for candidate in &candidates {
        if !trace_back(flow, store, |place| place == *candidate).reached_origin {
            return Some(vec![*candidate]);
        }
    }
    // Else the last ones before the store, without those that run after another of them.
    loop {
        let nearest = trace_back(flow, store, |place| candidates.contains(&place));
        if nearest.reached_origin || nearest.stopped_at.is_empty() {
            return None;
        }
        let second = nearest.stopped_at.iter().find(|place| {
            let earlier = trace_back(flow, **place, |_| false).met;
            earlier.iter().any(|other| nearest.stopped_at.iter().any(|stop| stop.address == other.address))
        });
        let Some(second) = second else { return Some(nearest.stopped_at) };
        candidates.retain(|place| place != second);
    }
}

#[derive(Debug, Default)]
struct Traced {
    /// Every place at which the value was held, nearest first.
    met: Vec<Place>,
    stopped_at: Vec<Place>,
    /// A path led to where the value comes from without being stopped.
    reached_origin: bool,
}

fn trace_back(flow: &Flow, from: Place, stop: impl Fn(Place) -> bool) -> Traced {
    let mut information = InstructionInfoFactory::new();
    let mut traced = Traced::default();
    let mut seen = HashSet::new();
    let mut waiting = std::collections::VecDeque::from([from]);
    while let Some(place) = waiting.pop_front() {
        if seen.len() >= MAX_STEPS {
            traced.reached_origin = true;
            break;
        }
        let before = flow.before(place.address);
        if before.is_empty() {
            traced.reached_origin = true;
        }
        for address in before {
            let Some(instruction) = flow.at(*address) else { continue };
            let register = match effect(instruction, place.register, &mut information) {
                Effect::Keeps => place.register,
                Effect::MovedFrom(register) => register,
                Effect::Defines => {
                    traced.reached_origin = true;
                    continue;
                }
            };
            let earlier = Place { address: *address, register };
            if !seen.insert(earlier) {
                continue;
            }
            traced.met.push(earlier);
            if stop(earlier) {
                traced.stopped_at.push(earlier);
            } else {
                waiting.push_back(earlier);
            }
        }
    }
    traced
}

/// Offset in `struct pt_regs`: kernel `arch/x86/include/uapi/asm/ptrace.h`.
fn in_saved_registers(register: Register) -> Option<u32> {
    Some(match register {
        Register::R15 => 0,
        Register::R14 => 8,
        Register::R13 => 16,
        Register::R12 => 24,
        Register::RBP => 32,
        Register::RBX => 40,
        Register::R11 => 48,
        Register::R10 => 56,
        Register::R9 => 64,
        Register::R8 => 72,
        Register::RAX => 80,
        Register::RCX => 88,
        Register::RDX => 96,
        Register::RSI => 104,
        Register::RDI => 112,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places_in(code: &[u8], address: u64) -> Option<Vec<Place>> {
        let flow = Flow::of(address, |from, length| {
            // What lies around the function is traps.
            let at = |place: u64| {
                usize::try_from(place.wrapping_sub(address)).ok().and_then(|index| code.get(index).copied())
            };
            (from..from.saturating_add(length as u64)).map(|place| at(place).unwrap_or(0xcc)).collect()
        });
        places(&flow)
    }

    /// `PyContext_CopyCurrent` of pyenv's 3.8.18: out of the free list, with a detour when allocations are traced, or
    /// new.
    const OF_3_8: [u8; 278] = [
        0x41, 0x54, 0x55, 0x48, 0x8b, 0x2d, 0x5e, 0x14, 0x19, 0x00, 0x53, 0x48, 0x8b, 0x9d, 0x58, 0x05, 0x00,
        0x00, 0x48, 0x8b, 0x83, 0xf0, 0x00, 0x00, 0x00, 0x48, 0x85, 0xc0, 0x0f, 0x84, 0xde, 0x00, 0x00, 0x00,
        0x4c, 0x8b, 0x60, 0x18, 0x8b, 0x05, 0x94, 0x90, 0x1e, 0x00, 0x85, 0xc0, 0x0f, 0x84, 0x9c, 0x00, 0x00,
        0x00, 0x48, 0x8b, 0x1d, 0x8d, 0x90, 0x1e, 0x00, 0x83, 0xe8, 0x01, 0x89, 0x05, 0x7c, 0x90, 0x1e, 0x00,
        0x48, 0x8b, 0x43, 0x20, 0x48, 0xc7, 0x43, 0x20, 0x00, 0x00, 0x00, 0x00, 0x48, 0x89, 0x05, 0x71, 0x90,
        0x1e, 0x00, 0x48, 0x8b, 0x05, 0x12, 0x0f, 0x19, 0x00, 0x8b, 0x40, 0x04, 0x85, 0xc0, 0x0f, 0x85, 0x87,
        0x00, 0x00, 0x00, 0x48, 0xc7, 0x03, 0x01, 0x00, 0x00, 0x00, 0x48, 0x8b, 0x95, 0xb8, 0x01, 0x00, 0x00,
        0x48, 0x8b, 0x43, 0xf8, 0x48, 0x8d, 0x4b, 0xf0, 0x48, 0xc7, 0x43, 0x10, 0x00, 0x00, 0x00, 0x00, 0xc7,
        0x43, 0x28, 0x00, 0x00, 0x00, 0x00, 0x48, 0x8b, 0x72, 0x08, 0x83, 0xe0, 0x03, 0x66, 0x48, 0x0f, 0x6e,
        0xc2, 0x48, 0xc7, 0x43, 0x20, 0x00, 0x00, 0x00, 0x00, 0x49, 0x83, 0x04, 0x24, 0x01, 0x48, 0x09, 0xf0,
        0x4c, 0x89, 0x63, 0x18, 0x66, 0x48, 0x0f, 0x6e, 0xc8, 0x48, 0x89, 0x0e, 0x66, 0x0f, 0x6c, 0xc1, 0x0f,
        0x11, 0x43, 0xf0, 0x48, 0x89, 0x4a, 0x08, 0x48, 0x89, 0xd8, 0x5b, 0x5d, 0x41, 0x5c, 0xc3, 0x66, 0x0f,
        0x1f, 0x44, 0x00, 0x00, 0x48, 0x8b, 0x3d, 0xc9, 0x10, 0x19, 0x00, 0xe8, 0x84, 0xd5, 0xed, 0xff, 0x48,
        0x89, 0xc3, 0x48, 0x85, 0xc0, 0x75, 0x8c, 0x31, 0xdb, 0xeb, 0xda, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x48, 0x89, 0xdf, 0xe8, 0x28, 0xed, 0xed, 0xff, 0xe9, 0x6c, 0xff, 0xff, 0xff, 0x0f, 0x1f,
        0x00, 0xe8, 0x5b, 0xee, 0xff, 0xff, 0x48, 0x85, 0xc0, 0x74, 0xda, 0x48, 0x89, 0x83, 0xf0, 0x00, 0x00,
        0x00, 0xe9, 0x0c, 0xff, 0xff, 0xff,
    ];
    /// What Debian's static 3.13.5 jumps to: new, with a detour when the variables' count of references is full.
    const OF_3_13: [u8; 98] = [
        0xf3, 0x0f, 0x1e, 0xfa, 0x53, 0x48, 0x89, 0xfb, 0xe8, 0x83, 0xff, 0xff, 0xff, 0x48, 0x85, 0xc0, 0x74,
        0x4a, 0x8b, 0x13, 0x83, 0xc2, 0x01, 0x75, 0x45, 0x48, 0x89, 0x58, 0x18, 0x48, 0x8d, 0x70, 0xf0, 0x64,
        0x48, 0x8b, 0x14, 0x25, 0xe8, 0xff, 0xff, 0xff, 0x48, 0x8b, 0x52, 0x10, 0x48, 0x8b, 0x8a, 0x48, 0x1d,
        0x00, 0x00, 0x48, 0x8b, 0x50, 0xf8, 0x48, 0x8b, 0x79, 0x08, 0x83, 0xe2, 0x03, 0x66, 0x48, 0x0f, 0x6e,
        0xc1, 0x48, 0x09, 0xfa, 0x48, 0x89, 0x37, 0x66, 0x48, 0x0f, 0x6e, 0xca, 0x66, 0x0f, 0x6c, 0xc1, 0x0f,
        0x11, 0x40, 0xf0, 0x48, 0x89, 0x71, 0x08, 0x5b, 0xc3, 0x89, 0x13, 0xeb, 0xb7,
    ];

    #[test]
    fn two_places_that_exclude_each_other() {
        let expected = [(0x18_9873, Register::RBX), (0x18_98f2, Register::RBX)]
            .map(|(address, register)| Place { address, register });
        assert_eq!(places_in(&OF_3_8, 0x18_9810).as_deref(), Some(&expected[..]));
    }

    #[test]
    fn one_place_before_a_detour() {
        let expected = [Place { address: 0x6f_6ed7, register: Register::RAX }];
        assert_eq!(places_in(&OF_3_13, 0x6f_6ec0).as_deref(), Some(&expected[..]));
    }

    #[test]
    fn nothing_where_the_address_is_new_at_the_store() {
        // mov (%rdi),%rax; mov %rsi,0x18(%rax); ret
        assert_eq!(places_in(&[0x48, 0x8b, 0x07, 0x48, 0x89, 0x70, 0x18, 0xc3], 0x1000), None);
        // ret
        assert_eq!(places_in(&[0xc3], 0x1000), None);
    }

    #[test]
    fn any_bytes_are_read_to_an_end() {
        for (index, byte) in OF_3_8.iter().enumerate() {
            for change in [0x01, 0x80, 0xff] {
                let mut code = OF_3_8;
                code[index] = byte ^ change;
                let _no_panic = places_in(&code, u64::MAX - 0x200);
            }
        }
    }
}
