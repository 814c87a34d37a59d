//! One example of everything that is journalled of plans, every field filled.

use crate::address::{AddressMap, NetworkMap};
use crate::change::Change;
use crate::plan::{Action, Around, BootGroup, Does, Kind, Member, Part, Plan};
use crate::record::{PlanAudit, Record};
use crate::run::{
    ActionRun, ActionState, Course, MachineRun, Mapped, MemberRun, MemberState, Outcome, PlanRun, Stage,
    StageRun,
};
use site_recovery::audit::sha256_hex;
use site_recovery::state::Direction;
use site_recovery::workflow::Failure;
use site_recovery::{
    DataLoss, DrillRequest, EngineId, ErrorKind, FailoverRequest, LossBasis, Operation, PointId, Request,
    Timestamp, Verdict,
};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const NOW: Timestamp = Timestamp(1_795_478_400_000);

/// A planned run that is done, a commit that is partly, a planned run that was cancelled; one that has stopped, and a drill that
/// waits for a person.
pub(super) fn records() -> Vec<Record> {
    let commit = PlanRun {
        operation: Operation::Commit,
        request: Request::Plain,
        stages: [Stage::Each].map(stage).to_vec(),
        direction: Direction::RecoveryToPrimary,
        members: vec![member(MemberState::Done), member(MemberState::Failed), member(MemberState::Skipped)],
        actions: vec![],
        outcome: Some(Outcome::Partly { failed: vec!["web".into()] }),
        ..planned()
    };
    let cancelled = PlanRun {
        course: Course::TurningBack,
        members: vec![member(MemberState::Done), member(MemberState::TakenBack)],
        actions: vec![action(ActionState::Dropped)],
        outcome: Some(Outcome::Cancelled { stay: vec!["db".into()], failed: vec!["dns".into()] }),
        ..planned()
    };
    let stopped = PlanRun {
        ended: None,
        course: Course::Stopped,
        stopped: Some(failure()),
        members: vec![
            member(MemberState::Begun),
            member(MemberState::Prepared),
            member(MemberState::Booting),
            member(MemberState::Failed),
        ],
        actions: vec![action(ActionState::Done), action(ActionState::Failed), action(ActionState::Running)],
        outcome: None,
        ..planned()
    };
    let drill = DrillRequest { network: Some("lab".into()), ..DrillRequest::default() };
    let drill = PlanRun {
        of: Plan { groups: vec![group("web")], ..Plan::default() },
        operation: Operation::TestFailover,
        request: Request::Drill(drill),
        ended: None,
        members: vec![member(MemberState::Waiting)],
        actions: vec![action(ActionState::Waiting)],
        outcome: None,
        ..planned()
    };
    let record = |run| Record::new(run, (7, sha256_hex(b"record 6")));
    [planned(), commit, cancelled, stopped, drill].map(record).to_vec()
}

pub(super) fn trail() -> Vec<PlanAudit> {
    let mut trail: Vec<PlanAudit> = vec![];
    for change in changes() {
        let record = PlanAudit {
            number: trail.len() as u64,
            at: NOW,
            who: "ana".into(),
            why: "exercise 7".into(),
            run: "shop-0-00c0ff".into(),
            digest: sha256_hex(b"plan"),
            engine: EngineId("engine-1-plans".into()),
            change,
            previous: trail.last().map_or_else(String::new, |record| record.hash.clone()),
            hash: String::new(),
        };
        trail.push(record.sealed());
    }
    trail
}

pub(super) fn changes() -> Vec<Change> {
    vec![
        Change::Began(Box::new(planned())),
        Change::Resumed,
        Change::StageBegan(Stage::Before(Part::Shutdown)),
        Change::StageEnded(Stage::Boot(2)),
        Change::Member(member(MemberState::Prepared)),
        Change::Action(action(ActionState::PassedOver)),
        Change::Stopped(failure()),
        Change::WentOn { by: "bob".into() },
        Change::TurnedBack,
        Change::Ended(Outcome::Done),
        Change::Ended(Outcome::Partly { failed: vec!["web".into()] }),
        Change::Ended(Outcome::Cancelled { stay: vec!["db".into()], failed: vec![] }),
    ]
}

