//! A drill: the machine is tried out in an isolated network at the other site, while it goes on here.

use site_recovery::{DrillRequest, Result, Source, state::DrillState};
use site_recovery_examples::{Stage, protect};

const MIB: u64 = 1 << 20;

#[tokio::main]
async fn main() -> Result<()> {
    let dir = tempfile::tempdir().expect("the system's directory for such can be written");
    let stage = Stage::open(dir.path()).await?;
    stage.add_machine("web", &[("boot", 8 * MIB), ("data", 4 * MIB)]).await?;
    stage.write(&stage.here, "web", "data", 0, "written before the drill").await?;

    let vault = stage.vault().await?;
    let web = protect(&vault, "web").await?;
    let truth = stage.bytes(&stage.here, "web")?;
    println!("protected: {} point(s) at the other site", web.points().await?.len());

    let report = web.test_failover(DrillRequest::default()).await?.done().await?;
    let booted = report.only()?.booted.clone().expect("a drill boots");
    println!("the drill runs at {}", booted.reach.join(", "));
    assert_eq!(web.state()?.drill, DrillState::WaitingForCompletion);
    assert_eq!(stage.bytes(&stage.cloud, "web-test")?, truth, "the drill has the bytes of the point");

    // Somebody tries the application out, and the machine itself goes on.
    stage.write(&stage.cloud, "web-test", "data", 0, "scribbled during the drill").await?;
    stage.write(&stage.here, "web", "data", MIB, "written during the drill").await?;
    vault.replicate_now(web.id()).await?;
    println!("replication goes on: {} points", web.points().await?.len());

    let truth = stage.bytes(&stage.here, "web")?;
    assert!(truth["data"].starts_with(b"written before the drill"), "nothing of the drill is here");
    web.clean_up_test().await?.done().await?;
    assert_eq!(web.state()?.drill, DrillState::None);
    assert!(stage.cloud.discover().await?.is_empty(), "the drill is gone");
    assert_eq!(stage.bytes(&stage.here, "web")?, truth);

    println!(
        "PROVEN: the drill had the point's bytes, changed none here, cost no cycle, and left nothing behind"
    );
    Ok(())
}
