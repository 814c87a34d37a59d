//! The tutorial, chapter by chapter. A chapter may be interrupted anywhere: what it wants is a state of the item, and
//! the next engine resumes what was under way and asks again for what did not come about.

use crate::Options;
use crate::crash::DeadlyJournal;
use crate::guest::{Guest, Log, is_on};
use crate::image::{self, SYSTEM};
use crate::proof::{Inspection, digests_of_machine, digests_of_point, export, prove};
use crate::screen::Screen;
use indicatif::HumanBytes;
use site_recovery::state::{Direction, DrillState, Kind, Phase, Resync, State};
use site_recovery::{
    Clock, CommitRequest, DrillRequest, Error, ErrorKind, FailoverRequest, Force, Instance, ItemHandle, Job,
    Policy, ProtectRequest, Replica, ReprotectRequest, Result, SystemClock, Vault,
};
use site_recovery_examples::{Stage, failed};
use site_recovery_journal::SqliteJournal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const OUT: Direction = Direction::PrimaryToRecovery;
const BACK: Direction = Direction::RecoveryToPrimary;
/// Cycles of a chapter, and how long the guest writes before each.
const CYCLES: usize = 3;
const BETWEEN: Duration = Duration::from_millis(600);

#[derive(Debug, Clone, Copy)]
enum Chapter {
    Protect,
    Replicate(usize),
    Drill,
    FailOver,
    Commit,
    Reprotect(Direction),
    LoseTheJournal,
    FailBack,
    Prove,
}

const CHAPTERS: [(Chapter, &str); 13] = [
    (Chapter::Protect, "Protect: everything is copied once"),
    (Chapter::Replicate(CYCLES), "Replicate: only what changed"),
    (Chapter::Drill, "Drill, beside the running machine"),
    (Chapter::FailOver, "Fail over, unplanned: the old side may be gone"),
    (Chapter::Commit, "Commit"),
    (Chapter::Reprotect(BACK), "Reprotect: onto the disks that are still here"),
    (Chapter::Replicate(CYCLES), "Replicate back"),
    (Chapter::LoseTheJournal, "Lose the journal"),
    (Chapter::FailBack, "Fail back, planned: nothing may be lost"),
    (Chapter::Commit, "Commit"),
    (Chapter::Reprotect(OUT), "Reprotect: onto the points that are still there"),
    (Chapter::Replicate(1), "Replicate out again"),
    (Chapter::Prove, "Compare both sides"),
];

/// Tells the story in `work`, from where an engine before this one left it.
///
/// # Errors
/// When an operation or a proof fails.
pub(crate) async fn tell(options: &Options, work: &Path) -> Result<()> {
    let mut story = Story::open(options, work).await?;
    story.resume().await?;
    for (number, (chapter, title)) in CHAPTERS.iter().enumerate().skip(story.bookmark()?) {
        if !options.adopt && matches!(chapter, Chapter::LoseTheJournal) {
            continue;
        }
        println!("\n{title}");
        story.play(*chapter).await?;
        story.turn_page(number + 1)?;
    }
    story.end()
}

struct Story {
    work: PathBuf,
    stage: Stage,
    journal: Arc<DeadlyJournal>,
    vault: Vault,
    inspection: Inspection,
    screen: Screen,
    guest: Option<Guest>,
    written: Arc<AtomicU64>,
}

impl Story {
    async fn open(options: &Options, work: &Path) -> Result<Self> {
        let stage = Stage::open(work).await?;
        let inspection = Self::machine(options, work, &stage).await?;
        let (journal, vault) = vault(&stage, &inspection, options.die_at).await?;
        let written = Arc::new(AtomicU64::new(0));
        let screen = Screen::new(vault.events(), Arc::clone(&stage.process_server), Arc::clone(&written));
        let work = work.to_owned();
        Ok(Self { work, stage, journal, vault, inspection, screen, guest: None, written })
    }

    /// Makes the machine, once.
    async fn machine(options: &Options, work: &Path, stage: &Stage) -> Result<Inspection> {
        let notes = work.join("machine.json");
        if let Ok(text) = std::fs::read(&notes) {
            let (log, fsck) = serde_json::from_slice(&text).map_err(|e| failed("read", &notes, e.into()))?;
            return Ok(Inspection { log, fsck });
        }
        let dir = work.join("here/web");
        let made = image::make(&dir, options.size, options.disk.as_deref());
        let (log, content) = made.map_err(|e| failed("fill", &dir, e))?;
        let size = std::fs::metadata(dir.join(SYSTEM)).map_err(|e| failed("look at", &dir, e))?.len();
        stage.add_machine("web", &[("system", size), ("data", options.size.data())]).await?;
        let inspection = Inspection::new(log, &dir.join(SYSTEM), content);
        let inspection = inspection.map_err(|e| failed("check", &dir, e))?;
        let text = serde_json::to_vec(&(&inspection.log, inspection.fsck)).expect("plain data");
        std::fs::write(&notes, text).map_err(|e| failed("write", &notes, e))?;
        Ok(inspection)
    }

