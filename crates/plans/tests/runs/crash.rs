//! Dies before and after every journal write, of the plan's subjects and of the vault's, of every kind of run; starts anew,
//! goes on, and compares the *world* with that of a run that nobody disturbed.

use super::world::*;
use site_recovery::state::{Divergence, DrillState, Phase};
use site_recovery::{
    Append, CommitRequest, DrillRequest, FailoverRequest, Journal, OpKey, ReprotectRequest, Result,
};
use site_recovery_plans::{Does, Plan, PlanRun, Plans, RunState};
use site_recovery_testkit::crash::{Crash, CrashingJournal};
use site_recovery_testkit::engine::{DISK, MemoryEngine};
use site_recovery_testkit::journal::MemoryJournal;
use site_recovery_testkit::world::{Image, Pair, World};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scenario {
    Drill,
    CleanUp,
    Planned,
    Unplanned,
    Cancelled,
    Commit,
    Reprotect,
    Failback,
}

fn shop() -> Plan {
    let mut shop = plan(&[&["db"], &["web"]]);
    shop.failover.before.push(runs("once"));
    let again = Does::Command { program: vec!["again".into()], again: true };
    shop.groups[0].after = vec![
        action("again", again),
        action("sql", Does::Port { machine: "db".into(), port: 5432 }),
        by_hand("look"),
    ];
    shop
}

impl Scenario {
    async fn begin(self, plans: &Plans) -> Result<PlanRun> {
        let shop = shop();
        match self {
            Self::Drill => {
                let request = DrillRequest { network: Some("lab".into()), ..DrillRequest::default() };
                plans.drill("shop", &shop, request).await
            }
            Self::CleanUp => plans.clean_up("shop", &shop).await,
            Self::Planned | Self::Cancelled => {
                plans.failover("shop", &shop, FailoverRequest::planned(OUT)).await
            }
            Self::Unplanned => plans.failover("shop", &shop, FailoverRequest::unplanned(OUT, fire())).await,
            Self::Commit => plans.commit("shop", &shop, CommitRequest::default()).await,
            Self::Reprotect => plans.reprotect("shop", &shop, ReprotectRequest::default()).await,
            Self::Failback => plans.failover("shop", &shop, FailoverRequest::planned(BACK)).await,
        }
    }

    /// What is to be done before it can begin.
    fn prepared_by(self) -> &'static [Scenario] {
        match self {
            Self::CleanUp => &[Self::Drill],
            Self::Commit => &[Self::Planned],
            Self::Reprotect => &[Self::Planned, Self::Commit],
            Self::Failback => &[Self::Planned, Self::Commit, Self::Reprotect],
            _ => &[],
        }
    }

    /// Sees a run to its end: whoever is waited for comes, or cancels it.
    async fn see_to_its_end(self, plans: &Plans) -> Result<PlanRun> {
        loop {
            let run = bounded(plans.wait("shop")).await?;
            match (run.state(), run.waiting()) {
                (RunState::Ended, _) => return Ok(run),
                (RunState::WaitingForManualAction, Some(action))
                    if self == Self::Cancelled && action.name == "look" =>
                {
                    plans.cancel("shop").await?;
                }
                (RunState::WaitingForManualAction, Some(action)) => {
                    plans.complete("shop", &action.name.clone(), "seen to").await?;
                }
                (state, _) => panic!("{self:?} came to {state:?}: {run:?}"),
            }
        }
    }

    async fn stage(self) -> Result<Site> {
        let site = Site::over(World::new(7).pair(), MemoryJournal::new(), None).await?;
        for name in ["db", "web"] {
            site.engine.pair.here.add_machine(name, &[("boot", DISK / 8)]);
            site.engine.protect(name).await?;
        }
        for earlier in self.prepared_by() {
            earlier.begin(&site.plans).await?;
            earlier.see_to_its_end(&site.plans).await?;
        }
        Ok(site)
    }
}

/// Counts writes by the kind of their subject, and dies as it is told.
#[derive(Debug, Clone)]
struct Counting(CrashingJournal, Arc<Mutex<BTreeMap<String, u32>>>);

#[async_trait::async_trait]
impl Journal for Counting {
    async fn subjects(&self) -> Result<Vec<String>> {
        self.0.subjects().await
    }

    async fn load(&self, subject: &str) -> Result<(u64, Vec<Vec<u8>>)> {
        self.0.load(subject).await
    }

    async fn append(&self, all: &[Append]) -> Result<()> {
        self.count(&all[0].subject);
        self.0.append(all).await
    }

    async fn fold(&self, subject: &str, expect: u64, snapshot: Vec<u8>) -> Result<()> {
        self.count(subject);
        self.0.fold(subject, expect, snapshot).await
    }
}

