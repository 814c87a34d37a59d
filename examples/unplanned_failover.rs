//! The site seems to be gone, and is not: an unplanned failover that nobody can prove safe, answered for by name. The old
//! machine runs on, unknown to us, is fenced when it is seen, and its bytes are kept when it is named as the loser.

use site_recovery::state::{Direction, Divergence, Phase};
use site_recovery::{
    CommitRequest, Cutover, FailoverRequest, Force, OnUnfenced, PointChoice, Pool, Replica, ReprotectRequest,
    Result, Run, Shutdown,
};
use site_recovery_examples::{Stage, protect};

const MIB: u64 = 1 << 20;

#[tokio::main]
async fn main() -> Result<()> {
    let dir = tempfile::tempdir().expect("the system's directory for such can be written");
    let stage = Stage::open(dir.path()).await?;
    stage.add_machine("web", &[("boot", 4 * MIB), ("data", 4 * MIB)]).await?;
    let vault = stage.vault().await?;
    let web = protect(&vault, "web").await?;
    stage.write(&stage.here, "web", "data", 0, "order 1").await?;
    vault.replicate_now(web.id()).await?;
    let replicated = stage.bytes(&stage.here, "web")?;
    stage.write(&stage.here, "web", "data", MIB, "order 2").await?;

    let loss = web.loss_of(PointChoice::LatestProcessed).await?;
    println!("told before the go: at most the writes of {:?} are lost", loss.at_most);
    let force = Force::by("ana", "smoke in the machine room, nobody answers");
    let cutover =
        Cutover::Unplanned { shutdown: Shutdown::Skip, on_unfenced: OnUnfenced::Continue(force.clone()) };
    let request =
        FailoverRequest { cutover, ..FailoverRequest::unplanned(Direction::PrimaryToRecovery, force) };
    let report = web.failover(request.to(PointChoice::LatestProcessed)).await?.done().await?;
    let told = report.only()?.loss.clone().expect("a failover tells what is lost");
    println!("it runs in the cloud; at most {:?} are lost ({:?})", told.at_most, told.basis);
    assert!(told.at_most >= loss.at_most, "what is told after the act covers what was told before");
    assert_eq!(stage.bytes(&stage.cloud, "web")?, replicated, "order 1 is there, order 2 is not");
    assert_eq!(web.state()?.divergence, Divergence::Possible);

    // Here it ran on all the time, and took another order.
    stage.write(&stage.here, "web", "data", 2 * MIB, "order 3").await?;
    let left_behind = stage.bytes(&stage.here, "web")?;
    stage.write(&stage.cloud, "web", "data", MIB, "order 4").await?;

    vault.watch_now().await?;
    assert!(stage.here.switch_on("web").await.is_err(), "it is fenced: nobody starts it by mistake");
    println!("here it answers again, and is fenced: {:?}", web.state()?.divergence);

    web.commit(CommitRequest::default()).await?.done().await?;
    let unnamed = match web.reprotect(ReprotectRequest::default()).await {
        Ok(job) => job.done().await.err(),
        Err(refusal) => Some(refusal),
    };
    println!("reprotect: {}", unnamed.expect("nothing is overwritten before a loser is named"));
    let named = ReprotectRequest { other_side_loses: true, ..ReprotectRequest::default() };
    web.reprotect(named).await?.done().await?;
    assert_eq!((web.state()?.phase, web.state()?.divergence), (Phase::Protected, Divergence::None));

    let points = web.points().await?;
    let loser = points.iter().find(|point| point.pins.iter().any(|pin| pin == "losing side"));
    let kept = stage.master_target.open(web.id(), loser.expect("its bytes are pinned").id).await?;
    let pool = Pool::new(16 * MIB as usize);
    for (id, disk) in &kept {
        let bytes = disk.read(Run::new(0, disk.size()), &pool).await?;
        assert_eq!(bytes, left_behind[id.as_str()], "orders 2 and 3 can be read on disk {id}");
    }
    println!(
        "PROVEN: order 1 survived, the loss was told, two sides never counted at once, and the loser's bytes are kept"
    );
    Ok(())
}
