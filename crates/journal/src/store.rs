use crate::error::Fault;
use rusqlite::{Connection, OptionalExtension, params};
use site_recovery::{Append, LastEntry};
use std::path::Path;
use std::time::Duration;
use xxhash_rust::xxh3::Xxh3;

/// Of the tables below.
const VERSION: i64 = 1;

/// `SRJ1`: tells our files from others.
const APPLICATION: i64 = 0x5352_4a31;

/// `entry.number` counts from 0 per subject; those from `subject.first` up to `subject.count` are there. After a fold,
/// `first` is the last entry that was folded, and stands for all of them. Entries are too long for a table without row ids: each
/// would take a page of its own besides.
const TABLES: &str = "
CREATE TABLE subject (
    name  TEXT    NOT NULL PRIMARY KEY,
    first INTEGER NOT NULL,
    count INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE entry (
    subject  TEXT    NOT NULL,
    number   INTEGER NOT NULL,
    bytes    BLOB    NOT NULL,
    checksum BLOB    NOT NULL,
    PRIMARY KEY (subject, number)
) STRICT;
";

/// The journal's tables. Every method is all or none inside the transaction that the writer has opened.
pub(crate) struct Store(Connection);

type Entries = (u64, Vec<Vec<u8>>);

impl Store {
    pub(crate) fn open(path: &Path) -> Result<Self, Fault> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(Duration::from_secs(10))?;
        Self::check_version(&connection)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        Self::with_tables(connection)
    }

    pub(crate) fn in_memory() -> Result<Self, Fault> {
        Self::with_tables(Connection::open_in_memory()?)
    }

    /// Before anything is written.
    fn check_version(connection: &Connection) -> Result<bool, Fault> {
        let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        let (application, version) = (pragma("application_id")?, pragma("user_version")?);
        match (application, version) {
            (0, 0) if tables == 0 => Ok(false),
            (APPLICATION, VERSION) => Ok(true),
            (APPLICATION, found) if found > VERSION => Err(Fault::Newer { found, known: VERSION }),
            _ => Err(Fault::Foreign),
        }
    }

    fn with_tables(mut connection: Connection) -> Result<Self, Fault> {
        // Another process may make the tables at the same time.
        let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        if !Self::check_version(&transaction)? {
            transaction.execute_batch(TABLES)?;
            transaction.pragma_update(None, "application_id", APPLICATION)?;
            transaction.pragma_update(None, "user_version", VERSION)?;
        }
        transaction.commit()?;
        Ok(Self(connection))
    }

    /// Opens the transaction that the next calls share.
    pub(crate) fn begin(&mut self) -> Result<(), Fault> {
        Ok(self.0.execute_batch("BEGIN IMMEDIATE")?)
    }

    /// False before `begin`, after `commit`, and when SQLite gave the transaction up (a full disk does that).
    pub(crate) fn in_transaction(&self) -> bool {
        !self.0.is_autocommit()
    }

    /// Makes them durable.
    pub(crate) fn commit(&mut self) -> Result<(), Fault> {
        if !self.in_transaction() {
            return Err(Fault::GivenUp);
        }
        let committed = self.0.execute_batch("COMMIT");
        if committed.is_err() && self.in_transaction() {
            self.0.execute_batch("ROLLBACK")?;
        }
        Ok(committed?)
    }

    pub(crate) fn subjects(&mut self) -> Result<Vec<String>, Fault> {
        let mut names = self.0.prepare_cached("SELECT name FROM subject ORDER BY name")?;
        let names = names.query_map([], |row| row.get(0))?;
        Ok(names.collect::<Result<_, _>>()?)
    }

    pub(crate) fn load(&mut self, subject: &str) -> Result<Entries, Fault> {
        let (first, count) = self.range(subject)?;
        let damaged = |entry, how| Fault::Damaged { subject: subject.to_owned(), entry, how };
        let mut select = self
            .0
            .prepare_cached("SELECT number, bytes, checksum FROM entry WHERE subject = ? ORDER BY number")?;
        let mut rows = select.query([subject])?;
        let (mut next, mut entries) = (first, vec![]);
        while let Some(row) = rows.next().map_err(|_| damaged(next, "not readable"))? {
            let entry: rusqlite::Result<(i64, Vec<u8>, Vec<u8>)> = row.try_into();
            let (number, bytes, sum) = entry.map_err(|_| damaged(next, "not readable"))?;
            if number != next || next >= count {
                return Err(damaged(next, if next >= count { "too many" } else { "missing" }));
            }
            if checksum(subject, number, &bytes)[..] != sum {
                return Err(damaged(number, "damaged"));
            }
            entries.push(bytes);
            next += 1;
        }
        if next != count {
            return Err(damaged(next, "missing"));
        }
        Ok((count as u64, entries))
    }

    pub(crate) fn last_entries(
        &mut self,
        prefix: &str,
        after: &str,
        most: usize,
    ) -> Result<Vec<LastEntry>, Fault> {
        let mut select = self.0.prepare_cached(
            "SELECT name, count, bytes, checksum FROM subject
            LEFT JOIN entry ON entry.subject = name AND entry.number = count - 1
            WHERE name >= max(?1, ?2) AND name <> ?2 AND substr(name, 1, length(?1)) = ?1 ORDER BY name LIMIT ?3",
        )?;
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let mut rows = select.query(params![prefix, after, most])?;
        let mut all = vec![];
        while let Some(row) = rows.next()? {
            let (subject, count): (String, i64) = (row.get(0)?, row.get(1)?);
            let damaged = |how| Fault::Damaged { subject: subject.clone(), entry: count - 1, how };
            let read = || Ok::<_, rusqlite::Error>((row.get(2)?, row.get(3)?));
            let (bytes, sum): (Option<Vec<u8>>, Option<Vec<u8>>) =
                read().map_err(|_| damaged("not readable"))?;
            let (Some(entry), Some(sum)) = (bytes, sum) else { return Err(damaged("missing")) };
            if checksum(&subject, count - 1, &entry)[..] != sum {
                return Err(damaged("damaged"));
            }
            all.push(LastEntry { subject, count: count as u64, entry });
        }
        Ok(all)
    }

    pub(crate) fn append(&mut self, all: &[Append]) -> Result<(), Fault> {
        self.all_or_none(|store| all.iter().try_for_each(|append| store.append_one(append)))
    }

    pub(crate) fn fold(&mut self, subject: &str, expect: u64, snapshot: &[u8]) -> Result<(), Fault> {
        self.all_or_none(|store| {
            let count = store.expect(subject, expect)?;
            if count == 0 {
                return Err(Fault::NothingToFold { subject: subject.to_owned() });
            }
            store.0.prepare_cached("DELETE FROM entry WHERE subject = ?")?.execute([subject])?;
            store.insert(subject, count - 1, snapshot)?;
            store.set_range(subject, count - 1, count)
        })
    }

    fn append_one(&mut self, append: &Append) -> Result<(), Fault> {
        let count = self.expect(&append.subject, append.expect)?;
        let (first, _) = self.range(&append.subject)?;
        self.insert(&append.subject, count, &append.entry)?;
        self.set_range(&append.subject, first, count + 1)
    }

    /// Compares the count with what the caller believes.
    fn expect(&mut self, subject: &str, expect: u64) -> Result<i64, Fault> {
        let (_, found) = self.range(subject)?;
        if u64::try_from(found).ok() == Some(expect) {
            return Ok(found);
        }
        Err(Fault::Stale { subject: subject.to_owned(), found, expect })
    }

    /// The numbers of a subject's entries, from and to.
    fn range(&mut self, subject: &str) -> Result<(i64, i64), Fault> {
        let mut select = self.0.prepare_cached("SELECT first, count FROM subject WHERE name = ?")?;
        let found = select.query_row([subject], |row| row.try_into()).optional()?;
        Ok(found.unwrap_or((0, 0)))
    }

    fn set_range(&mut self, subject: &str, first: i64, count: i64) -> Result<(), Fault> {
        let set = "INSERT INTO subject (name, first, count) VALUES (?, ?, ?)
            ON CONFLICT (name) DO UPDATE SET first = excluded.first, count = excluded.count";
        self.0.prepare_cached(set)?.execute(params![subject, first, count])?;
        Ok(())
    }

    fn insert(&mut self, subject: &str, number: i64, bytes: &[u8]) -> Result<(), Fault> {
        let insert = "INSERT INTO entry (subject, number, bytes, checksum) VALUES (?, ?, ?, ?)";
        let sum = checksum(subject, number, bytes);
        self.0.prepare_cached(insert)?.execute(params![subject, number, bytes, &sum[..]])?;
        Ok(())
    }

    fn all_or_none(&mut self, f: impl FnOnce(&mut Self) -> Result<(), Fault>) -> Result<(), Fault> {
        self.0.execute_batch("SAVEPOINT one")?;
        let done = f(self);
        if self.in_transaction() {
            let end = if done.is_ok() { "RELEASE one" } else { "ROLLBACK TO one; RELEASE one" };
            self.0.execute_batch(end)?;
        }
        done
    }
}

/// xxh3-128 over subject, number and bytes, each at a place of its own, so that a moved entry shows as well.
fn checksum(subject: &str, number: i64, bytes: &[u8]) -> [u8; 16] {
    let mut hash = Xxh3::new();
    hash.update(&(subject.len() as u64).to_le_bytes());
    hash.update(subject.as_bytes());
    hash.update(&number.to_le_bytes());
    hash.update(bytes);
    hash.digest128().to_le_bytes()
}
