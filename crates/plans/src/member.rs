//! One member of a run: its job is begun, found again, waited for, let boot, and taken back.

use crate::change::Change;
use crate::driver::{Driver, Goal};
use crate::run::{Course, MachineRun, MemberRun, MemberState, PlanRun};
use site_recovery::workflow::{Course as JobCourse, Failure, Mark, Step};
use site_recovery::{
    Delivery, Error, ErrorKind, Events, GroupHandle, Job, JobRun, Operation, Request, Result, Timestamp,
    UnitId,
};

/// A member's job as the vault knows it.
#[derive(Debug)]
enum Found {
    /// None was begun.
    None,
    /// Somebody drives it.
    Driven(Box<JobRun>, Job),
    /// It is over, or parked for a person.
    Over(Box<JobRun>),
}

impl Driver {
    /// Brings a member as far as `goal`. What fails is in its record; what has nothing to do is left alone.
    ///
    /// # Errors
    /// As [`Driver::drive`].
    pub(crate) async fn advance(&self, at: usize, goal: Goal) -> Result<()> {
        let member = self.slot.run().members[at].clone();
        match member.state {
            MemberState::Skipped | MemberState::Done | MemberState::Failed | MemberState::TakenBack => Ok(()),
            MemberState::Prepared if goal != Goal::Over => Ok(()),
            MemberState::Waiting => {
                let mapped = match self.mapped(&member) {
                    Ok(mapped) => mapped,
                    Err(error) => return self.fail(at, &error).await,
                };
                let now = self.shared.clock.now();
                let begun = self.change(move |run| {
                    if run.course != Course::Forward {
                        return Ok(vec![]);
                    }
                    let mut member = run.members[at].clone();
                    (member.state, member.started, member.machines) = (MemberState::Begun, Some(now), mapped);
                    Ok(vec![Change::Member(member)])
                });
                if begun.await?.members[at].state == MemberState::Begun {
                    self.go(at, goal).await
                } else {
                    Ok(())
                }
            }
            MemberState::Begun | MemberState::Prepared | MemberState::Booting => self.go(at, goal).await,
        }
    }

    async fn go(&self, at: usize, goal: Goal) -> Result<()> {
        // Before it is looked at, so that nothing is missed.
        let mut events = self.shared.vault.events();
        loop {
            let run = self.slot.run();
            let (job_run, job) = match self.find(&run, &run.members[at])? {
                Found::None => {
                    // Awaited to its end, also where the run is cancelled meanwhile: a job that begins is known.
                    if let Err(error) = self.begin(&run, &run.members[at]).await {
                        return self.fail(at, &error).await;
                    }
                    continue;
                }
                Found::Over(job) => return self.settle(at, &job).await,
                Found::Driven(run, job) => (run, job),
            };
            if run.members[at].job.as_ref() != Some(&job_run.id) {
                let id = job_run.id.clone();
                self.set(at, move |member| member.job = Some(id)).await?;
            }
            let reached = match goal {
                Goal::Fenced => fenced(&job_run),
                Goal::Prepared => job_run.holds_boot(),
                Goal::Over => false,
            };
            if reached {
                if goal == Goal::Prepared {
                    self.set(at, |member| member.state = MemberState::Prepared).await?;
                }
                return Ok(());
            }
            if goal == Goal::Over && job_run.request.holds_boot() {
                if run.members[at].state != MemberState::Booting {
                    self.set(at, |member| member.state = MemberState::Booting).await?;
                    if self.slot.run().course != Course::Forward {
                        return Ok(());
                    }
                }
                job.let_boot();
            }
            tokio::select! {
                ended = job.wait() => drop(ended?),
                () = self.slot.turned_back() => return Ok(()),
                () = next_of(&mut events, &run.members[at].unit), if goal != Goal::Over => {}
            }
        }
    }

    /// Takes back what has begun and not booted, and waits until that is so.
    pub(crate) async fn retreat(&self, at: usize) -> Result<()> {
        loop {
            let run = self.slot.run();
            let member = &run.members[at];
            if !matches!(member.state, MemberState::Begun | MemberState::Prepared | MemberState::Booting) {
                return Ok(());
            }
            match self.find(&run, member)? {
                Found::None => {
                    let now = self.shared.clock.now();
                    return self
                        .set(at, move |m| (m.state, m.ended) = (MemberState::TakenBack, Some(now)))
                        .await;
                }
                Found::Driven(_, job) => {
                    job.cancel();
                    job.wait().await?;
                }
                Found::Over(job) => return self.settle(at, &job).await,
            }
        }
    }