impl Counting {
    fn count(&self, subject: &str) {
        let kind = subject.split('/').next().unwrap_or(subject).to_owned();
        if !self.0.is_dead() {
            *self.1.lock().expect("no panic under this lock").entry(kind).or_default() += 1;
        }
    }
}

/// An engine over the staged world whose journal dies.
async fn acting(site: &Site, crash: Crash) -> Result<(Counting, Result<(site_recovery::Vault, Plans)>)> {
    let journal = CrashingJournal::new(Arc::new(site.engine.journal.clone()), crash);
    let journal = Counting(journal, Arc::default());
    let built = async {
        let builder = MemoryEngine::builder(&site.engine.pair, Arc::new(journal.clone()));
        let vault = builder.validation(Arc::new(site.judge.clone())).build().await?;
        let plans = builder_of(&vault, Arc::new(journal.clone()), &site.engine.pair, &site.actions);
        let plans = plans.open().await?;
        Ok((vault, plans))
    };
    let built = built.await;
    Ok((journal, built))
}

#[derive(Clone, PartialEq, Eq)]
struct Shape {
    items: Vec<(Phase, DrillState, Divergence, usize, usize)>,
    running: Vec<Vec<Image>>,
    machines: (usize, usize),
}

impl std::fmt::Debug for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let running: Vec<usize> = self.running.iter().map(Vec::len).collect();
        write!(f, "{:?}, running {running:?} of {:?}", self.items, self.machines)
    }
}

impl Shape {
    async fn of(pair: &Pair, site: &Site) -> Result<Self> {
        let vault = &site.engine.vault;
        vault.watch_now().await?;
        let item = |name: &str| -> Result<_> {
            let item = vault.find(name)?.item()?;
            let state = item.state;
            Ok((state.phase, state.drill, state.divergence, item.owed.len(), item.instances.len()))
        };
        let images = |names: Vec<String>, of: &dyn Fn(&str) -> Image| {
            let mut images: Vec<Image> = names.iter().map(|name| of(name)).collect();
            images.sort();
            images
        };
        let (here, cloud) = (&pair.here, &pair.cloud);
        let running = vec![
            images(here.running(), &|n| here.bytes(n)),
            images(cloud.running(), &|n| cloud.bytes(n)),
            images(cloud.isolated("lab"), &|n| cloud.bytes(n)),
        ];
        let items = ["db", "web"].into_iter().map(item).collect::<Result<_>>()?;
        Ok(Self { items, running, machines: (here.all().len(), cloud.all().len()) })
    }
}

/// Every start that there ever was of a machine that exists, by its key.
fn starts(pair: &Pair) -> Vec<BTreeMap<OpKey, u32>> {
    let of = |site: &site_recovery_testkit::world::Site| {
        site.all().iter().map(|name| site.starts(name)).collect::<Vec<_>>()
    };
    of(&pair.here).into_iter().chain(of(&pair.cloud)).collect()
}

fn count(starts: &[BTreeMap<OpKey, u32>]) -> usize {
    starts.iter().map(BTreeMap::len).sum()
}

#[derive(Default)]
struct Told {
    runs: u32,
    judged: u32,
    never_began: u32,
    broken: Vec<String>,
    programs: BTreeSet<(String, usize)>,
}

/// Every write of one kind of run; a second crash, while it is resumed, falls after every ninth.
async fn sweep(scenario: Scenario) -> Result<Told> {
    let mut told = Told::default();
    let site = scenario.stage().await?;
    let before = Shape::of(&site.engine.pair, &site).await?;
    let (journal, built) = acting(&site, Crash::Never).await?;
    let (_vault, plans) = built?;
    scenario.begin(&plans).await?;
    scenario.see_to_its_end(&plans).await?;
    let writes = journal.0.writes();
    let ended = site.again().await?;
    let done = Shape::of(&site.engine.pair, &ended).await?;
    assert_ne!(before, done, "{scenario:?}");
    let boots = count(&starts(&site.engine.pair));
    let kinds = journal.1.lock().expect("no panic under this lock").clone();
    assert!(kinds["plan"] > 4 && kinds["unit"] > 4, "{scenario:?}: {kinds:?}");
    for crash in Crash::sweep(writes) {
        let (Crash::Before(number) | Crash::After(number)) = crash else { continue };
        let seconds = [Some(Crash::Before(3 + number % 5)), Some(Crash::After(number % 7))];
        let seconds = seconds.into_iter().filter(|_| number % 9 == 0);
        for second in [None].into_iter().chain(seconds) {
            one(scenario, crash, second, (&before, &done, boots), &mut told).await?;
        }
    }
    println!(
        "{scenario:?}: {} runs over {kinds:?}, {} never began, {} judged by a person, programs {:?}",
        told.runs, told.never_began, told.judged, told.programs
    );
    let (broken, runs) = (&told.broken, told.runs);
    assert!(broken.is_empty(), "{} of {runs} runs:\n{}", broken.len(), broken.join("\n"));
    assert!(runs > 2 * kinds["plan"] && told.never_began > 0 && told.never_began < runs / 5);
    Ok(told)
}

