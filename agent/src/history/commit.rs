//! What was added up gets into the file: one transaction of the database, all of it or nothing.

use super::error::HistoryError;
use super::minutes::{Minutes, Tallies};
use super::packed::pack;
use super::schema::{open_to_write, text_id};
use rusqlite::{Connection, Transaction, params};
use std::collections::HashMap;
use std::path::Path;

/// Texts that are known to be in the file, at most; then it is asked again.
const KNOWN: usize = 50_000;

/// The file, open for writing, and this run of the service in it.
#[derive(Debug)]
pub(super) struct File {
    pub(super) connection: Connection,
    pub(super) run: i64,
    /// The newest minute that the file has a text for.
    known: HashMap<i64, u64>,
}

impl File {
    pub(super) fn open(path: &Path, max_bytes: u64, now_ns: u64) -> Result<Self, HistoryError> {
        let connection = open_to_write(path, max_bytes)?;
        let mut file = Self { connection, run: 0, known: HashMap::new() };
        file.begin_run(now_ns).map_err(|source| HistoryError::Open { path: path.to_owned(), source })?;
        Ok(file)
    }

    /// From here on rows are of another run. Gives the number of its first transaction.
    pub(super) fn begin_run(&mut self, now_ns: u64) -> rusqlite::Result<i64> {
        self.connection.execute(
            "INSERT INTO runs (started_ns, until_ns, version) VALUES (?1, ?1, ?2)",
            params![number(now_ns), env!("CARGO_PKG_VERSION")],
        )?;
        self.run = self.connection.last_insert_rowid();
        Ok(self.first_id())
    }

    /// Transactions of one run are numbered from here on: those of the next are far away.
    pub(super) fn first_id(&self) -> i64 {
        self.run.wrapping_shl(32)
    }

    /// Writes what the file lacks. Nothing of it is there when this fails.
    pub(super) fn commit(&mut self, minutes: &Minutes, now_ns: u64, lost: u64) -> rusqlite::Result<()> {
        if self.known.len() > KNOWN {
            self.known.clear();
        }
        let transaction = self.connection.transaction()?;
        let mut page = Page { transaction: &transaction, known: &mut self.known, run: self.run };
        let written = page.write(minutes, now_ns, lost).and_then(|()| transaction.commit());
        if written.is_err() {
            self.known.clear();
        }
        written
    }
}

/// One commit under way.
struct Page<'a> {
    transaction: &'a Transaction<'a>,
    known: &'a mut HashMap<i64, u64>,
    run: i64,
}

