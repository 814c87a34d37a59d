//! Boot proofs of a guest that lives. The newest point boots in isolation, its guest says how many records it found, and the
//! proof is good. Then the boot sector is overwritten at the source, where nobody notices: the guest goes on and writes, and
//! cycles seal. The next proof is a Critical finding, names the last point that boots, and a failover goes there.
//!
//! ```text
//! cargo run --release --example verify --features qemu
//! ```
//! Needs what `live_failover` needs.

use async_trait::async_trait;
use serde_json::json;
use site_recovery::state::Direction;
use site_recovery::{
    Booted, Clock, FailoverRequest, Finding, Force, ItemHandle, PointChoice, Policy, Probed, ProtectRequest,
    Purpose, Recovery, Result, Severity, SystemClock, Validation, Verdict,
};
use site_recovery_examples::live::{Emulator, Guest, GuestOptions, LiveStage, is_here, missing, prove};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const NAME: &str = "web";
const SOME: u64 = 40;

#[tokio::main]
async fn main() -> Result<()> {
    if !is_here("verify", &Emulator::default()) {
        return Ok(());
    }
    let work =
        tempfile::Builder::new().prefix("verify-").tempdir().expect("a directory for work can be made");
    let stage = LiveStage::open(work.path(), &Emulator::default()).await?;
    let options = GuestOptions { words: "delay=20".into(), ..GuestOptions::default() };
    let a = stage.add_guest(NAME, &options).await?;
    a.writes(SOME).await?;
    let records = Records { source: a.clone(), patience: Mutex::new(Duration::from_secs(240)) };
    let vault = stage.builder().await?.validation(Arc::new(records)).build().await?;
    // By `Vault::run`, once a day; what follows asks for it.
    let policy = Policy::every(Duration::from_secs(300)).verify_every(Duration::from_secs(86_400));
    let request = ProtectRequest::machine(NAME).policy(policy).settings(stage.settings(NAME));
    let web = vault.protect(request).await?;
    web.until_done().await?;
    let good = newest(&web).await?;
    println!("protected: point {good} is sealed\n\nThe first proof");

    let meanwhile = a.acknowledged();
    let report = web.verify().await?.done().await?;
    let proof = report.only()?.proof.as_ref().ok_or_else(|| missing("no verdict"))?;
    prove(proof.is_good(), format!("point {good} boots: its guest was up after {:?}", proof.boot))?;
    println!("    a failover to it would have lost {:?} at most when it began", proof.loss.at_most);
    println!("    {:?} records lacked; {}", proof.lost_records.unwrap_or_default(), proof.notes.join("; "));
    prove(a.acknowledged() > meanwhile, "the machine itself wrote on meanwhile")?;
    let point = web.points().await?.pop().ok_or_else(|| missing("no point"))?;
    prove(point.boots() && finding(&web)?.is_none(), "the point carries it, and health has nothing to say")?;
    nothing_is_left(&stage, work.path())?;

    println!("\nThe boot sector is overwritten at the source; the guest has long booted, and goes on");
    let line = r#"qemu-io -d /machine/peripheral/v0/virtio-backend "write -q -P 0 0 512""#;
    let said = stage.machines.ask("here", NAME, "human-monitor-command", json!({ "command-line": line }))?;
    prove(said == "", "it was written")?;
    a.writes(SOME).await?;
    vault.replicate_now(web.id()).await?;
    let bad = newest(&web).await?;
    prove(bad > good, format!("point {bad} is sealed as if nothing had been"))?;

    println!("\nThe second proof");
    let report = web.verify().await?.done().await?;
    let proof = report.only()?.proof.as_ref().ok_or_else(|| missing("no verdict"))?;
    prove(!proof.is_good(), format!("point {bad} does not boot: {:?}", proof.verdict))?;
    let told = finding(&web)?.ok_or_else(|| missing("health says nothing"))?;
    println!("    {}; {}", told.cause, told.remedy);
    prove(told.severity == Severity::Critical, "health says so, and it is critical")?;
    let named = told.cause.contains(&format!("proven to boot is {good}, taken"));
    prove(named, format!("it names point {good}, the last that boots"))?;
    nothing_is_left(&stage, work.path())?;

    println!("\nFail over to the last point that boots");
    let force = Force::by("the example", "the machine here does not survive its next start");
    let request = FailoverRequest::unplanned(Direction::PrimaryToRecovery, force);
    let report = web.failover(request.to(PointChoice::LatestProven)).await?.done().await?;
    prove(report.only()?.point == Some(good), format!("it runs from point {good}"))?;
    let b = stage.guest_of(web.item()?.active());
    let resumed = b.resumed().await?;
    b.writes(SOME).await?;
    println!(
        "PROVEN: it resumed after record {resumed} and writes; what does not boot was told before it was needed"
    );
    Ok(())
}

/// A guest has come up when its writer says how many records it found: less than what the machine here has acknowledged is
/// what the point lacks.
#[derive(Debug)]
struct Records {
    source: Guest,
    /// How long a guest may take: three times as long as the last one that came up.
    patience: Mutex<Duration>,
}

#[async_trait]
impl Validation for Records {
    /// Of a failover: that it runs; who failed over waits for the guest himself.
    async fn validate(&self, recovery: &Recovery, booted: &Booted) -> Result<Verdict> {
        assert_eq!(recovery.purpose, Purpose::Failover);
        let off = || Verdict::Bad { reason: "it does not run".into() };
        Ok(if booted.running { Verdict::Good } else { off() })
    }

    async fn probe(&self, _: &Recovery, booted: &Booted) -> Result<Probed> {
        let written = self.source.acknowledged();
        let home = booted.reach.first().ok_or_else(|| missing("the site does not say where it runs"))?;
        let guest = Guest::of(Path::new(home).join("console.log"));
        let (began, patience) = (SystemClock.now(), *self.patience.lock().expect("no panic under this lock"));
        let found = tokio::select! {
            found = guest.resumed() => found?,
            () = SystemClock.sleep(patience) => {
                let lines = guest.lines();
                let last = lines.iter().rev().find(|l| !l.trim().is_empty()).map_or("nothing", |l| l.trim());
                let reason = format!("its guest was silent for {patience:?}; the console said last: {last}");
                return Ok(Verdict::Bad { reason }.into());
            }
        };
        let took = SystemClock.now().since(began);
        *self.patience.lock().expect("no panic under this lock") = (3 * took).max(Duration::from_secs(20));
        guest.writes(1).await?;
        Ok(Probed {
            lost_records: Some(written.saturating_sub(found)),
            notes: vec![format!("it found {found} records, and writes")],
            ..Verdict::Good.into()
        })
    }
}

async fn newest(web: &ItemHandle) -> Result<site_recovery::PointId> {
    web.points().await?.last().map(|p| p.id).ok_or_else(|| missing("no point"))
}

fn finding(web: &ItemHandle) -> Result<Option<Finding>> {
    Ok(web.summary()?.health.findings.into_iter().find(|f| f.code == "boot.not-proven"))
}

/// Neither a process nor a file.
fn nothing_is_left(stage: &LiveStage, work: &Path) -> Result<()> {
    let machines = std::fs::read_dir(work.join("cloud")).into_iter().flatten().flatten();
    let names: Vec<String> = machines.map(|m| m.file_name().to_string_lossy().into_owned()).collect();
    let left: Vec<&String> = names.iter().filter(|n| !n.starts_with('.')).collect();
    let runs = left.iter().any(|n| stage.machines.process("cloud", n).is_ok());
    prove(left.is_empty() && !runs, format!("nothing of the proof is left at the other site: {left:?}"))
}
