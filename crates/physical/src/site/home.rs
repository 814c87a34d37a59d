//! What a site keeps of each of its servers, in a directory per server beside the epoch register: never on the server, which
//! may be off, and whose disks may be copies.
//!
//! ```text
//! state/
//!   epochs/                   the register of all roles of the site
//!   servers/web-1/
//!     mark.json               whose server this is
//!     fence.json              who keeps it off, and how that ends
//!     power.json              starts that were ours, and keys that are done
//!     seen-off.json           that its power read as off, and its own system was not seen since
//!     landing.json            what it is to the way back, beside bare disks in the same process
//!     returns.json            the machine that lands on it through its rescue system
//!     owed.json               what its agent could not be told yet
//! ```

use serde::{Deserialize, Serialize};
use site_recovery::{
    Capture, Clock, Epoch, Error, Fate, Generation, Instance, Machine, MachineId, Op, OpKey, Result,
    RoleName, Timestamp,
};
use site_recovery_register::{Witness, conflict, durable, refused};
use std::path::{Path, PathBuf};

/// One server's directory.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    dir: PathBuf,
    pub(crate) name: String,
}

/// `mark.json`: whose server this is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    pub(crate) machine: MachineId,
    pub(crate) generation: Generation,
    /// As it was described last, standing here.
    pub(crate) described: Machine,
}

/// `fence.json`: who keeps it off, and how that ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FenceMark {
    pub(crate) by: OpKey,
    pub(crate) epoch: Epoch,
    pub(crate) when: Timestamp,
    pub(crate) ran_before: bool,
    /// Written before anything is asked of the server; false once it was read back.
    pub(crate) asked: bool,
    pub(crate) why: String,
    pub(crate) lift: String,
}

/// `power.json`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct PowerRecord {
    pub(crate) witness: Witness,
    /// Keys that started it, or lifted its fence: none does so twice.
    pub(crate) done: Vec<OpKey>,
    /// The key whose start was asked for, while nothing was seen of it yet: a repeat of it asks again.
    pub(crate) leaving: Option<OpKey>,
    /// The session of whoever was told to start it, while nothing was seen of it yet.
    pub(crate) session: Option<String>,
}

const SEEN_OFF: &str = "seen-off.json";
const RETURNS: &str = "returns.json";

#[derive(Debug, Serialize, Deserialize)]
struct SeenOff {
    when: Timestamp,
}

/// `owed.json`: what an agent is told before anything else, once it answers again.
#[allow(clippy::large_enum_variant, reason = "few of them exist at a time")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Owed {
    Release { key: OpKey, capture: Capture, machine: MachineId, fate: Fate },
    Dismiss { key: OpKey, instance: Instance },
    Enrol { key: OpKey, machine: Machine },
}

impl Home {
    /// The home of a server below a site's state directory. Its name becomes part of a path.
    ///
    /// # Errors
    /// `Invalid` for a name that is none.
    pub(crate) fn of(state: &Path, name: &str) -> Result<Self> {
        plain(name)?;
        Ok(Self { dir: state.join("servers").join(name), name: name.to_owned() })
    }

    /// All that there are.
    pub(crate) fn all(state: &Path) -> Result<Vec<Home>> {
        let names = durable::list(&state.join("servers"))?;
        let home = |path: &PathBuf| path.file_name().map(|n| Home::of(state, &n.to_string_lossy()));
        names.iter().filter_map(home).collect()
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.dir.join(file)
    }

    pub(crate) fn mark(&self) -> Result<Option<Mark>> {
        durable::read(&self.path("mark.json"))
    }

    pub(crate) fn set_mark(&self, mark: &Mark) -> Result<()> {
        durable::write(&self.path("mark.json"), mark)
    }

    pub(crate) fn fence(&self) -> Result<Option<FenceMark>> {
        durable::read(&self.path("fence.json"))
    }

    pub(crate) fn power(&self) -> Result<PowerRecord> {
        Ok(durable::read(&self.path("power.json"))?.unwrap_or_default())
    }

    pub(crate) fn set_power(&self, power: &PowerRecord) -> Result<()> {
        durable::write(&self.path("power.json"), power)
    }

    /// Whether its power read as off, and neither was it started by us nor its own system seen since.
    pub(crate) fn seen_off(&self) -> Result<bool> {
        Ok(durable::read::<SeenOff>(&self.path(SEEN_OFF))?.is_some())
    }

