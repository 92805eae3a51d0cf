//! One mapped file: its unwind sections, its functions' names, and which of its code is the interpreter's loop. The file
//! is hostile input: sizes are bounded, and what does not parse is left out.

use super::evaluation;
use super::names::readable;
use gimli::{
    BaseAddresses, CfaRule, EhFrame, EhFrameHdr, EndianSlice, LittleEndian, ParsedEhFrameHdr, RegisterRule,
    UnwindContext, UnwindSection as _, X86_64,
};
use object::elf::PF_X;
use object::read::ReadCache;
use object::read::elf::ElfFile64;
use object::{
    Object as _, ObjectSection as _, ObjectSegment as _, ObjectSymbol as _, ReadRef, SegmentFlags, SymbolKind,
};
use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Larger unwind sections are not read: those of the largest libraries that there are have some 30 MiB.
const MAX_SECTION: u64 = 128 << 20;
/// Functions of one file whose names are kept, and bytes of all their names together.
const MAX_SYMBOLS: usize = 1 << 20;
const MAX_NAMES: usize = 64 << 20;

/// A section and where it lies.
#[derive(Clone, Debug)]
pub(super) struct Section {
    pub(super) address: u64,
    pub(super) bytes: Arc<[u8]>,
}

impl Section {
    pub(super) fn range(&self) -> Range<u64> {
        self.address..self.address.saturating_add(self.bytes.len() as u64)
    }
}

/// The unwind tables of a file.
#[derive(Clone, Debug, Default)]
pub(super) struct Unwind {
    pub(super) frames: Option<Section>,
    pub(super) header: Option<Section>,
}

/// A function as the unwind table has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Function {
    pub(super) range: Range<u64>,
    /// Its code begins with something on the stack: it is a part of another function.
    pub(super) is_continued: bool,
}

impl Unwind {
    /// The function that covers this address of the file.
    pub(super) fn function(&self, address: u64) -> Option<Function> {
        let (frames, header) = (self.frames.as_ref()?, self.header.as_ref()?);
        let bases = BaseAddresses::default().set_eh_frame(frames.address).set_eh_frame_hdr(header.address);
        let section = EhFrame::new(&frames.bytes, LittleEndian);
        let parsed: ParsedEhFrameHdr<EndianSlice<'_, LittleEndian>> =
            EhFrameHdr::new(&header.bytes, LittleEndian).parse(&bases, 8).ok()?;
        let entry = parsed
            .table()?
            .fde_for_address(&section, &bases, address, |section, bases, offset| {
                section.cie_from_offset(bases, offset)
            })
            .ok()?;
        let start = entry.initial_address();
        let mut context = UnwindContext::new();
        let row = entry.unwind_info_for_address(&section, &bases, &mut context, start).ok()?;
        let is_whole = matches!(row.cfa(), CfaRule::RegisterAndOffset { register, offset: 8 } if *register == X86_64::RSP);
        Some(Function { range: start..start.checked_add(entry.len())?, is_continued: !is_whole })
    }

    /// How to leave the function that covers this address, where it aligns its own stack there.
    pub(super) fn realigned(&self, address: u64) -> Option<Realigned> {
        let (frames, header) = (self.frames.as_ref()?, self.header.as_ref()?);
        let bases = BaseAddresses::default().set_eh_frame(frames.address).set_eh_frame_hdr(header.address);
        let section = EhFrame::new(&frames.bytes, LittleEndian);
        let parsed: ParsedEhFrameHdr<EndianSlice<'_, LittleEndian>> =
            EhFrameHdr::new(&header.bytes, LittleEndian).parse(&bases, 8).ok()?;
        let mut context = UnwindContext::new();
        let row = parsed
            .table()?
            .unwind_info_for_address(&section, &bases, &mut context, address, |section, bases, offset| {
                section.cie_from_offset(bases, offset)
            })
            .ok()?;
        let CfaRule::Expression(frame) = row.cfa() else { return None };
        let Some(RegisterRule::Expression(base)) = row.register(X86_64::RBP) else { return None };
        if base.get(&section).ok()?.0.slice() != [BREG6, 0] {
            return None;
        }
        realigned(frame.get(&section).ok()?.0.slice())
    }
}

