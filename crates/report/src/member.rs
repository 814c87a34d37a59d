//! One machine in a report, made of its job.

use crate::{Figures, moment, words};
use serde::{Deserialize, Serialize};
use site_recovery::state::{Direction, DrillState, Phase};
use site_recovery::{
    BootProof, Consistency, Course, DataLoss, Failure, Item, JobId, JobRun, LossBasis, MachineId, Mark,
    Operation, PointId, Progress, Request, Step, Task, Timestamp, UnitId, Verdict,
};
use std::time::Duration;

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// It did what was asked for.
    Done,
    /// It goes on.
    UnderWay,
    /// It was undone, or refused before anything was done.
    Undone {
        /// Why.
        why: Failure,
    },
    /// It failed, or a part of it did; another job took its place, or has to.
    Failed {
        /// Why.
        why: Failure,
    },
    /// It waits for a person.
    NeedsOperator {
        /// Why.
        why: Failure,
    },
}

/// A step of a job. It is taken for all members of a unit together, so that its times are theirs alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepPart {
    /// Which.
    pub step: Step,
    /// In which round of a planned failover.
    pub round: u32,
    /// When it began.
    #[serde(with = "moment::rfc3339")]
    pub started: Timestamp,
    /// When it ended; of one that was undone, when that was.
    #[serde(with = "moment::rfc3339_or_none")]
    pub ended: Option<Timestamp>,
    /// How far it got, and why not further.
    pub mark: Mark,
}

/// How much is lost at most.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossPart {
    /// At most the writes of this long; none: without a bound.
    #[serde(rename = "at_most_ms", with = "moment::millis_or_none")]
    pub at_most: Option<Duration>,
    /// The instant of the point.
    #[serde(with = "moment::rfc3339")]
    pub from: Timestamp,
    /// The last moment at which the old side may have written.
    #[serde(with = "moment::rfc3339")]
    pub to: Timestamp,
    /// From what it is known.
    pub basis: LossBasis,
}

/// The point that was used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PointPart {
    /// Its number.
    pub id: PointId,
    /// Its instant.
    #[serde(with = "moment::rfc3339")]
    pub taken: Timestamp,
    /// What it is good for.
    pub consistency: Consistency,
    /// What its boot proof came to, where one was tried.
    pub proof: Option<ProofPart>,
}

/// What a boot proof came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProofPart {
    /// When.
    #[serde(with = "moment::rfc3339")]
    pub at: Timestamp,
    /// Whether it boots.
    pub verdict: Verdict,
    /// How long the guest took to come up.
    #[serde(rename = "boot_ms", with = "moment::millis_or_none")]
    pub boot: Option<Duration>,
    /// How many of the guest's own records the point lacked, where that could be told.
    pub lost_records: Option<u64>,
    /// What was noted.
    pub notes: Vec<String>,
}

/// Where the machine stands, or a drill of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandsPart {
    /// At which site.
    pub site: String,
    /// Its name there.
    pub name: String,
    /// Whether it was seen running when it was booted; none: it was not booted by a job that is known.
    pub booted: Option<bool>,
    /// How it is reached.
    pub reach: Vec<String>,
    /// Of a drill: its isolated network.
    pub network: Option<String>,
    /// Of a drill: when it cleans itself up.
    #[serde(with = "moment::rfc3339_or_none")]
    pub expires: Option<Timestamp>,
}

