//! The platform: machines whose disks are blocks in one redb file, and what their guests and owners do to them.

use redb::{Database, ReadableTable, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use site_recovery::{Error, ErrorKind, Machine, Op, OpKey, Result, Timestamp};
use std::path::Path;
use std::sync::Arc;

/// Bytes of a block. One that is not there reads as zeros.
pub(crate) const BLOCK: u64 = 4096;
/// By owner (`live/<machine>/<disk>`, `capture/<key>/<disk>`) and number.
pub(crate) const BLOCKS: TableDefinition<'_, (&str, u64), &[u8]> = TableDefinition::new("blocks");
/// JSON, by `machine/<name>`, `epoch/<machine id>`, `capture/<key>`.
const NOTES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("notes");

/// A machine as the file keeps it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) machine: Machine,
    pub(crate) enrolled: bool,
    pub(crate) running: bool,
    /// While it stands, nobody starts the machine.
    pub(crate) fence: Option<Fence>,
    pub(crate) started_by: Vec<OpKey>,
}

/// What a fence leaves, for us and for whoever finds it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Fence {
    pub(crate) by: Op,
    pub(crate) at: Timestamp,
    pub(crate) ran: bool,
    pub(crate) lifted_by: String,
}

/// The file.
#[derive(Debug, Clone)]
pub(crate) struct Shelf(pub(crate) Arc<Database>);

impl Shelf {
    /// Opens it, or makes it.
    pub(crate) fn open(file: &Path) -> Result<Self> {
        let shelf = Self(Arc::new(Database::create(file).map_err(failed)?));
        shelf.act(|act| {
            act.0.open_table(BLOCKS).map_err(failed)?;
            act.0.open_table(NOTES).map(drop).map_err(failed)
        })?;
        Ok(shelf)
    }

    /// One transaction: all of `effect`, durable, or nothing of it.
    pub(crate) fn act<T>(&self, effect: impl FnOnce(&Act) -> Result<T>) -> Result<T> {
        let act = Act(self.0.begin_write().map_err(failed)?);
        let answer = effect(&act)?;
        act.0.commit().map_err(failed)?;
        Ok(answer)
    }

    /// Puts a machine there, turned on, with empty disks.
    pub(crate) fn add(&self, machine: Machine) -> Result<()> {
        let key = format!("machine/{}", machine.instance.name);
        let kept = Kept { machine, enrolled: false, running: true, fence: None, started_by: vec![] };
        self.act(|act| act.put(&key, &kept))
    }

    /// The guest writes, from the start of a block. What is left of the last one reads as zeros.
    pub(crate) fn write(&self, name: &str, disk: usize, at: u64, bytes: &[u8]) -> Result<()> {
        self.act(|act| {
            let mut blocks = act.0.open_table(BLOCKS).map_err(failed)?;
            for (number, block) in (at / BLOCK..).zip(bytes.chunks(BLOCK as usize)) {
                blocks.insert((live(name, disk).as_str(), number), block).map_err(failed)?;
            }
            Ok(())
        })
    }

    /// The owner presses the button. False where a fence is in the way.
    #[cfg(test)]
    pub(crate) fn switch(&self, name: &str, on: bool) -> Result<bool> {
        self.act(|act| {
            let mut kept = act.kept(name)?;
            kept.running = on && kept.fence.is_none();
            act.keep(&kept)?;
            Ok(kept.running == on)
        })
    }

    /// The owner throws a machine and its disks away.
    #[cfg(test)]
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        self.act(|act| {
            let disks = format!("live/{name}/");
            let mut blocks = act.0.open_table(BLOCKS).map_err(failed)?;
            blocks.retain(|(owner, _), _| !owner.starts_with(&disks)).map_err(failed)?;
            act.remove(&format!("machine/{name}"))
        })
    }

    /// Whether it runs.
    pub(crate) fn is_running(&self, name: &str) -> Result<bool> {
        self.act(|act| Ok(act.kept(name)?.running))
    }

    /// How many captures there are of a machine.
    #[cfg(test)]
    pub(crate) fn captures(&self, name: &str) -> Result<usize> {
        let all: Vec<site_recovery::Capture> = self.act(|act| act.all("capture/"))?;
        Ok(all.iter().filter(|c| c.members.iter().any(|m| m.machine.instance.name == name)).count())
    }

    /// What a disk holds.
    pub(crate) fn content(&self, name: &str, disk: usize) -> Result<Vec<u8>> {
        self.act(|act| {
            let size = act.kept(name)?.machine.disks[disk].size;
            let blocks = act.0.open_table(BLOCKS).map_err(failed)?;
            let mut bytes = vec![0; size.next_multiple_of(BLOCK) as usize];
            for (number, place) in (0..).zip(bytes.chunks_mut(BLOCK as usize)) {
                if let Some(block) = blocks.get((live(name, disk).as_str(), number)).map_err(failed)? {
                    place[..block.value().len()].copy_from_slice(block.value());
                }
            }
            bytes.truncate(size as usize);
            Ok(bytes)
        })
    }
}

/// A transaction.
pub(crate) struct Act(pub(crate) WriteTransaction);

impl Act {
    pub(crate) fn kept(&self, name: &str) -> Result<Kept> {
        let missing = || Error::new(ErrorKind::NotFound, format!("there is no machine named {name}"));
        self.get(&format!("machine/{name}"))?.ok_or_else(missing)
    }

    pub(crate) fn keep(&self, kept: &Kept) -> Result<()> {
        self.put(&format!("machine/{}", kept.machine.instance.name), kept)
    }

    pub(crate) fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        let notes = self.0.open_table(NOTES).map_err(failed)?;
        let Some(found) = notes.get(key).map_err(failed)? else { return Ok(None) };
        let damaged = |e| Error::new(ErrorKind::Corrupt, format!("{key} cannot be read")).caused_by(e);
        serde_json::from_slice(found.value()).map(Some).map_err(damaged)
    }

    pub(crate) fn put(&self, key: &str, value: &impl Serialize) -> Result<()> {
        let bytes = serde_json::to_vec(value).expect("plain data serialises");
        self.put_bytes(key, &bytes)
    }

    pub(crate) fn put_bytes(&self, key: &str, bytes: &[u8]) -> Result<()> {
        self.0.open_table(NOTES).map_err(failed)?.insert(key, bytes).map(drop).map_err(failed)
    }

    pub(crate) fn remove(&self, key: &str) -> Result<()> {
        self.0.open_table(NOTES).map_err(failed)?.remove(key).map(drop).map_err(failed)
    }

    /// Every note whose key begins like this.
    pub(crate) fn all<T: DeserializeOwned>(&self, prefix: &str) -> Result<Vec<T>> {
        let mut keys = vec![];
        for note in self.0.open_table(NOTES).map_err(failed)?.range(prefix..).map_err(failed)? {
            let key = note.map_err(failed)?.0.value().to_owned();
            if !key.starts_with(prefix) {
                break;
            }
            keys.push(key);
        }
        keys.iter().filter_map(|key| self.get(key).transpose()).collect()
    }
}

pub(crate) fn live(name: &str, disk: usize) -> String {
    format!("live/{name}/{disk}")
}

pub(crate) fn failed(error: impl Into<redb::Error>) -> Error {
    Error::new(ErrorKind::Unavailable, "the shelf cannot be used").caused_by(error.into())
}
