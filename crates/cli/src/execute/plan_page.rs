//! Recovery plans and their runs as they are shown.

use super::plan::unknown;
use super::words::at_most;
use crate::answer::{
    ActionLine, Answer, BootGroupLine, PlanLine, PlanMemberLine, RecoveryPlanPage, RunMachineLine,
    RunMemberLine, RunPage, RunState, StageLine, WaitLine,
};
use crate::engine::Engine;
use site_recovery::Result;
use site_recovery_plans::{Action, ActionRun, Does, MemberRun, Outcome, Part, Plan, PlanRun, Stage};
use std::collections::BTreeSet;

/// All plans, by name: those of the settings, and those that were run and are there no more.
pub(super) fn list(engine: &Engine) -> Vec<PlanLine> {
    let runs = engine.plans.list();
    let told = &engine.settings.plans;
    let names: BTreeSet<&str> =
        told.keys().map(String::as_str).chain(runs.iter().map(|r| r.plan.as_str())).collect();
    let line = |name: &str| {
        let plan = told.get(name).map(|plan| plan.get_ref());
        let run = runs.iter().find(|run| run.plan == name);
        PlanLine {
            plan: name.to_owned(),
            in_settings: plan.is_some(),
            groups: plan.map_or(0, |plan| plan.groups.len()),
            members: plan.map_or(0, |plan| plan.groups.iter().map(|group| group.members.len()).sum()),
            run: run.map(|run| run.id.clone()),
            operation: run.map(|run| format!("{:?}", run.operation)),
            state: run.map(state),
            why: run.and_then(because),
        }
    };
    names.into_iter().map(line).collect()
}

/// One plan, as the settings have it, and its newest run.
///
/// # Errors
/// `NotFound` for one that they lack, and that was never run.
pub(super) fn show(engine: &Engine, name: &str) -> Result<Answer> {
    let plan = engine.settings.plans.get(name).map(|plan| plan.get_ref());
    let run = engine.plans.status(name).ok();
    if plan.is_none() && run.is_none() {
        return Err(unknown(engine, name));
    }
    Ok(Answer::RecoveryPlan(Box::new(RecoveryPlanPage {
        plan: name.to_owned(),
        groups: plan.map_or(vec![], |plan| groups(engine, plan)),
        run: run.as_ref().map(page),
    })))
}

fn groups(engine: &Engine, plan: &Plan) -> Vec<BootGroupLine> {
    let names = |actions: &[Action]| actions.iter().map(|action| action.name.clone()).collect();
    let group = |(group, number): (&site_recovery_plans::BootGroup, usize)| BootGroupLine {
        group: number,
        members: group
            .members
            .iter()
            .map(|member| PlanMemberLine {
                unit: member.unit.clone(),
                after: member.after.clone(),
                protected: engine.unit(&member.unit, "operator").is_ok(),
            })
            .collect(),
        before: names(&group.before),
        after: names(&group.after),
    };
    plan.groups.iter().zip(1..).map(group).collect()
}

/// A run, whole.
pub(super) fn page(run: &PlanRun) -> RunPage {
    let stage_line = |of: &site_recovery_plans::StageRun| StageLine {
        stage: stage(of.stage),
        started: of.started.map(|at| at.to_string()),
        ended: of.ended.map(|at| at.to_string()),
    };
    RunPage {
        plan: run.plan.clone(),
        run: run.id.clone(),
        operation: format!("{:?}", run.operation),
        direction: format!("{:?}", run.direction),
        who: run.who.clone(),
        why: run.why.clone(),
        started: run.started.to_string(),
        ended: run.ended.map(|at| at.to_string()),
        state: state(run),
        because: because(run),
        waits_for: run.waiting().map(|action| waits(run, action)),
        stages: run.stages.iter().map(stage_line).collect(),
        members: run.members.iter().map(member).collect(),
        actions: run.actions.iter().map(action).collect(),
    }
}

fn state(run: &PlanRun) -> RunState {
    use site_recovery_plans::RunState as Library;
    match (run.state(), &run.outcome) {
        (_, Some(Outcome::Done)) => RunState::Done,
        (_, Some(Outcome::Partly { .. })) => RunState::Partly,
        (_, Some(Outcome::Cancelled { .. })) => RunState::Cancelled,
        (Library::WaitingForManualAction, None) => RunState::Waiting,
        (Library::Stopped, None) => RunState::Stopped,
        (Library::InProgress | Library::Ended, None) => RunState::UnderWay,
    }
}

/// Why a run did not do all of it, in one line.
pub(crate) fn because(run: &PlanRun) -> Option<String> {
    let named =
        |word: &str, names: &[String]| (!names.is_empty()).then(|| format!("{word}: {}", names.join(", ")));
    match &run.outcome {
        Some(Outcome::Done) => None,
        Some(Outcome::Partly { failed }) => named("failed", failed),
        Some(Outcome::Cancelled { stay, failed }) => {
            let all: Vec<String> =
                named("brought up by then", stay).into_iter().chain(named("failed", failed)).collect();
            (!all.is_empty()).then(|| all.join("; "))
        }
        None => run.stopped.as_ref().map(|why| why.message.clone()),
    }
}

/// What is to be done; of a program that nobody knows the end of, what is to be judged.
fn waits(run: &PlanRun, action: &ActionRun) -> WaitLine {
    let told = action.error.as_ref().map(|error| error.message.clone());
    let does = run.of.actions().find(|of| of.name == action.name).map(|of| &of.does);
    let instructions = match (told, does) {
        (Some(told), _) => told,
        (None, Some(Does::Manual { instructions })) => instructions.clone(),
        (None, _) => "it is for a person to judge".to_owned(),
    };
    WaitLine { action: action.name.clone(), instructions }
}

fn member(of: &MemberRun) -> RunMemberLine {
    let machine = |m: &site_recovery_plans::MachineRun| RunMachineLine {
        machine: m.name.clone(),
        point: m.point.map(|point| point.0),
        loss_at_most_seconds: m.loss.as_ref().and_then(at_most),
        reach: m.reach.clone(),
    };
    RunMemberLine {
        member: of.name.clone(),
        group: of.group,
        state: format!("{:?}", of.state),
        job: of.job.as_ref().map(|job| job.to_string()),
        why: of.error.as_ref().map(|error| error.message.clone()),
        note: of.note.clone(),
        machines: of.machines.iter().map(machine).collect(),
    }
}

fn action(of: &ActionRun) -> ActionLine {
    ActionLine {
        action: of.name.clone(),
        state: format!("{:?}", of.state),
        exit: of.exit,
        output: of.output.clone(),
        why: of.error.as_ref().map(|error| error.message.clone()),
        note: of.note.clone(),
        completed_by: of.completed_by.clone(),
    }
}

/// A stage, as people call it.
pub(super) fn stage(stage: Stage) -> String {
    let part = |part: Part| match part {
        Part::Shutdown => "the shutdown".to_owned(),
        Part::Failover => "the failover".to_owned(),
        Part::Group(number) => format!("boot group {number}"),
    };
    match stage {
        Stage::Before(of) => format!("actions before {}", part(of)),
        Stage::After(of) => format!("actions after {}", part(of)),
        Stage::ShutDown => "sources shut down".into(),
        Stage::Prepare => "members are prepared".into(),
        Stage::Boot(number) => format!("boot group {number} boots"),
        Stage::Each => "all members".into(),
    }
}