/// A function for wide vectors aligns its stack to theirs, so that its frame has no fixed distance from its caller's. GCC then
/// keeps the address of the caller's part in a word that it finds by `rbp`, and says so by an expression (DWARF 5, 6.4.2.2
/// and 2.5.1: `DW_OP_breg6 offset, DW_OP_deref`). The caller's `rbp` lies where `rbp` points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Realigned {
    /// From `rbp` to that word.
    pub(super) offset: i64,
}

/// `DW_OP_breg6`: what `rbp` holds, and a signed number.
const BREG6: u8 = 0x76;

/// `None` of any other expression.
fn realigned(expression: &[u8]) -> Option<Realigned> {
    const DEREF: u8 = 0x06;
    const MORE: u8 = 0x80;
    let [BREG6, number @ .., DEREF] = expression else { return None };
    // Signed LEB128, of two bytes at most: the word is near.
    let (number, bits) = match *number {
        [low] if low & MORE == 0 => (i64::from(low), 7),
        [low, high] if low & MORE != 0 && high & MORE == 0 => {
            (i64::from(low & !MORE) | i64::from(high) << 7, 14)
        }
        _ => return None,
    };
    let offset = if number >> (bits - 1) & 1 == 1 { number - (1 << bits) } else { number };
    Some(Realigned { offset })
}

#[derive(Clone, Copy, Debug)]
struct Named {
    address: u64,
    size: u64,
    /// Place and length in `Object::names`.
    name: (u32, u32),
}

/// What was read of one file. Owned: the file need not stay open.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) unwind: Unwind,
    /// By address.
    symbols: Vec<Named>,
    names: Vec<u8>,
    /// Those with code: a page of the file may be mapped for two segments, at different places.
    segments: Vec<Segment>,
    /// Where a program of this file begins to run.
    entry: u64,
    /// The interpreter's loop; empty in every file that is no interpreter.
    evaluation: Vec<Range<u64>>,
}

#[derive(Clone, Copy, Debug)]
struct Segment {
    address: u64,
    offset: u64,
    size: u64,
}

impl Object {
    /// `None` when the file cannot be opened or is not a 64-bit ELF file.
    pub(super) fn open(path: &Path) -> Option<Self> {
        let cache = ReadCache::new(File::open(path).ok()?);
        Self::parse(&cache)
    }

    pub(super) fn parse<'data, R: ReadRef<'data>>(data: R) -> Option<Self> {
        let elf = ElfFile64::<LittleEndianElf, R>::parse(data).ok()?;
        let section = |name: &str| {
            let section = elf.section_by_name(name).filter(|section| section.size() <= MAX_SECTION)?;
            Some(Section { address: section.address(), bytes: section.data().ok()?.into() })
        };
        let unwind = Unwind { frames: section(".eh_frame"), header: section(".eh_frame_hdr") };
        let segments = elf
            .segments()
            .filter(|segment| matches!(segment.flags(), SegmentFlags::Elf { p_flags, .. } if p_flags.0 & PF_X.0 != 0))
            .map(|segment| {
                let (offset, size) = segment.file_range();
                Segment { address: segment.address(), offset, size }
            })
            .collect();
        let mut object = Self {
            unwind,
            symbols: Vec::new(),
            names: Vec::new(),
            segments,
            evaluation: Vec::new(),
            entry: elf.entry(),
        };
        let start = object.read_symbols(&elf);
        if let Some(start) = start {
            let code = |range: Range<u64>| {
                let bytes = elf.segments().find_map(|segment| {
                    segment.data_range(range.start, range.end.saturating_sub(range.start)).ok().flatten()
                });
                bytes.map(<[u8]>::to_vec).unwrap_or_default()
            };
            object.evaluation = evaluation::parts(start, &object.unwind, &code);
        }
        Some(object)
    }