fn planned() -> PlanRun {
    let (operation, direction) = (Operation::PlannedFailover, Direction::PrimaryToRecovery);
    let stages = [
        Stage::Before(Part::Shutdown),
        Stage::Before(Part::Failover),
        Stage::ShutDown,
        Stage::After(Part::Shutdown),
        Stage::Prepare,
        Stage::After(Part::Group(1)),
        Stage::Boot(2),
    ];
    PlanRun {
        id: "shop-0-00c0ff".into(),
        plan: "shop".into(),
        digest: sha256_hex(b"plan"),
        of: plan(),
        operation,
        request: Request::Failover(FailoverRequest::planned(direction)),
        direction,
        who: "ana".into(),
        why: "exercise 7".into(),
        started: NOW,
        ended: Some(later()),
        course: Course::Forward,
        stopped: None,
        stages: stages.map(stage).to_vec(),
        members: vec![member(MemberState::Done)],
        actions: vec![action(ActionState::Done), action(ActionState::PassedOver)],
        outcome: Some(Outcome::Done),
    }
}

fn stage(stage: Stage) -> StageRun {
    StageRun { stage, started: Some(NOW), ended: Some(later()) }
}

fn plan() -> Plan {
    let command = Does::Command { program: vec!["/usr/local/bin/drain".into(), "shop".into()], again: true };
    let around = |name: &str| Around {
        before: vec![of(&format!("before-{name}"), command.clone())],
        after: vec![of(&format!("after-{name}"), Does::Manual { instructions: "look".into() })],
    };
    let map = |machine: Option<&str>, from: &str, to: &str| AddressMap {
        machine: machine.map(str::to_owned),
        from: from.parse().expect(from),
        to: to.parse().expect(to),
    };
    Plan {
        groups: vec![group("db"), group("web")],
        shutdown: around("shutdown"),
        failover: around("failover"),
        networks: vec![NetworkMap { from: "production".into(), to: "recovered".into() }],
        addresses: vec![map(None, "10.0.1.0/24", "10.9.1.0/24"), map(Some("db"), "fd00:1::7", "fd00:9::7")],
    }
}

fn group(unit: &str) -> BootGroup {
    let plain = Action {
        on: BTreeSet::new(),
        directions: BTreeSet::new(),
        limit: 600,
        ..of(&format!("probe-{unit}"), Does::Probe { machine: unit.into() })
    };
    BootGroup {
        members: vec![
            Member { unit: unit.into(), after: vec!["first".into()] },
            Member { unit: "first".into(), after: vec![] },
        ],
        before: vec![of(
            &format!("once-{unit}"),
            Does::Command { program: vec!["once".into()], again: false },
        )],
        after: vec![of(&format!("port-{unit}"), Does::Port { machine: unit.into(), port: 5432 }), plain],
    }
}

fn of(name: &str, does: Does) -> Action {
    Action {
        name: name.into(),
        on: [Kind::Drill, Kind::Planned, Kind::Unplanned].into(),
        directions: [Direction::PrimaryToRecovery, Direction::RecoveryToPrimary].into(),
        limit: 60,
        does,
    }
}

fn member(state: MemberState) -> MemberRun {
    let addresses = BTreeMap::from([("nic0".into(), [10, 9, 1, 17].into())]);
    let mapped = Mapped { network: Some("recovered".into()), addresses };
    let none = BTreeMap::from([(Direction::RecoveryToPrimary, Mapped::default())]);
    let machine = |verdict| MachineRun {
        name: "db".into(),
        machine: "db-00c0ffee".into(),
        point: Some(PointId(12)),
        loss: Some(DataLoss {
            at_most: Duration::from_millis(1500),
            from: NOW,
            to: later(),
            basis: LossBasis::AgeOfPoint,
        }),
        reach: vec!["db.cloud".into()],
        verdict,
        mapped: BTreeMap::from([(Direction::PrimaryToRecovery, mapped.clone())]),
        replaced: none.clone(),
    };
    MemberRun {
        name: "db".into(),
        unit: "db-00c0ffee".into(),
        group: 1,
        state,
        job: Some("run-2".into()),
        earlier: vec!["run-1".into()],
        started: Some(NOW),
        ended: Some(later()),
        error: Some(failure()),
        note: Some("it stands at Protected".into()),
        machines: vec![
            machine(Some(Verdict::Good)),
            machine(Some(Verdict::Bad { reason: "no web page".into() })),
            machine(None),
        ],
    }
}

fn action(state: ActionState) -> ActionRun {
    ActionRun {
        name: "once-db".into(),
        state,
        started: NOW,
        ended: Some(later()),
        exit: Some(3),
        output: "once was here\n".into(),
        error: Some(failure()),
        note: Some("ticket 4711".into()),
        completed_by: Some("bob".into()),
    }
}

fn failure() -> Failure {
    Failure { kind: ErrorKind::Unavailable, temporary: true, message: "cloud does not answer".into() }
}

fn later() -> Timestamp {
    NOW.after(Duration::from_millis(1500))
}
