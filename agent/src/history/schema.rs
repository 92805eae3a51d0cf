//! The database: its tables, its version, and how it is opened.
//!
//! Rows of a minute belong to a run of the service as well, so that one that is started anew within a minute adds its own
//! rows instead of changing those that are there. Texts (routes, statements, stacks) are kept once, under the first
//! eight bytes of their SHA-256.

use super::error::HistoryError;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use sha2::{Digest, Sha256};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

/// `PRAGMA application_id`, which `file(1)` and we know it by: `pyAP`.
const APPLICATION_ID: i64 = 0x7079_4150;
/// The newest form: how many of [`STEPS`] there are. Kept as `PRAGMA user_version`.
pub(super) const FORM: i64 = STEPS.len() as i64;
/// From each form to the next; the first makes the tables. Never changed, only added to.
const STEPS: [&str; 1] = [FIRST];

const FIRST: &str = "
CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    started_ns INTEGER NOT NULL,
    until_ns INTEGER NOT NULL,
    version TEXT NOT NULL,
    lost_lines INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE applications (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    server TEXT,
    python TEXT
) STRICT;
-- `used`: the newest minute that has it.
CREATE TABLE texts (
    id INTEGER PRIMARY KEY,
    used INTEGER NOT NULL,
    text TEXT NOT NULL
) STRICT;
CREATE INDEX texts_used ON texts (used);
-- `minute`: since the Unix epoch. `durations`: counts by bucket (see `store::Durations`).
CREATE TABLE routes (
    minute INTEGER NOT NULL, application INTEGER NOT NULL, name INTEGER NOT NULL, run INTEGER NOT NULL,
    count INTEGER NOT NULL, errors INTEGER NOT NULL, total_ns INTEGER NOT NULL, max_ns INTEGER NOT NULL,
    db_calls INTEGER NOT NULL, db_ns INTEGER NOT NULL,
    status_1xx INTEGER NOT NULL, status_2xx INTEGER NOT NULL, status_3xx INTEGER NOT NULL,
    status_4xx INTEGER NOT NULL, status_5xx INTEGER NOT NULL,
    durations BLOB NOT NULL,
    PRIMARY KEY (minute, application, name, run)
) STRICT, WITHOUT ROWID;
CREATE TABLE statements (
    minute INTEGER NOT NULL, application INTEGER NOT NULL, text INTEGER NOT NULL, run INTEGER NOT NULL,
    system TEXT, count INTEGER NOT NULL, errors INTEGER NOT NULL, total_ns INTEGER NOT NULL, max_ns INTEGER NOT NULL,
    call_site TEXT,
    durations BLOB NOT NULL,
    PRIMARY KEY (minute, application, text, run)
) STRICT, WITHOUT ROWID;
-- `kind`: class, module and frame, as text. `latest`: the exception, packed.
CREATE TABLE errors (
    minute INTEGER NOT NULL, application INTEGER NOT NULL, kind INTEGER NOT NULL, route INTEGER NOT NULL,
    run INTEGER NOT NULL,
    count INTEGER NOT NULL, unhandled INTEGER NOT NULL, first_ns INTEGER NOT NULL, last_ns INTEGER NOT NULL,
    latest BLOB NOT NULL,
    PRIMARY KEY (minute, application, kind, route, run)
) STRICT, WITHOUT ROWID;
-- `key`: kind, route, text and place, as text.
CREATE TABLE warnings (
    minute INTEGER NOT NULL, application INTEGER NOT NULL, key INTEGER NOT NULL, run INTEGER NOT NULL,
    transactions INTEGER NOT NULL, most_calls INTEGER NOT NULL, calls INTEGER NOT NULL, total_ns INTEGER NOT NULL,
    PRIMARY KEY (minute, application, key, run)
) STRICT, WITHOUT ROWID;
CREATE TABLE stacks (
    minute INTEGER NOT NULL, application INTEGER NOT NULL, stack INTEGER NOT NULL, run INTEGER NOT NULL,
    samples INTEGER NOT NULL,
    PRIMARY KEY (minute, application, stack, run)
) STRICT, WITHOUT ROWID;
-- Those that are kept whole. `detail`: the transaction, packed.
CREATE TABLE transactions (
    id INTEGER PRIMARY KEY,
    minute INTEGER NOT NULL, application INTEGER NOT NULL,
    end_ns INTEGER NOT NULL, duration_ns INTEGER NOT NULL, failed INTEGER NOT NULL,
    detail BLOB NOT NULL
) STRICT;
CREATE INDEX transactions_minute ON transactions (minute, application);
";

