//! The report as a whole.

use crate::{ActionPart, ChainPart, Ending, LossPart, MemberPart, PlanPart, moment};
use serde::{Deserialize, Serialize};
use site_recovery::state::Direction;
use site_recovery::{Finding, Force, MachineId, Operation, Timestamp};

/// Version of the form. A newer one is refused.
pub const VERSION: u32 = 1;

/// What was done, to which machines, when, by whom, what it cost, and what is left to do.
///
/// Times are UTC; in JSON as RFC 3339, spans as milliseconds. Inside `request` and audit records both are as the engine
/// journals them, since hashes are made over that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// See [`VERSION`].
    pub version: u32,
    /// When the report was made.
    #[serde(with = "moment::rfc3339")]
    pub made_at: Timestamp,
    /// Whose engine made it, in the embedder's words.
    pub site: String,
    /// What was asked for; of a plan, of its first job, if it has one.
    pub operation: Operation,
    /// The direction that machines replicated in when it began.
    pub direction: Option<Direction>,
    /// Who asked.
    pub who: String,
    /// Why, in the words of whoever asked.
    pub why: Option<String>,
    /// Who answers by name for what could not be proven.
    pub force: Option<Force>,
    /// When it was asked for.
    #[serde(with = "moment::rfc3339")]
    pub started: Timestamp,
    /// When all of it had ended.
    #[serde(with = "moment::rfc3339_or_none")]
    pub ended: Option<Timestamp>,
    /// The worst that it came to: for any machine, for whoever was left out, for the plan.
    pub outcome: Ending,
    /// The largest loss of any member.
    pub loss: Option<LossPart>,
    /// The plan that it belonged to.
    pub plan: Option<PlanPart>,
    /// The machines, those of a unit together.
    pub members: Vec<MemberPart>,
    /// What the plan did besides machines.
    pub actions: Vec<ActionPart>,
    /// What readiness and health said when the report was made.
    pub findings: Vec<FindingPart>,
    /// The records of it, per unit.
    pub audit: Vec<ChainPart>,
    /// SHA-256 of the report in compact JSON with this field empty. Page and JSON that show the same one belong together.
    pub digest: String,
}

/// Which check a finding is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FindingSource {
    /// Of the whole circle, ahead of need.
    Readiness,
    /// Of what replicates, or should.
    Health,
}

/// A finding, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindingPart {
    /// Of which machine.
    pub machine: MachineId,
    /// Of which check.
    pub source: FindingSource,
    /// What was found.
    pub finding: Finding,
}

impl Report {
    /// The chain of a unit.
    pub fn chain(&self, unit: &site_recovery::UnitId) -> Option<&ChainPart> {
        self.audit.iter().find(|chain| &chain.unit == unit)
    }

    /// The page: XHTML that is HTML too, with its style inside and without script. Control characters and marks that turn
    /// the direction of writing are shown by their numbers; what is very long is cut and says so. JSON has it whole.
    pub fn to_html(&self) -> String {
        crate::page::page(self)
    }

    /// The picture of the page alone, as an SVG file.
    pub fn timeline_svg(&self) -> String {
        crate::page::timeline_alone(self)
    }
}
