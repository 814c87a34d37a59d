//! The circle, step by step.

use crate::Options;
use crate::picture;
use crate::watch::Watch;
use site_recovery::state::{Direction, DrillState};
use site_recovery::{
    Clock, Consistency, Cutover, Delivery, DrillRequest, Events, FailoverRequest, Force, ItemHandle,
    NoticeKind, OnUnfenced, Policy, ProtectRequest, Replica, ReprotectRequest, Result, Shutdown, SystemClock,
    Timestamp, Vault,
};
use site_recovery_examples::failed;
use site_recovery_examples::live::{Guest, GuestOptions, LiveStage, copy_out, inspect, missing, prove, tool};
use std::path::{Path, PathBuf};
use std::time::Duration;

const NAME: &str = "web";
/// Records that the guest writes between two steps.
const SOME: u64 = 40;

/// What one run measured, each with its unit.
pub(crate) type Measured = Vec<(&'static str, f64, &'static str)>;

/// Tells the story in `work`.
///
/// # Errors
/// When an operation fails, or something is not as it was promised.
pub(crate) async fn tell(options: &Options, work: &Path) -> Result<Measured> {
    let stage = LiveStage::open(work, &options.emulator).await?;
    let vault = stage.builder().await?.build().await?;
    let (events, work) = (vault.events(), work.to_owned());
    let mut story = Story { work, stage, vault, events, watch: Watch::new(), measured: vec![] };
    story.all().await?;
    println!("\nMeasured");
    for (what, value, unit) in &story.measured {
        println!("    {what:<28} {value:.1} {unit}");
    }
    if let Some(file) = &options.picture {
        picture::draw(&story.watch, file)?;
        println!("drawn: {}", file.display());
    }
    Ok(std::mem::take(&mut story.measured))
}

struct Story {
    work: PathBuf,
    stage: LiveStage,
    vault: Vault,
    events: Events,
    watch: Watch,
    measured: Measured,
}

impl Story {
    async fn all(&mut self) -> Result<()> {
        let a = self.start().await?;
        let web = self.protect().await?;
        self.three_points(&web, &a).await?;
        self.drill(&web, &a).await?;
        let b = self.disaster(&web, &a).await?;
        self.reprotect(&web, &b).await?;
        self.replicate_back(&web, &b).await?;
        self.fail_back(&web, &b).await
    }

    async fn start(&mut self) -> Result<Guest> {
        println!("\nA guest boots here from its own disk, and writes");
        let options = GuestOptions { words: "delay=10 hook".into(), ..GuestOptions::default() };
        let a = self.stage.add_guest(NAME, &options).await?;
        let n = a.writes(SOME).await?;
        println!("    {n} records are durable");
        Ok(a)
    }

    async fn protect(&mut self) -> Result<ItemHandle> {
        println!("\nProtect: everything is copied once, while it writes");
        let request = ProtectRequest::machine(NAME)
            .policy(Policy::every(Duration::from_secs(300)))
            .settings(self.stage.settings(NAME));
        let began = SystemClock.now();
        let web = self.vault.protect(request).await?;
        web.until_done().await?;
        self.measured.push(("first copy", seconds(began), "s"));
        let shipped = self.shipped();
        self.measured.push(("first copy, sent", shipped, "MiB"));
        self.watch.follow(web.clone());
        Ok(web)
    }

    async fn three_points(&mut self, web: &ItemHandle, a: &Guest) -> Result<()> {
        println!("\nThree points, one of them quiesced by the guest's own hooks");
        for want in [Consistency::Crash, Consistency::Application, Consistency::Crash] {
            a.writes(SOME).await?;
            let acknowledged = a.acknowledged();
            self.vault.take_point(web.id(), want).await?;
            let point = web.points().await?.pop().ok_or_else(|| missing("no point"))?;
            prove(point.consistency == want, format!("point {} is {want:?}", point.id.0))?;
            let disks = self.stage.points.open(web.id(), point.id).await?;
            let copy = self.work.join("point.raw");
            let disk = disks.values().next().ok_or_else(|| missing("no disk"))?;
            copy_out(disk, &copy).await?;
            let found = inspect(&copy).await?;
            let crash = want == Consistency::Crash;
            prove(
                found.needs_recovery == crash,
                if crash {
                    "its journal has to be replayed, and replays cleanly"
                } else {
                    "its file system needs no recovery"
                },
            )?;
            let records = found.records.len() as u64;
            prove(
                records >= acknowledged,
                format!(
                    "it holds {records} records, without a gap; {acknowledged} were acknowledged before it"
                ),
            )?;
            if !crash {
                prove(
                    found.quiet == Some(records),
                    "the writer stood still at the record that its hook was told",
                )?;
            }
        }
        Ok(())
    }

