//! What changes a run: the audit trail is the list of these, and the run is what they come to.

use crate::plan::Does;
use crate::run::{ActionRun, ActionState, Course, MemberRun, MemberState, Outcome, PlanRun, Stage};
use serde::{Deserialize, Serialize};
use site_recovery::Timestamp;
use site_recovery::workflow::Failure;

/// One change of a run.
#[allow(clippy::large_enum_variant, reason = "few of them exist at a time")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// It begins.
    Began(Box<PlanRun>),
    /// Another engine goes on with it.
    Resumed,
    /// A stage begins.
    StageBegan(Stage),
    /// A stage is over.
    StageEnded(Stage),
    /// A member got further.
    Member(MemberRun),
    /// An action got further.
    Action(ActionRun),
    /// Something failed, and the run waits for a person.
    Stopped(Failure),
    /// A person lets it go on: members that failed begin anew, actions that failed are taken again where they can be.
    WentOn {
        /// Who.
        by: String,
    },
    /// A person cancels it: what waits for a person is dropped.
    TurnedBack,
    /// It is over: an action whose end nobody saw is dropped.
    Ended(Outcome),
}

impl PlanRun {
    /// This run after a change.
    #[must_use]
    pub(crate) fn after(mut self, change: &Change, at: Timestamp) -> Self {
        match change {
            Change::Began(run) => self = (**run).clone(),
            Change::Resumed => {}
            Change::StageBegan(stage) => {
                for found in self.stages.iter_mut().filter(|s| s.stage == *stage) {
                    found.started.get_or_insert(at);
                }
            }
            Change::StageEnded(stage) => {
                for found in self.stages.iter_mut().filter(|s| s.stage == *stage) {
                    found.ended = Some(at);
                }
            }
            Change::Member(member) => {
                for found in self.members.iter_mut().filter(|m| m.unit == member.unit) {
                    found.clone_from(member);
                }
            }
            Change::Action(action) => match self.actions.iter_mut().find(|a| a.name == action.name) {
                Some(found) => found.clone_from(action),
                None => self.actions.push(action.clone()),
            },
            Change::Stopped(why) => (self.course, self.stopped) = (Course::Stopped, Some(why.clone())),
            Change::WentOn { by } => self.go_on(by),
            Change::TurnedBack => {
                (self.course, self.stopped) = (Course::TurningBack, None);
                self.drop_actions(ActionState::Waiting, at);
            }
            Change::Ended(outcome) => {
                // Of a program whose engine died nobody knows how it ended.
                self.drop_actions(ActionState::Running, at);
                (self.ended, self.outcome) = (Some(at), Some(outcome.clone()));
            }
        }
        self
    }

    fn drop_actions(&mut self, state: ActionState, at: Timestamp) {
        for action in self.actions.iter_mut().filter(|a| a.state == state) {
            (action.state, action.ended) = (ActionState::Dropped, Some(at));
        }
    }

    fn go_on(&mut self, by: &str) {
        (self.course, self.stopped) = (Course::Forward, None);
        for member in self.members.iter_mut().filter(|m| m.state == MemberState::Failed) {
            member.earlier.extend(member.job.take());
            (member.state, member.error) = (MemberState::Waiting, None);
            (member.started, member.ended) = (None, None);
        }
        let plan = &self.of;
        self.actions.retain_mut(|action| {
            if action.state != ActionState::Failed {
                return true;
            }
            let does = plan.actions().find(|a| a.name == action.name).map(|a| &a.does);
            // A program that has ended is run again only where its plan says that it can be.
            let once = matches!(does, Some(Does::Command { again: false, .. }));
            if once {
                (action.state, action.completed_by) = (ActionState::PassedOver, Some(by.to_owned()));
            }
            once
        });
    }
}

/// The run that these changes come to, each with its time.
pub fn replay<'a>(changes: impl IntoIterator<Item = (Timestamp, &'a Change)>) -> Option<PlanRun> {
    let mut run = None;
    for (at, change) in changes {
        run = match (run, change) {
            (_, Change::Began(began)) => Some((**began).clone()),
            (Some(run), change) => Some(PlanRun::after(run, change, at)),
            (None, _) => None,
        };
    }
    run
}
