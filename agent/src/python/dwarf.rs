//! The offset tables held against the debug information of a real interpreter, where its file has any. It
//! decides nothing: it says what it compared and where the two differ, for tests and for `doctor`.

use super::offsets::ObjectOffsets;
use gimli::{AttributeValue, DW_AT_data_member_location, DW_AT_declaration, DW_AT_name, DW_AT_type};
use gimli::{DebuggingInformationEntry, EndianSlice, LittleEndian, UnitOffset, UnitRef};
use object::read::ReadCache;
use object::read::elf::ElfFile64;
use object::{Object as _, ObjectSection as _};
use std::fs::File;
use std::path::{Path, PathBuf};

/// Debug information larger than this is not read (libpython's has at most 20 MiB).
const MAX_SECTION: u64 = 256 << 20;
/// Typedefs and qualifiers that are followed from a name to a struct.
const MAX_INDIRECTIONS: usize = 16;

type Reader<'a> = EndianSlice<'a, LittleEndian>;
type Entry<'a> = DebuggingInformationEntry<Reader<'a>>;

#[derive(Debug, thiserror::Error)]
pub enum DwarfError {
    #[error("cannot read `{path}`")]
    Open {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("`{path}` is not a 64-bit ELF file that can be read")]
    Elf {
        path: PathBuf,
        #[source]
        source: object::Error,
    },
    #[error("`{path}` has no debug information")]
    Absent { path: PathBuf },
    #[error("the debug information of `{path}` cannot be read")]
    Dwarf {
        path: PathBuf,
        #[source]
        source: gimli::Error,
    },
}

/// A field whose offset the table has otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DwarfDifference {
    /// `PyCodeObject.co_filename`
    pub field: String,
    pub table: u32,
    pub dwarf: u64,
}

/// What a comparison found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DwarfComparison {
    /// Fields that the debug information has.
    pub compared: usize,
    pub differences: Vec<DwarfDifference>,
    /// Fields that it does not have.
    pub missing: Vec<String>,
}

/// One thing to look up: a member, by its path of names, of one of the types with these names; without
/// members the type's size.
struct Wanted {
    types: &'static [&'static str],
    members: &'static [&'static [&'static str]],
    table: u32,
}

/// Compares `offsets` with the debug information in the file at `path`.
///
/// # Errors
/// When the file has no debug information, or it cannot be read.
pub fn compare_with_dwarf(path: &Path, offsets: &ObjectOffsets) -> Result<DwarfComparison, DwarfError> {
    let elf_error = |source| DwarfError::Elf { path: path.to_owned(), source };
    let dwarf_error = |source| DwarfError::Dwarf { path: path.to_owned(), source };
    let file = File::open(path).map_err(|source| DwarfError::Open { path: path.to_owned(), source })?;
    let cache = ReadCache::new(file);
    let elf = ElfFile64::<object::LittleEndian, _>::parse(&cache).map_err(elf_error)?;
    let section = |id: gimli::SectionId| -> Result<Vec<u8>, object::Error> {
        match elf.section_by_name(id.name()) {
            Some(section) if section.size() <= MAX_SECTION => Ok(section.uncompressed_data()?.into_owned()),
            _ => Ok(Vec::new()),
        }
    };
    let sections = gimli::DwarfSections::load(section).map_err(elf_error)?;
    let dwarf = sections.borrow(|bytes| EndianSlice::new(bytes, LittleEndian));
    if gimli::Section::reader(&dwarf.debug_info).is_empty() {
        return Err(DwarfError::Absent { path: path.to_owned() });
    }

    let mut wanted = wanted(offsets);
    let mut comparison = DwarfComparison::default();
    let mut units = dwarf.units();
    while let Some(header) = units.next().map_err(dwarf_error)? {
        if wanted.is_empty() {
            break;
        }
        let unit = dwarf.unit(header).map_err(dwarf_error)?;
        look_up(unit.unit_ref(&dwarf), &mut wanted, &mut comparison).map_err(dwarf_error)?;
    }
    comparison.missing = wanted.iter().map(Wanted::name).collect();
    Ok(comparison)
}

