//! A world of several machines, and actions that are written down in advance.

use async_trait::async_trait;
use site_recovery::state::Direction;
use site_recovery::{
    Append, Booted, Error, ErrorKind, Force, Journal, Policy, ProtectRequest, Recovery, Result, Validation,
    Verdict,
};
use site_recovery_plans::{
    Action, Actions, BootGroup, Command, Does, Member, Output, Plan, PlanRun, Plans, PlansBuilder, RunState,
};
use site_recovery_testkit::clock::ManualClock;
use site_recovery_testkit::engine::{DISK, MemoryEngine};
use site_recovery_testkit::journal::MemoryJournal;
use site_recovery_testkit::world::{Pair, World};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};

pub(crate) const OUT: Direction = Direction::PrimaryToRecovery;
pub(crate) const BACK: Direction = Direction::RecoveryToPrimary;

pub(crate) fn fire() -> Force {
    Force::by("ana", "the site is on fire")
}

/// What a command found when it ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) program: String,
    pub(crate) command: Command,
    pub(crate) here: Vec<String>,
    pub(crate) cloud: Vec<String>,
}

/// A named fake of [`Actions`]: a program's end is written down in advance, and what the world looked like is kept.
#[derive(Debug, Clone)]
pub(crate) struct Scripted(Arc<Mutex<Script>>, Pair, Arc<Notify>);

#[derive(Debug, Default)]
struct Script {
    codes: BTreeMap<String, Vec<i32>>,
    hanging: BTreeSet<String>,
    closed: BTreeSet<(String, u16)>,
    calls: Vec<Call>,
}

impl Scripted {
    pub(crate) fn new(pair: &Pair) -> Self {
        Self(Arc::default(), pair.clone(), Arc::default())
    }

    /// The next ends of a program; 0 once there are none.
    pub(crate) fn ends(&self, program: &str, codes: &[i32]) {
        self.script().codes.insert(program.into(), codes.to_vec());
    }

    /// It does not end until it is let go.
    pub(crate) fn hangs(&self, program: &str) {
        self.script().hanging.insert(program.into());
    }

    pub(crate) fn let_go(&self, program: &str) {
        self.script().hanging.remove(program);
        self.2.notify_waiters();
    }

    pub(crate) fn close(&self, host: &str, port: u16) {
        self.script().closed.insert((host.into(), port));
    }

    pub(crate) fn open(&self, host: &str, port: u16) {
        self.script().closed.remove(&(host.to_owned(), port));
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.script().calls.clone()
    }

    pub(crate) fn programs(&self) -> Vec<String> {
        self.calls().into_iter().map(|call| call.program).collect()
    }

    fn script(&self) -> std::sync::MutexGuard<'_, Script> {
        self.0.lock().expect("no panic under this lock")
    }
}

#[async_trait]
impl Actions for Scripted {
    async fn run(&self, command: &Command, output: &Output) -> Result<Option<i32>> {
        let program = command.program[0].clone();
        output.write(format!("{program} was here").as_bytes());
        let code = {
            let (here, cloud) = (self.1.here.running(), self.1.cloud.running());
            let mut script = self.script();
            script.calls.push(Call { program: program.clone(), command: command.clone(), here, cloud });
            let codes = script.codes.entry(program.clone()).or_default();
            if codes.is_empty() { 0 } else { codes.remove(0) }
        };
        loop {
            let gone = self.2.notified();
            if !self.script().hanging.contains(&program) {
                break;
            }
            gone.await;
        }
        Ok(Some(code))
    }

    async fn connect(&self, host: &str, port: u16) -> Result<()> {
        if self.script().closed.contains(&(host.to_owned(), port)) {
            return Err(Error::new(ErrorKind::Unavailable, "closed"));
        }
        Ok(())
    }
}

/// A named fake of [`Validation`]: bad for the machines that are named.
#[derive(Debug, Clone, Default)]
pub(crate) struct Judge(pub(crate) Arc<Mutex<BTreeSet<String>>>);

#[async_trait]
impl Validation for Judge {
    async fn validate(&self, recovery: &Recovery, _booted: &Booted) -> Result<Verdict> {
        let bad = self.0.lock().expect("no panic under this lock");
        let id = recovery.machine.id().as_str();
        Ok(match bad.iter().find(|name| id.starts_with(name.as_str())) {
            Some(name) => Verdict::Bad { reason: format!("{name} does not answer") },
            None => Verdict::Good,
        })
    }
}

/// A journal that takes as many writes as it is let.
#[derive(Debug, Clone)]
pub(crate) struct Gated(MemoryJournal, Arc<Semaphore>);

impl Gated {
    pub(crate) fn over(journal: &MemoryJournal) -> Self {
        Self(journal.clone(), Arc::new(Semaphore::new(0)))
    }

    pub(crate) fn let_in(&self, writes: usize) {
        self.1.add_permits(writes);
    }
}

#[async_trait]
impl Journal for Gated {
    async fn subjects(&self) -> Result<Vec<String>> {
        self.0.subjects().await
    }

    async fn load(&self, subject: &str) -> Result<(u64, Vec<Vec<u8>>)> {
        self.0.load(subject).await
    }

    async fn append(&self, all: &[Append]) -> Result<()> {
        self.1.acquire().await.expect("nobody closes it").forget();
        self.0.append(all).await
    }

    async fn fold(&self, subject: &str, expect: u64, snapshot: Vec<u8>) -> Result<()> {
        self.0.fold(subject, expect, snapshot).await
    }
}

