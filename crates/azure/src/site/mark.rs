//! What we know of a machine here: one document for each, under its name, changed by compare-and-set.
//!
//! Tags of resources have no compare-and-set: they are for people and for looking up what is ours.

use super::Site;
use crate::document;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};
use site_recovery::{
    Capture, ChangeSet, DiskId, Epoch, Error, ErrorKind, Generation, Instance, Machine, MachineId, NicId,
    OpKey, PointId, Purpose, Result, Stamp, Timestamp,
};
use site_recovery_azure_blob::{Error as BlobError, Etag};
use std::collections::{BTreeMap, VecDeque};

pub(crate) const FORMAT: u32 = 1;
/// Starts that are remembered, so that a late repeat starts nothing.
const STARTS: usize = 64;
/// Marks that are read at once.
const AT_ONCE: usize = 16;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Mark {
    pub(crate) format: u32,
    /// Of the machine, and of this document.
    pub(crate) name: String,
    pub(crate) machine: MachineId,
    pub(crate) generation: Generation,
    /// As it was enrolled or recovered.
    pub(crate) description: Machine,
    pub(crate) disks: BTreeMap<DiskId, Held>,
    /// The network cards that we made.
    pub(crate) nics: BTreeMap<NicId, String>,
    pub(crate) made: Option<Made>,
    pub(crate) fence: Option<Fence>,
    pub(crate) started: VecDeque<OpKey>,
    /// A start that was begun, and of which nobody has noted the end.
    pub(crate) starting: Option<Starting>,
    /// Captures, and what is left of them as cursors; oldest first.
    pub(crate) cuts: Vec<Cut>,
    /// When snapshots of its disks were asked for, in the last minutes.
    pub(crate) asked: VecDeque<Timestamp>,
    /// How it read before its removal began.
    #[serde(default)]
    pub(crate) leaving: Option<Stamp>,
}

/// A disk's resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Held {
    pub(crate) resource: String,
    /// Bytes of the disk, without what it is rounded up by.
    pub(crate) size: u64,
    /// Another one for another disk of the same name.
    pub(crate) unique: Option<String>,
}

/// What made it, where we did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Made {
    pub(crate) by: OpKey,
    pub(crate) purpose: Purpose,
    pub(crate) point: PointId,
    pub(crate) settled: bool,
    /// How often guest preparation was begun: noted before its first write.
    pub(crate) tries: u64,
    /// What guest preparation wrote after the point; none while it is not over.
    pub(crate) prepared: Option<ChangeSet>,
    /// Snapshots of the disks as they were made, before any machine had them: the cursor of the way back.
    pub(crate) base: BTreeMap<DiskId, String>,
    /// The call that set it aside, once it is.
    pub(crate) aside: Option<OpKey>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fence {
    pub(crate) by: OpKey,
    pub(crate) when: Timestamp,
    pub(crate) ran_before: bool,
    /// How it is lifted, for people.
    pub(crate) lift: String,
}

/// A start, as it was begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Starting {
    pub(crate) by: OpKey,
    /// While the machine was off, or not there.
    pub(crate) off: Stamp,
}

/// One capture: a snapshot per disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cut {
    pub(crate) key: OpKey,
    /// Of whoever holds it: its disks are opened under no other.
    pub(crate) epoch: Epoch,
    pub(crate) capture: Capture,
    pub(crate) snapshots: BTreeMap<DiskId, String>,
    pub(crate) is: Became,
    /// What told, before the first snapshot, that the machine was off.
    pub(crate) off: Option<Stamp>,
}

/// What became of a capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Became {
    /// It was begun: some of its snapshots may be there.
    Taking,
    /// It is held.
    Captured,
    Spooled,
    Sealed,
    /// Nobody holds it; a point may be sealed of it all the same.
    Swept,
}

impl Mark {
    pub(crate) fn new(name: &str, generation: Generation, description: Machine) -> Self {
        Self {
            format: FORMAT,
            name: name.to_owned(),
            machine: description.id().clone(),
            generation,
            description,
            disks: BTreeMap::new(),
            nics: BTreeMap::new(),
            made: None,
            fence: None,
            started: VecDeque::new(),
            starting: None,
            cuts: vec![],
            asked: VecDeque::new(),
            leaving: None,
        }
    }

