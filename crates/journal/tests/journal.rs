//! Each rule of the journal's contract, on files that are killed, damaged, newer or shared.

#![allow(clippy::disallowed_methods, reason = "writers that race need tasks of the runtime")]

use rusqlite::Connection;
use site_recovery::{Append, Error, ErrorKind, Journal};
use site_recovery_journal::SqliteJournal;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

fn append(subject: &str, expect: u64, entry: &[u8]) -> Append {
    Append { subject: subject.into(), expect, entry: entry.to_vec() }
}

fn file(dir: &TempDir) -> PathBuf {
    dir.path().join("journal.db")
}

async fn open(path: &Path) -> SqliteJournal {
    SqliteJournal::open(path).await.expect("opens")
}

/// A journal of two subjects, one of them folded; closed.
async fn filled(path: &Path) {
    let journal = open(path).await;
    for expect in 0..6 {
        let entry = format!("entry {expect} of web, long enough to be found in the file");
        journal.append(&[append("web", expect, entry.as_bytes())]).await.expect("appends");
    }
    journal
        .append(&[append("db", 0, b"a"), append("db", 1, b"b"), append("db", 2, b"c")])
        .await
        .expect("appends");
    journal.fold("db", 3, b"abc folded".to_vec()).await.expect("folds");
    journal.append(&[append("db", 3, b"and one more")]).await.expect("appends");
}

async fn everything(path: &Path) -> Result<Vec<(String, u64, Vec<Vec<u8>>)>, Error> {
    let journal = SqliteJournal::open(path).await?;
    let mut all = vec![];
    for subject in ["db", "web"] {
        let (count, entries) = journal.load(subject).await?;
        all.push((subject.to_owned(), count, entries));
    }
    let subjects = journal.subjects().await?;
    assert_eq!(subjects, ["db", "web"]);
    Ok(all)
}

#[tokio::test]
async fn jrn_1_what_is_acknowledged_is_there_after_the_process_was_killed() {
    let dir = TempDir::new().expect("a directory");
    let test = std::env::current_exe().expect("this test");
    let mut child = Command::new(test)
        .args(["appends_until_it_is_killed", "--exact", "--ignored", "--nocapture"])
        .env("JOURNAL", file(&dir))
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let lines = BufReader::new(child.stdout.take().expect("is piped")).lines();
    let counts =
        lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("count ")?.parse::<u64>().ok());
    let acknowledged = counts.take(50).last().expect("it appends");
    child.kill().expect("is killed");
    child.wait().expect("has ended");
    assert_eq!(acknowledged, 50);
    let (count, entries) = open(&file(&dir)).await.load("s").await.expect("loads");
    assert!(count >= acknowledged, "{count} of {acknowledged} acknowledged entries are there");
    assert_eq!(entries.len() as u64, count);
    assert!((0..).zip(&entries).all(|(n, entry): (u64, _)| entry == &n.to_le_bytes()));
}

/// Not a test of its own: the process that the test above kills.
#[tokio::test]
#[ignore = "is run, and killed, by another test"]
async fn appends_until_it_is_killed() {
    let journal = open(Path::new(&std::env::var_os("JOURNAL").expect("a path"))).await;
    for count in 0_u64.. {
        journal.append(&[append("s", count, &count.to_le_bytes())]).await.expect("appends");
        writeln!(std::io::stdout(), "\ncount {}", count + 1).expect("the other side reads");
    }
}

#[tokio::test]
async fn jrn_1_a_copy_of_the_open_files_holds_what_was_acknowledged() {
    let (dir, copy) = (TempDir::new().expect("a directory"), TempDir::new().expect("a directory"));
    let journal = open(&file(&dir)).await;
    journal.append(&[append("s", 0, b"one")]).await.expect("appends");
    for found in std::fs::read_dir(dir.path()).expect("lists") {
        let found = found.expect("lists").path();
        if found.extension().is_none_or(|e| e != "db-shm") {
            std::fs::copy(&found, copy.path().join(found.file_name().expect("a name"))).expect("copies");
        }
    }
    let copied = open(&file(&copy)).await;
    assert_eq!(copied.load("s").await.expect("loads"), (1, vec![b"one".to_vec()]));
}

