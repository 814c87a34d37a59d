//! `Journal`: JRN-1 to JRN-6.

use super::case::{must, must_be};
use async_trait::async_trait;
use site_recovery::{Append, ErrorKind, Journal, LastEntry, Result};
use std::sync::Arc;

/// A place where a journal is kept.
#[async_trait]
pub trait JournalFixture: Sized + Send + Sync {
    /// A new, empty place.
    async fn new() -> Self;

    /// Opens the journal anew, as after a crash: what an earlier one held in memory alone is gone.
    async fn open(&self) -> Result<Arc<dyn Journal>>;

    /// Changes one byte of a stored entry, counted from 0 since the last fold. False where that cannot be made.
    async fn damage(&self, _subject: &str, _entry: usize) -> bool {
        false
    }

    /// Makes it look as if a newer version of this library had written it. False where that cannot be made.
    async fn make_newer(&self) -> bool {
        false
    }
}

/// Makes one test per rule of a `Journal`.
#[macro_export]
macro_rules! journal_suite {
    ([$($each:tt)+] $fixture:ty) => {
        $($each)+! { $fixture, journal,
            jrn_1_append_is_durable_on_return,
            jrn_2_all_appends_land_or_none,
            jrn_2_another_engine_is_told_stale_epoch,
            jrn_3_load_returns_count_and_entries_in_order,
            jrn_3_a_damaged_entry_is_corrupt,
            jrn_4_fold_replaces_entries_and_the_count_goes_on,
            jrn_5_a_newer_version_is_unsupported,
            jrn_6_last_entries_are_those_of_the_prefix_by_name,
            jrn_6_a_last_entry_that_is_damaged_is_corrupt,
        }
    };
    ($fixture:ty) => {
        $crate::journal_suite!([$crate::each_case] $fixture);
    };
}

fn append(subject: &str, expect: u64, entry: &str) -> Append {
    Append { subject: subject.into(), expect, entry: entry.into() }
}

async fn opened<F: JournalFixture>(rule: &str, world: &F) -> Arc<dyn Journal> {
    must(rule, "open", world.open().await)
}

async fn loaded(rule: &str, journal: &Arc<dyn Journal>, subject: &str) -> (u64, Vec<String>) {
    let (count, entries) = must(rule, "load", journal.load(subject).await);
    (count, entries.into_iter().map(|e| String::from_utf8_lossy(&e).into_owned()).collect())
}

#[track_caller]
fn holds(rule: &str, found: &(u64, Vec<String>), count: u64, entries: &[&str]) {
    assert_eq!(
        (found.0, found.1.as_slice()),
        (count, &entries.iter().map(|e| e.to_string()).collect::<Vec<_>>()[..]),
        "{rule}: count and entries"
    );
}

/// JRN-1: what was appended is there after a crash.
pub async fn jrn_1_append_is_durable_on_return<F: JournalFixture>() {
    let world = F::new().await;
    let journal = opened("JRN-1", &world).await;
    must("JRN-1", "append", journal.append(&[append("web", 0, "one"), append("db", 0, "first")]).await);
    must("JRN-1", "append", journal.append(&[append("web", 1, "two")]).await);
    drop(journal);
    let journal = opened("JRN-1", &world).await;
    holds("JRN-1", &loaded("JRN-1", &journal, "web").await, 2, &["one", "two"]);
    holds("JRN-1", &loaded("JRN-1", &journal, "db").await, 1, &["first"]);
}

/// JRN-2: all appends of a call land, or none, wherever in it the wrong one stands.
pub async fn jrn_2_all_appends_land_or_none<F: JournalFixture>() {
    let world = F::new().await;
    let journal = opened("JRN-2", &world).await;
    must("JRN-2", "append", journal.append(&[append("web", 0, "one")]).await);
    for wrong_at in 0..3 {
        let mut all = vec![append("a", 0, "new"), append("b", 0, "new")];
        all.insert(wrong_at, append("web", 0, "again"));
        let appended = journal.append(&all).await;
        must_be("JRN-2", "append with one wrong count", ErrorKind::StaleEpoch, appended);
        holds("JRN-2", &loaded("JRN-2", &journal, "web").await, 1, &["one"]);
        holds("JRN-2", &loaded("JRN-2", &journal, "a").await, 0, &[]);
        holds("JRN-2", &loaded("JRN-2", &journal, "b").await, 0, &[]);
    }
    must("JRN-2", "append", journal.append(&[append("a", 0, "new"), append("web", 1, "two")]).await);
    holds("JRN-2", &loaded("JRN-2", &journal, "web").await, 2, &["one", "two"]);
}

