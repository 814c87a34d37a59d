//! What a verb comes to. The JSON of `--json` and of the control socket is exactly this; docs/cli.md describes it.

mod plan;

pub(crate) use plan::*;

use serde::{Deserialize, Serialize};
use site_recovery::{Error, ErrorKind, Finding};

/// What a verb came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    Items(Vec<ItemLine>),
    Shown(Vec<ItemPage>),
    Ready(Vec<ReadyPage>),
    Points(Vec<PointLine>),
    Plan(PlanPage),
    Job(JobPage),
    Jobs(Vec<JobLine>),
    Audit(Vec<AuditLine>),
    Adopted(AdoptedPage),
    Scrubbed(ScrubPage),
    RecoveryPlans(Vec<PlanLine>),
    RecoveryPlan(Box<RecoveryPlanPage>),
    PlanRun(Box<RunPage>),
    Done(DonePage),
}

/// One machine at a glance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ItemLine {
    pub(crate) machine: String,
    pub(crate) id: String,
    pub(crate) group: Option<String>,
    pub(crate) phase: String,
    pub(crate) direction: String,
    pub(crate) runs_at: String,
    pub(crate) drill: Option<String>,
    pub(crate) resync: Option<String>,
    pub(crate) divergence: Option<String>,
    pub(crate) health: String,
    pub(crate) rpo_seconds: Option<f64>,
    pub(crate) newest_point: Option<u64>,
    pub(crate) job: Option<String>,
    pub(crate) allowed: Vec<String>,
}

/// One machine, whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ItemPage {
    #[serde(flatten)]
    pub(crate) line: ItemLine,
    pub(crate) legs: [String; 2],
    pub(crate) interval_seconds: f64,
    pub(crate) points: usize,
    pub(crate) proven_point: Option<u64>,
    pub(crate) disks: Vec<DiskLine>,
    pub(crate) instances: Vec<InstanceLine>,
    pub(crate) reach: Vec<String>,
    pub(crate) findings: Vec<Finding>,
    pub(crate) owed: Vec<String>,
    pub(crate) last_job: Option<JobLine>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct DiskLine {
    pub(crate) id: String,
    pub(crate) bytes: u64,
    pub(crate) included: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct InstanceLine {
    pub(crate) name: String,
    pub(crate) site: String,
    pub(crate) is: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ReadyPage {
    pub(crate) machine: String,
    pub(crate) ready: bool,
    pub(crate) expires: String,
    pub(crate) findings: Vec<Finding>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct PointLine {
    pub(crate) machine: String,
    pub(crate) point: u64,
    pub(crate) taken: String,
    pub(crate) age_seconds: f64,
    pub(crate) consistency: String,
    pub(crate) boots: Option<bool>,
    pub(crate) verified: bool,
    pub(crate) pins: Vec<String>,
    pub(crate) locked_until: Option<String>,
}

/// What an operation would do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct PlanPage {
    pub(crate) operation: String,
    pub(crate) steps: Vec<String>,
    pub(crate) points: Vec<PlannedPoint>,
    pub(crate) stops: Vec<String>,
    pub(crate) starts: Vec<String>,
    pub(crate) removes: Vec<String>,
    pub(crate) downtime_seconds: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct PlannedPoint {
    pub(crate) machine: String,
    pub(crate) point: Option<u64>,
    pub(crate) taken: Option<String>,
    /// None where it cannot be bounded.
    pub(crate) loss_at_most_seconds: Option<f64>,
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ended {
    Done,
    Undone,
    NeedsPerson,
}

/// A job that has ended, or waits for a person.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct JobPage {
    pub(crate) job: String,
    pub(crate) operation: String,
    pub(crate) outcome: Ended,
    pub(crate) why: Option<String>,
    pub(crate) seconds: f64,
    pub(crate) members: Vec<MemberLine>,
    /// As it stands now.
    pub(crate) items: Vec<ItemLine>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct MemberLine {
    pub(crate) machine: String,
    pub(crate) point: Option<u64>,
    pub(crate) loss_at_most_seconds: Option<f64>,
    pub(crate) running: Option<bool>,
    pub(crate) reach: Vec<String>,
    pub(crate) boots: Option<bool>,
    pub(crate) changed_bytes: u64,
    pub(crate) shipped_bytes: u64,
    pub(crate) notes: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct JobLine {
    pub(crate) job: String,
    pub(crate) unit: String,
    pub(crate) operation: String,
    pub(crate) who: String,
    pub(crate) started: String,
    pub(crate) ended: Option<String>,
    pub(crate) state: String,
    pub(crate) step: Option<String>,
    pub(crate) why: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct AuditLine {
    pub(crate) number: u64,
    pub(crate) at: String,
    pub(crate) who: String,
    pub(crate) why: String,
    pub(crate) machine: String,
    pub(crate) event: serde_json::Value,
    pub(crate) epoch: u64,
    pub(crate) hash: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct AdoptedPage {
    pub(crate) machines: Vec<String>,
    pub(crate) questions: Vec<Finding>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ScrubPage {
    pub(crate) machine: String,
    pub(crate) point: u64,
    pub(crate) findings: Vec<Finding>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct DonePage {
    pub(crate) said: String,
    pub(crate) items: Vec<ItemLine>,
}

/// Why a verb was not done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Failed {
    pub(crate) kind: ErrorKind,
    pub(crate) message: String,
    pub(crate) field: Option<String>,
    /// Verbs that are allowed now instead.
    pub(crate) allowed: Vec<String>,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        let field = error.fact("field").map(str::to_owned);
        let mut message = error.to_string();
        let mut cause = std::error::Error::source(&error).and_then(std::error::Error::source);
        while let Some(error) = cause {
            message += &format!(" ({error})");
            cause = error.source();
        }
        Self { kind: error.kind(), message, field, allowed: vec![] }
    }
}

/// What is told on the way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Told {
    /// A line.
    Note(String),
    /// What a job does now.
    Step { unit: String, what: String },
    /// Bytes of the transfer under way.
    Bytes { unit: String, done: u64, all: u64 },
}