#[tokio::test]
async fn jrn_2_all_or_none_and_counted() {
    let journal = SqliteJournal::in_memory().await.expect("opens");
    journal
        .append(&[append("a", 0, b"1"), append("b", 0, b"1"), append("a", 1, b"2")])
        .await
        .expect("appends");
    let stale = journal.append(&[append("b", 1, b"2"), append("a", 1, b"x")]).await.expect_err("is stale");
    assert_eq!((stale.kind(), stale.fact("subject")), (ErrorKind::StaleEpoch, Some("a")));
    assert_eq!(journal.load("b").await.expect("loads"), (1, vec![b"1".to_vec()]));
    let ahead = journal.append(&[append("c", 7, b"x")]).await.expect_err("is ahead");
    assert_eq!(ahead.kind(), ErrorKind::StaleEpoch);
    assert_eq!(journal.load("c").await.expect("loads"), (0, vec![]));
    assert_eq!(journal.subjects().await.expect("lists"), ["a", "b"]);
    journal.append(&[]).await.expect("nothing is no error");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn jrn_2_of_eight_writers_exactly_one_wins() {
    let dir = TempDir::new().expect("a directory");
    let shared = open(&file(&dir)).await;
    for round in 0..20 {
        let mut writers = vec![];
        for me in 0..8_u8 {
            // Half of them are clones of one handle, half are other engines on the same file.
            let journal = if me % 2 == 0 { shared.clone() } else { open(&file(&dir)).await };
            writers.push(tokio::spawn(async move {
                let both = [append("a", round, &[me]), append("b", round, &[me])];
                journal.append(&both).await.map(|()| me)
            }));
        }
        let mut winners = vec![];
        for writer in writers {
            match writer.await.expect("runs") {
                Ok(me) => winners.push(me),
                Err(error) => assert_eq!(error.kind(), ErrorKind::StaleEpoch, "{error}"),
            }
        }
        assert_eq!(winners.len(), 1, "round {round}");
        let (a, b) = (shared.load("a").await.expect("loads"), shared.load("b").await.expect("loads"));
        assert_eq!((a.0, a.1.last()), (round + 1, Some(&winners)));
        assert_eq!(a, b);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn jrn_2_calls_that_share_a_commit_do_not_share_refusals() {
    let dir = TempDir::new().expect("a directory");
    let journal = open(&file(&dir)).await;
    let calls = (0..200_u64).map(|n| {
        let journal = journal.clone();
        async move {
            let right = append(&format!("s{n:03}"), 0, &n.to_le_bytes());
            // Every third call has a second append that is stale, and must leave nothing.
            let all = if n % 3 == 0 { vec![right, append("other", 9, b"x")] } else { vec![right] };
            (n, journal.append(&all).await.is_ok())
        }
    });
    let tasks: Vec<_> = calls.map(tokio::spawn).collect();
    for task in tasks {
        let (n, done) = task.await.expect("runs");
        assert_eq!(done, n % 3 != 0);
        let (count, _) = journal.load(&format!("s{n:03}")).await.expect("loads");
        assert_eq!(count, u64::from(n % 3 != 0));
    }
}

#[tokio::test]
async fn jrn_3_whatever_byte_of_the_file_is_flipped_nothing_wrong_is_read() {
    let dir = TempDir::new().expect("a directory");
    let path = file(&dir);
    filled(&path).await;
    let (bytes, right) = (std::fs::read(&path).expect("reads"), everything(&path).await.expect("is whole"));
    let mut seen = 0;
    // Every byte of the entries, and every seventh of all other ones.
    let marker = b"of web, long enough";
    let content: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(marker)).collect();
    assert_eq!(content.len(), 6);
    let near = |at: &usize| content.iter().any(|c| (c.saturating_sub(40)..c + 60).contains(at));
    for at in (0..bytes.len()).filter(|at| near(at) || at % 7 == 0) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x11;
        let copy = dir.path().join(format!("{at}.db"));
        std::fs::write(&copy, damaged).expect("writes");
        match everything(&copy).await {
            Ok(read) => assert_eq!(read, right, "byte {at}"),
            Err(error) => {
                seen += 1;
                let kinds = [ErrorKind::Corrupt, ErrorKind::Conflict, ErrorKind::Unsupported];
                assert!(kinds.contains(&error.kind()), "byte {at}: {error}");
            }
        }
        for suffix in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(dir.path().join(format!("{at}.db{suffix}")));
        }
    }
    assert!(seen > 300, "only {seen} flips were seen");
}

