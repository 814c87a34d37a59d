//! The engine over what the settings name.

use crate::open::{self, Opened};
use crate::settings::Settings;
use crate::validation::Command;
use site_recovery::{Error, ErrorKind, GroupHandle, Item, ItemHandle, Leg, MachineId, Result, Vault};
use site_recovery_journal::SqliteJournal;
use site_recovery_plans::Plans;
use site_recovery_process_server::ProcessServer;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// A vault, and what a command asks of besides.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) vault: Vault,
    pub(crate) plans: Plans,
    pub(crate) settings: Settings,
    pub(crate) process_server: Arc<ProcessServer>,
    legs: BTreeMap<String, Leg>,
}

/// What is operated as a whole: a replication group, or a machine that is in none.
pub(crate) type Unit = GroupHandle;

impl Engine {
    /// Opens sites, stores and journal. Changes nothing of what a crash left: see [`Vault::resume`].
    ///
    /// # Errors
    /// Those of the settings, the roles and the journal.
    pub(crate) async fn open(settings: Settings) -> Result<Self> {
        if settings.legs.is_empty() {
            let rule = "machines go over legs: one out, one back";
            return Err(Error::invalid("legs", "none", rule, "write [legs.out] and [legs.back]"));
        }
        let Opened { legs, process_server } = open::open(&settings).await?;
        let opened = SqliteJournal::open(settings.journal()).await.map_err(|e| journal(&settings, e))?;
        let kept = Arc::new(opened);
        let mut builder = Vault::builder().journal(kept.clone());
        for (name, leg) in &legs {
            builder = builder.leg(name, leg.clone());
        }
        if let Some(told) = &settings.validation {
            builder = builder.validation(Arc::new(Command::new(told)));
        }
        let vault = builder.build().await.map_err(|e| journal_or_not(&settings, e))?;
        let plans = Plans::builder(&vault, kept).open().await.map_err(|e| journal_or_not(&settings, e))?;
        Ok(Self { vault, plans, settings, process_server, legs })
    }

    /// A group or a machine, by the name that people use. A machine of a group is operated with its group.
    ///
    /// # Errors
    /// `NotFound`, naming those that there are; `Conflict` for a title that several have.
    pub(crate) fn unit(&self, name: &str, operator: &str) -> Result<Unit> {
        let unit = match self.vault.group(name) {
            Ok(unit) => unit,
            Err(_) => self.vault.group(self.item(name)?.unit().as_str())?,
        };
        Ok(unit.acting_as(operator))
    }

    /// One machine, also of a group.
    ///
    /// # Errors
    /// As of [`unit`](Self::unit).
    pub(crate) fn item(&self, name: &str) -> Result<ItemHandle> {
        let by_id = self.vault.item(&MachineId::from(name));
        by_id.or_else(|_| self.vault.find(name)).map_err(|error| match error.kind() {
            ErrorKind::NotFound => Error::new(ErrorKind::NotFound, self.unknown(name)),
            _ => error,
        })
    }

    fn unknown(&self, name: &str) -> String {
        let all: Vec<String> =
            self.vault.items().iter().filter_map(|h| h.item().ok()).take(20).map(called).collect();
        match all.as_slice() {
            [] => format!(
                "no machine named {name} is protected here, nor is any other: `protect {name}` begins"
            ),
            all => {
                format!("no machine or group named {name} is protected here; these are: {}", all.join(", "))
            }
        }
    }

    /// The leg that replicates now.
    ///
    /// # Errors
    /// `NotFound` where the settings have lost it.
    pub(crate) fn leg_of(&self, item: &Item) -> Result<&Leg> {
        let name = item.leg();
        let none = || Error::new(ErrorKind::NotFound, format!("no leg named {name} is in the settings"));
        self.legs.get(name).ok_or_else(none)
    }
}

/// What people call a machine, where it runs.
pub(crate) fn called(item: Item) -> String {
    item.machine.called().to_owned()
}

/// What people call a machine of a unit.
pub(crate) fn called_in(unit: &Unit, machine: &MachineId) -> String {
    let item = unit.items().iter().find(|item| item.id() == machine).and_then(|item| item.item().ok());
    item.map_or_else(|| machine.to_string(), called)
}

/// What people call a unit.
pub(crate) fn name_of(unit: &Unit) -> String {
    called_in(unit, &MachineId::from(unit.unit().as_str()))
}

fn journal_or_not(settings: &Settings, error: Error) -> Error {
    match error.role() {
        Some(_) => error,
        None => journal(settings, error),
    }
}

fn journal(settings: &Settings, error: Error) -> Error {
    let file = settings.journal();
    told_of_journal(&file, error)
}

/// Says which file it is and, where its disk is full, what to do. SQLite calls a full disk an error of I/O where it cannot make
/// its own small files.
pub(crate) fn told_of_journal(file: &Path, error: Error) -> Error {
    let full = match error.kind() {
        ErrorKind::OutOfSpace => true,
        ErrorKind::Unavailable => file.parent().is_some_and(is_full),
        _ => false,
    };
    let (kind, remedy) = match full {
        true => (ErrorKind::OutOfSpace, ": its disk is full; make room, nothing was lost"),
        false => (error.kind(), ""),
    };
    Error::new(kind, format!("the journal {}{remedy}", file.display())).caused_by(error)
}

/// Less is free than the journal's own small files take.
fn is_full(dir: &Path) -> bool {
    const LEAST: u64 = 256 << 10;
    rustix::fs::statvfs(dir).is_ok_and(|volume| volume.f_bavail * volume.f_frsize < LEAST)
}
