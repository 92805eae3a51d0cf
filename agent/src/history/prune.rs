//! What is too old, or too much, goes: the oldest minutes first, whole.

use super::commit::number;
use super::minutes::MINUTE_NS;
use super::schema::BY_MINUTE;
use rusqlite::Connection;

/// Above this share of the largest size the oldest goes, until it is below the second.
const FULL: (u64, u64) = (9, 10);
const ROOM: (u64, u64) = (8, 10);
/// Part of the time that the file covers that goes in one step.
const STEP: u64 = 20;

/// Lets go of everything before a minute, and of so much of the oldest that there is room. Gives the oldest minute
/// that is left to the file.
pub(super) fn prune(
    connection: &mut Connection,
    before: u64,
    now: u64,
    max_bytes: u64,
    run: i64,
) -> rusqlite::Result<()> {
    if oldest(connection)?.is_some_and(|oldest| oldest < before) {
        forget(connection, before, run)?;
    }
    if used(connection)? > max_bytes / FULL.1 * FULL.0 {
        make_room(connection, now, max_bytes, run)?;
    }
    // Pages that are free are given back to the file system.
    connection.execute_batch("PRAGMA incremental_vacuum")
}

/// Lets go of the oldest until there is room; of at least one step.
pub(super) fn make_room(
    connection: &mut Connection,
    now: u64,
    max_bytes: u64,
    run: i64,
) -> rusqlite::Result<()> {
    while let Some(oldest) = oldest(connection)? {
        // Of what is being written something must be left, however little room there is.
        if oldest >= now {
            break;
        }
        let step = ((now - oldest) / STEP).max(1);
        forget(connection, oldest + step, run)?;
        tracing::debug!(minutes = step, "the history is full: the oldest minutes have been let go");
        if used(connection)? <= max_bytes / ROOM.1 * ROOM.0 {
            break;
        }
    }
    Ok(())
}

fn forget(connection: &mut Connection, before: u64, run: i64) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    for table in BY_MINUTE {
        transaction.execute(&format!("DELETE FROM {table} WHERE minute < ?1"), [number(before)])?;
    }
    transaction.execute("DELETE FROM texts WHERE used < ?1", [number(before)])?;
    let before_ns = number(before.saturating_mul(MINUTE_NS));
    transaction.execute("DELETE FROM runs WHERE until_ns < ?1 AND id <> ?2", [before_ns, run])?;
    transaction.commit()
}

fn oldest(connection: &Connection) -> rusqlite::Result<Option<u64>> {
    let mut oldest: Option<i64> = None;
    for table in BY_MINUTE {
        let sql = format!("SELECT min(minute) FROM {table}");
        let first: Option<i64> = connection.query_row(&sql, [], |row| row.get(0))?;
        oldest = match (oldest, first) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }
    Ok(oldest.and_then(|minute| u64::try_from(minute).ok()))
}

/// Bytes that hold something.
fn used(connection: &Connection) -> rusqlite::Result<u64> {
    let pragma = |name: &str| connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, u64>(0));
    Ok(pragma("page_count")?.saturating_sub(pragma("freelist_count")?) * pragma("page_size")?)
}