/// What was done with one machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberPart {
    /// Its name all round the circle.
    pub machine: MachineId,
    /// What people call it.
    pub called: String,
    /// What it is operated in.
    pub unit: UnitId,
    /// By which job.
    pub job: JobId,
    /// Doing what.
    pub operation: Operation,
    /// The direction that it replicated in when the job began.
    pub direction: Option<Direction>,
    /// What was asked for; its SHA-256 stands in the audit records.
    pub request: Request,
    /// By whom.
    pub who: String,
    /// When the job began.
    #[serde(with = "moment::rfc3339")]
    pub started: Timestamp,
    /// When it ended.
    #[serde(with = "moment::rfc3339_or_none")]
    pub ended: Option<Timestamp>,
    /// How.
    pub outcome: Ending,
    /// Its steps, in order.
    pub steps: Vec<StepPart>,
    /// The point that was used.
    pub point: Option<PointPart>,
    /// What is lost at most; none where nothing was started in place of what ran.
    pub loss: Option<LossPart>,
    /// When the source died, where somebody told.
    #[serde(with = "moment::rfc3339_or_none")]
    pub died: Option<Timestamp>,
    /// Whether the machine ran when the job came to it, where that could be seen.
    pub ran: Option<bool>,
    /// What was measured.
    pub figures: Figures,
    /// What the embedder's validation said.
    pub verdict: Option<Verdict>,
    /// How the machine was reached when it was booted.
    pub reach: Vec<String>,
    /// Who could not be proven off, as `name at site`.
    pub unproven: Vec<String>,
    /// Where it stands now, and where a drill of it does.
    pub stands: Vec<StandsPart>,
    /// Bytes that had changed.
    pub changed: u64,
    /// Bytes that crossed.
    pub shipped: u64,
    /// What an operator should know.
    pub notes: Vec<String>,
    /// What is to be done later, by the engine.
    pub owed: Vec<String>,
    /// What waits for a person.
    pub waits: Vec<String>,
}

impl Ending {
    /// Of a run.
    pub(crate) fn of(run: &JobRun) -> Self {
        match (run.ended, run.course, run.why.clone()) {
            (None, Course::Parked, Some(why)) => Ending::NeedsOperator { why },
            (None, ..) => Ending::UnderWay,
            (Some(_), _, None) => Ending::Done,
            (Some(_), Course::Unwinding, Some(why)) => Ending::Undone { why },
            // Over as far as its own steps go: nothing takes it further, and a person decides.
            (Some(_), Course::Parked, Some(why)) => Ending::NeedsOperator { why },
            // A later job was begun over it, by a person, or by the engine to take it back.
            (Some(_), Course::Forward, Some(why)) => Ending::Failed { why },
        }
    }

    /// Why it was not done.
    pub fn why(&self) -> Option<&Failure> {
        match self {
            Ending::Done | Ending::UnderWay => None,
            Ending::Undone { why } | Ending::Failed { why } | Ending::NeedsOperator { why } => Some(why),
        }
    }

    /// The higher, the worse.
    pub(crate) fn weight(&self) -> u8 {
        match self {
            Ending::Done => 0,
            Ending::UnderWay => 1,
            Ending::Undone { .. } => 2,
            Ending::Failed { .. } => 3,
            Ending::NeedsOperator { .. } => 4,
        }
    }
}

impl From<&Task> for StepPart {
    fn from(task: &Task) -> Self {
        let Task { step, round, started, ended, mark } = task.clone();
        Self { step, round, started, ended, mark }
    }
}

impl From<&DataLoss> for LossPart {
    fn from(loss: &DataLoss) -> Self {
        let at_most = (loss.at_most != Duration::MAX).then_some(loss.at_most);
        Self { at_most, from: loss.from, to: loss.to, basis: loss.basis }
    }
}

impl From<&BootProof> for ProofPart {
    fn from(proof: &BootProof) -> Self {
        Self {
            at: proof.at,
            verdict: proof.verdict.clone(),
            boot: proof.boot,
            lost_records: proof.lost_records,
            notes: proof.notes.clone(),
        }
    }
}

