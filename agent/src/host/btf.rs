//! A reader of BTF, the kernel's own description of its types: finds a struct by name and a member in it by
//! path. The format is that of the kernel's Documentation/bpf/btf.rst. The bytes are hostile: every offset is
//! checked, every loop is bounded by the bytes there are, nesting by [`MAX_DEPTH`].

use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Where the running kernel describes itself (CONFIG_DEBUG_INFO_BTF).
pub const RUNNING_KERNEL: &str = "/sys/kernel/btf/vmlinux";

/// Largest BTF that is read: a kernel's has about 6 MB.
const MAX_BYTES: u64 = 256 << 20;
/// Typedefs, qualifiers and anonymous members followed one inside the other.
const MAX_DEPTH: u32 = 32;
/// Anonymous members looked into for one name.
const MAX_VISITS: u32 = 4096;

const HEADER: usize = 24;
const MAGIC: u16 = 0xeb9f;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BtfError {
    #[error("cannot read `{path}`")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("malformed BTF: {0}")]
    Malformed(&'static str),
    #[error("BTF holds a kind of type, {0}, that is newer than this program")]
    UnknownKind(u32),
    #[error("this kernel's BTF has no `struct {0}`")]
    NoStruct(String),
    #[error("this kernel's `struct {structure}` has no member `{member}`")]
    NoMember { structure: String, member: String },
    #[error("this kernel's `struct {structure}` has the member `{member}` where no whole byte begins")]
    Bitfield { structure: String, member: String },
}

/// Where a member lies in the struct that was asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Bytes from the start of the outermost struct.
    pub offset: u32,
    /// Bytes of it; `None` where BTF does not say (an incomplete type).
    pub size: Option<u32>,
    type_id: u32,
}

/// A parsed BTF blob, owned.
#[derive(Debug)]
pub struct Btf {
    bytes: Vec<u8>,
    /// Where each type's record begins; type 1 is the first.
    records: Vec<u32>,
    strings: std::ops::Range<usize>,
    /// Complete structs and unions by name; the first of a name counts.
    by_name: HashMap<Vec<u8>, u32>,
}

/// `enum` of include/uapi/linux/btf.h.
mod kind {
    pub(super) const INT: u32 = 1;
    pub(super) const PTR: u32 = 2;
    pub(super) const ARRAY: u32 = 3;
    pub(super) const STRUCT: u32 = 4;
    pub(super) const UNION: u32 = 5;
    pub(super) const ENUM: u32 = 6;
    pub(super) const FWD: u32 = 7;
    pub(super) const TYPEDEF: u32 = 8;
    pub(super) const VOLATILE: u32 = 9;
    pub(super) const CONST: u32 = 10;
    pub(super) const RESTRICT: u32 = 11;
    pub(super) const FUNC: u32 = 12;
    pub(super) const FUNC_PROTO: u32 = 13;
    pub(super) const VAR: u32 = 14;
    pub(super) const DATASEC: u32 = 15;
    pub(super) const FLOAT: u32 = 16;
    pub(super) const DECL_TAG: u32 = 17;
    pub(super) const TYPE_TAG: u32 = 18;
    pub(super) const ENUM64: u32 = 19;
}

/// The fixed part of a type's record.
#[derive(Clone, Copy, Debug)]
struct Record {
    /// Offset of what follows it.
    after: usize,
    name: u32,
    kind: u32,
    /// Members, parameters or values that follow.
    count: usize,
    kind_flag: bool,
    /// A size in bytes, or the type referred to.
    size_or_type: u32,
}

impl Btf {
    /// # Errors
    /// [`BtfError::Read`] when the kernel has none, else as [`parse`](Self::parse).
    pub fn running_kernel() -> Result<Self, BtfError> {
        Self::open(Path::new(RUNNING_KERNEL))
    }

    /// # Errors
    /// [`BtfError::Read`], else as [`parse`](Self::parse).
    pub fn open(path: &Path) -> Result<Self, BtfError> {
        use std::io::Read as _;
        let read = |source| BtfError::Read { path: path.to_owned(), source };
        let mut bytes = Vec::new();
        std::fs::File::open(path).map_err(read)?.take(MAX_BYTES).read_to_end(&mut bytes).map_err(read)?;
        Self::parse(bytes)
    }

