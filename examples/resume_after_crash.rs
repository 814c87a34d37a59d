//! The engine is killed in the middle of a failover, by SIGKILL, each time a little later. A new one on the same journal
//! goes on or goes back, and the bytes are right in either case.

use rustix::process::{Signal, getpid, kill_process};
use site_recovery::state::{Direction, Kind, Phase};
use site_recovery::{Delivery, Error, ErrorKind, FailoverRequest, NoticeKind, Result};
use site_recovery_examples::{Stage, protect};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use tokio::process::Command;

const MIB: u64 = 1 << 20;
/// How much of a failover the engines live to see.
const STEPS: [usize; 5] = [2, 6, 9, 13, 14];

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [dir, steps] = &arguments[..] {
        return fail_over_and_die(Path::new(dir), steps.parse().expect("a number")).await;
    }
    for steps in STEPS {
        let dir = tempfile::tempdir().expect("the system's directory for such can be written");
        let before = prepare(dir.path()).await?;
        let this = std::env::current_exe().expect("a program knows where it is");
        let child = Command::new(this).arg(dir.path()).arg(steps.to_string()).status().await;
        let status = child.map_err(|e| Error::new(ErrorKind::Unavailable, "no child").caused_by(e))?;
        assert_eq!(status.signal(), Some(9), "the engine was killed, and did not end: {status}");
        go_on(dir.path(), steps, &before).await?;
    }
    println!(
        "PROVEN: killed at {} moments of a failover, one side ran at the end, with every byte",
        STEPS.len()
    );
    Ok(())
}

type Disks = std::collections::BTreeMap<String, Vec<u8>>;

async fn prepare(dir: &Path) -> Result<Disks> {
    let stage = Stage::open(dir).await?;
    stage.add_machine("web", &[("boot", 4 * MIB), ("data", 4 * MIB)]).await?;
    let vault = stage.vault().await?;
    protect(&vault, "web").await?;
    stage.write(&stage.here, "web", "data", 0, "the last word").await?;
    stage.bytes(&stage.here, "web")
}

/// What the child does: it begins a failover, and kills itself when it is told of its `steps`th step.
async fn fail_over_and_die(dir: &Path, steps: usize) -> Result<()> {
    let stage = Stage::open(dir).await?;
    let vault = stage.vault().await?;
    let mut events = vault.events();
    let web = vault.find("web")?;
    let job = web.failover(FailoverRequest::planned(Direction::PrimaryToRecovery)).await?;
    let mut told = 0;
    while told < steps {
        if let Delivery::Notice(notice) = events.next().await
            && let NoticeKind::Job { what, .. } = &notice.kind
        {
            told += 1;
            if told == steps {
                println!("killed at step {told}: {what}");
            }
        }
    }
    kill_process(getpid(), Signal::KILL).expect("a process may kill itself");
    job.done().await.map(drop)
}

async fn go_on(dir: &Path, steps: usize, before: &Disks) -> Result<()> {
    let stage = Stage::open(dir).await?;
    let vault = stage.vault().await?;
    for job in vault.resume().await.into_values() {
        let report = job?.wait().await?;
        println!("  resumed {:?}: {:?}", report.operation, report.outcome);
    }
    let web = vault.find("web")?;
    let phase = web.state()?.phase;
    let (runs, off) = match phase {
        Phase::Protected => (&stage.here, &stage.cloud),
        Phase::FailoverCompleted(Kind::Planned) => (&stage.cloud, &stage.here),
        other => panic!("killed at step {steps}, it stands at {other}"),
    };
    assert_eq!(&stage.bytes(runs, "web")?, before);
    // The one that runs takes a write; the other one cannot be started.
    stage.write(runs, "web", "data", MIB, "and on").await?;
    assert!(off.switch_on("web").await.is_err(), "only one side runs");
    println!("  {phase}, every byte is there");
    Ok(())
}
