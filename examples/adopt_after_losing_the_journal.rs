//! The host of the engine burns down, and its journal with it. A new vault takes the items over from a replica alone; the
//! old engine, should it come back, changes nothing any more.

use site_recovery::state::{Direction, Phase};
use site_recovery::{FailoverRequest, Journal, Result};
use site_recovery_examples::{Stage, protect};
use site_recovery_journal::SqliteJournal;
use std::sync::Arc;

const MIB: u64 = 1 << 20;

#[tokio::main]
async fn main() -> Result<()> {
    let dir = tempfile::tempdir().expect("the system's directory for such can be written");
    let stage = Stage::open(dir.path()).await?;
    stage.add_machine("web", &[("boot", 4 * MIB), ("data", 4 * MIB)]).await?;
    let lost = stage.vault().await?;
    let web = protect(&lost, "web").await?;
    stage.write(&stage.here, "web", "data", 0, "before the fire").await?;
    lost.replicate_now(web.id()).await?;
    let before = web.item()?;

    let journal: Arc<dyn Journal> = Arc::new(SqliteJournal::in_memory().await?);
    let vault = stage.builder(journal).build().await?;
    assert!(vault.items().is_empty(), "a new vault knows nothing");
    let adopted = vault.adopt("out").await?;
    println!("adopted {:?}, {} question(s)", adopted.machines, adopted.questions.len());
    assert_eq!(&adopted.machines, std::slice::from_ref(before.id()));
    assert!(adopted.questions.is_empty(), "{:?}", adopted.questions);
    let again = vault.find("web")?;
    let after = again.item()?;
    assert_eq!(
        (&after.state, &after.policy, &after.machine),
        (&before.state, &before.policy, &before.machine)
    );
    println!(
        "it stands as {}, under epoch {} and not {}",
        after.state, after.epoch.number, before.epoch.number
    );

    // The old engine was not dead, only cut off.
    let late = lost.replicate_now(web.id()).await.expect_err("its authority is over");
    println!("the old engine: {late}");
    assert_eq!(again.points().await?.len(), 2, "it has sealed nothing");

    stage.write(&stage.here, "web", "data", MIB, "after the fire").await?;
    vault.replicate_now(again.id()).await?;
    assert_eq!(again.points().await?.len(), 3);
    let truth = stage.bytes(&stage.here, "web")?;
    again.failover(FailoverRequest::planned(Direction::PrimaryToRecovery)).await?.done().await?;
    assert!(matches!(again.state()?.phase, Phase::FailoverCompleted(_)));
    assert_eq!(stage.bytes(&stage.cloud, "web")?, truth);

    println!(
        "PROVEN: without any journal the item went on and failed over with every byte; the old engine did nothing"
    );
    Ok(())
}
