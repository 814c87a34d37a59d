//! An engine that starts over a journal of many units.

use site_recovery::{Append, ErrorKind, Journal, Result};
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