/// Whatever the job and the item tell of a machine; figures are measured once all of it is there.
pub(crate) fn of(
    unit: &UnitId,
    run: &JobRun,
    machine: &MachineId,
    item: Option<&Item>,
    point: Option<PointPart>,
    died: Option<Timestamp>,
) -> MemberPart {
    let progress = run.members.get(machine);
    let called = item.map(|i| i.machine.called().to_owned());
    let recovered = || Some(progress?.recovery.as_ref()?.machine.called().to_owned());
    let asked = match &run.request {
        Request::Failover(request) => Some(request.direction),
        _ => None,
    };
    let stood = item.map(|item| before(run, item));
    let mut member = MemberPart {
        machine: machine.clone(),
        called: called.or_else(recovered).unwrap_or_else(|| machine.to_string()),
        unit: unit.clone(),
        job: run.id.clone(),
        operation: run.operation,
        direction: asked.or(stood),
        request: run.request.clone(),
        who: run.who.clone(),
        started: run.started,
        ended: run.ended,
        outcome: Ending::of(run),
        steps: run.tasks.iter().map(StepPart::from).collect(),
        point,
        loss: progress.filter(|p| counts(run, p)).and_then(|p| p.loss.as_ref()).map(LossPart::from),
        died,
        ran: progress.and_then(|p| p.ran),
        figures: Figures::default(),
        verdict: progress.and_then(|p| p.verdict.clone()),
        reach: progress.and_then(|p| p.booted.as_ref()).map_or_else(Vec::new, |b| b.reach.clone()),
        unproven: progress.map_or_else(Vec::new, |p| p.unproven.iter().map(words::instance).collect()),
        stands: item.map_or_else(Vec::new, stands),
        changed: progress.map_or(0, |p| p.changed),
        shipped: progress.map_or(0, |p| p.shipped),
        notes: progress.map_or_else(Vec::new, |p| p.notes.clone()),
        owed: item.map_or_else(Vec::new, |i| i.owed.iter().map(ToString::to_string).collect()),
        waits: item.map_or_else(Vec::new, |i| waits(run, i)),
    };
    member.figures = Figures::of(&member);
    member
}

/// What was weighed for a failover that was undone before its pivot was never lost.
fn counts(run: &JobRun, progress: &Progress) -> bool {
    run.past_pivot() || progress.proof.is_some()
}

/// The direction before a reprotect that is done was the other one.
fn before(run: &JobRun, item: &Item) -> Direction {
    let turned = run.operation == Operation::ReverseReplicate && Ending::of(run) == Ending::Done;
    if turned { item.state.direction.turned() } else { item.state.direction }
}

fn stands(item: &Item) -> Vec<StandsPart> {
    let active = item.active();
    let promoted = item.promotion.as_ref().filter(|p| p.armed.instance.is(active));
    let booted = promoted.and_then(|p| p.booted.as_ref());
    let mut all = vec![StandsPart {
        site: active.site.to_string(),
        name: active.name.clone(),
        booted: promoted.map(|_| booted.is_some_and(|b| b.running)),
        reach: booted.map_or_else(Vec::new, |b| b.reach.clone()),
        network: None,
        expires: None,
    }];
    let drill = item.drill.as_ref().and_then(|d| Some((d, d.armed.as_ref()?)));
    all.extend(drill.map(|(drill, armed)| StandsPart {
        site: armed.instance.site.to_string(),
        name: armed.instance.name.clone(),
        booted: Some(drill.booted.as_ref().is_some_and(|b| b.running)),
        reach: drill.booted.as_ref().map_or_else(Vec::new, |b| b.reach.clone()),
        network: Some(drill.network.clone()),
        expires: Some(drill.expires),
    }));
    all
}

fn waits(run: &JobRun, item: &Item) -> Vec<String> {
    let mut all = vec![];
    if run.holds_boot() {
        all.push("it stands prepared, and boots when somebody lets it".to_owned());
    }
    let allowed: Vec<String> =
        item.state.allowed_operations().iter().map(|o| words::operation(*o, None).to_lowercase()).collect();
    let allowed = allowed.join(", ");
    match item.state.phase {
        Phase::FailoverCompleted(_) => all.push("it is to be committed, or undone".to_owned()),
        Phase::CommitFailoverCompleted => all.push("nothing replicates until it is reprotected".to_owned()),
        _ if matches!(Ending::of(run), Ending::NeedsOperator { .. }) => {
            all.push(format!("somebody has to decide; allowed now: {allowed}"));
        }
        _ => {}
    }
    if let (DrillState::WaitingForCompletion, Some(drill)) = (item.state.drill, &item.drill) {
        all.push(format!("the drill is to be cleaned up; it cleans itself up at {}", drill.expires));
    }
    if item.state.divergence == site_recovery::state::Divergence::Possible {
        all.push("both sides may have run: somebody has to say whose writes count".to_owned());
    }
    all
}