/// JRN-2: of two that write from one count the second is told, and so is one that is ahead.
pub async fn jrn_2_another_engine_is_told_stale_epoch<F: JournalFixture>() {
    let world = F::new().await;
    let journal = opened("JRN-2", &world).await;
    must("JRN-2", "append of one engine", journal.append(&[append("web", 0, "mine")]).await);
    for expect in [0, 2] {
        let appended = journal.append(&[append("web", expect, "theirs")]).await;
        must_be("JRN-2", "append of another engine", ErrorKind::StaleEpoch, appended);
    }
    holds("JRN-2", &loaded("JRN-2", &journal, "web").await, 1, &["mine"]);
}

/// JRN-3: the count, and the entries in order; an unknown subject has count 0; all subjects are listed.
pub async fn jrn_3_load_returns_count_and_entries_in_order<F: JournalFixture>() {
    let world = F::new().await;
    let journal = opened("JRN-3", &world).await;
    holds("JRN-3", &loaded("JRN-3", &journal, "unknown").await, 0, &[]);
    let entries: Vec<String> = (0..20).map(|n| format!("entry {n}")).collect();
    for (count, entry) in entries.iter().enumerate() {
        must("JRN-3", "append", journal.append(&[append("web", count as u64, entry)]).await);
    }
    must("JRN-3", "append", journal.append(&[append("db", 0, "")]).await);
    assert_eq!(loaded("JRN-3", &journal, "web").await, (20, entries), "JRN-3: entries in order");
    holds("JRN-3", &loaded("JRN-3", &journal, "db").await, 1, &[""]);
    let mut subjects = must("JRN-3", "subjects", journal.subjects().await);
    subjects.sort();
    assert_eq!(subjects, ["db", "web"], "JRN-3: subjects");
}

/// JRN-3: a damaged entry is `Corrupt`, naming the subject, and never skipped.
pub async fn jrn_3_a_damaged_entry_is_corrupt<F: JournalFixture>() {
    for damaged in 0..3 {
        let world = F::new().await;
        let journal = opened("JRN-3", &world).await;
        for (count, entry) in ["one", "two", "three"].iter().enumerate() {
            must("JRN-3", "append", journal.append(&[append("web", count as u64, entry)]).await);
        }
        drop(journal);
        if !world.damage("web", damaged).await {
            return eprintln!("SKIPPED JRN-3: the fixture cannot damage an entry");
        }
        let found = match world.open().await {
            Ok(journal) => journal.load("web").await,
            Err(error) => Err(error),
        };
        let error = must_be("JRN-3", "load of a damaged entry", ErrorKind::Corrupt, found);
        assert!(error.to_string().contains("web"), "JRN-3: the error does not name the subject: {error}");
    }
}

/// JRN-4: one snapshot stands for all entries so far, and the count goes on, also after a crash.
pub async fn jrn_4_fold_replaces_entries_and_the_count_goes_on<F: JournalFixture>() {
    let world = F::new().await;
    let journal = opened("JRN-4", &world).await;
    must("JRN-4", "append", journal.append(&[append("db", 0, "first")]).await);
    must("JRN-4", "append", journal.append(&[append("web", 0, "one")]).await);
    must("JRN-4", "append", journal.append(&[append("web", 1, "two")]).await);
    let late = journal.fold("web", 1, b"old".to_vec()).await;
    must_be("JRN-4", "fold of a count that has moved on", ErrorKind::StaleEpoch, late);
    holds("JRN-4", &loaded("JRN-4", &journal, "web").await, 2, &["one", "two"]);
    must("JRN-4", "fold", journal.fold("web", 2, b"both".to_vec()).await);
    holds("JRN-4", &loaded("JRN-4", &journal, "web").await, 2, &["both"]);
    must("JRN-4", "append", journal.append(&[append("web", 2, "three")]).await);
    drop(journal);
    let journal = opened("JRN-4", &world).await;
    holds("JRN-4", &loaded("JRN-4", &journal, "web").await, 3, &["both", "three"]);
    holds("JRN-4", &loaded("JRN-4", &journal, "db").await, 1, &["first"]);
}

/// JRN-5: a journal of an unknown newer version is refused when it is opened.
pub async fn jrn_5_a_newer_version_is_unsupported<F: JournalFixture>() {
    let world = F::new().await;
    let journal = opened("JRN-5", &world).await;
    must("JRN-5", "append", journal.append(&[append("web", 0, "one")]).await);
    drop(journal);
    if !world.make_newer().await {
        return eprintln!("SKIPPED JRN-5: the fixture cannot make a newer version");
    }
    must_be("JRN-5", "open of a newer version", ErrorKind::Unsupported, world.open().await);
}