    /// Keeps the functions of the full table and of the dynamic one; the address of the interpreter's loop.
    fn read_symbols<'data, R: ReadRef<'data>>(
        &mut self,
        elf: &ElfFile64<'data, LittleEndianElf, R>,
    ) -> Option<u64> {
        let mut evaluation = None;
        for symbol in elf.symbols().chain(elf.dynamic_symbols()) {
            // Those of one address that assembly code has made say no size: how far they reach is not known.
            if symbol.kind() != SymbolKind::Text || !symbol.is_definition() || symbol.size() == 0 {
                continue;
            }
            let Ok(name) = symbol.name_bytes() else { continue };
            if name == evaluation::SYMBOL.as_bytes() {
                evaluation = Some(symbol.address());
            }
            if self.symbols.len() >= MAX_SYMBOLS || self.names.len() + name.len() > MAX_NAMES {
                continue;
            }
            let place =
                (u32::try_from(self.names.len()).unwrap_or(u32::MAX), u32::try_from(name.len()).unwrap_or(0));
            self.names.extend_from_slice(name);
            self.symbols.push(Named { address: symbol.address(), size: symbol.size(), name: place });
        }
        let Self { symbols, names, .. } = self;
        let text = |symbol: &Named| bytes_of(names, symbol.name);
        // Of several names for one place the plainest: `write`, not `__write`.
        symbols.sort_by(|a, b| {
            let rank = |symbol: &Named| {
                let text = text(symbol);
                (text.iter().take_while(|letter| **letter == b'_').count(), text.len())
            };
            a.address.cmp(&b.address).then_with(|| rank(a).cmp(&rank(b))).then_with(|| text(a).cmp(text(b)))
        });
        symbols.dedup_by_key(|symbol| symbol.address);
        evaluation
    }

    /// The function at this address of the file: by its symbol, else where it begins; `None` when not even that is
    /// known.
    pub(super) fn name(&self, address: u64) -> Option<String> {
        let next = self.symbols.partition_point(|symbol| symbol.address <= address);
        let symbol = self.symbols.get(next.checked_sub(1)?)?;
        if address - symbol.address >= symbol.size {
            return None;
        }
        Some(readable(&String::from_utf8_lossy(bytes_of(&self.names, symbol.name))))
    }

    /// Whether this address of the file is where a program begins to run: nothing has called it, though not every
    /// file's unwind table says so.
    pub(super) fn is_entry(&self, address: u64) -> bool {
        /// More than the few instructions that there are before the C library is called.
        const LENGTH: u64 = 64;
        let is_near =
            self.entry != 0 && address.checked_sub(self.entry).is_some_and(|within| within < LENGTH);
        // The next function may begin within so short a space.
        is_near && self.unwind.function(address).is_none_or(|function| function.range.start <= self.entry)
    }

    /// Whether the file holds an interpreter.
    pub(super) fn is_interpreter(&self) -> bool {
        !self.evaluation.is_empty()
    }

    /// Whether this address of the file is in the interpreter's loop.
    pub(super) fn is_evaluation(&self, address: u64) -> bool {
        self.evaluation.iter().any(|part| part.contains(&address))
    }

    /// What is added to the file's addresses in a process that has mapped `offset` of the file at `start`.
    pub(super) fn bias(&self, start: u64, offset: u64) -> Option<u64> {
        let segment = self.segments.iter().find(|segment| {
            // The loader maps whole pages: a mapping may begin up to a page before the segment's bytes.
            offset >= segment.offset & !0xfff && offset < segment.offset.saturating_add(segment.size.max(1))
        })?;
        Some(start.wrapping_sub(segment.address.wrapping_sub(segment.offset).wrapping_add(offset)))
    }
}

type LittleEndianElf = object::LittleEndian;

fn bytes_of(names: &[u8], (place, length): (u32, u32)) -> &[u8] {
    names.get(place as usize..place as usize + length as usize).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_by_the_base_pointer() {
        let offset = |expression: &[u8]| realigned(expression).map(|found| found.offset);
        assert_eq!(offset(&[0x76, 0x78, 0x06]), Some(-8));
        assert_eq!(offset(&[0x76, 0x58, 0x06]), Some(-40));
        assert_eq!(offset(&[0x76, 0xd0, 0x7e, 0x06]), Some(-176));
        assert_eq!(offset(&[0x76, 0x10, 0x06]), Some(16));
        // By another register, of another length, of nothing.
        for other in
            [&[0x77, 0x78, 0x06][..], &[0x76, 0x78], &[0x76, 0x80, 0x80, 0x01, 0x06], &[0x76, 0x06], &[]]
        {
            assert_eq!(offset(other), None, "{other:?}");
        }
    }
}