/// An engine with its machines, and plans over it.
pub(crate) struct Site {
    pub(crate) engine: MemoryEngine,
    pub(crate) plans: Plans,
    pub(crate) actions: Scripted,
    pub(crate) judge: Judge,
}

impl Site {
    /// With these machines protected, each alone.
    pub(crate) async fn with(machines: &[&str]) -> Result<Self> {
        Self::of(World::new(7).pair(), machines).await
    }

    /// In this world.
    pub(crate) async fn of(pair: Pair, machines: &[&str]) -> Result<Self> {
        let site = Self::over(pair, MemoryJournal::new(), None).await?;
        for name in machines {
            site.engine.pair.here.add_machine(name, &[("boot", DISK), ("data", DISK)]);
            site.engine.protect(name).await?;
        }
        Ok(site)
    }

    /// The engine on this world and this journal; it acts as another one did where one is given.
    pub(crate) async fn over(pair: Pair, journal: MemoryJournal, as_before: Option<&Site>) -> Result<Self> {
        let judge = as_before.map(|s| s.judge.clone()).unwrap_or_default();
        let actions = as_before.map_or_else(|| Scripted::new(&pair), |s| s.actions.clone());
        let builder = MemoryEngine::builder(&pair, Arc::new(journal.clone()));
        let vault = builder.validation(Arc::new(judge.clone())).build().await?;
        let plans = builder_of(&vault, Arc::new(journal.clone()), &pair, &actions).open().await?;
        let engine = MemoryEngine { pair, journal, vault };
        Ok(Self { engine, plans, actions, judge })
    }

    /// A second engine beside this one, on the same world and journal.
    pub(crate) async fn again(&self) -> Result<Self> {
        Self::over(self.engine.pair.clone(), self.engine.journal.reopen()?, Some(self)).await
    }

    /// Goes on with all machines' jobs, which nobody else has. How many there are.
    pub(crate) async fn resume_jobs(&self) -> Result<usize> {
        let resumed: Result<Vec<_>> = self.engine.vault.resume().await.into_values().collect();
        Ok(resumed?.len())
    }

    /// Goes on with all runs, which nobody else has.
    pub(crate) async fn resume_plans(&self) -> Result<Vec<PlanRun>> {
        self.plans.resume().await.into_values().collect()
    }

    /// Protects these as a replication group.
    pub(crate) async fn protect_group(&self, name: &str, machines: &[&str]) -> Result<()> {
        for machine in machines {
            self.engine.pair.here.add_machine(machine, &[("boot", DISK), ("data", DISK)]);
        }
        let policy = Policy::every(Duration::from_secs(300));
        let group = ProtectRequest::group(name, machines).policy(policy);
        let group = self.engine.vault.protect_group(group).await?;
        group.items()[0].until_done().await
    }

    /// The run once it has ended or needs a person.
    pub(crate) async fn wait(&self, plan: &str) -> PlanRun {
        bounded(self.plans.wait(plan)).await.expect("driven to where it waits")
    }

    pub(crate) fn clock(&self) -> ManualClock {
        self.engine.pair.world.clock()
    }

    /// The names of running machines at the cloud, as the plan names them.
    pub(crate) fn in_cloud(&self) -> Vec<String> {
        self.engine.pair.cloud.running()
    }

    pub(crate) fn here(&self) -> Vec<String> {
        self.engine.pair.here.running()
    }

    /// Moves the clock whenever somebody sleeps, until the run ends or needs a person.
    pub(crate) async fn wait_with_clock(&self, plan: &str) -> PlanRun {
        let waits = self.plans.wait(plan);
        let moves = async {
            loop {
                others_go_on().await;
                self.clock().advance(Duration::from_secs(1));
            }
        };
        bounded(async {
            tokio::select! {
                run = waits => run,
                () = moves => unreachable!("the clock goes on for ever"),
            }
        })
        .await
        .expect("driven to where it waits")
    }
}

pub(crate) fn builder_of(
    vault: &site_recovery::Vault,
    journal: Arc<dyn Journal>,
    pair: &Pair,
    actions: &Scripted,
) -> PlansBuilder {
    Plans::builder(vault, journal)
        .clock(Arc::new(pair.world.clock()))
        .random(Arc::new(pair.world.random()))
        .actions(Arc::new(actions.clone()))
}

/// Groups of members that wait for nobody.
pub(crate) fn plan(groups: &[&[&str]]) -> Plan {
    let member = |unit: &&str| Member { unit: (*unit).into(), after: vec![] };
    let group = |members: &&[&str]| BootGroup {
        members: members.iter().map(member).collect(),
        ..BootGroup::default()
    };
    Plan { groups: groups.iter().map(group).collect(), ..Plan::default() }
}

pub(crate) fn action(name: &str, does: Does) -> Action {
    Action { name: name.into(), on: BTreeSet::new(), directions: BTreeSet::new(), limit: 60, does }
}

pub(crate) fn runs(name: &str) -> Action {
    action(name, Does::Command { program: vec![name.into()], again: false })
}

pub(crate) fn by_hand(name: &str) -> Action {
    action(name, Does::Manual { instructions: "move the cable".into() })
}

pub(crate) fn over(run: &PlanRun) -> bool {
    run.state() == RunState::Ended
}

/// What would hang if it were broken fails instead.
pub(crate) async fn bounded<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), what).await.expect("it never came to an end")
}

/// Lets the others go on as far as they come.
pub(crate) async fn others_go_on() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

/// Lets the others go on until it is so; not for ever.
pub(crate) async fn until(so: impl Fn() -> bool) {
    for _ in 0..1_000_000 {
        if so() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("it never came to that");
}