    /// # Errors
    /// [`BtfError::Malformed`] and [`BtfError::UnknownKind`].
    pub fn parse(bytes: Vec<u8>) -> Result<Self, BtfError> {
        let header_length = le_u32(&bytes, 4).ok_or(BtfError::Malformed("no header"))? as usize;
        if le_u16(&bytes, 0) != Some(MAGIC) || bytes.get(2) != Some(&1) || header_length < HEADER {
            return Err(BtfError::Malformed("no little-endian BTF, version 1"));
        }
        let section = |at: usize| {
            let start = header_length.checked_add(le_u32(&bytes, at)? as usize)?;
            let end = start.checked_add(le_u32(&bytes, at + 4)? as usize)?;
            (end <= bytes.len()).then_some(start..end)
        };
        let types = section(8).ok_or(BtfError::Malformed("types reach past the end"))?;
        let strings = section(16).ok_or(BtfError::Malformed("strings reach past the end"))?;
        let mut btf = Self { bytes, records: Vec::new(), strings, by_name: HashMap::new() };
        let mut at = types.start;
        while at < types.end {
            let record = btf.record_at(at).ok_or(BtfError::Malformed("a type is cut short"))?;
            let length = payload(&record)?;
            let next = record.after.checked_add(length).filter(|next| *next <= types.end);
            let next = next.ok_or(BtfError::Malformed("a type reaches past the types"))?;
            btf.records.push(u32::try_from(at).map_err(|_| BtfError::Malformed("too large"))?);
            if matches!(record.kind, kind::STRUCT | kind::UNION)
                && let Some(name) = btf.name(record.name).filter(|name| !name.is_empty())
                && let Ok(id) = u32::try_from(btf.records.len())
            {
                let name = name.to_owned();
                btf.by_name.entry(name).or_insert(id);
            }
            at = next;
        }
        Ok(btf)
    }

    /// How many types are described.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Bytes of a struct or union; `None` when there is none of this name.
    #[must_use]
    pub fn size_of(&self, structure: &str) -> Option<u32> {
        let id = *self.by_name.get(structure.as_bytes())?;
        Some(self.record(id)?.size_or_type)
    }

    /// A member by path: `thread.fsbase` in `task_struct` goes through the member `thread`. Members of
    /// anonymous structs and unions count as their parent's, as in C.
    ///
    /// # Errors
    /// [`BtfError::NoStruct`], [`BtfError::NoMember`], [`BtfError::Bitfield`].
    pub fn member(&self, structure: &str, path: &str) -> Result<Member, BtfError> {
        let id = *self
            .by_name
            .get(structure.as_bytes())
            .ok_or_else(|| BtfError::NoStruct(structure.to_owned()))?;
        let none = || BtfError::NoMember { structure: structure.to_owned(), member: path.to_owned() };
        let mut type_id = id;
        let mut bits: u32 = 0;
        for name in path.split('.') {
            let mut visits = MAX_VISITS;
            let (offset, member) =
                self.find(type_id, name.as_bytes(), MAX_DEPTH, &mut visits).ok_or_else(none)?;
            bits = bits.checked_add(offset).ok_or_else(none)?;
            type_id = member;
        }
        if !bits.is_multiple_of(8) {
            return Err(BtfError::Bitfield { structure: structure.to_owned(), member: path.to_owned() });
        }
        Ok(Member { offset: bits / 8, size: self.type_size(type_id, MAX_DEPTH), type_id })
    }

    /// Name of the struct or union that a member is, or points to; `None` for any other type.
    #[must_use]
    pub fn structure_of(&self, member: Member) -> Option<String> {
        let mut id = self.resolve(member.type_id, MAX_DEPTH)?;
        if self.record(id)?.kind == kind::PTR {
            id = self.resolve(self.record(id)?.size_or_type, MAX_DEPTH)?;
        }
        let record = self.record(id)?;
        let named = matches!(record.kind, kind::STRUCT | kind::UNION | kind::FWD);
        named.then(|| self.name(record.name).map(|name| String::from_utf8_lossy(name).into_owned()))?
    }

