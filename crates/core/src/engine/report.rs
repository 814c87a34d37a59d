//! What a job came to.

use crate::{
    BootProof, Booted, DataLoss, Error, ErrorKind, Failure, JobId, JobRun, MachineId, Operation, PointId,
    Result, Verdict,
};
use std::collections::BTreeMap;

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It did what was asked for.
    Done,
    /// It was undone, or refused before anything was done; replication goes on.
    Unwound {
        /// Why.
        why: Failure,
    },
    /// A person has to decide: the state says what is allowed now.
    NeedsOperator {
        /// Why.
        why: Failure,
    },
}

/// What a job came to, as a whole and for each member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Which job.
    pub job: JobId,
    /// What it did.
    pub operation: Operation,
    /// How it ended.
    pub outcome: Outcome,
    /// For each member.
    pub members: BTreeMap<MachineId, MemberReport>,
}

/// What a job came to for one member.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MemberReport {
    /// The point that was used.
    pub point: Option<PointId>,
    /// What was lost at most.
    pub loss: Option<DataLoss>,
    /// How to reach the machine.
    pub booted: Option<Booted>,
    /// What the user's validation said.
    pub verdict: Option<Verdict>,
    /// What a boot proof came to: a bad one is what was found, and no failure of the job.
    pub proof: Option<BootProof>,
    /// Bytes that had changed.
    pub changed: u64,
    /// Bytes that crossed.
    pub shipped: u64,
    /// What an operator should know: what was kept and why, what was ignored, what is owed.
    pub notes: Vec<String>,
}

impl Report {
    pub(crate) fn of(run: &JobRun, outcome: Outcome) -> Self {
        let member = |(machine, p): (&MachineId, &crate::Progress)| {
            let report = MemberReport {
                point: p.point,
                loss: p.loss.clone(),
                booted: p.booted.clone(),
                verdict: p.verdict.clone(),
                proof: p.proof.clone(),
                changed: p.changed,
                shipped: p.shipped,
                notes: p.notes.clone(),
            };
            (machine.clone(), report)
        };
        Self {
            job: run.id.clone(),
            operation: run.operation,
            outcome,
            members: run.members.iter().map(|(m, p)| (m, &**p)).map(member).collect(),
        }
    }

    /// This, if everything was done.
    ///
    /// # Errors
    /// Why it was not.
    pub fn done(self) -> Result<Self> {
        let (what, why) = match &self.outcome {
            Outcome::Done => return Ok(self),
            Outcome::Unwound { why } => ("was undone", why),
            Outcome::NeedsOperator { why } => ("needs an operator", why),
        };
        let error = Error::new(why.kind, format!("{:?} {what}: {}", self.operation, why.message));
        Err(error.with("job", &self.job))
    }

    /// The report of the only member.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) for a group.
    pub fn only(&self) -> Result<&MemberReport> {
        match (self.members.len(), self.members.values().next()) {
            (1, Some(member)) => Ok(member),
            (n, _) => Err(Error::new(ErrorKind::Invalid, format!("the job is of {n} members"))),
        }
    }
}