    pub(crate) fn has_started(&self, key: &OpKey) -> bool {
        self.started.contains(key)
    }

    /// No start that was begun is told as begun any more.
    pub(crate) fn note_start(&mut self, key: &OpKey) {
        self.starting = None;
        if !self.has_started(key) {
            self.started.push_back(key.clone());
        }
        while self.started.len() > STARTS {
            self.started.pop_front();
        }
    }

    /// With these captures in the hands of whoever has this epoch.
    pub(crate) fn held_under(&self, epoch: &Epoch, held: impl Fn(&Cut) -> bool) -> Self {
        let mut next = self.clone();
        next.cuts.iter_mut().filter(|cut| held(cut)).for_each(|cut| cut.epoch = epoch.clone());
        next
    }

    /// A capture that somebody holds.
    ///
    /// # Errors
    /// `NotFound` once it was released or swept.
    pub(crate) fn held(&self, capture: &Capture) -> Result<&Cut> {
        let key = OpKey(capture.cut.0.clone());
        let held = self.cut(&key).filter(|cut| cut.is == Became::Captured && cut.capture == *capture);
        held.ok_or_else(|| {
            let message = format!("the capture {key} of {} is not there any more", self.machine);
            Error::new(ErrorKind::NotFound, message)
        })
    }

    pub(crate) fn cut(&self, key: &OpKey) -> Option<&Cut> {
        self.cuts.iter().find(|cut| cut.key == *key)
    }
}

/// # Errors
/// `Corrupt` for one that is damaged, `Unsupported` for one of another format.
fn read_mark(document: &str, bytes: &[u8]) -> Result<Mark> {
    let mark: Mark = document::decode(bytes).map_err(|e| e.with("document", document))?;
    if mark.format == FORMAT {
        return Ok(mark);
    }
    let message = format!("{document} is of format {}, this is {FORMAT}: use a newer release", mark.format);
    Err(Error::new(ErrorKind::Unsupported, message))
}

/// A mark as it was read.
#[derive(Debug, Clone)]
pub(crate) struct Marked {
    pub(crate) mark: Mark,
    etag: Etag,
}

impl Site {
    pub(crate) async fn marked(&self, name: &str) -> Result<Option<Marked>> {
        let document = self.names.mark(name);
        let Some((bytes, etag)) = self.container.document(&document).read().await? else { return Ok(None) };
        Ok(Some(Marked { mark: read_mark(&document, &bytes)?, etag }))
    }