    /// The newest job of this member that this run has begun, whichever engine did.
    fn find(&self, run: &PlanRun, member: &MemberRun) -> Result<Found> {
        let Ok(handle) = self.handle(run, member) else { return Ok(Found::None) };
        let operator = run.operator();
        let ours = |job: &JobRun| {
            job.who == operator && job.operation == run.operation && !member.earlier.contains(&job.id)
        };
        for _ in 0..2 {
            let under_way = handle.run().filter(ours);
            let job_run = under_way.or_else(|| handle.finished().into_iter().rev().find(ours));
            let Some(job_run) = job_run else { return Ok(Found::None) };
            let job = handle.items().first().and_then(|item| item.job());
            // What a planned failover undoes by itself is waited for as well.
            let is_its = |job: &Job| {
                let undoes = handle.run().is_some_and(|r| r.operation == Operation::UndoFailover);
                *job.id() == job_run.id || job_run.why.is_some() && undoes
            };
            if let Some(job) = job.filter(is_its) {
                return Ok(Found::Driven(Box::new(job_run), job));
            }
            if job_run.ended.is_some() || job_run.course == JobCourse::Parked {
                return Ok(Found::Over(Box::new(job_run)));
            }
            // It may have ended between the two looks; then the second round sees it.
        }
        let message = format!("nobody drives the job of {}; Vault::resume goes on with it", member.name);
        Err(Error::new(ErrorKind::Refused, message))
    }

    fn handle(&self, run: &PlanRun, member: &MemberRun) -> Result<GroupHandle> {
        Ok(self.shared.vault.group(member.unit.as_str())?.acting_as(&run.operator()))
    }

    async fn begin(&self, run: &PlanRun, member: &MemberRun) -> Result<()> {
        self.set_mapped(run, member).await?;
        let handle = self.handle(run, member)?;
        match (run.operation, run.request.clone()) {
            (_, Request::Failover(request)) => handle.failover(request).await,
            (_, Request::Drill(request)) => handle.test_failover(request).await,
            (_, Request::Commit(request)) => handle.commit(request).await,
            (_, Request::Reprotect(request)) => handle.reprotect(request).await,
            (Operation::TestFailoverCleanup, Request::Plain) => handle.clean_up_test().await,
            (operation, _) => Err(Error::new(ErrorKind::Unsupported, format!("no plan does {operation:?}"))),
        }
        .map(drop)
    }

    /// Records what a member's job came to.
    async fn settle(&self, at: usize, job: &JobRun) -> Result<()> {
        let (job, now) = (job.clone(), self.shared.clock.now());
        let wished = self.slot.run().course == Course::TurningBack;
        self.set(at, move |member| settled(member, &job, wished, now)).await
    }

    async fn fail(&self, at: usize, error: &Error) -> Result<()> {
        let (why, now) = (Failure::from(error), self.shared.clock.now());
        self.set(at, move |member| {
            (member.state, member.error, member.ended) = (MemberState::Failed, Some(why), Some(now));
        })
        .await
    }

    pub(crate) async fn set(
        &self,
        at: usize,
        edit: impl FnOnce(&mut MemberRun) + Send + 'static,
    ) -> Result<()> {
        self.change(move |run| {
            let mut member = run.members[at].clone();
            edit(&mut member);
            Ok(if member == run.members[at] { vec![] } else { vec![Change::Member(member)] })
        })
        .await
        .map(drop)
    }
}

/// The next thing that happens in a unit, or may have.
async fn next_of(events: &mut Events, unit: &UnitId) {
    while let Delivery::Notice(notice) = events.next().await {
        if notice.unit == *unit {
            return;
        }
    }
}

/// Whether the source is off, or accepted as not proven off.
fn fenced(job: &JobRun) -> bool {
    let goes_on = job.ended.is_none() && job.course == JobCourse::Forward;
    goes_on && job.tasks.iter().any(|task| task.step == Step::Fence && task.mark == Mark::Done)
}

fn settled(member: &mut MemberRun, job: &JobRun, wished: bool, now: Timestamp) {
    member.job = Some(job.id.clone());
    member.ended = Some(job.ended.unwrap_or(now));
    member.error.clone_from(&job.why);
    member.state = match &job.why {
        None => MemberState::Done,
        Some(_) if wished && job.course != JobCourse::Parked => MemberState::TakenBack,
        Some(_) => MemberState::Failed,
    };
    for machine in &mut member.machines {
        let Some(progress) = job.members.get(&machine.machine) else { continue };
        let MachineRun { point, loss, reach, verdict, .. } = machine;
        (*point, *loss) = (progress.point, progress.loss.clone());
        *reach = progress.booted.iter().flat_map(|b| b.reach.clone()).collect();
        verdict.clone_from(&progress.verdict);
    }
}
