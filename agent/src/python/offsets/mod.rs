//! Struct offsets of CPython, as data: one table for each minor version, and what an interpreter from 3.13
//! on says of itself. No process is read here except through a handed-in memory.

mod debug_offsets;
mod table;
mod v3_10;
mod v3_11;
mod v3_12;
mod v3_13;
mod v3_14;
mod v3_15;
mod v3_8;
mod v3_9;

pub use debug_offsets::{Cookie, DebugOffsets, DebugOffsetsError};
pub use table::{
    FreeThreaded, LONGER_HEAD, LineFormat, LocalBytecode, ObjectOffsets, SUPPORTED_MINORS,
    free_threaded_table, table,
};