    /// A file of its own: it is written by whoever looks, also where nobody has a turn.
    pub(crate) fn set_seen_off(&self, seen: Option<Timestamp>) -> Result<()> {
        match seen {
            Some(when) => durable::write(&self.path(SEEN_OFF), &SeenOff { when }),
            None => durable::remove_file(&self.path(SEEN_OFF)),
        }
    }

    pub(crate) fn owed(&self) -> Result<Vec<Owed>> {
        Ok(durable::read(&self.path("owed.json"))?.unwrap_or_default())
    }

    pub(crate) fn set_owed(&self, owed: &[Owed]) -> Result<()> {
        if owed.is_empty() {
            return durable::remove_file(&self.path("owed.json"));
        }
        durable::write(&self.path("owed.json"), &owed)
    }

    pub(crate) fn owe(&self, owed: Owed) -> Result<()> {
        let mut all = self.owed()?;
        if !all.contains(&owed) {
            all.push(owed);
        }
        self.set_owed(&all)
    }

    /// The machine that was attached through its rescue system.
    pub(crate) fn returns(&self) -> Result<Option<MachineId>> {
        durable::read(&self.path(RETURNS))
    }

    pub(crate) fn set_returns(&self, machine: Option<&MachineId>) -> Result<()> {
        match machine {
            Some(machine) => durable::write(&self.path(RETURNS), machine),
            None => durable::remove_file(&self.path(RETURNS)),
        }
    }

    pub(crate) fn forget(&self) -> Result<()> {
        durable::remove_tree(&self.dir)
    }

    /// Refuses a server that is another machine's.
    pub(crate) fn must_be_of(&self, machine: &MachineId) -> Result<Option<Mark>> {
        let mark = self.mark()?;
        match &mark {
            Some(mark) if mark.machine != *machine => {
                let message =
                    format!("{} carries the mark of {}: it is not {machine}", self.name, mark.machine);
                Err(conflict(message))
            }
            _ => Ok(mark),
        }
    }

    /// Writes down who keeps the server off, before anything is asked of it. A mark that stands keeps what ran before,
    /// unless the server was started past it.
    pub(crate) fn block(
        &self,
        op: &Op,
        ran: bool,
        why: &str,
        site: &RoleName,
        clock: &dyn Clock,
    ) -> Result<()> {
        let before = self.fence()?;
        if let Some(before) = &before
            && !ran
        {
            return durable::write(&self.path("fence.json"), &FenceMark { asked: true, ..before.clone() });
        }
        let mark = FenceMark {
            by: op.key.clone(),
            epoch: op.epoch.clone(),
            when: clock.now(),
            ran_before: ran,
            asked: true,
            why: why.to_owned(),
            lift: format!(
                "Source::unfence at {site} with a permit; by hand, when nothing else runs for this machine: take back what \
                 holds the server, remove this file, and switch the server on"
            ),
        };
        durable::write(&self.path("fence.json"), &mark)
    }

    /// What was asked for has been read back.
    pub(crate) fn blocked(&self) -> Result<()> {
        let Some(mark) = self.fence()? else { return Ok(()) };
        durable::write(&self.path("fence.json"), &FenceMark { asked: false, ..mark })
    }

    pub(crate) fn unblock(&self) -> Result<()> {
        durable::remove_file(&self.path("fence.json"))
    }
}

/// Refuses a name that could not be a directory, or would be one elsewhere.
pub(crate) fn plain(name: &str) -> Result<()> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !name.is_empty() && name.len() <= 63 && !name.starts_with('.') && name.chars().all(fine) {
        return Ok(());
    }
    let rule = "1-63 letters, digits, hyphens, dots and underscores, no dot first";
    Err(Error::invalid("server", format!("{name:?}"), rule, "choose another name"))
}

/// Waits for a future on a thread of blocking work: what was begun there ends even when nobody waits for it.
pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Handle::current().block_on(future)
}

/// Refuses unless the server is known to be off.
pub(crate) fn must_be_off(name: &str, runs: Option<bool>) -> Result<()> {
    match runs {
        Some(false) => Ok(()),
        Some(true) => Err(refused(format!("{name} runs: stop or fence it first"))),
        None => Err(refused(format!("nobody can say whether {name} runs: ask again, or fence it first"))),
    }
}
