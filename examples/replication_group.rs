//! A web machine and its database, as one group: a point is one instant of both, so that no order is on the one that the
//! other has never heard of.

use site_recovery::state::Direction;
use site_recovery::{FailoverRequest, Force, PointChoice, Policy, ProtectRequest, Result};
use site_recovery_examples::Stage;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const MIB: u64 = 1 << 20;

#[tokio::main]
async fn main() -> Result<()> {
    let dir = tempfile::tempdir().expect("the system's directory for such can be written");
    let stage = Stage::open(dir.path()).await?;
    for name in ["web", "db"] {
        stage.add_machine(name, &[("boot", 4 * MIB), ("data", 2 * MIB)]).await?;
    }
    let vault = stage.vault().await?;
    let request =
        ProtectRequest::group("shop", &["web", "db"]).policy(Policy::every(Duration::from_secs(60)));
    let shop = vault.protect_group(request).await?;
    for item in shop.items() {
        item.until_done().await?;
    }

    // Each order goes to the database first, and then to the web machine, while points are sealed.
    let stop = AtomicBool::new(false);
    let orders = async {
        let mut order = 0_u64;
        while !stop.load(Ordering::SeqCst) {
            order += 1;
            for machine in ["db", "web"] {
                stage.write(&stage.here, machine, "data", 0, &format!("{order:8}")).await?;
            }
        }
        Ok(order)
    };
    let first = shop.items().into_iter().next().expect("a group has members");
    let cycles = async {
        for _ in 0..3 {
            vault.replicate_now(first.id()).await?;
        }
        stop.store(true, Ordering::SeqCst);
        Ok::<(), site_recovery::Error>(())
    };
    let (taken, ()) = tokio::try_join!(orders, cycles)?;

    let members = shop.items();
    let (a, b) = (members[0].points().await?, members[1].points().await?);
    let cuts: Vec<_> = a.iter().map(|point| &point.cut).collect();
    assert_eq!(cuts, b.iter().map(|point| &point.cut).collect::<Vec<_>>(), "each cut is a point of both");
    println!("{} common points, {taken} orders taken", cuts.len());

    let force = Force::by("ana", "the building is evacuated");
    let request = FailoverRequest::unplanned(Direction::PrimaryToRecovery, force);
    let report = shop.failover(request.to(PointChoice::LatestProcessed)).await?.done().await?;
    assert_eq!(report.members.len(), 2);
    let order = |machine: &str| -> Result<u64> {
        let disk = &stage.bytes(&stage.cloud, machine)?["data"];
        Ok(String::from_utf8_lossy(&disk[..8]).trim().parse().expect("an order"))
    };
    let (db, web) = (order("db")?, order("web")?);
    println!("in the cloud the database has order {db}, the web machine order {web}");
    assert!(
        db == web || db == web + 1,
        "one instant: the web machine is never ahead, and at most one behind"
    );
    assert!(web > 0 && db <= taken);

    println!("PROVEN: both machines failed over to one instant of the group");
    Ok(())
}
