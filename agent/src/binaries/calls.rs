//! Where the code of a file calls functions: its own, or ones that it imports from another file, through
//! whichever of the linker's ways (a stub in the procedure linkage table, the global offset table directly, or
//! the function's own address).
//!
//! Found by matching bytes, not by decoding all code: a 32-bit displacement that leads exactly to the
//! function, behind the one byte of `call`, is a call but for chances of one in some thousand million.

use super::image::{Image, ImageError};
use object::read::ReadCache;
use object::read::elf::ElfFile64;
use object::{Object as _, ObjectSymbol as _, RelocationTarget, SymbolIndex};
use std::fs::File;

/// Code that is looked at in one file: the largest extension modules have some 30 MiB.
const MAX_CODE: usize = 64 << 20;
/// Places kept of one function in one file.
const MAX_PLACES: usize = 256;
/// From the start of a stub to its jump: `endbr64`, and the one byte of `bnd`.
const STUB_PREFIX: u64 = 5;

/// Bits of an instruction's ModRM byte, and their value, that say that a displacement from the next instruction
/// follows (Intel's manual, volume 2, table 2-2 and section 2.2.1.6).
const RIP_RELATIVE: (u8, u8) = (0xc7, 0x05);

/// One function that may be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Callee<'a> {
    /// The name by which it is imported, if it is.
    pub name: &'a str,
    /// Its address in this file, if it is defined here.
    pub address: Option<u64>,
}

/// How one function is used in one file. Addresses are those of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// Of the instructions behind the calls: where they return to.
    pub returns: Vec<u64>,
    /// Of jumps that lead to it: what comes back from there goes to the caller of the code that jumps.
    pub jumps: Vec<u64>,
    /// Its address is used in another way too, or there were too many places: calls may be missing here.
    pub escapes: bool,
}

impl Calls {
    /// Nothing in this file leads to the function.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.returns.is_empty() && self.jumps.is_empty() && !self.escapes
    }

    fn add(&mut self, place: Place, address: u64) {
        let list = match place {
            Place::Return => &mut self.returns,
            Place::Jump => &mut self.jumps,
            Place::Escape => {
                self.escapes = true;
                return;
            }
        };
        if list.len() < MAX_PLACES {
            list.push(address);
        } else {
            self.escapes = true;
        }
    }
}

#[derive(Clone, Copy)]
enum Place {
    Return,
    Jump,
    Escape,
}

/// What leads to one callee: its slots in the global offset table, its stubs, its own address.
struct Ways {
    slots: Vec<u64>,
    stubs: Vec<u64>,
    address: Option<u64>,
}

impl Ways {
    fn is_target(&self, target: u64) -> bool {
        self.address == Some(target)
            || self.stubs.iter().any(|at| target <= *at && at.wrapping_sub(target) <= STUB_PREFIX)
    }

    fn is_slot(&self, target: u64) -> bool {
        self.slots.contains(&target)
    }

    /// What the two bytes before a displacement that leads to `target` make of it.
    fn place(&self, before: [u8; 2], target: u64) -> Option<Place> {
        let [first, second] = before;
        match (first, second) {
            _ if self.is_slot(target) => match (first, second) {
                (0xff, 0x15) => Some(Place::Return),
                (0xff, 0x25) => Some(Place::Jump),
                // It is loaded into a register.
                (0x8b | 0x8d, second) if second & RIP_RELATIVE.0 == RIP_RELATIVE.1 => Some(Place::Escape),
                _ => None,
            },
            (_, 0xe8) if self.is_target(target) => Some(Place::Return),
            (_, 0xe9) if self.is_target(target) => Some(Place::Jump),
            // `lea` of the address, into any register.
            (0x8d, second) if second & RIP_RELATIVE.0 == RIP_RELATIVE.1 && self.is_target(target) => {
                Some(Place::Escape)
            }
            _ => None,
        }
    }
}