/// Takes from `wanted` what the types of one unit answer. Every unit that includes `Python.h` has most of
/// them, so few units are read.
fn look_up<'a>(
    unit: UnitRef<'_, Reader<'a>>,
    wanted: &mut Vec<Wanted>,
    comparison: &mut DwarfComparison,
) -> gimli::Result<()> {
    let mut cursor = unit.entries();
    if cursor.next_dfs()?.is_none() {
        return Ok(());
    }
    let mut entry = cursor.next_dfs()?.cloned();
    while let Some(current) = entry {
        let is_type = matches!(current.tag(), gimli::DW_TAG_structure_type | gimli::DW_TAG_typedef);
        if is_type && current.attr_value(DW_AT_declaration).is_none() {
            let name = name(unit, &current)?;
            let mut index = 0;
            while let Some(candidate) = wanted.get(index) {
                let found = match &name {
                    Some(name) if candidate.types.iter().any(|known| known.as_bytes() == *name) => {
                        answer(unit, &current, candidate)?
                    }
                    _ => None,
                };
                match found {
                    Some(offset) => {
                        comparison.compared += 1;
                        let candidate = wanted.swap_remove(index);
                        if offset != u64::from(candidate.table) {
                            comparison.differences.push(DwarfDifference {
                                field: candidate.name(),
                                table: candidate.table,
                                dwarf: offset,
                            });
                        }
                    }
                    None => index += 1,
                }
            }
        }
        entry = cursor.next_sibling()?.cloned();
    }
    Ok(())
}

fn answer<'a>(
    unit: UnitRef<'_, Reader<'a>>,
    entry: &Entry<'a>,
    wanted: &Wanted,
) -> gimli::Result<Option<u64>> {
    let Some(structure) = structure(unit, entry.clone())? else { return Ok(None) };
    if wanted.members.is_empty() {
        return Ok(structure.attr_value(gimli::DW_AT_byte_size).and_then(|size| size.udata_value()));
    }
    for path in wanted.members {
        if let Some(offset) = member_offset(unit, structure.offset(), path)? {
            return Ok(Some(offset));
        }
    }
    Ok(None)
}

/// The struct behind typedefs and qualifiers.
fn structure<'a>(unit: UnitRef<'_, Reader<'a>>, mut entry: Entry<'a>) -> gimli::Result<Option<Entry<'a>>> {
    for _ in 0..MAX_INDIRECTIONS {
        if matches!(entry.tag(), gimli::DW_TAG_structure_type | gimli::DW_TAG_union_type) {
            return Ok(entry.attr_value(DW_AT_declaration).is_none().then_some(entry));
        }
        match entry.attr_value(DW_AT_type) {
            Some(AttributeValue::UnitRef(target)) => entry = unit.entry(target)?,
            _ => return Ok(None),
        }
    }
    Ok(None)
}

/// Offset of the member at the end of a path of names, from the start of the struct at `structure`.
fn member_offset(
    unit: UnitRef<'_, Reader<'_>>,
    structure_at: UnitOffset,
    path: &[&str],
) -> gimli::Result<Option<u64>> {
    let mut offset = 0_u64;
    let mut at = structure_at;
    for (index, wanted) in path.iter().enumerate() {
        let Some((within, member)) = member(unit, at, wanted)? else { return Ok(None) };
        offset = offset.saturating_add(within);
        if index + 1 < path.len() {
            let Some(AttributeValue::UnitRef(target)) = member.attr_value(DW_AT_type) else {
                return Ok(None);
            };
            let Some(inner) = structure(unit, unit.entry(target)?)? else { return Ok(None) };
            at = inner.offset();
        }
    }
    Ok(Some(offset))
}

fn member<'a>(
    unit: UnitRef<'_, Reader<'a>>,
    structure_at: UnitOffset,
    wanted: &str,
) -> gimli::Result<Option<(u64, Entry<'a>)>> {
    let mut cursor = unit.entries_at_offset(structure_at)?;
    cursor.next_dfs()?;
    let Some(first) = cursor.next_dfs()?.cloned() else { return Ok(None) };
    let mut entry = Some(first);
    while let Some(current) = entry {
        if current.tag() == gimli::DW_TAG_member && name(unit, &current)? == Some(wanted.as_bytes()) {
            let within = current.attr_value(DW_AT_data_member_location).and_then(|value| value.udata_value());
            return Ok(within.map(|within| (within, current)));
        }
        entry = cursor.next_sibling()?.cloned();
    }
    Ok(None)
}

fn name<'a>(unit: UnitRef<'_, Reader<'a>>, entry: &Entry<'a>) -> gimli::Result<Option<&'a [u8]>> {
    match entry.attr_value(DW_AT_name) {
        Some(value) => Ok(Some(unit.attr_string(value)?.slice())),
        None => Ok(None),
    }
}