/// Tables whose rows are of a minute.
pub(super) const BY_MINUTE: [&str; 6] =
    ["routes", "statements", "errors", "warnings", "stacks", "transactions"];

/// How long one waits for another who has the file to itself.
const BUSY: Duration = Duration::from_secs(5);
/// The log beside the database is cut back to this once it is written over.
const LOG_BYTES: u64 = 4 << 20;

/// Under which number a text is kept.
pub(super) fn text_id(text: &str) -> i64 {
    let digest = Sha256::digest(text.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    i64::from_be_bytes(first)
}

/// Opens for writing; makes it, or brings it up to date, where that is needed.
pub(super) fn open_to_write(path: &Path, max_bytes: u64) -> Result<Connection, HistoryError> {
    create(path).map_err(|source| HistoryError::Create { path: path.to_owned(), source })?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(|source| failed(path, source))?;
    let found = form_of(&connection, path)?;
    if found > FORM {
        return Err(HistoryError::Newer { path: path.to_owned(), found });
    }
    prepare(&mut connection, found, max_bytes).map_err(|source| failed(path, source))?;
    Ok(connection)
}

/// Opens for reading, also while it is being written.
pub(super) fn open_to_read(path: &Path) -> Result<Connection, HistoryError> {
    if !path.exists() {
        return Err(HistoryError::Missing { path: path.to_owned() });
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|source| failed(path, source))?;
    connection.busy_timeout(BUSY).map_err(|source| failed(path, source))?;
    match form_of(&connection, path)? {
        FORM => Ok(connection),
        0 => Err(HistoryError::Empty),
        found if found > FORM => Err(HistoryError::Newer { path: path.to_owned(), found }),
        found => Err(HistoryError::Older { path: path.to_owned(), found }),
    }
}

/// For nobody else to read, in a folder of ours if there is none.
fn create(path: &Path) -> std::io::Result<()> {
    if let Some(folder) = path.parent()
        && !folder.as_os_str().is_empty()
        && !folder.exists()
    {
        std::fs::DirBuilder::new().mode(0o700).create(folder)?;
    }
    std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path).map(|_made| ())
}

/// 0: nothing is in it yet.
fn form_of(connection: &Connection, path: &Path) -> Result<i64, HistoryError> {
    let pragma = |name: &str| connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0));
    let read = || -> rusqlite::Result<(i64, i64, i64)> {
        connection.busy_timeout(BUSY)?;
        let tables = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        Ok((pragma("application_id")?, pragma("user_version")?, tables))
    };
    let (application, form, tables) = read().map_err(|source| failed(path, source))?;
    if application == APPLICATION_ID {
        return Ok(form);
    }
    if application == 0 && form == 0 && tables == 0 {
        return Ok(0);
    }
    Err(HistoryError::Foreign { path: path.to_owned() })
}

fn prepare(connection: &mut Connection, found: i64, max_bytes: u64) -> rusqlite::Result<()> {
    if found == 0 {
        // Only before there is a table: pages that are no longer used can then be given back.
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    }
    // Readers and the writer do not wait for each other. What is committed is in the kernel's hands, so the end of this
    // process takes nothing with it; a power cut may take the last seconds, and leaves the rest whole.
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "journal_size_limit", LOG_BYTES)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    let page: u64 = connection.query_row("PRAGMA page_size", [], |row| row.get(0))?;
    connection.query_row(
        &format!("PRAGMA max_page_count = {}", max_bytes / page.max(512)),
        [],
        |_| Ok(()),
    )?;
    let steps = usize::try_from(found).unwrap_or(usize::MAX);
    if steps < STEPS.len() {
        let transaction = connection.transaction()?;
        for step in STEPS.iter().skip(steps) {
            transaction.execute_batch(step)?;
        }
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", FORM)?;
        transaction.commit()?;
    }
    Ok(())
}

fn failed(path: &Path, source: rusqlite::Error) -> HistoryError {
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => HistoryError::Foreign { path },
        _ => HistoryError::Open { path, source },
    }
}