/// Calls of each of these functions, in their order.
///
/// # Errors
/// When the file can no longer be read.
pub fn calls(image: &Image, callees: &[Callee<'_>]) -> Result<Vec<Calls>, ImageError> {
    let mut ways = ways(image, callees)?;
    let mut found = vec![Calls::default(); callees.len()];
    for (start, bytes) in code(image, |name| name.starts_with(".plt")) {
        each_displacement(start, &bytes, |at, before, target| {
            for ways in ways.iter_mut().filter(|ways| before == [0xff, 0x25] && ways.is_slot(target)) {
                ways.stubs.push(at);
            }
        });
    }
    let interesting = |ways: &Ways| {
        let all = ways.slots.iter().chain(&ways.stubs).chain(&ways.address).copied();
        (all.clone().min(), all.max())
    };
    let bounds = ways.iter().map(interesting).fold((u64::MAX, 0), |(low, high), (min, max)| {
        (low.min(min.unwrap_or(u64::MAX)), high.max(max.unwrap_or(0)))
    });
    let (low, high) = (bounds.0.saturating_sub(STUB_PREFIX), bounds.1);
    if low > high {
        return Ok(found);
    }
    for (start, bytes) in code(image, |name| name == ".text") {
        each_displacement(start, &bytes, |at, before, target| {
            if target < low || target > high {
                return;
            }
            for (ways, calls) in ways.iter().zip(&mut found) {
                match ways.place(before, target) {
                    Some(Place::Return) => calls.add(Place::Return, at + 6),
                    Some(Place::Jump) => calls.add(Place::Jump, at),
                    Some(Place::Escape) => calls.add(Place::Escape, at),
                    None => {}
                }
            }
        });
    }
    Ok(found)
}

fn code(image: &Image, wanted: impl Fn(&str) -> bool) -> Vec<(u64, Vec<u8>)> {
    image
        .sections()
        .iter()
        .filter(|section| wanted(&section.name))
        .filter_map(|section| {
            let length = usize::try_from(section.size).ok()?.min(MAX_CODE);
            Some((section.address, image.bytes(section.address, length)))
        })
        .collect()
}

/// Every four bytes as a displacement: the address two bytes before it, those two bytes, and where it leads.
fn each_displacement(start: u64, bytes: &[u8], mut visit: impl FnMut(u64, [u8; 2], u64)) {
    let mut at = start;
    for window in bytes.array_windows::<6>() {
        let [first, second, a, b, c, d] = *window;
        let displacement = i64::from(i32::from_le_bytes([a, b, c, d]));
        visit(at, [first, second], at.wrapping_add(6).wrapping_add_signed(displacement));
        at = at.wrapping_add(1);
    }
}

fn ways(image: &Image, callees: &[Callee<'_>]) -> Result<Vec<Ways>, ImageError> {
    let mut ways: Vec<Ways> = callees
        .iter()
        .map(|callee| Ways { slots: Vec::new(), stubs: Vec::new(), address: callee.address })
        .collect();
    let path = image.path();
    let file = File::open(path).map_err(|source| ImageError::Open { path: path.to_owned(), source })?;
    let cache = ReadCache::new(file);
    let elf = ElfFile64::<object::LittleEndian, _>::parse(&cache)
        .map_err(|source| ImageError::Parse { path: path.to_owned(), source })?;
    // A function that is defined here may be called through a slot as well, so that another file's can take
    // its place.
    let symbols: Vec<(SymbolIndex, usize)> = elf
        .dynamic_symbols()
        .filter_map(|symbol| {
            let name = symbol.name().ok()?;
            let position = callees.iter().position(|callee| callee.name == name)?;
            Some((symbol.index(), position))
        })
        .collect();
    let relocations = elf.dynamic_relocations().filter(|_| !symbols.is_empty());
    for (address, relocation) in relocations.into_iter().flatten() {
        let RelocationTarget::Symbol(index) = relocation.target() else { continue };
        let position = symbols.iter().find(|(symbol, _)| *symbol == index).map(|(_, position)| *position);
        if let Some(ways) = position.and_then(|position| ways.get_mut(position))
            && ways.slots.len() < MAX_PLACES
        {
            ways.slots.push(address);
        }
    }
    Ok(ways)
}
