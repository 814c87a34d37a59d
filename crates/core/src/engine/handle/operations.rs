//! What can be asked of a machine and of a group alike: the same words, for one member or for all.

use super::{GroupHandle, ItemHandle};
use crate::engine::job::{self, Beginning, Job};
use crate::engine::plan::{Plan, plan};
use crate::engine::runner::can_be_cancelled;
use crate::engine::verify;
use crate::state::{Divergence, Operation, Phase, Resync};
use crate::{
    CommitRequest, CompleteCopy, Cutover, DisableRequest, DrillRequest, Error, ErrorKind, FailoverRequest,
    Finding, Force, Item, JobRun, PointChoice, PromoteRequest, ReprotectRequest, Request, Result,
    UndoRequest, UnitId, Verb,
};

macro_rules! operations {
    ($handle:ident) => {
        impl $handle {
            /// The same handle, acting for this operator: named in audit records and asked about at the authorizer.
            #[must_use]
            pub fn acting_as(mut self, operator: &str) -> Self {
                self.operator = operator.to_owned().into();
                self
            }

            /// The unit's name.
            pub fn unit(&self) -> &UnitId {
                &self.slot.id
            }

            /// The job under way, if one is.
            pub fn run(&self) -> Option<JobRun> {
                self.slot.unit().run.clone()
            }

            /// Jobs that have ended, newest last; the last sixteen.
            pub fn finished(&self) -> Vec<JobRun> {
                self.slot.unit().finished.runs()
            }

            /// Starts enabling protection again, where it failed.
            ///
            /// # Errors
            /// `Refused` in any other state.
            pub async fn enable(&self) -> Result<Job> {
                self.begin(Operation::EnableProtection, Request::Plain).await
            }

            /// Fails over, either way.
            ///
            /// # Errors
            /// Bad requests and states are refused before anything changes; see [`FailoverRequest::validate`]. `Unsupported`
            /// for a planned one from a source that cannot capture a machine that is off.
            pub async fn failover(&self, request: FailoverRequest) -> Result<Job> {
                request.validate()?;
                for item in &self.now()?.members {
                    if item.state.direction != request.direction {
                        let rule = format!("{} replicates {:?}", item.id(), item.state.direction);
                        let meant = format!("{:?}", request.direction);
                        return Err(Error::invalid("failover.direction", meant, &rule, "check which side runs"));
                    }
                    if matches!(request.cutover, Cutover::Planned { .. }) {
                        self.check_captures_off(item)?;
                    }
                    let unverified = item.state.resync != Resync::None;
                    if unverified && !request.accept_unverified {
                        let message = format!("{} is not compared yet; repair it, or accept that by name", item.id());
                        return Err(Error::new(ErrorKind::Refused, message));
                    }
                }
                if self.members() > 1 && matches!(request.point, PointChoice::Custom(_)) {
                    let rule = "a point belongs to one machine";
                    return Err(Error::invalid("failover.point", "Custom", rule, "choose a latest form for a group"));
                }
                self.check_settings().await?;
                self.begin(request.operation(), Request::Failover(request)).await
            }

            /// What an operation would do, stop, start, remove and lose. Changes nothing.
            ///
            /// # Errors
            /// `Refused` where the state does not allow the operation, `Invalid` for a request that cannot be meant. What the
            /// roles would refuse is found when it begins.
            pub async fn plan(&self, operation: Operation, request: &Request) -> Result<Plan> {
                if let Request::Failover(request) = request {
                    request.validate()?;
                }
                plan(&self.shared, &*self.now()?, operation, request).await
            }

            /// Ends the retries of the job under way: what fails from now on is for a person to decide. Of a failover
            /// past its pivot this is how retry, another point and undo become possible at once.
            ///
            /// # Errors
            /// `NotFound` where no job is under way.
            pub fn stop_retrying(&self) -> Result<()> {
                let control = self.slot.control.lock().expect("no panic under this lock").clone();
                let run = self.slot.unit().run.clone();
                let (Some(control), Some(run)) = (control, run) else {
                    return Err(Error::new(ErrorKind::NotFound, "no job is under way"));
                };
                self.authorize(Verb::Operation(run.operation))?;
                control.stop_retrying();
                Ok(())
            }

            /// Runs from another point, before commit.
            ///
            /// # Errors
            /// `Refused` in any other state.
            pub async fn change_point(&self, point: PointChoice) -> Result<Job> {
                self.check_branches()?;
                self.begin(Operation::ChangePit, Request::Change(point)).await
            }

            /// Boots again what was refused.
            ///
            /// # Errors
            /// `Refused` in any other state, and where the prepared machine was set aside: change the point then.
            pub async fn retry(&self, force: Option<Force>) -> Result<Job> {
                for item in &self.now()?.members {
                    let aside = |p: &crate::Promotion| item.kept.iter().any(|k| k.is(&p.armed.instance));
                    if item.promotion.as_deref().is_none_or(aside) {
                        let message = "what was prepared is set aside; change the point, or undo";
                        return Err(Error::new(ErrorKind::Refused, message));
                    }
                }
                self.begin(Operation::RetryFailover, Request::Forced(force)).await
            }

            /// Goes back before the pivot. A job under way is asked to turn back; one that could not finish turning back
            /// goes on doing so.
            ///
            /// # Errors
            /// `Refused` past the pivot: undo is what fences.
            pub async fn cancel(&self) -> Result<Option<Job>> {
                let unit = self.now()?;
                self.authorize(Verb::Operation(Operation::CancelFailover))?;
                let control = self.slot.control.lock().expect("no panic under this lock").clone();
                if let (Some(run), Some(control)) = (unit.run.as_ref(), control) {
                    if !can_be_cancelled(run) {
                        let message = format!(
                            "{:?} goes on to its end now; undo it once it is completed, if it can be undone",
                            run.operation
                        );
                        return Err(Error::new(ErrorKind::Refused, message));
                    }
                    control.cancel();
                    return Ok(None);
                }
                self.begin(Operation::CancelFailover, Request::Plain).await.map(Some)
            }

            /// Goes back after the pivot, until commit.
            ///
            /// # Errors
            /// `Refused` after commit; where the site cannot branch in place; and where the sides may have diverged, unless
            /// the recovered side is named as the one that loses.
            pub async fn undo(&self, request: UndoRequest) -> Result<Job> {
                for item in &self.now()?.members {
                    if item.state.divergence == Divergence::Possible && !request.recovered_side_loses {
                        let message = format!(
                            "both sides of {} may have run; name the recovered side as the one that loses, or commit and reprotect",
                            item.id()
                        );
                        return Err(Error::new(ErrorKind::Refused, message));
                    }
                }
                self.check_branches()?;
                if let Some(force) = &request.force {
                    force.validate()?;
                }
                self.begin(Operation::UndoFailover, Request::Undo(request)).await
            }

            /// Runs on the recovered side after all, when an undo could not start the source.
            ///
            /// # Errors
            /// `Refused` once the intent to start the source is recorded.
            pub async fn abandon_undo(&self, force: Option<Force>) -> Result<Job> {
                if self.now()?.members.iter().any(|i| i.promotion.is_none()) {
                    let message = "the intent to start the source is recorded; retry the undo, or promote the other side";
                    return Err(Error::new(ErrorKind::Refused, message));
                }
                self.begin(Operation::AbandonUndo, Request::Forced(force)).await
            }

            /// Makes a failover final. Of a failover out: deletes all other points but pinned and locked ones, the base of
            /// the way back and the newest. Of a failback: first reads back that the other side is off.
            ///
            /// # Errors
            /// `Refused` where the machine does not run, or where a good validation is required and there is none.
            pub async fn commit(&self, request: CommitRequest) -> Result<Job> {
                if let Some(force) = &request.force {
                    force.validate()?;
                }
                self.check_commit(&request).await?;
                self.begin(Operation::Commit, Request::Commit(request)).await
            }

            async fn check_commit(&self, request: &CommitRequest) -> Result<()> {
                for item in &self.now()?.members {
                    if !matches!(item.state.phase, Phase::FailoverCompleted(_) | Phase::CommitFailoverCompleted) {
                        continue;
                    }
                    for note in crate::engine::steps::commit::check(&self.shared, item, request).await? {
                        tracing::warn!(machine = %item.id(), note, "commit");
                    }
                }
                Ok(())
            }

            /// Stays on the recovery side for good: commits, and ends the item. The old side stays fenced.
            ///
            /// # Errors
            /// `Refused` on the way back, and where the sides may have diverged and the other one is not named as the one
            /// that loses.
            pub async fn complete_migration(&self, request: CommitRequest) -> Result<Job> {
                if let Some(force) = &request.force {
                    force.validate()?;
                }
                for item in &self.now()?.members {
                    if item.state.divergence != Divergence::None && !request.other_side_loses {
                        let message = format!(
                            "the other side of {} may hold writes that this one lacks ({:?}); name it as the one that loses",
                            item.id(), item.state.divergence
                        );
                        return Err(Error::new(ErrorKind::Refused, message));
                    }
                }
                self.check_commit(&request).await?;
                self.begin(Operation::CompleteMigration, Request::Commit(request)).await
            }

            /// Replicates the other way. Nothing does so by itself after a failover.
            ///
            /// # Errors
            /// `Refused` before commit, and where the sides may have diverged and no loser is named; `Invalid` for settings
            /// that the site refuses, and for legs of which the next one does not come from where the machine runs.
            pub async fn reprotect(&self, request: ReprotectRequest) -> Result<Job> {
                if let Some(settings) = &request.settings {
                    settings.validate()?;
                    if let Some(field) = settings.of_one_machine().filter(|_| self.members() > 1) {
                        let rule = "it is of one machine, and the group has several";
                        let remedy = "leave it out, and set it at each machine";
                        return Err(Error::invalid("reprotect.settings", field, rule, remedy));
                    }
                }
                if let Some((out, back)) = &request.legs {
                    self.shared.leg(out)?;
                    self.shared.leg(back)?;
                }
                self.check_legs(&request)?;
                self.check_way_back(&request).await?;
                self.begin(Operation::ReverseReplicate, Request::Reprotect(request)).await
            }

            /// Rolls an unfinished landing back to what stood there first.
            ///
            /// # Errors
            /// `Refused` in any other state.
            pub async fn restore_landing(&self) -> Result<Job> {
                self.begin(Operation::RestoreLanding, Request::Plain).await
            }

            /// Compares both sides and ships what differs; also starts a failed first copy again.
            ///
            /// # Errors
            /// `Refused` where nothing replicates.
            pub async fn repair(&self) -> Result<Job> {
                self.begin(Operation::RepairReplication, Request::Plain).await
            }

            /// Starts a drill: an isolated copy; nothing on the source or its replication changes.
            ///
            /// # Errors
            /// `Refused` while there is one; `Unsupported` where the site has no isolated network.
            pub async fn test_failover(&self, request: DrillRequest) -> Result<Job> {
                for item in &self.now()?.members {
                    if !self.shared.leg_of(item)?.recovery_site.capability().drills {
                        let message = "this site cannot run a copy in an isolated network";
                        return Err(Error::new(ErrorKind::Unsupported, message));
                    }
                }
                self.begin(Operation::TestFailover, Request::Drill(request)).await
            }

            /// Boots the newest point in isolation, asks the vault's [`Validation`](crate::Validation) whether the guest has
            /// come up, and removes it again; replication goes on while the guest comes up. What it came to is in the
            /// report ([`MemberReport::proof`](crate::MemberReport::proof)), with the point, and in health: a point that
            /// does not boot is a result, and no failure of the job. It gives way to every other operation.
            ///
            /// # Errors
            /// `Refused` while there is a drill, and on the way back; `Unsupported` without a validation, or where the site
            /// has no isolated network.
            pub async fn verify(&self) -> Result<Job> {
                for item in &self.now()?.members {
                    verify::check_possible(&self.shared, &item.out)?;
                }
                self.begin(Operation::VerifyBoot, Request::Plain).await
            }

            /// Removes the drill.
            ///
            /// # Errors
            /// `Refused` where there is none.
            pub async fn clean_up_test(&self) -> Result<Job> {
                self.begin(Operation::TestFailoverCleanup, Request::Plain).await
            }

            /// Makes the drill's point a real failover: the source is fenced first, the machine is built anew from the same
            /// point, the drill goes.
            ///
            /// # Errors
            /// `Refused` where no drill waits.
            pub async fn promote_test(&self, mut request: FailoverRequest) -> Result<Job> {
                request.point = PointChoice::LatestProcessed;
                request.validate()?;
                self.begin(Operation::PromoteTestFailover, Request::Failover(request)).await
            }

            /// The last resort: starts the side that is left, from a complete copy there, while the active side does not
            /// answer, is gone, or has lost its disk. A reprotect or a commit that waits for that side gives way.
            /// [`plan`](Self::plan) shows the loss first.
            ///
            /// # Errors
            /// `Refused` while the active side runs; `NotFound` where there is no such copy.
            pub async fn promote_other(&self, request: PromoteRequest) -> Result<Job> {
                request.force.validate()?;
                let unit = self.now()?;
                if unit.members.len() > 1 && matches!(request.copy, CompleteCopy::Point(_)) {
                    let rule = "a point belongs to one machine";
                    return Err(Error::invalid("promote.copy", "Point", rule, "choose the newest for a group"));
                }
                // Before anything gives way to it.
                for item in &unit.members {
                    let active = item.active();
                    if matches!(self.shared.runs(active).await, Ok(true)) {
                        let message = format!("{} runs; the other side is started only when it is lost", active.name);
                        return Err(Error::new(ErrorKind::Refused, message));
                    }
                }
                self.begin(Operation::PromoteOther, Request::Promote(request)).await
            }

            /// Leaves our care. Machines stay as they run; the report says what stays blocked, pinned or owed.
            ///
            /// # Errors
            /// `Refused` while a job is under way.
            pub async fn disable(&self, request: DisableRequest) -> Result<Job> {
                self.begin(Operation::DisableProtection, Request::Disable(request)).await
            }

            /// Forgets what could not be removed; the report lists it.
            ///
            /// # Errors
            /// `Refused` unless leaving has failed.
            pub async fn purge(&self, request: DisableRequest) -> Result<Job> {
                self.begin(Operation::Purge, Request::Disable(request)).await
            }

            pub(super) fn authorize(&self, verb: Verb) -> Result<()> {
                let machines = self.now()?.machines();
                machines.iter().try_for_each(|m| self.shared.authorizer.authorize(&self.operator, verb, m))
            }

            fn check_captures_off(&self, item: &Item) -> Result<()> {
                let source = &self.shared.leg_of(item)?.source;
                if source.capability().captures_off {
                    return Ok(());
                }
                let message = format!(
                    "{} cannot read the disks of a machine that is off, so the last changes would stay there: fail over unplanned",
                    source.name()
                );
                Err(Error::new(ErrorKind::Unsupported, message))
            }

            fn check_branches(&self) -> Result<()> {
                for item in &self.now()?.members {
                    if !self.shared.leg_of(item)?.recovery_site.capability().branches {
                        let message = "this site cannot branch disks, so there is nothing to go back to";
                        return Err(Error::new(ErrorKind::Unsupported, message));
                    }
                }
                Ok(())
            }

            async fn begin(&self, operation: Operation, request: Request) -> Result<Job> {
                let who = self.operator.to_string();
                job::begin(&self.shared, &self.slot, Beginning { operation, request, who, by_engine: false }).await
            }

            fn members(&self) -> usize {
                self.slot.unit().members.len()
            }

            /// The leg that replicates next reads the machine that runs. Where nothing may be reprotected, that is said first.
            fn check_legs(&self, request: &ReprotectRequest) -> Result<()> {
                let may = |i: &&Item| i.state.allowed_operations().contains(&Operation::ReverseReplicate);
                for item in self.now()?.members.iter().filter(may) {
                    let source = self.shared.far_leg(item, request.legs.as_ref())?.source.name();
                    let active = item.active();
                    if source != active.site {
                        let rule = format!("{} runs at {}, which the leg has to come from", active.name, active.site);
                        let comes = format!("a leg from {source}");
                        return Err(Error::invalid("reprotect.legs", comes, &rule, "name a leg from there"));
                    }
                }
                Ok(())
            }

            /// Settings that the other site refuses are refused now; what it waits for is the job's to wait for.
            async fn check_way_back(&self, request: &ReprotectRequest) -> Result<()> {
                for item in &self.now()?.members {
                    let far = self.shared.far_leg(item, request.legs.as_ref())?;
                    let settings = far.settings_by(item, request.settings.as_ref());
                    settings.validate()?;
                    let check = far.recovery_site.check(&item.machine, &settings);
                    let found = self.shared.within(self.shared.deadlines.recovery_site, "check", check).await;
                    let refused = |f: &&Finding| f.blocks() && f.code.starts_with("setting.");
                    if let Some(found) = found.iter().flatten().find(refused) {
                        return Err(found.refusal());
                    }
                }
                Ok(())
            }

            async fn check_settings(&self) -> Result<()> {
                for item in &self.now()?.members {
                    let leg = self.shared.leg_of(item)?;
                    let settings = leg.settings_of(item);
                    let check = leg.recovery_site.check(&item.machine, &settings);
                    let findings = self.shared.within(self.shared.deadlines.recovery_site, "check", check).await?;
                    if let Some(found) = findings.iter().find(|f| f.blocks()) {
                        return Err(found.refusal());
                    }
                }
                Ok(())
            }
        }
    };
}

operations!(ItemHandle);
operations!(GroupHandle);