    /// Goes on with what an engine before this one had begun. The guest goes on as well, where its machine runs and
    /// nobody is still looking at it.
    async fn resume(&mut self) -> Result<()> {
        for job in self.vault.resume().await.into_values() {
            self.screen.line("goes on with a job of the engine before");
            let report = self.screen.during(None, job?.wait()).await?;
            self.screen.line(&format!("{:?}: {:?}", report.operation, report.outcome));
        }
        let dir = match self.vault.find("web") {
            Ok(web) if matches!(web.state()?.phase, Phase::FailoverCompleted(_)) => return Ok(()),
            Ok(web) => self.dir(web.item()?.active()),
            Err(_) => self.work.join("here/web"),
        };
        if is_on(&dir).unwrap_or(false) {
            self.let_guest_write(dir);
        }
        Ok(())
    }

    async fn play(&mut self, chapter: Chapter) -> Result<()> {
        match chapter {
            Chapter::Protect => self.protect().await,
            Chapter::Replicate(cycles) => self.replicate(cycles).await,
            Chapter::Drill => self.drill().await,
            Chapter::FailOver => {
                let force = Force::by("the example", "the site may be gone");
                self.fail_over(FailoverRequest::unplanned(OUT, force), Kind::Unplanned).await
            }
            Chapter::FailBack => self.fail_over(FailoverRequest::planned(BACK), Kind::Planned).await,
            Chapter::Commit => self.commit().await,
            Chapter::Reprotect(direction) => self.reprotect(direction).await,
            Chapter::LoseTheJournal => self.lose_the_journal().await,
            Chapter::Prove => self.prove_both_sides().await,
        }
    }

    async fn protect(&mut self) -> Result<()> {
        let web = match self.web() {
            Ok(web) => web,
            Err(_) => {
                let request = ProtectRequest::machine("web").policy(Policy::every(Duration::from_secs(60)));
                self.vault.protect(request).await?
            }
        };
        if self.guest.is_none() {
            self.let_guest_write(self.work.join("here/web"));
        }
        self.screen.during(Some(&web), web.until_done()).await?;
        if web.state()?.phase != Phase::Protected {
            let job = web.repair().await?;
            self.screen.during(Some(&web), job.done()).await?;
        }
        self.screen.take_sealed();
        self.screen.stand(&web)
    }

    async fn replicate(&mut self, cycles: usize) -> Result<()> {
        let web = self.web()?;
        for _ in 0..cycles {
            SystemClock.sleep(BETWEEN).await;
            let vault = self.vault.clone();
            let cycle = self.screen.during(Some(&web), vault.replicate_now(web.id())).await;
            match cycle {
                // A source may forget what changed, for instance in a crash; it never makes it up.
                Err(reason) if web.state()?.resync == Resync::Required => {
                    self.screen.line(&format!("both sides are compared: {reason}"));
                    let job = web.repair().await?;
                    self.screen.during(Some(&web), job.done()).await?;
                }
                cycle => cycle?,
            }
        }
        self.screen.stand(&web)?;
        self.prove_small_deltas()
    }

    async fn drill(&mut self) -> Result<()> {
        let web = self.web()?;
        let begin = || web.test_failover(DrillRequest::default());
        self.reach(|state| state.drill == DrillState::WaitingForCompletion, begin).await?;
        let drill = web.item()?.drill.ok_or_else(|| Error::new(ErrorKind::NotFound, "no drill"))?;
        let (before, drill) = (self.written.load(Ordering::Relaxed), drill.armed.map(|armed| armed.instance));
        let dir = self.dir(&drill.ok_or_else(|| Error::new(ErrorKind::NotFound, "no drill machine"))?);
        let last = self.look(&dir)?;
        prove(last > 0, format!("the drill has all entries up to {last} on both disks, and a clean system"))?;
        SystemClock.sleep(BETWEEN).await;
        let now = self.written.load(Ordering::Relaxed);
        prove(now > before, "the machine itself writes on meanwhile")?;
        self.reach(|state| state.drill == DrillState::None, || web.clean_up_test()).await?;
        prove(!dir.exists(), "nothing of the drill is left")?;
        self.screen.stand(&web)
    }

