//! C3: every transition leaves a record; a record that was tampered with is named; the records alone give the item.

use async_trait::async_trait;
use site_recovery::state::Direction::{PrimaryToRecovery as OUT, RecoveryToPrimary as BACK};
use site_recovery::{
    Append, CommitRequest, DrillRequest, Epoch, ErrorKind, FailoverRequest, Force, Item, ItemHandle, Journal,
    PointChoice, Policy, ReprotectRequest, Result, Role, Settings, UndoRequest, Unit, Vault, apply,
};
use site_recovery_testkit::engine::MemoryEngine;
use site_recovery_testkit::journal::MemoryJournal;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A journal in which somebody, who may write there, has put another trail: no checksum of its own tells.
#[derive(Debug, Clone)]
struct Tampered {
    journal: MemoryJournal,
    trail: Arc<Mutex<Vec<Vec<u8>>>>,
}

#[async_trait]
impl Journal for Tampered {
    async fn subjects(&self) -> Result<Vec<String>> {
        self.journal.subjects().await
    }

    async fn load(&self, subject: &str) -> Result<(u64, Vec<Vec<u8>>)> {
        if subject.starts_with("audit/") {
            let trail = self.trail.lock().expect("no panic under this lock").clone();
            return Ok((trail.len() as u64, trail));
        }
        self.journal.load(subject).await
    }

    async fn append(&self, all: &[Append]) -> Result<()> {
        self.journal.append(all).await
    }

    async fn fold(&self, subject: &str, expect: u64, snapshot: Vec<u8>) -> Result<()> {
        self.journal.fold(subject, expect, snapshot).await
    }
}

/// A vault that reads a trail of which the test can change every byte.
struct Court {
    vault: Vault,
    web: ItemHandle,
    journal: Tampered,
    truth: Vec<Vec<u8>>,
}

impl Court {
    async fn over(engine: &MemoryEngine, web: &ItemHandle) -> Result<Self> {
        let (_, truth) = engine.journal.load(&format!("audit/{}", web.unit())).await?;
        let journal =
            Tampered { journal: engine.journal.clone(), trail: Arc::new(Mutex::new(truth.clone())) };
        let vault = MemoryEngine::builder(&engine.pair, Arc::new(journal.clone())).build().await?;
        Ok(Self { vault, web: web.clone(), journal, truth })
    }

    /// What the audit says of this trail; it has to name `record`.
    async fn must_find(&self, trail: Vec<Vec<u8>>, record: usize, what: &str) {
        *self.journal.trail.lock().expect("no panic under this lock") = trail;
        match self.vault.audit(self.web.unit()).await {
            Ok(_) => panic!("{what}: not found"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corrupt, "{what}: {error}");
                let named = error.to_string().contains(&format!("audit record {record} "));
                assert!(named, "{what}: another record is named than {record}: {error}");
            }
        }
    }
}

#[tokio::test]
async fn c3_every_flipped_bit_of_a_trail_is_found() -> Result<()> {
    let (engine, web) = MemoryEngine::protecting("web").await?;
    web.set_settings(Settings { name: Some("web-dr".into()), ..Settings::default() }).await?;
    let court = Court::over(&engine, &web).await?;
    assert!(court.truth.len() > 3, "a real trail");
    for (number, record) in court.truth.iter().enumerate() {
        for bit in 0..record.len() * 8 {
            let mut trail = court.truth.clone();
            trail[number][bit / 8] ^= 1 << (bit % 8);
            court.must_find(trail, number, &format!("bit {bit} of record {number}")).await;
        }
    }
    Ok(())
}

#[tokio::test]
async fn c3_a_bit_of_every_byte_of_a_long_trail_is_found() -> Result<()> {
    let (engine, web) = MemoryEngine::protecting("web").await?;
    live(&engine, &web).await?;
    let court = Court::over(&engine, &web).await?;
    for (number, record) in court.truth.iter().enumerate() {
        for byte in (number % 7..record.len()).step_by(7) {
            let mut trail = court.truth.clone();
            trail[number][byte] ^= 1 << ((byte / 7) % 8);
            court.must_find(trail, number, &format!("byte {byte} of record {number}")).await;
        }
    }
    Ok(())
}

