//! Taking back, setting aside and removing what our keys made.

use super::Site;
use super::mark::{Made, Mark, Marked};
use super::materialise::base;
use super::names::{self, digest};
use super::register::Turn;
use bytes::Bytes;
use site_recovery::{Error, ErrorKind, Instance, Op, OpKey, Power, Recovery, Result};
use site_recovery_azure_blob::Error as BlobError;

impl Site {
    pub(super) async fn is_withdrawn(&self, key: &OpKey) -> Result<bool> {
        Ok(self.container.document(&self.names.withdrawn(key)).read().await?.is_some())
    }

    /// From now on nothing is made under this key.
    async fn tombstone(&self, made_by: &OpKey) -> Result<()> {
        let tombstone = self.container.document(&self.names.withdrawn(made_by));
        match tombstone.create(Bytes::copy_from_slice(made_by.as_str().as_bytes())).await {
            Ok(_) | Err(BlobError::Exists(..)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) async fn withdraw(&self, op: &Op, made_by: &OpKey, what: &Recovery) -> Result<()> {
        let turn = self.turn(op, what.machine.id()).await?;
        let made = self.made_by(made_by).await?;
        if let Some(mark) = &made {
            if mark.machine != *what.machine.id() {
                let message = format!("{made_by} has made {}, of {}", mark.name, mark.machine);
                return Err(Error::new(ErrorKind::Conflict, message));
            }
            if mark.made.as_ref().is_some_and(|made| made.aside.is_some()) {
                let message = format!("{} was booted and set aside: destroy it instead", mark.name);
                return Err(Error::new(ErrorKind::Refused, message));
            }
            let booted = !mark.started.is_empty();
            if booted || self.arm.machines(&self.group).get(&mark.name).await?.is_some() {
                let message = format!("{} was booted: fence it and set it aside instead", mark.name);
                return Err(Error::new(ErrorKind::Refused, message));
            }
        }
        self.tombstone(made_by).await?;
        // A call that is still at it stops at its next step.
        let _alone = self.making.alone(made_by)?;
        match made {
            Some(mark) => self.remove(&turn, &mark).await,
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
        let turn = self.turn(op, &instance.machine).await?;
        let kept = format!("{}-kept-{}", instance.name, &digest(&op.key)[..8]);
        let is_by = |made: &Made| made.aside.as_ref() == Some(&op.key);
        let earlier = self.marked(&kept).await?.map(|found| found.mark);
        let earlier = earlier.filter(|e| e.machine == instance.machine && e.made.as_ref().is_some_and(is_by));
        let standing = match self.mark_if_there(instance).await {
            // The name has gone over to another machine since.
            Err(error) if error.kind() == ErrorKind::Conflict && earlier.is_some() => None,
            found => found?.map(|found| found.mark),
        };
        let made_by = |mark: &Mark| mark.made.as_ref().map(|made| made.by.clone());
        let mark = match (standing, earlier) {
            // Half aside: its first mark goes last.
            (Some(mark), earlier) if earlier.as_ref().is_none_or(|e| made_by(e) == made_by(&mark)) => mark,
            (_, Some(earlier)) => return Ok(self.instance(&earlier)),
            (_, None) => {
                let message = format!("neither {} nor {kept} is there", instance.name);
                return Err(Error::new(ErrorKind::NotFound, message));
            }
        };
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
        self.remove_machine(&turn, &mark.name).await?;
        self.remove_cards(&turn, nics.values()).await?;
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
        let turn = self.turn(op, &instance.machine).await?;
        let Some(mut marked) = self.mark_if_there(instance).await? else {
            return self.must_be_gone(instance).await;
        };
        let made_by = self.must_be_made(&marked.mark)?.by.clone();
        self.note_leaving(&mut marked).await?;
        // A late call under the key makes it no second time.
        self.tombstone(&made_by).await?;
        let _alone = self.making.alone(&made_by)?;
        self.remove(&turn, &marked.mark).await
    }

    /// Machine, cards, disks, snapshots, images in the making, and last the mark that names them; each is read back as gone.
    async fn remove(&self, turn: &Turn, mark: &Mark) -> Result<()> {
        let made = self.must_be_made(mark)?;
        self.remove_machine(turn, &mark.name).await?;
        self.remove_cards(turn, mark.nics.values()).await?;
        self.delete_snapshots(turn, &mark.cuts).await?;
        self.delete_base(turn, mark, made).await?;
        for held in mark.disks.values() {
            let Some(found) = self.settled_disk(&held.resource).await? else { continue };
            match self.must_be_made_by(&found.name, &found.tags, &made.by) {
                Err(_) if held.unique.is_none() => {
                    tracing::warn!(disk = held.resource, "it stays: somebody's, where ours was never made");
                    continue;
                }
                ours => ours?,
            }
            self.delete_disk(turn, &found, held).await?;
            if self.settled_disk(&held.resource).await?.is_some() {
                return Err(still_there("disk", &held.resource));
            }
        }
        self.delete_works(&made.by).await?;
        self.remove_mark(&mark.name).await
    }

    /// The snapshots that armed the way back.
    pub(super) async fn delete_base(&self, turn: &Turn, mark: &Mark, made: &Made) -> Result<()> {
        let snapshots = self.arm.snapshots(&self.group);
        let bases = mark.disks.keys().map(|id| names::resource(&mark.name, id.as_str(), &base(&made.by)));
        for name in bases.chain(made.base.values().cloned()) {
            if let Some(found) = snapshots.get(&name).await? {
                self.must_be_made_by(&name, &found.tags, &base(&made.by))?;
                self.withhold(turn, &name).await?;
                self.ask(turn, snapshots.delete(&name)).await?.done().await?;
            }
        }
        Ok(())
    }

    /// # Errors
    /// `Refused` for a machine of this instance that stands without a mark.
    async fn must_be_gone(&self, instance: &Instance) -> Result<()> {
        let Some(found) = self.arm.machines(&self.group).get(&instance.name).await? else { return Ok(()) };
        let is = |tag: &str, value: String| found.tags.get(tag) == Some(&value);
        if is(names::SITE, self.name.to_string())
            && is(names::MACHINE, instance.machine.to_string())
            && is(names::GENERATION, instance.generation.to_string())
        {
            let message =
                format!("{} was dismissed, and is nobody's to remove here: remove it by hand", instance.name);
            return Err(Error::new(ErrorKind::Refused, message));
        }
        Ok(())
    }

    async fn remove_machine(&self, turn: &Turn, name: &str) -> Result<()> {
        let machines = self.arm.machines(&self.group);
        let Some(found) = machines.get(name).await? else { return Ok(()) };
        if found.tags.get(names::SITE) != Some(&self.name.to_string()) {
            let message = format!("machine {name} is there in group {}, and was not made here", self.group);
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        self.ask(turn, machines.delete(name)).await?.done().await?;
        if machines.get(name).await?.is_some() { Err(still_there("machine", name)) } else { Ok(()) }
    }

    async fn remove_cards(&self, turn: &Turn, names: impl Iterator<Item = &String>) -> Result<()> {
        let nics = self.arm.nics(&self.group);
        for name in names {
            let Some(found) = nics.get(name).await? else { continue };
            if found.tags.get(names::SITE) != Some(&self.name.to_string()) {
                continue;
            }
            self.ask(turn, nics.delete(name)).await?.done().await?;
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