impl Wanted {
    fn name(&self) -> String {
        let owner = self.types.first().copied().unwrap_or("?");
        match self.members.first() {
            Some(path) => format!("{owner}.{}", path.join(".")),
            None => format!("sizeof({owner})"),
        }
    }
}

/// Type names, member paths, and what the table says; `None` for what the version does not have.
type Row = (&'static [&'static str], &'static [&'static [&'static str]], Option<u32>);

/// Everything in the table that a C type has, under the names that it had in some version.
fn wanted(o: &ObjectOffsets) -> Vec<Wanted> {
    const RUNTIME: &[&str] = &["pyruntimestate"];
    const INTERPRETER: &[&str] = &["_is"];
    const TSTATE: &[&str] = &["_ts"];
    const CFRAME: &[&str] = &["_PyCFrame", "_cframe"];
    const CODE: &[&str] = &["PyCodeObject"];
    const FRAME_OBJECT: &[&str] = &["_frame"];
    const FRAME: &[&str] = &["_PyInterpreterFrame"];
    const ASCII: &[&str] = &["PyASCIIObject"];
    let frame = if o.frame_owner.is_some() { FRAME } else { FRAME_OBJECT };
    let rows: Vec<Row> = vec![
        (RUNTIME, &[&["interpreters", "head"]], Some(o.runtime_interpreters_head)),
        (RUNTIME, &[&["autoTSSkey"], &["gilstate", "autoTSSkey"]], o.runtime_auto_tss_key),
        (INTERPRETER, &[&["next"]], Some(o.interpreter_next)),
        (INTERPRETER, &[&["threads", "head"], &["tstate_head"]], Some(o.interpreter_threads_head)),
        (TSTATE, &[&["next"]], Some(o.tstate_next)),
        (TSTATE, &[&["interp"]], Some(o.tstate_interpreter)),
        (TSTATE, &[&["thread_id"]], Some(o.tstate_thread_id)),
        (TSTATE, &[&["native_thread_id"]], o.tstate_native_thread_id),
        (TSTATE, &[&["current_frame"], &["cframe"], &["frame"]], Some(o.tstate_frame)),
        (CFRAME, &[&["current_frame"]], o.cframe_current),
        (frame, &[&["f_executable"], &["f_code"]], Some(o.frame_code)),
        (frame, &[&["previous"], &["f_back"]], Some(o.frame_previous)),
        (frame, &[&["instr_ptr"], &["prev_instr"], &["f_lasti"]], Some(o.frame_instruction)),
        (frame, &[&["owner"]], o.frame_owner),
        (CODE, &[&["co_firstlineno"]], Some(o.code_firstlineno)),
        (CODE, &[&["co_filename"]], Some(o.code_filename)),
        (CODE, &[&["co_name"]], Some(o.code_name)),
        (CODE, &[&["co_qualname"]], o.code_qualname),
        (CODE, &[&["co_linetable"], &["co_lnotab"]], Some(o.code_linetable)),
        (CODE, &[&["co_code_adaptive"]], o.code_bytecode),
        (CODE, &[&["co_version"]], o.code_version),
        (ASCII, &[], Some(o.ascii_size)),
        (ASCII, &[&["length"]], Some(o.unicode_length)),
        (ASCII, &[&["state"]], Some(o.unicode_state)),
        (&["PyCompactUnicodeObject"], &[], Some(o.compact_size)),
        (&["PyVarObject"], &[&["ob_size"]], Some(o.bytes_size)),
        (&["PyBytesObject"], &[&["ob_sval"]], Some(o.bytes_data)),
    ];
    rows.into_iter()
        .filter_map(|(types, members, table)| Some(Wanted { types, members, table: table? }))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::offsets::table;
    use super::*;

    #[test]
    fn files_without_debug_information() {
        let offsets = table(11).unwrap();
        assert!(matches!(compare_with_dwarf(Path::new("/no/such"), offsets), Err(DwarfError::Open { .. })));
        let text = compare_with_dwarf(Path::new("/proc/self/status"), offsets);
        assert!(matches!(text, Err(DwarfError::Elf { .. })));
        let stripped = compare_with_dwarf(Path::new("/bin/true"), offsets);
        assert!(matches!(stripped, Err(DwarfError::Absent { .. })), "{stripped:?}");
    }
}