#[tokio::test]
async fn c3_records_that_are_removed_added_or_moved_are_found() -> Result<()> {
    let (engine, web) = MemoryEngine::protecting("web").await?;
    web.failover(FailoverRequest::planned(OUT)).await?.done().await?;
    let court = Court::over(&engine, &web).await?;
    for at in 0..court.truth.len() - 1 {
        let (mut removed, mut twice, mut moved) =
            (court.truth.clone(), court.truth.clone(), court.truth.clone());
        removed.remove(at);
        court.must_find(removed, at, &format!("record {at} removed")).await;
        twice.insert(at, court.truth[at].clone());
        court.must_find(twice, at + 1, &format!("record {at} twice")).await;
        moved.swap(at, at + 1);
        court.must_find(moved, at, &format!("records {at} and {} exchanged", at + 1)).await;
    }
    Ok(())
}

#[tokio::test]
async fn c3_the_trail_gives_exactly_the_journalled_item() -> Result<()> {
    let (engine, web) = MemoryEngine::protecting("web").await?;
    let first = first(&engine, &web)?;
    live(&engine, &web).await?;
    let journalled = journalled(&engine, &web).await?;
    let mut replayed = first;
    for record in engine.vault.audit(web.unit()).await? {
        replayed = apply(&replayed, &record.event)?;
        assert_eq!(
            record.epoch, replayed.epoch,
            "record {}: not the authority that it was made under",
            record.number
        );
    }
    assert_eq!(replayed, journalled);
    assert_eq!(web.item()?, journalled);
    assert!(journalled.revision > 40, "much has happened: {}", journalled.revision);
    Ok(())
}

/// The item before the first record: the machine as it was taken into care, under the engine's first authority.
fn first(engine: &MemoryEngine, web: &ItemHandle) -> Result<Item> {
    let epoch = Epoch { number: 1, owner: engine.vault.engine_id().clone() };
    let policy = Policy::every(Duration::from_secs(300));
    let mut item = Item::new(web.item()?.machine, epoch, policy, "out", "back");
    item.settings.insert(engine.pair.cloud.name(), Settings::default());
    Ok(item)
}

async fn journalled(engine: &MemoryEngine, web: &ItemHandle) -> Result<Item> {
    let subject = format!("unit/{}", web.unit());
    let (_, entries) = engine.journal.load(&subject).await?;
    let unit = Unit::from_bytes(&subject, entries.last().expect("it is protected"))?;
    Ok(unit.item(web.id()).expect("it is the only one").clone())
}

/// A life: settings, a drill, a refused boot, another point, an undo, the whole circle, a dead site.
async fn live(engine: &MemoryEngine, web: &ItemHandle) -> Result<()> {
    let (here, cloud, vault) = (&engine.pair.here, &engine.pair.cloud, &engine.vault);
    web.set_settings(Settings { name: Some("web-dr".into()), ..Settings::default() }).await?;
    web.set_policy(Policy::every(Duration::from_secs(600))).await?;
    for _ in 0..3 {
        here.scribble("web", 2);
        vault.replicate_now(web.id()).await?;
    }
    web.test_failover(DrillRequest::default()).await?.done().await?;
    web.clean_up_test().await?.done().await?;
    cloud.refuse_boot("quota");
    web.failover(FailoverRequest::planned(OUT)).await?.done().await.expect_err("refused");
    cloud.allow_boot();
    let fire = Force::by("ana", "the site is on fire");
    web.failover(FailoverRequest::unplanned(OUT, fire.clone())).await?.done().await?;
    let earlier = web.points().await?[1].id;
    web.change_point(PointChoice::Custom(earlier)).await?.done().await?;
    web.undo(UndoRequest::default()).await?.done().await?;
    web.failover(FailoverRequest::planned(OUT)).await?.done().await?;
    web.commit(CommitRequest::default()).await?.done().await?;
    web.reprotect(ReprotectRequest::default()).await?.done().await?;
    web.failover(FailoverRequest::planned(BACK)).await?.done().await?;
    web.commit(CommitRequest::default()).await?.done().await?;
    web.reprotect(ReprotectRequest::default()).await?.done().await?;
    here.set_down(true);
    web.failover(FailoverRequest::unplanned(OUT, fire)).await?.done().await?;
    here.set_down(false);
    vault.watch_now().await
}
