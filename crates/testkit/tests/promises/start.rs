//! An engine that starts over a journal of many units.

use async_trait::async_trait;
use site_recovery::{Append, ErrorKind, Journal, LastEntry, Result};
use site_recovery_testkit::engine::MemoryEngine;
use site_recovery_testkit::journal::MemoryJournal;
use std::collections::BTreeSet;
use std::sync::Arc;

/// More than are asked of the journal at once, and no multiple of that.
const UNITS: usize = 1_203;

#[tokio::test]
async fn o1_all_of_many_units_are_there_after_a_start_anew() -> Result<()> {
    let (engine, web) = MemoryEngine::protecting("web").await?;
    let (journal, names) = many(&engine, web.unit().as_str()).await?;
    let vault = MemoryEngine::builder(&engine.pair, Arc::new(journal)).build().await?;
    let found: BTreeSet<String> = vault.items().iter().map(|item| item.unit().to_string()).collect();
    assert_eq!(found, names);
    for item in vault.items() {
        assert_eq!(item.state()?, web.state()?, "{}", item.id());
    }
    Ok(())
}

/// Whichever of them it is: what cannot be read is named, and no engine starts without it.
#[tokio::test]
async fn a_unit_that_cannot_be_read_is_named() -> Result<()> {
    for damaged in [0, UNITS / 2, UNITS - 1] {
        let (engine, web) = MemoryEngine::protecting("web").await?;
        let (journal, names) = many(&engine, web.unit().as_str()).await?;
        let subject = format!("unit/{}", names.iter().nth(damaged).expect("as many as that"));
        journal.append(&[Append { subject: subject.clone(), expect: 1, entry: b"{}".to_vec() }]).await?;
        let built = MemoryEngine::builder(&engine.pair, Arc::new(journal)).build().await;
        let error = built.expect_err("a unit is missing");
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains(&subject), "{error}");
    }
    Ok(())
}

/// A journal that breaks its contract is refused, and not asked for ever.
#[tokio::test]
async fn a_journal_that_tells_the_same_again_is_refused() -> Result<()> {
    let (engine, web) = MemoryEngine::protecting("web").await?;
    let (journal, _) = many(&engine, web.unit().as_str()).await?;
    let built = MemoryEngine::builder(&engine.pair, Arc::new(Again(journal))).build().await;
    let error = built.expect_err("it has no end");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("JRN-6"), "{error}");
    Ok(())
}

/// Always tells its first page.
#[derive(Debug)]
struct Again(MemoryJournal);

#[async_trait]
impl Journal for Again {
    async fn subjects(&self) -> Result<Vec<String>> {
        self.0.subjects().await
    }

    async fn load(&self, subject: &str) -> Result<(u64, Vec<Vec<u8>>)> {
        self.0.load(subject).await
    }

    async fn last_entries(&self, prefix: &str, _after: &str, most: usize) -> Result<Vec<LastEntry>> {
        self.0.last_entries(prefix, "", most).await
    }

    async fn append(&self, all: &[Append]) -> Result<()> {
        self.0.append(all).await
    }

    async fn fold(&self, subject: &str, expect: u64, snapshot: Vec<u8>) -> Result<()> {
        self.0.fold(subject, expect, snapshot).await
    }
}

/// The unit, under many names.
async fn many(engine: &MemoryEngine, unit: &str) -> Result<(MemoryJournal, BTreeSet<String>)> {
    let (_, entries) = engine.journal.load(&format!("unit/{unit}")).await?;
    let last = String::from_utf8(entries.last().expect("it is protected").clone()).expect("JSON is text");
    let names: BTreeSet<String> = (0..UNITS).map(|number| format!("{unit}-{number:05}")).collect();
    let journal = MemoryJournal::new();
    for name in &names {
        let entry = last.replace(unit, name).into_bytes();
        journal.append(&[Append { subject: format!("unit/{name}"), expect: 0, entry }]).await?;
    }
    Ok((journal, names))
}
