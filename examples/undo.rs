//! A failover that turns out to be a bad idea is undone before commit: the machine runs here again as it was, replication
//! goes on by delta, and what was written there can still be opened.

use site_recovery::state::{Direction, Phase};
use site_recovery::{FailoverRequest, Result, UndoRequest};
use site_recovery_examples::{Stage, protect};

const MIB: u64 = 1 << 20;

#[tokio::main]
async fn main() -> Result<()> {
    let dir = tempfile::tempdir().expect("the system's directory for such can be written");
    let stage = Stage::open(dir.path()).await?;
    stage.add_machine("web", &[("boot", 4 * MIB), ("data", 4 * MIB)]).await?;
    let vault = stage.vault().await?;
    let web = protect(&vault, "web").await?;
    stage.write(&stage.here, "web", "data", 0, "written here").await?;
    let before = stage.bytes(&stage.here, "web")?;

    web.failover(FailoverRequest::planned(Direction::PrimaryToRecovery)).await?.done().await?;
    println!("it runs in the cloud: {}", web.state()?);
    assert_eq!(stage.bytes(&stage.cloud, "web")?, before, "a planned failover loses nothing");
    stage.write(&stage.cloud, "web", "data", 0, "written there").await?;
    let there = stage.bytes(&stage.cloud, "web")?;

    let report = web.undo(UndoRequest::default()).await?.done().await?;
    for note in &report.only()?.notes {
        println!("note: {note}");
    }
    println!("it runs here again: {}", web.state()?);
    assert_eq!(web.state()?.phase, Phase::Protected);
    assert_eq!(stage.bytes(&stage.here, "web")?, before, "as it was when it was stopped");
    let kept = web.item()?.kept.first().cloned().expect("the cloud machine is kept");
    println!("what was written there is kept as {}", kept.name);
    assert_eq!(stage.bytes(&stage.cloud, &kept.name)?, there);
    assert!(stage.cloud.switch_on(&kept.name).await.is_err(), "and cannot be started by mistake");

    let points = web.points().await?.len();
    stage.write(&stage.here, "web", "data", MIB, "written after the undo").await?;
    let mut events = vault.events();
    vault.replicate_now(web.id()).await?;
    assert_eq!(web.points().await?.len(), points + 1);
    let mut changed = None;
    while let Some(site_recovery::Delivery::Notice(notice)) = events.try_next() {
        if let site_recovery::NoticeKind::Sealed { changed: bytes, .. } = &notice.kind {
            changed = Some(*bytes);
        }
    }
    let changed = changed.expect("a point was sealed");
    println!("replication goes on: {changed} bytes changed");
    assert!(changed < MIB, "a delta, not everything");

    println!(
        "PROVEN: after undo the bytes here are as before, those from there are kept, and a delta goes on"
    );
    Ok(())
}
