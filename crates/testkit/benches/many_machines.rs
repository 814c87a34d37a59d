//! One engine with ten thousand protected machines: what each costs in memory, what a listing of all of them costs, and
//! what a look for due work costs when nothing is due.
//!
//! `cargo bench -p site-recovery-testkit --bench many_machines [-- MACHINES]`
#![allow(clippy::disallowed_methods, reason = "a benchmark measures time by the machine's clock")]

use site_recovery::{Append, Clock, DrillRequest, Journal, MachineId, Result, Unit, Vault};
use site_recovery_testkit::engine::MemoryEngine;
use site_recovery_testkit::journal::MemoryJournal;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let machines = std::env::args().skip(1).find_map(|a| a.parse().ok()).unwrap_or(10_000);
    println!("{machines} machines of two disks in one engine");
    measure("just protected", machines, 0).await?;
    measure("16 finished jobs remembered", machines, 8).await
}

/// A real unit, taken from the journal of an engine that protected it and drilled it `drills` times, many times over.
async fn measure(what: &str, machines: usize, drills: usize) -> Result<()> {
    let (engine, web) = MemoryEngine::protecting("web").await?;
    for _ in 0..drills {
        web.test_failover(DrillRequest::default()).await?.done().await?;
        web.clean_up_test().await?.done().await?;
    }
    let subject = format!("unit/{}", web.unit());
    let (_, entries) = engine.journal.load(&subject).await?;
    let unit = String::from_utf8(entries.last().expect("it is protected").clone()).expect("JSON is text");
    let (journal, mut all) = (MemoryJournal::new(), vec![]);
    for number in 0..machines {
        let id = format!("{}-{number:05}", web.unit());
        let entry = unit.replace(web.unit().as_str(), &id).into_bytes();
        Unit::from_bytes(&id, &entry)?;
        all.push(Append { subject: format!("unit/{id}"), expect: 0, entry });
    }
    println!("\n{what}: {} bytes of journal each", all[0].entry.len());
    journal.append(&all).await?;
    drop(all);

    let before = resident();
    let (vault, took) = timed(MemoryEngine::builder(&engine.pair, Arc::new(journal)).build()).await;
    let vault = vault?;
    let grown = resident().saturating_sub(before);
    println!("  memory            {:>8} bytes a machine ({} MiB in all)", grown / machines, grown >> 20);
    println!("  start             {took:>10.1?} to read the journal");

    let handles = vault.items();
    best("items", || vault.items().len());
    best("items, summaries", || vault.items().iter().filter(|i| i.summary().is_ok()).count());
    let one = handles[machines / 2].id().clone();
    best("item by id", || vault.item(&one).is_ok());

    // A cycle that fails at its source leaves behind what any cycle does: when it was tried last.
    let ids: Vec<MachineId> = handles.iter().map(|i| i.id().clone()).collect();
    for id in &ids {
        let _ = vault.replicate_now(id).await;
    }
    let now = engine.pair.world.clock().now();
    assert_eq!(vault.tick(now, false), 0, "nothing is due");
    best("tick, nothing due", || vault.tick(now, false));
    best("summaries again", || handles.iter().filter(|i| i.summary().is_ok()).count());
    let (watched, took) = timed(Vault::watch_now(&vault)).await;
    watched?;
    println!("  watch of all      {took:>10.1?}");
    Ok(())
}

/// The best of ten rounds.
fn best<T>(what: &str, mut round: impl FnMut() -> T) {
    let once = |_| {
        let start = Instant::now();
        black_box(round());
        start.elapsed()
    };
    let best = (0..10).map(once).min().unwrap_or(Duration::ZERO);
    println!("  {what:<17} {best:>10.1?}");
}

async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let start = Instant::now();
    let done = work.await;
    (done, start.elapsed())
}

/// Bytes of this process in memory.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").expect("this is Linux");
    let pages: usize =
        text.split(' ').nth(1).and_then(|n| n.parse().ok()).expect("statm has a second number");
    pages * 4096
}