/// More than anybody would tell at once without being asked for as many.
const MANY: usize = 1_203;

/// JRN-6: count and last entry of every subject whose name begins so, by name, also after a fold; of no other.
pub async fn jrn_6_last_entries_are_those_of_the_prefix_by_name<F: JournalFixture>() {
    let world = F::new().await;
    let journal = opened("JRN-6", &world).await;
    let all =
        ["unit/web", "unit/db", "unit%", "uniT/x", "unit", "unit0", "unit/\u{e9}", "unit/Zed", "audit/web"];
    for subject in all {
        must("JRN-6", "append", journal.append(&[append(subject, 0, "first")]).await);
    }
    for (subject, expect, entry) in
        [("unit/web", 1, "second"), ("unit/db", 1, "second"), ("unit/db", 2, "third")]
    {
        must("JRN-6", "append", journal.append(&[append(subject, expect, entry)]).await);
    }
    must("JRN-6", "fold", journal.fold("unit/db", 3, b"all".to_vec()).await);
    drop(journal);
    let journal = opened("JRN-6", &world).await;
    let told = |all: Vec<LastEntry>| -> Vec<(String, u64, String)> {
        let text =
            |last: LastEntry| (last.subject, last.count, String::from_utf8_lossy(&last.entry).into_owned());
        all.into_iter().map(text).collect()
    };
    let of = |subject: &str, count: u64, entry: &str| (subject.to_owned(), count, entry.to_owned());
    let ask = async |prefix: &str, after: &str, most: usize| {
        told(must("JRN-6", "last_entries", journal.last_entries(prefix, after, most).await))
    };
    let expected = [
        of("unit/Zed", 1, "first"),
        of("unit/db", 3, "all"),
        of("unit/web", 2, "second"),
        of("unit/\u{e9}", 1, "first"),
    ];
    assert_eq!(ask("unit/", "", 100).await, expected, "JRN-6: last entries of a prefix");
    assert_eq!(ask("unit/", "", usize::MAX).await, expected, "JRN-6: however many there are");
    assert_eq!(ask("unit/", "", 1).await, expected[..1], "JRN-6: the first, whenever it came");
    assert_eq!(ask("unit/", "", 2).await, expected[..2], "JRN-6: the first two");
    assert_eq!(ask("unit/", "unit/Zed", 2).await, expected[1..3], "JRN-6: the next two");
    assert_eq!(ask("unit/", "unit/web", 2).await, expected[3..], "JRN-6: after the third");
    assert_eq!(ask("unit/", "unit/e", 1).await, expected[2..3], "JRN-6: after a name that nothing has");
    assert_eq!(ask("unit/", "unit/\u{e9}", 2).await, [], "JRN-6: after the last");
    assert_eq!(ask("nothing/", "", 100).await, [], "JRN-6: last entries of a prefix that nothing has");
    assert_eq!(ask("", "", 100).await.len(), all.len(), "JRN-6: last entries of all");
    let many: Vec<String> = (0..MANY).map(|number| format!("many/{number:04}")).collect();
    let appends: Vec<Append> = many.iter().map(|subject| append(subject, 0, "first")).collect();
    must("JRN-6", "append", journal.append(&appends).await);
    for (most, told) in [(usize::MAX, MANY), (MANY - 1, MANY - 1), (500, 500)] {
        let names: Vec<String> = ask("many/", "", most).await.into_iter().map(|(name, ..)| name).collect();
        assert_eq!(names, many[..told], "JRN-6: as many as asked for, of many");
    }
}

/// JRN-6: a damaged last entry is `Corrupt`, naming the subject, and never left out.
pub async fn jrn_6_a_last_entry_that_is_damaged_is_corrupt<F: JournalFixture>() {
    let world = F::new().await;
    let journal = opened("JRN-6", &world).await;
    for (subject, expect) in [("db", 0), ("web", 0), ("web", 1)] {
        must("JRN-6", "append", journal.append(&[append(subject, expect, "entry")]).await);
    }
    drop(journal);
    if !world.damage("web", 1).await {
        return eprintln!("SKIPPED JRN-6: the fixture cannot damage an entry");
    }
    let found = match world.open().await {
        Ok(journal) => journal.last_entries("", "", 100).await,
        Err(error) => Err(error),
    };
    let error = must_be("JRN-6", "last_entries with a damaged one", ErrorKind::Corrupt, found);
    assert!(error.to_string().contains("web"), "JRN-6: the error does not name the subject: {error}");
}