    async fn drill(&mut self, web: &ItemHandle, a: &Guest) -> Result<()> {
        println!("\nDrill, in a network of its own, beside the running machine");
        let began = SystemClock.now();
        self.watch.mark("drill");
        web.test_failover(DrillRequest::default()).await?.done().await?;
        let state = web.state()?;
        prove(state.drill == DrillState::WaitingForCompletion, "the drill stands")?;
        let drill = web.item()?.drill.and_then(|d| d.armed).ok_or_else(|| missing("no drill machine"))?;
        let guest = self.stage.guest_of(&drill.instance);
        let resumed = guest.resumed().await?;
        let meanwhile = a.acknowledged();
        guest.writes(SOME).await?;
        self.measured.push(("drill, until it writes", seconds(began), "s"));
        prove(resumed > 0, format!("it booted from the point with {resumed} records, and writes"))?;
        prove(a.acknowledged() > meanwhile, "the machine itself writes on meanwhile")?;
        web.clean_up_test().await?.done().await?;
        let dir = self.work.join("cloud").join(&drill.instance.name);
        prove(!dir.exists(), "nothing of the drill is left")
    }

    async fn disaster(&mut self, web: &ItemHandle, a: &Guest) -> Result<Guest> {
        println!("\nThe host dies: kill -9");
        a.writes(SOME).await?;
        self.watch.mark("kill -9");
        self.stage.kill(&self.stage.here, NAME).await?;
        let (last, began) = (a.acknowledged(), SystemClock.now());
        println!("    {last} records were acknowledged");
        println!("\nFail over, unplanned");
        let point = web.points().await?.pop().ok_or_else(|| missing("no point"))?;
        // Not even asked to shut down: a host that is gone cannot say that it is off, so somebody answers for it.
        let on_unfenced = OnUnfenced::Continue(Force::by("the example", "the host is gone"));
        let cutover = Cutover::Unplanned { shutdown: Shutdown::Skip, on_unfenced };
        let planned = FailoverRequest::planned(Direction::PrimaryToRecovery);
        let request = FailoverRequest { cutover, ..planned };
        web.failover(request).await?.done().await?;
        let b = self.stage.guest_of(web.item()?.active());
        let resumed = b.resumed().await?;
        b.writes(1).await?;
        self.watch.mark("failed over");
        self.measured.push(("RTO, until it writes", seconds(began), "s"));
        self.measured.push(("RPO, age of the point", began.since(point.taken).as_secs_f64(), "s"));
        self.measured.push(("lost records", last.saturating_sub(resumed) as f64, ""));
        self.shipped();
        prove(resumed <= last + 1, format!("it resumes after record {resumed}, from the newest point"))?;
        web.commit(Default::default()).await?.done().await?;
        self.watch.mark("committed");
        prove(true, "committed: its disks stand alone now, and it never stopped")?;
        b.writes(SOME).await?;
        Ok(b)
    }

    async fn reprotect(&mut self, web: &ItemHandle, b: &Guest) -> Result<()> {
        println!("\nReprotect: onto the images that are still here, only what differs");
        let began = SystemClock.now();
        // The host is back, and has what was written there after the point: it loses, and stays openable as a point.
        let request = ReprotectRequest { other_side_loses: true, ..ReprotectRequest::default() };
        web.reprotect(request).await?.done().await?;
        self.measured.push(("reprotect", seconds(began), "s"));
        let shipped = self.shipped();
        self.measured.push(("reprotect, sent", shipped, "MiB"));
        self.watch.mark("reprotected");
        b.writes(SOME).await?;
        Ok(())
    }