#[tokio::test]
async fn jrn_3_damage_names_subject_and_entry() {
    let hurts = [
        ("UPDATE entry SET bytes = x'00' WHERE subject = 'web' AND number = 2", "2"),
        ("UPDATE entry SET bytes = substr(bytes, 1, 5) WHERE subject = 'web' AND number = 5", "5"),
        ("UPDATE entry SET checksum = zeroblob(16) WHERE subject = 'web' AND number = 0", "0"),
        ("DELETE FROM entry WHERE subject = 'web' AND number = 3", "3"),
        ("DELETE FROM entry WHERE subject = 'web' AND number = 5", "5"),
        ("DELETE FROM entry WHERE subject = 'web'", "0"),
        ("DELETE FROM subject WHERE name = 'web'", "0"),
        ("UPDATE subject SET count = 4 WHERE name = 'web'", "4"),
        ("UPDATE subject SET first = 1 WHERE name = 'web'", "1"),
        ("UPDATE entry SET number = 9 WHERE subject = 'web' AND number = 4", "4"),
        ("UPDATE entry SET number = number + 1 WHERE subject = 'web' AND number = 5", "5"),
        ("UPDATE entry SET subject = 'web', number = 6 WHERE subject = 'db' AND number = 3", "6"),
        (
            "UPDATE entry SET bytes = (SELECT e.bytes FROM entry e WHERE e.subject = 'web' AND e.number = 1),
                checksum = (SELECT e.checksum FROM entry e WHERE e.subject = 'web' AND e.number = 1)
             WHERE subject = 'web' AND number = 4",
            "4",
        ),
    ];
    for (hurt, entry) in hurts {
        let dir = TempDir::new().expect("a directory");
        filled(&file(&dir)).await;
        let changed = Connection::open(file(&dir)).and_then(|c| c.execute(hurt, [])).expect(hurt);
        assert!(changed > 0, "{hurt}");
        let journal = open(&file(&dir)).await;
        let error = journal.load("web").await.expect_err(hurt);
        let (kind, facts) = (error.kind(), (error.fact("subject"), error.fact("entry")));
        assert_eq!((kind, facts), (ErrorKind::Corrupt, (Some("web"), Some(entry))), "{hurt}");
        let db = journal.load("db").await.map(|(count, _)| count);
        assert!(matches!(db, Ok(4)) != hurt.contains("subject = 'db'"), "{hurt}");
    }
}

#[tokio::test]
async fn jrn_4_a_fold_replaces_and_the_count_goes_on() {
    let dir = TempDir::new().expect("a directory");
    let path = file(&dir);
    filled(&path).await;
    let journal = open(&path).await;
    let db = (4, vec![b"abc folded".to_vec(), b"and one more".to_vec()]);
    assert_eq!(journal.load("db").await.expect("loads"), db);
    let stale = journal.fold("db", 3, b"x".to_vec()).await.expect_err("is stale");
    assert_eq!(stale.kind(), ErrorKind::StaleEpoch);
    assert_eq!(journal.load("db").await.expect("loads"), db);
    assert_eq!(journal.fold("new", 0, b"x".to_vec()).await.expect_err("is empty").kind(), ErrorKind::Refused);
    journal.fold("db", 4, b"all".to_vec()).await.expect("folds");
    drop(journal);
    let journal = open(&path).await;
    assert_eq!(journal.load("db").await.expect("loads"), (4, vec![b"all".to_vec()]));
    journal.append(&[append("db", 4, b"next")]).await.expect("appends");
    assert_eq!(journal.load("db").await.expect("loads"), (5, vec![b"all".to_vec(), b"next".to_vec()]));
}

#[tokio::test]
async fn jrn_5_newer_and_foreign_files_are_refused_and_left_as_they_are() {
    let dir = TempDir::new().expect("a directory");
    let path = file(&dir);
    filled(&path).await;
    Connection::open(&path).and_then(|c| c.pragma_update(None, "user_version", 2)).expect("is newer now");
    let before = std::fs::read(&path).expect("reads");
    let newer = SqliteJournal::open(&path).await.expect_err("is newer");
    assert_eq!(newer.kind(), ErrorKind::Unsupported);
    assert_eq!(std::fs::read(&path).expect("reads"), before);

    let other = dir.path().join("other.db");
    Connection::open(&other)
        .and_then(|c| c.execute_batch("CREATE TABLE t (a)"))
        .expect("makes another database");
    let before = std::fs::read(&other).expect("reads");
    assert_eq!(SqliteJournal::open(&other).await.expect_err("is foreign").kind(), ErrorKind::Conflict);
    assert_eq!(std::fs::read(&other).expect("reads"), before);

    let text = dir.path().join("text.db");
    std::fs::write(&text, "no database at all, but long enough to be taken for one".repeat(20))
        .expect("writes");
    assert_eq!(SqliteJournal::open(&text).await.expect_err("is text").kind(), ErrorKind::Corrupt);
    let nowhere = dir.path().join("no/such/directory.db");
    assert_eq!(SqliteJournal::open(&nowhere).await.expect_err("is nowhere").kind(), ErrorKind::NotFound);
}
