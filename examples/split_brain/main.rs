//! Split brain, on purpose: the cable to the site is cut while its guest writes, somebody fails over by force, and then
//! both sides write. When the cable is whole again, the old side is fenced, what differs is listed, both sides' bytes are
//! openable as points, and an operator says who loses; the loser's bytes can still be brought back.
//!
//! ```text
//! cargo run --release --example split_brain --features qemu
//! ```
//! Needs what `live_failover` needs. The cable is the one part that is played: see `cable.rs`.

mod cable;

use cable::Cable;
use site_recovery::state::{Direction, Divergence};
use site_recovery::{
    Cutover, FailoverRequest, Force, ItemHandle, LOSING_SIDE, Leg, OnUnfenced, PointChoice, PointId, Policy,
    ProtectRequest, Replica, ReprotectRequest, Result, Shutdown, Vault,
};
use site_recovery_examples::live::{
    Emulator, GuestOptions, LiveStage, copy_out, inspect, is_here, missing, prove,
};
use site_recovery_guest::Inspected;
use site_recovery_journal::SqliteJournal;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const NAME: &str = "web";
const SOME: u64 = 40;

#[tokio::main]
async fn main() -> Result<()> {
    if !is_here("split_brain", &Emulator::default()) {
        return Ok(());
    }
    let work = tempfile::Builder::new().prefix("split-").tempdir().expect("a directory for work can be made");
    let stage = LiveStage::open(work.path(), &Emulator::default()).await?;
    let cable = Arc::new(Cable::to(stage.here.clone()));
    let journal = SqliteJournal::open(work.path().join("journal.db")).await?;
    let cloud = Arc::new(stage.cloud.clone());
    let vault = Vault::builder()
        .out(Leg::out(
            Arc::clone(&cable) as _,
            stage.process_server.clone(),
            stage.points.clone(),
            cloud.clone(),
        ))
        .back(Leg::back(cloud, stage.process_server.clone(), stage.master_target.clone()))
        .journal(Arc::new(journal))
        .build()
        .await?;
    let options = GuestOptions { words: "delay=20".into(), ..GuestOptions::default() };
    let a = stage.add_guest(NAME, &options).await?;
    a.writes(SOME).await?;
    let policy = Policy::every(Duration::from_secs(300));
    let web =
        vault.protect(ProtectRequest::machine(NAME).policy(policy).settings(stage.settings(NAME))).await?;
    web.until_done().await?;
    let point = web.points().await?.pop().ok_or_else(|| missing("no point"))?;
    let common = look(stage.points.as_ref(), &web, point.id, work.path()).await?.records.len() as u64;
    println!("protected; the newest point has {common} records");

    cable.cut();
    println!(
        "\nThe cable is cut while the guest writes. Nobody can tell whether it still does; somebody answers for that"
    );
    let force = Force::by("the example", "the site does not answer, and the service has to go on");
    let cutover = Cutover::Unplanned {
        shutdown: Shutdown::Try { limit: Duration::from_secs(5) },
        on_unfenced: OnUnfenced::Continue(force),
    };
    let request = FailoverRequest { cutover, ..FailoverRequest::planned(Direction::PrimaryToRecovery) };
    web.failover(request).await?.done().await?;
    let b = stage.guest_of(web.item()?.active());
    b.resumed().await?;
    web.commit(Default::default()).await?.done().await?;
    let (before_a, before_b) = (a.acknowledged(), b.acknowledged());
    let (now_a, now_b) = (a.writes(SOME).await?, b.writes(SOME).await?);
    println!("both sides write: here {before_a} -> {now_a} records, there {before_b} -> {now_b}");
    prove(
        web.state()?.divergence == Divergence::Possible,
        "the engine says so: the sides may have diverged",
    )?;

    cable.mend();
    println!("\nThe cable is whole again");
    vault.watch_now().await?;
    stage.until_off(&stage.here, NAME).await?;
    let last_a = a.acknowledged();
    prove(
        stage.here.power_on(NAME).await.is_err(),
        format!("the old side is fenced after {last_a} records, and stays off"),
    )?;
    let refused = web.reprotect(ReprotectRequest::default()).await?.done().await;
    prove(refused.is_err(), "nothing is thrown away: without a word of the operator nothing goes on")?;

    println!("\nThe operator decides: the side that was here loses");
    b.writes(SOME).await?;
    let request = ReprotectRequest { other_side_loses: true, ..ReprotectRequest::default() };
    web.reprotect(request).await?.done().await?;
    let points = web.points().await?;
    let loser = points.iter().find(|p| p.pins.iter().any(|pin| pin == LOSING_SIDE));
    let loser = loser.ok_or_else(|| missing("no point of the losing side"))?.id;
    let winner = points.last().ok_or_else(|| missing("no point"))?.id;
    let differs = stage.master_target.changed(web.id(), Some(loser), winner).await?;
    let differs = differs.ok_or_else(|| missing("what differs is not known"))?;
    println!("what differs, block by block:");
    for (disk, runs) in differs.disks() {
        let first: Vec<String> = runs.iter().take(4).map(|r| format!("{}+{}", r.start, r.len)).collect();
        println!("    disk {disk}: {} runs, {} bytes: {} ...", runs.len(), differs.bytes(), first.join(" "));
    }
    prove(!differs.is_empty(), "the diverged blocks are listed")?;
    let lost = look(stage.master_target.as_ref(), &web, loser, work.path()).await?;
    let won = look(stage.master_target.as_ref(), &web, winner, work.path()).await?;
    let ours = |found: &Inspected, site| found.records[common as usize..].iter().all(|r| r.site == site);
    prove(
        lost.records.len() as u64 >= last_a && ours(&lost, 'A'),
        format!("the loser's bytes are point {}: all {last_a} records that it acknowledged", loser.0),
    )?;
    prove(
        won.records.len() as u64 > common && ours(&won, 'B'),
        format!("the winner's are point {}: {} records", winner.0, won.records.len()),
    )?;

    println!("\nThe loser can be brought back");
    let again = stage.guest("here", NAME).from_here();
    let request =
        FailoverRequest::unplanned(Direction::RecoveryToPrimary, Force::by("the example", "to show it"));
    web.failover(request.to(PointChoice::Custom(loser))).await?.done().await?;
    let resumed = again.resumed().await?;
    prove(resumed >= last_a, format!("the guest is here again with the {resumed} records of the losing side"))
}

/// What a point holds.
async fn look(replica: &dyn Replica, web: &ItemHandle, point: PointId, work: &Path) -> Result<Inspected> {
    let disks = replica.open(web.id(), point).await?;
    let disk = disks.values().next().ok_or_else(|| missing("no disk"))?;
    let copy = work.join("point.raw");
    copy_out(disk, &copy).await?;
    inspect(&copy).await
}