/// Where programs are part of the run: one that cannot be run again was judged by a person after some crash, and one that can
/// be was run twice.
fn check_programs(told: &Told) {
    assert!(told.judged > 0, "no crash fell while a program ran");
    assert!(told.programs.contains(&("again".into(), 2)), "{:?}", told.programs);
}

#[tokio::test]
async fn o1_a_drill_survives_a_crash_at_every_write() -> Result<()> {
    sweep(Scenario::Drill).await.map(|told| check_programs(&told))
}

#[tokio::test]
async fn o1_the_clean_up_of_a_drill_survives_a_crash_at_every_write() -> Result<()> {
    sweep(Scenario::CleanUp).await.map(drop)
}

#[tokio::test]
async fn o1_a_planned_run_survives_a_crash_at_every_write() -> Result<()> {
    sweep(Scenario::Planned).await.map(|told| check_programs(&told))
}

#[tokio::test]
async fn o1_an_unplanned_run_survives_a_crash_at_every_write() -> Result<()> {
    sweep(Scenario::Unplanned).await.map(|told| check_programs(&told))
}

#[tokio::test]
async fn o1_a_run_that_is_cancelled_survives_a_crash_at_every_write() -> Result<()> {
    sweep(Scenario::Cancelled).await.map(|told| check_programs(&told))
}

#[tokio::test]
async fn o1_a_commit_survives_a_crash_at_every_write() -> Result<()> {
    sweep(Scenario::Commit).await.map(drop)
}

#[tokio::test]
async fn o1_a_reprotect_survives_a_crash_at_every_write() -> Result<()> {
    sweep(Scenario::Reprotect).await.map(drop)
}

#[tokio::test]
async fn o1_a_planned_failback_survives_a_crash_at_every_write() -> Result<()> {
    sweep(Scenario::Failback).await.map(|told| check_programs(&told))
}

async fn one(
    scenario: Scenario,
    crash: Crash,
    second: Option<Crash>,
    (before, done, boots): (&Shape, &Shape, usize),
    told: &mut Told,
) -> Result<()> {
    let site = scenario.stage().await?;
    let ran = site.actions.programs().len();
    let (journal, built) = acting(&site, crash).await?;
    // A death while it is being built begins nothing.
    if let Ok((_vault, plans)) = built
        && scenario.begin(&plans).await.is_ok()
    {
        let _dies = scenario.see_to_its_end(&plans).await;
    }
    drop(journal);
    told.runs += 1;
    if let Some(second) = second {
        let (_, built) = acting(&site, second).await?;
        if let Ok((vault, plans)) = built
            && vault.resume().await.values().all(Result::is_ok)
            && plans.resume().await.values().any(Result::is_ok)
        {
            let _dies = scenario.see_to_its_end(&plans).await;
        }
    }
    let next = site.again().await?;
    next.resume_jobs().await?;
    let resumed = next.resume_plans().await?;
    let began = |run: &PlanRun| run.ended.is_none() || resumed.iter().any(|r| r.id == run.id);
    let newest = next.plans.list().pop();
    let operation = newest.as_ref().filter(|run| began(run)).map(|run| run.operation);
    if let Some(run) = newest.filter(began) {
        let run = if run.ended.is_none() { scenario.see_to_its_end(&next.plans).await? } else { run };
        let once = run.action("once");
        told.judged += u32::from(once.is_some_and(|a| a.note.is_some()));
    }
    let shape = Shape::of(&site.engine.pair, &next).await?;
    let finished = shape == *done;
    if operation.is_none() && !finished {
        told.never_began += 1;
        if shape != *before {
            told.broken.push(format!("{scenario:?}, {crash:?}, {second:?}: never began: {shape:?}"));
        }
        return Ok(());
    }
    let programs: Vec<String> = site.actions.programs().split_off(ran);
    for name in ["once", "again"] {
        told.programs.insert((name.into(), programs.iter().filter(|p| *p == name).count()));
    }
    let times = |name: &str| programs.iter().filter(|p| *p == name).count();
    let starts = starts(&site.engine.pair);
    let one_each = starts.iter().flatten().all(|(_, times)| *times == 1);
    if !finished || !one_each || count(&starts) != boots || times("once") > 1 || times("again") > 3 {
        told.broken.push(format!(
            "{scenario:?}, {crash:?}, {second:?}: programs {programs:?}, starts {starts:?}, {shape:?} in place of {done:?}"
        ));
    }
    Ok(())
}