    /// Fails over, either way, and looks before anybody writes there.
    async fn fail_over(&mut self, request: FailoverRequest, kind: Kind) -> Result<()> {
        let (web, asked) = (self.web()?, SystemClock.now());
        let old = web.item()?.active().clone();
        let goal = |state: State| state.phase == Phase::FailoverCompleted(kind);
        let resumed = goal(web.state()?);
        self.reach(goal, || web.failover(request.clone())).await?;
        if let Some(guest) = self.guest.take() {
            guest.stop().map_err(|e| failed("go on writing in", &self.dir(&old), e))?;
        }
        let item = web.item()?;
        let others = item.instances.iter().filter(|i| !i.is(item.active())).map(|i| self.dir(i));
        let (old, new) = (others.collect::<Vec<_>>(), self.dir(item.active()));
        let old = old.first().ok_or_else(|| Error::new(ErrorKind::NotFound, "no old side"))?;
        if !resumed {
            let rto = SystemClock.now().since(asked).as_secs_f64();
            self.screen.line(&format!("RTO {rto:.2} s: from the request until the other machine runs"));
        }
        let run = web.finished().into_iter().rev().find(|run| run.operation == request.operation());
        let told = run.and_then(|run| run.members.into_values().next()).and_then(|member| member.loss);
        let told = told.ok_or_else(|| Error::new(ErrorKind::NotFound, "no loss was told"))?;
        let (was, is) = (self.look(old)?, self.look(&new)?);
        let lost = was.saturating_sub(is);
        self.screen.line(&format!(
            "data loss: at most {:?} told ({:?}), {lost} entries found",
            told.at_most, told.basis
        ));
        prove(!is_on(old).map_err(|e| failed("ask", old, e))?, "the old machine is off")?;
        if told.at_most.is_zero() {
            prove(lost == 0, format!("all {was} entries are on the other side"))?;
            let (old, new) = tokio::try_join!(digests_of_machine(old), digests_of_machine(&new))?;
            prove(old == new, "both machines' disks have equal digests")?;
        }
        self.let_guest_write(new);
        self.screen.stand(&web)?;
        self.prove_small_deltas()
    }

    async fn commit(&mut self) -> Result<()> {
        let web = self.web()?;
        let request = CommitRequest { require_good: true, ..CommitRequest::default() };
        let committed = |state: State| state.phase == Phase::CommitFailoverCompleted;
        self.reach(committed, || web.commit(request.clone())).await?;
        self.screen.stand(&web)
    }

    async fn reprotect(&mut self, direction: Direction) -> Result<()> {
        let web = self.web()?;
        let goal = |state: State| state.phase == Phase::Protected && state.direction == direction;
        self.reach(goal, || web.reprotect(ReprotectRequest::default())).await?;
        self.screen.stand(&web)?;
        self.prove_small_deltas()
    }

    /// What an engine can do that has lost all that it knew.
    async fn lose_the_journal(&mut self) -> Result<()> {
        let before = self.web()?.item()?;
        let nobody = Arc::new(DeadlyJournal::new(Arc::new(SqliteJournal::in_memory().await?), None));
        self.vault = self.stage.builder(Arc::clone(&nobody) as _).build().await?;
        self.journal = nobody;
        for end in ["", "-wal", "-shm"] {
            let mut file = self.stage.journal_file().into_os_string();
            file.push(end);
            if let Err(e) = std::fs::remove_file(&file)
                && e.kind() != std::io::ErrorKind::NotFound
            {
                return Err(failed("remove", Path::new(&file), e));
            }
        }
        (self.journal, self.vault) = vault(&self.stage, &self.inspection, None).await?;
        self.screen.follow(self.vault.events());
        prove(self.web().is_err(), "the journal is gone, and a new vault knows nothing")?;
        let adopted = self.vault.adopt("back").await?;
        prove(adopted.questions.is_empty(), "the replica answers everything")?;
        let after = self.web()?.item()?;
        prove(after.state == before.state, format!("it was adopted as {}", after.state))?;
        prove(
            after.epoch.number > before.epoch.number,
            "under a higher epoch: the old engine changes nothing now",
        )
    }