    async fn replicate_back(&mut self, web: &ItemHandle, b: &Guest) -> Result<()> {
        println!("\nReplicate back; after each delta both sides are compared, byte by byte");
        for _ in 0..2 {
            b.writes(SOME).await?;
            // The guest stands still while it is compared: a paused machine is captured all the same.
            self.stage.ask(&self.stage.cloud, NAME, "stop")?;
            self.vault.replicate_now(web.id()).await?;
            let same = self.compare();
            self.stage.ask(&self.stage.cloud, NAME, "cont")?;
            prove(same?, "the images here are byte for byte those of the machine there")?;
        }
        Ok(())
    }

    /// MiB that crossed since the last look.
    fn shipped(&mut self) -> f64 {
        let mut bytes = 0;
        while let Some(Delivery::Notice(notice)) = self.events.try_next() {
            if let NoticeKind::Sealed { shipped, .. } = &notice.kind {
                bytes += shipped;
            }
        }
        bytes as f64 / f64::from(1 << 20)
    }

    fn compare(&self) -> Result<bool> {
        let (here, cloud) = (self.work.join("here.raw"), self.work.join("cloud.raw"));
        for (from, to) in [(self.stage.image("here", NAME), &here), (self.stage.image("cloud", NAME), &cloud)]
        {
            let arguments = ["convert", "-U", "-O", "raw"].map(str::as_ref);
            tool("qemu-img", arguments.into_iter().chain([from.as_os_str(), to.as_os_str()]))?;
        }
        let (here_bytes, cloud_bytes) = (std::fs::read(&here), std::fs::read(&cloud));
        let here_bytes = here_bytes.map_err(|e| failed("read", &here, e))?;
        Ok(here_bytes == cloud_bytes.map_err(|e| failed("read", &cloud, e))?)
    }

    async fn fail_back(&mut self, web: &ItemHandle, b: &Guest) -> Result<()> {
        println!("\nFail back, planned: the guest is shut down, the last delta crosses, nothing is lost");
        b.writes(SOME).await?;
        let a = self.stage.guest("here", NAME).from_here();
        let began = SystemClock.now();
        self.watch.mark("fail back");
        let request = FailoverRequest::planned(Direction::RecoveryToPrimary);
        web.failover(request).await?.done().await?;
        let last = b.acknowledged();
        let resumed = a.resumed().await?;
        a.writes(1).await?;
        self.watch.mark("failed back");
        self.measured.push(("failback, downtime", seconds(began), "s"));
        prove(b.lines().iter().any(|l| l == "STOPPED"), "the guest there has shut down cleanly")?;
        prove(resumed >= last, format!("all {last} records that were acknowledged there are here"))?;
        web.commit(Default::default()).await?.done().await?;
        a.writes(SOME).await?;
        self.stage.ask(&self.stage.here, NAME, "system_powerdown")?;
        self.stage.until_off(&self.stage.here, NAME).await?;
        let copy = self.work.join("final.raw");
        let image = self.stage.image("here", NAME);
        let arguments = ["convert", "-O", "raw"].map(str::as_ref);
        tool("qemu-img", arguments.into_iter().chain([image.as_os_str(), copy.as_os_str()]))?;
        let found = inspect(&copy).await?;
        let mut sites: Vec<(char, usize)> = vec![];
        for record in &found.records {
            match sites.last_mut() {
                Some((site, n)) if *site == record.site => *n += 1,
                _ => sites.push((record.site, 1)),
            }
        }
        let written: String = sites.iter().map(|(s, n)| format!("{s} x{n} ")).collect();
        let order: Vec<char> = sites.iter().map(|(s, _)| *s).collect();
        prove(order == ['A', 'B', 'A'], format!("one log, without a gap, written at {written}"))?;
        let acknowledged = a.acknowledged();
        prove(
            found.records.len() as u64 >= acknowledged,
            format!("all {acknowledged} acknowledged records are in it"),
        )
    }
}

fn seconds(since: Timestamp) -> f64 {
    SystemClock.now().since(since).as_secs_f64()
}
