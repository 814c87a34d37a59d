//! `landing.json`: what a machine is to the way back.

use crate::home::Home;
use crate::mark::ArmedBy;
use serde::{Deserialize, Serialize};
use site_recovery::{Generation, OpKey, Result};
use site_recovery_register::{durable, not_found};

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Landing {
    /// Whether its disks are ours now.
    pub(crate) attached: bool,
    /// Set while an image stands above each disk's own.
    pub(crate) branch: Option<Branch>,
    /// Set from the beginning of a merge to its end: the images below are written.
    #[serde(default)]
    pub(crate) merging: bool,
    /// Set while a merge ends: whether the guest stands still by our hand.
    pub(crate) ending: Option<bool>,
    /// Set while a part is under way.
    pub(crate) parting: Option<Parting>,
    /// Keys of branches and merges that are over: none is done twice.
    pub(crate) done: Vec<OpKey>,
}

/// What the machine was before the branch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Branch {
    pub(crate) generation: Generation,
    pub(crate) armed: Option<ArmedBy>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Parting {
    pub(crate) key: OpKey,
    /// Name of the machine that keeps what was written above.
    pub(crate) kept: String,
}

impl Home {
    /// Whether its disks have a branch.
    pub(crate) fn is_branched(&self) -> Result<bool> {
        Ok(read(self)?.is_some_and(|l| l.branch.is_some()))
    }
}

pub(crate) fn read(home: &Home) -> Result<Option<Landing>> {
    durable::read(&home.own("landing.json"))
}

pub(crate) fn write(home: &Home, landing: &Landing) -> Result<()> {
    durable::write(&home.own("landing.json"), landing)
}

/// Of a machine that was attached or parted.
pub(crate) fn of(home: &Home) -> Result<Landing> {
    read(home)?.ok_or_else(|| not_found(format!("{} was never attached", home.name)))
}