    /// After a last cycle nobody writes: then both sides are the same, and both are good.
    async fn prove_both_sides(&mut self) -> Result<()> {
        let web = self.web()?;
        if let Some(guest) = self.guest.take() {
            guest.stop().map_err(|e| failed("go on writing in", &self.work, e))?;
        }
        let vault = self.vault.clone();
        self.screen.during(Some(&web), vault.replicate_now(web.id())).await?;
        let here = self.dir(web.item()?.active());
        let newest = web.points().await?.pop().ok_or_else(|| Error::new(ErrorKind::NotFound, "no point"))?;
        let disks = self.stage.points.open(web.id(), newest.id).await?;
        let (digests, there) = tokio::try_join!(digests_of_machine(&here), digests_of_point(&disks))?;
        for (disk, digest) in &digests {
            println!("    {disk:>8} here   {digest}");
            println!("    {disk:>8} there  {}", there.get(disk).map_or("none", String::as_str));
        }
        prove(digests == there, "the newest point has every byte of both disks of the running machine")?;
        self.look(&here)?;
        if self.inspection.fsck {
            let exported = self.work.join("there.raw");
            export(&disks, &exported).await?;
            self.inspection.check(&exported).map_err(|e| failed("trust", &exported, e))?;
            std::fs::remove_file(&exported).map_err(|e| failed("remove", &exported, e))?;
            prove(true, "e2fsck -fn finds both sides' system disks clean")?;
        }
        let trail = self.vault.audit(web.unit()).await?;
        prove(!trail.is_empty(), format!("the audit trail of {} records is whole", trail.len()))
    }

    fn end(self) -> Result<()> {
        let entries = self.look(&self.dir(self.web()?.item()?.active()))?;
        println!("\nPROVEN: over and back; {entries} entries written, none lost; every delta was small");
        println!("({} journal writes of this engine)", self.journal.writes());
        Ok(())
    }

    // --- what the chapters are made of --------------------------------------------------------------------------

    /// Waits until the item is where it shall be, and asks for that unless it is there already.
    async fn reach(
        &mut self,
        there: impl Fn(State) -> bool,
        begin: impl AsyncFnOnce() -> Result<Job>,
    ) -> Result<()> {
        let web = self.web()?;
        if there(web.state()?) {
            return Ok(());
        }
        let job = begin().await?;
        self.screen.during(Some(&web), job.done()).await?;
        Ok(())
    }

    /// What crossed since the last look must be a small part of the disks.
    fn prove_small_deltas(&mut self) -> Result<()> {
        let (sealed, web) = (self.screen.take_sealed(), self.web()?);
        if sealed.points == 0 {
            return Ok(());
        }
        let whole: u64 = web.item()?.machine.included().map(|disk| disk.size).sum();
        let changed = HumanBytes(sealed.changed);
        let what = format!("only {changed} changed for {} point(s), of {}", sealed.points, HumanBytes(whole));
        prove(sealed.changed < whole / 5 * sealed.points as u64, what)
    }

    fn web(&self) -> Result<ItemHandle> {
        self.vault.find("web")
    }

    fn dir(&self, instance: &Instance) -> PathBuf {
        self.work.join(instance.site.as_str()).join(&instance.name)
    }

    /// The last entry on a machine that is as it should be.
    fn look(&self, dir: &Path) -> Result<u64> {
        self.inspection.look(dir).map_err(|e| failed("trust", dir, e))?;
        Ok(self.inspection.log.last(dir).map_err(|e| failed("read", dir, e))?.number)
    }

    fn let_guest_write(&mut self, dir: PathBuf) {
        let log: Log = self.inspection.log.clone();
        self.guest = Some(Guest::start(dir, log, Arc::clone(&self.written)));
    }

    fn bookmark(&self) -> Result<usize> {
        let text = std::fs::read_to_string(self.work.join("chapter")).unwrap_or_default();
        Ok(text.trim().parse().unwrap_or(0))
    }

    fn turn_page(&self, next: usize) -> Result<()> {
        let path = self.work.join("chapter");
        std::fs::write(&path, next.to_string()).map_err(|e| failed("write", &path, e))
    }
}

async fn vault(
    stage: &Stage,
    inspection: &Inspection,
    die_at: Option<u64>,
) -> Result<(Arc<DeadlyJournal>, Vault)> {
    let journal = Arc::new(SqliteJournal::open(stage.journal_file()).await?);
    let journal = Arc::new(DeadlyJournal::new(journal, die_at));
    let builder = stage.builder(Arc::clone(&journal) as _).validation(Arc::new(inspection.clone()));
    Ok((Arc::clone(&journal), builder.build().await?))
}
