//! How a run is journalled, and the audit trail of its changes.

use crate::change::Change;
use crate::run::PlanRun;
use serde::{Deserialize, Serialize};
use site_recovery::audit::sha256_hex;
use site_recovery::{EngineId, Error, ErrorKind, Result, Timestamp};

/// Version of the journalled form. A newer one is refused.
pub const SCHEMA: u32 = 1;

/// The subjects of runs begin so; the rest is the plan's name.
pub(crate) const RUNS: &str = "plan/";

pub(crate) fn run_subject(plan: &str) -> String {
    format!("{RUNS}{plan}")
}

pub(crate) fn audit_subject(plan: &str) -> String {
    format!("plan-audit/{plan}")
}

/// One entry of a plan's subject: the newest run whole, and where its audit trail stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    schema: u32,
    /// Length and last hash of the audit trail.
    pub(crate) trail: (u64, String),
    pub(crate) run: PlanRun,
}

#[derive(Deserialize)]
struct Version {
    schema: u32,
}

impl Record {
    pub(crate) fn new(run: PlanRun, trail: (u64, String)) -> Self {
        Self { schema: SCHEMA, trail, run }
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain data serialises")
    }

    pub(crate) fn from_bytes(subject: &str, bytes: &[u8]) -> Result<Self> {
        let damaged = |e: serde_json::Error| {
            Error::new(ErrorKind::Corrupt, format!("journal subject {subject} cannot be read")).caused_by(e)
        };
        let Version { schema } = serde_json::from_slice(bytes).map_err(damaged)?;
        if schema > SCHEMA {
            let message = format!(
                "journal subject {subject} has schema {schema}, this engine knows {SCHEMA}; use a newer engine"
            );
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        serde_json::from_slice(bytes).map_err(damaged)
    }
}

/// Who changed a run, when, why, by which engine, and what was before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanAudit {
    /// Position in the plan's trail, from 0.
    pub number: u64,
    /// When.
    pub at: Timestamp,
    /// The operator.
    pub who: String,
    /// Why, as it was given.
    pub why: String,
    /// Which run.
    pub run: String,
    /// SHA-256 of the plan.
    pub digest: String,
    /// By which engine.
    pub engine: EngineId,
    /// What happened.
    pub change: Change,
    /// The hash of the record before; empty for the first.
    pub previous: String,
    /// SHA-256 over all of the above.
    pub hash: String,
}

impl PlanAudit {
    /// Fills in the hash.
    #[must_use]
    pub(crate) fn sealed(mut self) -> Self {
        self.hash = String::new();
        self.hash = sha256_hex(&serde_json::to_vec(&self).expect("plain data serialises"));
        self
    }
}

/// Reads a trail as it is stored, and checks it over the stored bytes.
///
/// # Errors
/// [`Corrupt`](ErrorKind::Corrupt), naming the first record that does not fit.
pub(crate) fn read(stored: &[Vec<u8>]) -> Result<Vec<PlanAudit>> {
    let (mut trail, mut previous) = (vec![], String::new());
    for (number, bytes) in (0..).zip(stored) {
        let corrupt = |what| Error::new(ErrorKind::Corrupt, format!("audit record {number} {what}"));
        let record: PlanAudit =
            serde_json::from_slice(bytes).map_err(|e| corrupt("cannot be read").caused_by(e))?;
        if record.number != number || record.previous != previous || !bears_its_hash(bytes, &record.hash) {
            return Err(corrupt("was changed, added or removed"));
        }
        previous.clone_from(&record.hash);
        trail.push(record);
    }
    Ok(trail)
}

/// A record was hashed with an empty hash in it, which stands last.
fn bears_its_hash(stored: &[u8], hash: &str) -> bool {
    let end = format!("\"{hash}\"}}");
    stored.strip_suffix(end.as_bytes()).is_some_and(|rest| sha256_hex(&[rest, b"\"\"}"].concat()) == hash)
}
