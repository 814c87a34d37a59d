//! What is operated as a whole, as it is journalled.

use crate::{Error, ErrorKind, History, Item, JobRun, MachineId, Operation, Result, UnitId};
use serde::{Deserialize, Serialize};

/// How many finished runs a unit remembers; of boot proofs the last one only.
pub const REMEMBERED_RUNS: usize = 16;

/// Version of the journalled form. A newer one is refused.
pub const SCHEMA: u32 = 1;

/// One machine, or the machines of one replication group, with the run under way. Every journal entry of a unit is the
/// whole of it: replay is reading the last one, and a group's run and its members' states cannot part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// Its name: the machine's, or the group's.
    pub id: UnitId,
    /// Whether it is a replication group.
    pub is_group: bool,
    /// Its machines.
    pub members: Vec<Item>,
    /// The run under way, or parked.
    pub run: Option<JobRun>,
    /// Finished runs, newest last.
    pub finished: History,
    /// Runs so far.
    pub runs: u64,
    /// Length and last hash of the audit trail.
    pub trail: (u64, String),
}

#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    schema: u32,
    unit: T,
}

impl Unit {
    /// A unit of one machine, or a group.
    pub fn new(id: UnitId, is_group: bool, members: Vec<Item>) -> Self {
        Self {
            id,
            is_group,
            members,
            run: None,
            finished: History::default(),
            runs: 0,
            trail: (0, String::new()),
        }
    }

    /// One member.
    pub fn item(&self, machine: &MachineId) -> Option<&Item> {
        self.members.iter().find(|i| i.id() == machine)
    }

    pub(crate) fn item_mut(&mut self, machine: &MachineId) -> Option<&mut Item> {
        self.members.iter_mut().find(|i| i.id() == machine)
    }

    /// Whether the run under way is a boot proof.
    pub(crate) fn proves(&self) -> bool {
        self.run.as_ref().is_some_and(|run| run.operation == Operation::VerifyBoot)
    }

    /// The run under way, else the one that finished last.
    pub(crate) fn last_run(&self) -> Option<JobRun> {
        self.run.clone().or_else(|| self.finished.last())
    }

    /// The names of its machines.
    pub fn machines(&self) -> Vec<MachineId> {
        self.members.iter().map(|i| i.id().clone()).collect()
    }

    /// As a journal entry.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(&Versioned { schema: SCHEMA, unit: self }).expect("plain data serialises")
    }

    /// From a journal entry.
    ///
    /// # Errors
    /// `Unsupported` for a newer schema, naming both versions; `Corrupt` for anything that cannot be read.
    pub fn from_bytes(subject: &str, bytes: &[u8]) -> Result<Self> {
        let read = serde_json::from_slice::<Versioned<Unit>>(bytes);
        // A newer form need not be one that we can read.
        let schema = match &read {
            Ok(read) => Some(read.schema),
            Err(_) => {
                serde_json::from_slice(bytes).ok().map(|any: Versioned<serde::de::IgnoredAny>| any.schema)
            }
        };
        if let Some(schema) = schema.filter(|schema| *schema > SCHEMA) {
            let message = format!(
                "journal subject {subject} has schema {schema}, this engine knows {SCHEMA}; use a newer engine"
            );
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        let damaged = || Error::new(ErrorKind::Corrupt, format!("journal subject {subject} cannot be read"));
        Ok(read.map_err(|e| damaged().caused_by(e))?.unit)
    }
}