    /// Bit offset and type of a member, anonymous ones searched in their order.
    fn find(&self, id: u32, wanted: &[u8], depth: u32, visits: &mut u32) -> Option<(u32, u32)> {
        *visits = visits.checked_sub(1)?;
        let depth = depth.checked_sub(1)?;
        let record = self.record(self.resolve(id, MAX_DEPTH)?)?;
        if !matches!(record.kind, kind::STRUCT | kind::UNION) {
            return None;
        }
        for index in 0..record.count {
            let at = record.after + index * 12;
            let name = self.name(le_u32(&self.bytes, at)?)?;
            let type_id = le_u32(&self.bytes, at + 4)?;
            let raw = le_u32(&self.bytes, at + 8)?;
            // With the kind flag the upper byte is a bitfield's width.
            let bits = if record.kind_flag { raw & 0x00ff_ffff } else { raw };
            if name == wanted {
                return Some((bits, type_id));
            }
            if name.is_empty()
                && let Some((inner, found)) = self.find(type_id, wanted, depth, visits)
            {
                return Some((bits.checked_add(inner)?, found));
            }
        }
        None
    }

    /// Through typedefs, qualifiers and type tags.
    fn resolve(&self, mut id: u32, depth: u32) -> Option<u32> {
        for _ in 0..depth {
            let record = self.record(id)?;
            match record.kind {
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => {
                    id = record.size_or_type;
                }
                _ => return Some(id),
            }
        }
        None
    }

    fn type_size(&self, id: u32, depth: u32) -> Option<u32> {
        let depth = depth.checked_sub(1)?;
        let record = self.record(self.resolve(id, MAX_DEPTH)?)?;
        match record.kind {
            kind::INT | kind::STRUCT | kind::UNION | kind::ENUM | kind::ENUM64 | kind::FLOAT => {
                Some(record.size_or_type)
            }
            kind::PTR => Some(8),
            kind::ARRAY => {
                let element = self.type_size(le_u32(&self.bytes, record.after)?, depth)?;
                element.checked_mul(le_u32(&self.bytes, record.after + 8)?)
            }
            _ => None,
        }
    }

    fn record(&self, id: u32) -> Option<Record> {
        let index = usize::try_from(id).ok()?.checked_sub(1)?;
        self.record_at(usize::try_from(*self.records.get(index)?).ok()?)
    }

    fn record_at(&self, at: usize) -> Option<Record> {
        let info = le_u32(&self.bytes, at + 4)?;
        Some(Record {
            after: at + 12,
            name: le_u32(&self.bytes, at)?,
            kind: (info >> 24) & 0x1f,
            count: (info & 0xffff) as usize,
            kind_flag: info >> 31 == 1,
            size_or_type: le_u32(&self.bytes, at + 8)?,
        })
    }

    fn name(&self, offset: u32) -> Option<&[u8]> {
        let strings = self.bytes.get(self.strings.clone())?;
        let rest = strings.get(usize::try_from(offset).ok()?..)?;
        rest.iter().position(|byte| *byte == 0).and_then(|end| rest.get(..end))
    }
}

/// Bytes behind a record's fixed part.
fn payload(record: &Record) -> Result<usize, BtfError> {
    Ok(match record.kind {
        kind::PTR
        | kind::FWD
        | kind::TYPEDEF
        | kind::VOLATILE
        | kind::CONST
        | kind::RESTRICT
        | kind::FUNC
        | kind::FLOAT
        | kind::TYPE_TAG => 0,
        kind::INT | kind::VAR | kind::DECL_TAG => 4,
        kind::ARRAY => 12,
        kind::ENUM | kind::FUNC_PROTO => record.count * 8,
        kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => record.count * 12,
        other => return Err(BtfError::UnknownKind(other)),
    })
}

fn le_u16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn le_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests;
