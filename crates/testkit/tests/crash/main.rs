//! Dies before and after every journal write of every operation, with the reply of the call before it kept or lost, going
//! forward and going back, once and again while it is resumed; starts anew, resumes, and compares the *world*.

mod scenario;
mod world;

use async_trait::async_trait;
use scenario::Scenario;
use site_recovery::state::Operation;
use site_recovery::workflow::{Course, Mark, Step, steps};
use site_recovery::{Booted, Journal, Recovery, Result, Unit, Validation, Vault, Verdict};
use site_recovery_testkit::crash::{Crash, CrashingJournal};
use site_recovery_testkit::engine::MemoryEngine;
use site_recovery_testkit::faults::{Fault, FaultPlan, Faulty};
use site_recovery_testkit::journal::MemoryJournal;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use world::{Shape, faulty};

/// Where a crash fell: the step that the journal names last, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    step: Step,
    back: bool,
    after: bool,
    lost: bool,
    second: bool,
}

#[derive(Default)]
struct Coverage {
    places: BTreeMap<Place, u32>,
    runs: u32,
}

impl Coverage {
    async fn note(&mut self, journal: &MemoryJournal, crash: Crash, lost: bool, second: bool) -> Result<()> {
        for subject in journal.subjects().await? {
            let Some(entry) = journal.load(&subject).await?.1.pop().filter(|_| subject.starts_with("unit/"))
            else {
                continue;
            };
            let unit = Unit::from_bytes(&subject, &entry)?;
            let run = unit.run.as_ref();
            let task = run.and_then(|r| r.tasks.iter().max_by_key(|t| (t.started, t.mark != Mark::Undone)));
            if let (Some(run), Some(task)) = (run, task) {
                let back = run.course == Course::Unwinding;
                let step = if back {
                    run.next_undo().unwrap_or(task.step)
                } else {
                    run.tasks.last().map_or(task.step, |t| t.step)
                };
                let after = matches!(crash, Crash::After(_));
                *self.places.entry(Place { step, back, after, lost, second }).or_default() += 1;
            }
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Healthy;

#[async_trait]
impl Validation for Healthy {
    async fn validate(&self, _recovery: &Recovery, _booted: &Booted) -> Result<Verdict> {
        Ok(Verdict::Good)
    }
}

/// One run of a scenario: to its end, or to its crash.
struct Take {
    engine: MemoryEngine,
    plan: FaultPlan,
    crashing: CrashingJournal,
    began: bool,
}

async fn take(scenario: Scenario, crash: Crash, lose: Option<u64>) -> Result<Take> {
    let engine = scenario.stage().await?;
    let plan = scenario.faults();
    if let Some(call) = lose {
        plan.at(call, Fault::Lost);
    }
    let crashing = CrashingJournal::new(Arc::new(engine.journal.clone()), crash);
    let vault = acting(&engine, &crashing, &plan).await?;
    let began = match scenario.act(&vault).await {
        Ok(job) => {
            if let Some(job) = job {
                let _ = job.wait().await;
            }
            true
        }
        Err(_) => false,
    };
    Ok(Take { engine, plan, crashing, began })
}

/// An engine of its own over the staged world, every role and the journal behind the plan.
async fn acting(engine: &MemoryEngine, crashing: &CrashingJournal, plan: &FaultPlan) -> Result<Vault> {
    let clock = engine.pair.world.clock();
    let journal: Arc<dyn Journal> = Arc::new(crashing.clone());
    let journal = Arc::new(Faulty::new(journal, plan, clock.clone()));
    let (out, back) = faulty(&engine.pair, plan);
    let builder = MemoryEngine::builder(&engine.pair, journal).out(out).back(back);
    builder.validation(Arc::new(Healthy)).build().await
}

/// Starts anew until nothing is under way; the first of these engines may die too.
async fn resume(
    scenario: Scenario,
    take: &Take,
    second: Option<Crash>,
    coverage: &mut Coverage,
) -> Result<Vault> {
    if let Some(crash) = second {
        let crashing = CrashingJournal::new(Arc::new(take.engine.journal.clone()), crash);
        let vault = acting(&take.engine, &crashing, &scenario.faults()).await?;
        for job in vault.resume().await.into_values().flatten() {
            job.let_boot();
            let _ = job.wait().await;
        }
        if crashing.is_dead() {
            coverage.note(&take.engine.journal, crash, false, true).await?;
        }
    }
    let (out, back) = faulty(&take.engine.pair, &scenario.faults());
    let builder = MemoryEngine::builder(&take.engine.pair, Arc::new(take.engine.journal.clone()));
    let vault = builder.out(out).back(back).build().await?;
    for job in vault.resume().await.into_values() {
        let job = job?;
        job.let_boot();
        job.wait().await?;
    }
    vault.watch_now().await?;
    Ok(vault)
}

#[tokio::test]
async fn o1_every_operation_survives_a_crash_at_every_write() -> Result<()> {
    let (mut coverage, mut broken) = (Coverage::default(), vec![]);
    for scenario in Scenario::ALL {
        let before = Shape::of(&scenario.stage().await?.pair, &scenario.stage().await?.vault).await?;
        let whole = take(scenario, Crash::Never, None).await?;
        assert!(whole.began, "{scenario:?} does not begin");
        let vault = resume(scenario, &whole, None, &mut coverage).await?;
        let done = Shape::of(&whole.engine.pair, &vault).await?;
        scenario.check(&before, &done);
        let calls = whole.plan.calls();
        let writes: Vec<usize> =
            calls.iter().enumerate().filter(|(_, c)| is_write(c)).map(|(at, _)| at).collect();
        assert_eq!(writes.len() as u64, whole.crashing.writes(), "{scenario:?}");
        for crash in Crash::sweep(writes.len() as u64) {
            let (Crash::Before(number) | Crash::After(number)) = crash else { continue };
            let last =
                writes[number as usize].checked_sub(1).filter(|at| !calls[*at].starts_with("journal."));
            for lose in [None, last.map(|at| at as u64)].into_iter().collect::<BTreeSet<_>>() {
                for second in [None, Some(Crash::Before(number % 7)), Some(Crash::After(number % 5))] {
                    if second.is_some() && lose.is_some() {
                        continue;
                    }
                    let take = take(scenario, crash, lose).await?;
                    coverage.runs += 1;
                    let lost = lose.is_some();
                    if take.crashing.is_dead() {
                        coverage.note(&take.engine.journal, crash, lost, false).await?;
                    }
                    let vault = resume(scenario, &take, second, &mut coverage).await?;
                    let shape = Shape::of(&take.engine.pair, &vault).await?;
                    let fits = shape == done || shape == before;
                    if !fits {
                        let lost = lose.map(|at| calls[at as usize].clone());
                        broken.push(format!(
                            "{scenario:?}, {crash:?}, lost {lost:?}, second {second:?}: {shape:?}"
                        ));
                    }
                    shape.check_safe(&before, &format!("{scenario:?}, {crash:?}, {lose:?}, {second:?}"));
                }
            }
        }
    }
    assert!(
        broken.is_empty(),
        "{} runs end neither done nor as before:\n{}",
        broken.len(),
        broken.join("\n")
    );
    report(&coverage);
    Ok(())
}

/// The reply of any single call is lost, and nobody dies: the operation ends as if nothing had been, or as before.
#[tokio::test]
async fn o1_every_operation_survives_every_lost_reply() -> Result<()> {
    let (mut lost, mut broken) = (0, vec![]);
    for scenario in Scenario::ALL {
        let staged = scenario.stage().await?;
        let before = Shape::of(&staged.pair, &staged.vault).await?;
        let whole = take(scenario, Crash::Never, None).await?;
        let mut none = Coverage::default();
        let vault = resume(scenario, &whole, None, &mut none).await?;
        let done = Shape::of(&whole.engine.pair, &vault).await?;
        let calls = whole.plan.calls();
        for (at, call) in calls.iter().enumerate().filter(|(_, c)| !c.starts_with("journal.")) {
            let take = take(scenario, Crash::Never, Some(at as u64)).await?;
            lost += take.plan.faulted();
            let vault = resume(scenario, &take, None, &mut none).await?;
            let shape = Shape::of(&take.engine.pair, &vault).await?;
            let parked = shape.waits_for_a_person();
            if !(shape == done || shape == before || parked) {
                broken.push(format!("{scenario:?}, lost reply of call {at} {call}: {shape:?}"));
            }
            shape.check_safe(&before, &format!("{scenario:?}, lost {call}"));
        }
    }
    assert!(
        broken.is_empty(),
        "{} runs end neither done nor as before:\n{}",
        broken.len(),
        broken.join("\n")
    );
    println!("{lost} lost replies");
    assert!(lost > 200, "only {lost} replies were lost");
    Ok(())
}

fn is_write(call: &str) -> bool {
    call == "journal.append" || call == "journal.fold"
}

fn report(coverage: &Coverage) {
    println!("{} runs", coverage.runs);
    let mut all: BTreeSet<Step> = Operation::ALL.iter().flat_map(|o| steps(*o)).copied().collect();
    let seen = |step: Step, f: &dyn Fn(&Place) -> bool| -> u32 {
        coverage.places.iter().filter(|(p, _)| p.step == step && f(p)).map(|(_, n)| n).sum()
    };
    println!("{:<16} {:>8} {:>8} {:>6} {:>6} {:>6}", "step", "before", "after", "lost", "back", "second");
    let mut missing = vec![];
    for step in std::mem::take(&mut all) {
        let counts = [
            seen(step, &|p| !p.after && !p.second),
            seen(step, &|p| p.after && !p.second),
            seen(step, &|p| p.lost),
            seen(step, &|p| p.back),
            seen(step, &|p| p.second),
        ];
        println!(
            "{:<16} {:>8} {:>8} {:>6} {:>6} {:>6}",
            format!("{step:?}"),
            counts[0],
            counts[1],
            counts[2],
            counts[3],
            counts[4]
        );
        if counts[0] == 0 || counts[1] == 0 || (counts[2] == 0 && scenario::calls_a_role(step)) {
            missing.push(step);
        }
    }
    let back: u32 = coverage.places.iter().filter(|(p, _)| p.back).map(|(_, n)| n).sum();
    let second: u32 = coverage.places.iter().filter(|(p, _)| p.second).map(|(_, n)| n).sum();
    assert!(missing.is_empty(), "never crashed at {missing:?}");
    assert!(back > 20 && second > 50, "{back} crashes while going back, {second} while resuming");
}
