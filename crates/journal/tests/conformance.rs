//! The conformance suite of `Journal`, on files.

use rusqlite::Connection;
use site_recovery::{Journal, Result};
use site_recovery_journal::SqliteJournal;
use site_recovery_testkit::suite::JournalFixture;
use std::path::PathBuf;
use std::sync::Arc;
use tempfile::TempDir;

struct Fresh(TempDir);

impl Fresh {
    fn path(&self) -> PathBuf {
        self.0.path().join("journal.db")
    }

    fn execute(&self, sql: &str, subject: &str, entry: i64) -> usize {
        let connection = Connection::open(self.path()).expect("opens");
        connection.execute(sql, (subject, entry)).expect("changes")
    }
}

#[async_trait::async_trait]
impl JournalFixture for Fresh {
    async fn new() -> Self {
        Self(TempDir::new().expect("a directory"))
    }

    async fn open(&self) -> Result<Arc<dyn Journal>> {
        Ok(Arc::new(SqliteJournal::open(self.path()).await?))
    }

    async fn damage(&self, subject: &str, entry: usize) -> bool {
        let sql = "UPDATE entry SET bytes = CAST('#' || substr(bytes, 2) AS BLOB) WHERE subject = ?1
            AND number = ?2 + (SELECT first FROM subject WHERE name = ?1)";
        self.execute(sql, subject, entry as i64) == 1
    }

    async fn make_newer(&self) -> bool {
        let connection = Connection::open(self.path()).expect("opens");
        connection.pragma_update(None, "user_version", 1000).is_ok()
    }
}

site_recovery_testkit::journal_suite!(Fresh);
