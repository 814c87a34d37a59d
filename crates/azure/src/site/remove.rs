//! Taking back, setting aside and removing what our keys made.

use super::Site;
use super::mark::{Made, Mark, Marked};
use super::materialise::base;
use super::names::digest;
use bytes::Bytes;
use site_recovery::{Error, ErrorKind, Instance, Op, OpKey, Power, Recovery, Result};
use site_recovery_azure_arm::Tags;
use site_recovery_azure_blob::Error as BlobError;

impl Site {
    pub(super) async fn is_withdrawn(&self, key: &OpKey) -> Result<bool> {
        Ok(self.container.document(&self.names.withdrawn(key)).read().await?.is_some())
    }

    pub(super) async fn withdraw(&self, op: &Op, made_by: &OpKey, what: &Recovery) -> Result<()> {
        let _turn = self.turn(op, what.machine.id()).await?;
        let made =
            self.marks().await?.into_iter().find(|m| m.made.as_ref().is_some_and(|made| made.by == *made_by));
        if let Some(mark) = &made {
            if mark.machine != *what.machine.id() {
                let message = format!("{made_by} has made {}, of {}", mark.name, mark.machine);
                return Err(Error::new(ErrorKind::Conflict, message));
            }
            if self.arm.machines(&self.group).get(&mark.name).await?.is_some() {
                let message = format!("{} was booted: fence it and set it aside instead", mark.name);
                return Err(Error::new(ErrorKind::Refused, message));
            }
        }
        let tombstone = self.container.document(&self.names.withdrawn(made_by));
        match tombstone.create(Bytes::copy_from_slice(made_by.as_str().as_bytes())).await {
            Ok(_) | Err(BlobError::Exists(..)) => {}
            Err(error) => return Err(error.into()),
        }
        match made {
            Some(mark) => self.remove(&mark).await,
            None => self.delete_works(made_by).await,
        }
    }

    pub(super) async fn settle(&self, op: &Op, instance: &Instance) -> Result<()> {
        let _turn = self.turn(op, &instance.machine).await?;
        let mut marked = self.mark_of(instance).await?;
        let by = self.must_be_made(&marked.mark)?.by.clone();
        let mut next = marked.mark.clone();
        if let Some(made) = &mut next.made {
            made.settled = true;
        }
        self.set_mark(&mut marked, next).await?;
        self.delete_works(&by).await
    }

    pub(super) async fn set_aside(&self, op: &Op, instance: &Instance) -> Result<Instance> {
        let _turn = self.turn(op, &instance.machine).await?;
        let kept = format!("{}-kept-{}", instance.name, &digest(&op.key)[..8]);
        let Some(marked) = self.mark_if_there(instance).await? else {
            let Some(kept) = self.marked(&kept).await? else {
                let message = format!("neither {} nor {kept} is there", instance.name);
                return Err(Error::new(ErrorKind::NotFound, message));
            };
            return Ok(self.instance(&kept.mark));
        };
        let mark = marked.mark;
        let made = self.must_be_made(&mark)?;
        if made.settled {
            let message = format!("{} was settled: it is the machine now", mark.name);
            return Err(Error::new(ErrorKind::Refused, message));
        }
        if !matches!(self.power_of(&mark).await?, Power::Off { .. }) {
            let message = format!("{} runs, or may: fence it first", mark.name);
            return Err(Error::new(ErrorKind::Refused, message));
        }
        let aside = Made { aside: Some(op.key.clone()), ..made.clone() };
        let mut next = Mark { name: kept.clone(), made: Some(aside), ..mark.clone() };
        next.description.instance.name = kept;
        let nics = std::mem::take(&mut next.nics);
        let kept = self.kept_as(next).await?;
        self.remove_machine(&mark.name).await?;
        self.remove_cards(nics.values()).await?;
        self.remove_mark(&mark.name).await?;
        Ok(self.instance(&kept.mark))
    }

    /// The mark under which disks are kept; the one that an earlier call has written counts.
    async fn kept_as(&self, mark: Mark) -> Result<Marked> {
        match self.marked(&mark.name).await? {
            Some(found) if found.mark.made == mark.made => Ok(found),
            _ => self.create_mark(mark).await,
        }
    }

    pub(super) async fn destroy(&self, op: &Op, instance: &Instance) -> Result<()> {
        let _turn = self.turn(op, &instance.machine).await?;
        let Some(marked) = self.mark_if_there(instance).await? else { return Ok(()) };
        self.must_be_made(&marked.mark)?;
        self.remove(&marked.mark).await
    }

    /// Machine, cards, disks, snapshots, images in the making, and last the mark that names them; each is read back as gone.
    async fn remove(&self, mark: &Mark) -> Result<()> {
        let made = self.must_be_made(mark)?;
        self.remove_machine(&mark.name).await?;
        self.remove_cards(mark.nics.values()).await?;
        self.delete_snapshots(&mark.cuts).await?;
        self.delete_strays(mark, &[]).await?;
        let snapshots = self.arm.snapshots(&self.group);
        let bases =
            mark.disks.keys().map(|id| super::names::resource(&mark.name, id.as_str(), &base(&made.by)));
        for name in bases.chain(made.base.values().cloned()) {
            if let Some(found) = snapshots.get(&name).await?
                && self.is_made_by(&name, &found.tags, &base(&made.by))
            {
                self.withhold(&name).await?;
                snapshots.delete(&name).await?.done().await?;
            }
        }
        for held in mark.disks.values() {
            let Some(found) = self.settled_disk(&held.resource).await? else { continue };
            if !self.is_made_by(&found.name, &found.tags, &made.by) {
                continue;
            }
            self.arm.disks(&self.group).delete(&held.resource).await?.done().await?;
            if self.settled_disk(&held.resource).await?.is_some() {
                return Err(still_there("disk", &held.resource));
            }
        }
        self.delete_works(&made.by).await?;
        self.remove_mark(&mark.name).await
    }

    /// What is in the place of ours and somebody else's stays, and keeps nothing of ours here.
    fn is_made_by(&self, name: &str, tags: &Tags, key: &OpKey) -> bool {
        let ours = self.must_be_made_by(name, tags, key);
        if let Err(error) = &ours {
            tracing::warn!(%error, "it stays");
        }
        ours.is_ok()
    }

    async fn remove_machine(&self, name: &str) -> Result<()> {
        let machines = self.arm.machines(&self.group);
        let Some(found) = machines.get(name).await? else { return Ok(()) };
        if found.tags.get(super::names::SITE) != Some(&self.name.to_string()) {
            let message = format!("machine {name} is there in group {}, and was not made here", self.group);
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        machines.delete(name).await?.done().await?;
        if machines.get(name).await?.is_some() { Err(still_there("machine", name)) } else { Ok(()) }
    }

    async fn remove_cards(&self, names: impl Iterator<Item = &String>) -> Result<()> {
        let nics = self.arm.nics(&self.group);
        for name in names {
            let Some(found) = nics.get(name).await? else { continue };
            if found.tags.get(super::names::SITE) != Some(&self.name.to_string()) {
                continue;
            }
            nics.delete(name).await?.done().await?;
            if nics.get(name).await?.is_some() {
                return Err(still_there("network card", name));
            }
        }
        Ok(())
    }
}

fn still_there(what: &str, name: &str) -> Error {
    Error::new(ErrorKind::Busy, format!("{what} {name} is still there after it was deleted"))
}