impl Page<'_> {
    fn write(&mut self, minutes: &Minutes, now_ns: u64, lost: u64) -> rusqlite::Result<()> {
        self.transaction
            .prepare_cached("UPDATE runs SET until_ns = ?1, lost_lines = ?2 WHERE id = ?3")?
            .execute(params![number(now_ns), number(lost), self.run])?;
        for (name, about) in minutes.about.iter().filter(|(_, about)| about.is_dirty) {
            let sql = "INSERT INTO applications (name, server, python) VALUES (?1, ?2, ?3) \
                       ON CONFLICT (name) DO UPDATE SET server = ?2, python = ?3";
            self.transaction.prepare_cached(sql)?.execute(params![name, about.server, about.python])?;
        }
        for (minute, applications) in minutes.open() {
            for (name, tallies) in applications {
                let mut find =
                    self.transaction.prepare_cached("SELECT id FROM applications WHERE name = ?1")?;
                let application: i64 = find.query_row([name], |row| row.get(0))?;
                self.tallies(*minute, application, tallies)?;
            }
        }
        Ok(())
    }

    fn tallies(&mut self, minute: u64, application: i64, tallies: &Tallies) -> rusqlite::Result<()> {
        let at = number(minute);
        for (name, sum) in tallies.routes.iter().filter(|(_, sum)| sum.is_dirty) {
            let (name, sum) = (self.text(name, minute)?, &sum.value);
            let [first, second, third, fourth, fifth] = sum.status_classes.map(number);
            let sql = "INSERT OR REPLACE INTO routes VALUES \
                       (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)";
            self.transaction.prepare_cached(sql)?.execute(params![
                at,
                application,
                name,
                self.run,
                number(sum.count),
                number(sum.errors),
                number(sum.total_ns),
                number(sum.max_ns),
                number(sum.db_calls),
                number(sum.db_ns),
                first,
                second,
                third,
                fourth,
                fifth,
                sum.durations.encode(),
            ])?;
        }
        for (text, sum) in tallies.statements.iter().filter(|(_, sum)| sum.is_dirty) {
            let (text, sum) = (self.text(text, minute)?, &sum.value);
            let site = sum.tally.call_site.as_ref().and_then(|frame| serde_json::to_string(frame).ok());
            let sql =
                "INSERT OR REPLACE INTO statements VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
            self.transaction.prepare_cached(sql)?.execute(params![
                at,
                application,
                text,
                self.run,
                sum.system,
                number(sum.tally.count),
                number(sum.tally.errors),
                number(sum.tally.total_ns),
                number(sum.tally.max_ns),
                site,
                sum.durations.encode(),
            ])?;
        }
        self.troubles(minute, application, tallies)?;
        for (stack, samples) in tallies.stacks.iter().filter(|(_, sum)| sum.is_dirty) {
            let stack = self.text(stack, minute)?;
            let sql = "INSERT OR REPLACE INTO stacks VALUES (?1, ?2, ?3, ?4, ?5)";
            let row = params![at, application, stack, self.run, number(samples.value)];
            self.transaction.prepare_cached(sql)?.execute(row)?;
        }
        for id in tallies.whole.displaced() {
            self.transaction.prepare_cached("DELETE FROM transactions WHERE id = ?1")?.execute([id])?;
        }
        for (chosen, transaction) in tallies.whole.unwritten() {
            let Some(detail) = pack(transaction) else { continue };
            let end_ns = transaction.start_ns.saturating_add(transaction.duration_ns);
            let sql = "INSERT OR REPLACE INTO transactions VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
            self.transaction.prepare_cached(sql)?.execute(params![
                chosen.id,
                at,
                application,
                number(end_ns),
                number(chosen.duration_ns),
                chosen.failed,
                detail,
            ])?;
        }
        Ok(())
    }

    fn troubles(&mut self, minute: u64, application: i64, tallies: &Tallies) -> rusqlite::Result<()> {
        let at = number(minute);
        for ((kind, route), sum) in tallies.errors.iter().filter(|(_, sum)| sum.is_dirty) {
            let (kind, route, sum) = (self.text(kind, minute)?, self.text(route, minute)?, &sum.value);
            let sql = "INSERT OR REPLACE INTO errors VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
            self.transaction.prepare_cached(sql)?.execute(params![
                at,
                application,
                kind,
                route,
                self.run,
                number(sum.count),
                number(sum.unhandled),
                number(sum.first_ns),
                number(sum.last_ns),
                pack(&sum.latest).unwrap_or_default(),
            ])?;
        }
        for (key, sum) in tallies.warnings.iter().filter(|(_, sum)| sum.is_dirty) {
            let (key, sum) = (self.text(key, minute)?, &sum.value);
            let sql = "INSERT OR REPLACE INTO warnings VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
            self.transaction.prepare_cached(sql)?.execute(params![
                at,
                application,
                key,
                self.run,
                number(sum.transactions),
                number(sum.most_calls),
                number(sum.calls),
                number(sum.total_ns),
            ])?;
        }
        Ok(())
    }

    /// The number of a text, which the file then has for at least as long as this minute.
    fn text(&mut self, text: &str, minute: u64) -> rusqlite::Result<i64> {
        let id = text_id(text);
        if self.known.get(&id).is_some_and(|known| *known >= minute) {
            return Ok(id);
        }
        let sql = "INSERT INTO texts (id, used, text) VALUES (?1, ?2, ?3) \
                   ON CONFLICT (id) DO UPDATE SET used = max(used, ?2)";
        self.transaction.prepare_cached(sql)?.execute(params![id, number(minute), text])?;
        self.known.insert(id, minute);
        Ok(id)
    }
}

/// As the database has numbers.
pub(super) fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
