//! Drives a run, stage by stage, until it ends or needs a person.

use crate::change::Change;
use crate::check::waves;
use crate::plan::Kind;
use crate::run::{Course, MemberState, Outcome, PlanRun, Stage};
use crate::shared::Shared;
use crate::slot::{Cause, Slot};
use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};
use site_recovery::workflow::Failure;
use site_recovery::{Error, ErrorKind, Result};
use std::sync::Arc;

/// What a stage waits for in each member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goal {
    /// Its source is off, or could not be proven off where that is accepted.
    Fenced,
    /// It stands prepared.
    Prepared,
    /// Its job is over.
    Over,
}

#[derive(Debug)]
pub(crate) struct Driver {
    pub(crate) shared: Arc<Shared>,
    pub(crate) slot: Arc<Slot>,
}

impl Driver {
    /// Every step of it is decided from the journalled run and the vault alone, so that another engine does the same.
    ///
    /// # Errors
    /// The journal did not take a change, or nobody drives a member's job: this engine must not go on.
    pub(crate) async fn drive(&self) -> Result<()> {
        loop {
            let run = self.slot.run();
            if run.ended.is_some() || run.course == Course::Stopped {
                return Ok(());
            }
            if run.course == Course::TurningBack {
                self.take_back(&run).await?;
                let run = self.slot.run();
                let done = run.members.iter().filter(|m| m.state == MemberState::Done);
                let (stay, failed) = (done.map(|m| m.name.clone()).collect(), run.failed());
                return self.end(Outcome::Cancelled { stay, failed }).await;
            }
            if run.waiting().is_some() {
                return Ok(());
            }
            let Some(next) = run.next_stage() else {
                let failed = run.failed();
                let outcome = if failed.is_empty() { Outcome::Done } else { Outcome::Partly { failed } };
                return self.end(outcome).await;
            };
            let stage = next.stage;
            if next.started.is_none() {
                self.change(move |run| going(run, Change::StageBegan(stage))).await?;
            }
            self.take(&run, stage).await?;
            self.change(move |run| match run.waiting() {
                None => going(run, Change::StageEnded(stage)),
                Some(_) => Ok(vec![]),
            })
            .await?;
        }
    }

    async fn end(&self, outcome: Outcome) -> Result<()> {
        // Cancelled at the very last moment: there is nothing left to take back but what has ended.
        self.change(|run| Ok(if run.ended.is_none() { vec![Change::Ended(outcome)] } else { vec![] }))
            .await?;
        self.slot.fold(&self.shared).await;
        Ok(())
    }

    async fn take(&self, run: &PlanRun, stage: Stage) -> Result<()> {
        let all: Vec<usize> = (0..run.members.len()).collect();
        match stage {
            Stage::Before(_) | Stage::After(_) => self.act(run, stage).await,
            Stage::ShutDown if run.kind() == Some(Kind::Planned) => {
                for group in (1..=run.of.groups.len()).rev() {
                    let of_group = |at: &usize| run.members[*at].group == group;
                    self.bring(all.iter().copied().filter(of_group), Goal::Fenced).await?;
                    if self.slot.run().course != Course::Forward {
                        break;
                    }
                }
                Ok(())
            }
            Stage::ShutDown => self.bring(all, Goal::Fenced).await,
            Stage::Prepare => self.bring(all, Goal::Prepared).await,
            Stage::Boot(number) => {
                let Some(group) = run.of.group(number) else { return Ok(()) };
                for wave in waves(group)? {
                    let names: Vec<&str> = wave.iter().map(|at| group.members[*at].unit.as_str()).collect();
                    let in_wave = |at: &usize| names.contains(&run.members[*at].name.as_str());
                    self.bring(all.iter().copied().filter(in_wave), Goal::Over).await?;
                    if self.slot.run().course != Course::Forward {
                        break;
                    }
                }
                Ok(())
            }
            Stage::Each => {
                let each = stream::iter(all).map(|at| self.advance(at, Goal::Over));
                let ended: Vec<Result<()>> = each.buffer_unordered(self.shared.at_once).collect().await;
                ended.into_iter().collect()
            }
        }
    }

    /// Brings members as far as that, in parallel. Where the first failure stops the run, it does so once all have settled.
    async fn bring(&self, members: impl IntoIterator<Item = usize>, goal: Goal) -> Result<()> {
        let each: Vec<_> = members.into_iter().map(|at| self.advance(at, goal)).collect();
        join_all(each).await.into_iter().collect::<Result<()>>()?;
        self.change(|run| {
            let failed = run.members.iter().find(|m| m.state == MemberState::Failed);
            match failed.filter(|_| run.stops() && run.course == Course::Forward) {
                Some(member) => {
                    let why = member.error.clone().unwrap_or_else(|| unknown(&member.name));
                    let message = format!("{}: {}", member.name, why.message);
                    Ok(vec![Change::Stopped(Failure { message, ..why })])
                }
                None => Ok(vec![]),
            }
        })
        .await?;
        Ok(())
    }

    /// Cancels what has begun and not booted, and waits for all of it.
    async fn take_back(&self, run: &PlanRun) -> Result<()> {
        join_all((0..run.members.len()).map(|at| self.retreat(at))).await.into_iter().collect()
    }

    /// Changes the run in its own name.
    pub(crate) async fn change(
        &self,
        decide: impl FnOnce(&PlanRun) -> Result<Vec<Change>> + Send + 'static,
    ) -> Result<Arc<PlanRun>> {
        let (shared, slot) = (Arc::clone(&self.shared), Arc::clone(&self.slot));
        let cause = Cause::of(&slot.run());
        let change = async move { slot.record(&shared, &cause, decide, |_| ()).await };
        self.shared.by_itself(change).await
    }
}

/// A change that counts only while the run goes forward.
pub(crate) fn going(run: &PlanRun, change: Change) -> Result<Vec<Change>> {
    Ok(if run.course == Course::Forward { vec![change] } else { vec![] })
}

fn unknown(name: &str) -> Failure {
    Failure::from(&Error::new(ErrorKind::Refused, format!("{name} has failed")))
}
