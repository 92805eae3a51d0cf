//! From an instruction's offset to a line: the three encodings that CPython has had. Pure functions over
//! bytes that come from the target; no table can make them panic or run longer than its own length.

mod linetable;
mod lnotab;
mod locations;
mod table;

pub use table::LineTable;