    /// The mark of an instance that this site tells.
    ///
    /// # Errors
    /// `NotFound`, `Conflict` where the name has another machine.
    pub(crate) async fn mark_of(&self, instance: &Instance) -> Result<Marked> {
        self.must_be_ours(instance)?;
        let found = self.marked(&instance.name).await?;
        let found = found.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("nothing is known of {} here", instance.name))
        })?;
        if found.mark.machine != instance.machine {
            let message = format!("{} is {}, not {}", instance.name, found.mark.machine, instance.machine);
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        Ok(found)
    }

    /// As `mark_of`, but what is gone is no error. A machine that has the name in another generation is another instance.
    pub(crate) async fn mark_if_there(&self, instance: &Instance) -> Result<Option<Marked>> {
        match self.mark_of(instance).await {
            Ok(found) => Ok(Some(found).filter(|found| found.mark.generation == instance.generation)),
            Err(e) if e.kind() == ErrorKind::NotFound && instance.site == self.name => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn must_be_ours(&self, instance: &Instance) -> Result<()> {
        if instance.site == self.name {
            return Ok(());
        }
        let message = format!("{} stands at {}, this is {}", instance.name, instance.site, self.name);
        Err(Error::new(ErrorKind::NotFound, message))
    }

    /// The mark of what this key has made. One of others that cannot be read is no hindrance.
    pub(crate) async fn made_by(&self, key: &OpKey) -> Result<Option<Mark>> {
        let mut damaged = None;
        for mark in self.all_marks().await? {
            match mark {
                Ok(mark) if mark.made.as_ref().is_some_and(|made| made.by == *key) => return Ok(Some(mark)),
                Ok(_) => {}
                Err(error) => damaged = Some(error),
            }
        }
        let Some(damaged) = damaged else { return Ok(None) };
        // It may be the one: what a key has made carries its tag.
        let disks = self.arm.disks(&self.group).list().await?;
        let has_made = disks.iter().any(|disk| self.must_be_made_by(&disk.name, &disk.tags, key).is_ok());
        if has_made { Err(damaged) } else { Ok(None) }
    }

    pub(crate) async fn marks(&self) -> Result<Vec<Mark>> {
        self.all_marks().await?.into_iter().collect()
    }

    /// Those of one machine. A damaged one is nobody's: it is in the way of nobody else.
    ///
    /// # Errors
    /// `Unsupported` for one of another format, whosever it is.
    pub(crate) async fn marks_of(&self, machine: &MachineId) -> Result<Vec<Mark>> {
        let mut marks = vec![];
        for mark in self.all_marks().await? {
            match mark {
                Ok(mark) => marks.extend((mark.machine == *machine).then_some(mark)),
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    tracing::warn!(%error, "a mark cannot be read");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(marks)
    }

    /// All that there are, each as it can be read.
    async fn all_marks(&self) -> Result<Vec<Result<Mark>>> {
        let listed = self.container.list(&self.names.marks()).await?;
        let read = listed.into_iter().map(async |listed| -> Result<_> {
            let found = self.container.document(&listed.name).read().await?;
            Ok(found.map(|(bytes, _)| read_mark(&listed.name, &bytes)))
        });
        let read: Vec<_> = stream::iter(read).buffered(AT_ONCE).try_collect().await?;
        Ok(read.into_iter().flatten().collect())
    }

    /// # Errors
    /// `Conflict` where the name has a mark already; `Busy` where nobody knows.
    pub(crate) async fn create_mark(&self, mark: Mark) -> Result<Marked> {
        let (document, bytes) = (self.names.mark(&mark.name), document::encode(&mark)?);
        match self.container.document(&document).create(bytes.clone()).await {
            Ok(etag) => Ok(Marked { mark, etag }),
            Err(error) if matches!(error, BlobError::Exists { .. }) || error.may_have_been_done() => {
                match self.container.document(&document).read().await? {
                    Some((found, etag)) if found == bytes => Ok(Marked { mark, etag }),
                    Some(_) => {
                        let message = format!("{} has a machine here already", mark.name);
                        Err(Error::new(ErrorKind::Conflict, message))
                    }
                    None => Err(error.into()),
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Writes a changed mark.
    ///
    /// # Errors
    /// `Busy` where another process changed it at the same moment.
    pub(crate) async fn set_mark(&self, marked: &mut Marked, next: Mark) -> Result<()> {
        if next == marked.mark {
            return Ok(());
        }
        let bytes = document::encode(&next)?;
        let document = self.container.document(&self.names.mark(&next.name));
        let etag = match document.replace(bytes.clone(), &marked.etag).await {
            Ok(etag) => etag,
            Err(error) if matches!(error, BlobError::Changed { .. }) || error.may_have_been_done() => {
                match document.read().await? {
                    Some((found, etag)) if found == bytes => etag,
                    _ if error.may_have_been_done() => return Err(error.into()),
                    _ => {
                        let message = format!("another process changed the mark of {}: try again", next.name);
                        return Err(Error::new(ErrorKind::Busy, message));
                    }
                }
            }
            Err(error) => return Err(error.into()),
        };
        *marked = Marked { mark: next, etag };
        Ok(())
    }

    pub(crate) async fn remove_mark(&self, name: &str) -> Result<()> {
        Ok(self.container.document(&self.names.mark(name)).delete().await?)
    }

    pub(crate) fn instance(&self, mark: &Mark) -> Instance {
        Instance {
            machine: mark.machine.clone(),
            site: self.name.clone(),
            name: mark.name.clone(),
            generation: mark.generation,
        }
    }
}
