//! `materialise`: disks of a point, with the way back armed before any machine has them.
//!
//! It takes hours, and a drill must not keep a failover of the same machine waiting: the machine's turn is held for single changes
//! alone, each with another look at the register and at the key.

use super::Site;
use super::capture::Token;
use super::mark::{Held, Made, Mark, Marked};
use super::names::{another, resource};
use super::register::Turn;
use site_recovery::{Armed, Cursor, Error, ErrorKind, Instance, Op, OpKey, Recovery, Replica, Result};
use site_recovery_azure_arm::Disk;
use std::collections::BTreeMap;
use std::sync::Arc;

impl Site {
    pub(super) async fn materialise(
        &self,
        op: &Op,
        what: &Recovery,
        from: &Arc<dyn Replica>,
    ) -> Result<Armed> {
        what.settings.validate()?;
        what.machine.validate()?;
        self.must_be_preparable(&what.machine)?;
        let _alone = self.making.alone(&op.key)?;
        let turn = self.step(op, what).await?;
        let mut marked = self.opened(op, what).await?;
        drop(turn);
        let cursor = if self.must_be_made(&marked.mark)?.base.is_empty() {
            self.make_disks(op, what, from, &mut marked).await?;
            self.arm(op, what, &mut marked).await?
        } else {
            self.armed(&marked.mark).await?
        };
        Ok(Armed { instance: self.instance(&marked.mark), cursor, point: what.point })
    }

    /// The turn for one change under this key.
    ///
    /// # Errors
    /// `StaleEpoch`; `Refused` once the key was withdrawn, or what it made destroyed.
    pub(super) async fn step(&self, op: &Op, what: &Recovery) -> Result<Turn> {
        let turn = self.turn(op, what.machine.id()).await?;
        self.must_stand(op).await?;
        Ok(turn)
    }

    /// # Errors
    /// `Refused` once the key was withdrawn, or what it made destroyed.
    pub(super) async fn must_stand(&self, op: &Op) -> Result<()> {
        if !self.is_withdrawn(&op.key).await? {
            return Ok(());
        }
        // What was still being copied while it was withdrawn.
        self.delete_works(&op.key).await?;
        let message = format!("{} was withdrawn, or what it made destroyed", op.key);
        Err(Error::new(ErrorKind::Refused, message))
    }

    /// Changes the mark of what is being made, as it stands now.
    pub(super) async fn note(
        &self,
        op: &Op,
        what: &Recovery,
        marked: &mut Marked,
        edit: impl FnOnce(&mut Mark, &mut Made),
    ) -> Result<()> {
        let turn = self.step(op, what).await?;
        self.note_in(&turn, marked, edit).await
    }

    /// The same within a turn that is had already.
    pub(super) async fn note_in(
        &self,
        turn: &Turn,
        marked: &mut Marked,
        edit: impl FnOnce(&mut Mark, &mut Made),
    ) -> Result<()> {
        let by = &turn.op.key;
        let found = self.marked(&marked.mark.name).await?;
        let Some((found, mut made)) = found
            .and_then(|found| Some((found.clone(), found.mark.made?)))
            .filter(|(_, made)| made.by == *by)
        else {
            return Err(Error::new(ErrorKind::Refused, format!("what {by} was making is gone")));
        };
        *marked = found;
        let mut next = marked.mark.clone();
        edit(&mut next, &mut made);
        next.made = Some(made);
        self.set_mark(marked, next).await
    }

    /// The mark under which the machine is made: by this key, or not at all.
    async fn opened(&self, op: &Op, what: &Recovery) -> Result<Marked> {
        let name = what.settings.name_for(&what.machine, what.purpose);
        let taken = |by: &str| {
            let message = format!("{name} is taken in group {}, by {by}", self.group);
            Error::new(ErrorKind::Conflict, message).with("field", "settings.name")
        };
        if let Some(found) = self.marked(&name).await? {
            let ours = found.mark.made.as_ref().is_some_and(|made| made.by == op.key);
            return if ours { Ok(found) } else { Err(taken(found.mark.machine.as_str())) };
        }
        if self.arm.machines(&self.group).get(&name).await?.is_some() {
            return Err(taken("a machine that is not ours"));
        }
        let mut mark = Mark::new(&name, what.generation, what.machine.clone());
        mark.description.instance = Instance {
            machine: what.machine.id().clone(),
            site: self.name.clone(),
            name: name.clone(),
            generation: what.generation,
        };
        for disk in what.machine.included() {
            let chosen = what.settings.disks.get(&disk.id).and_then(|disk| disk.name.clone());
            let resource = match chosen {
                Some(chosen) => self.unless_kept(op, what, what.purpose.named(chosen)).await?,
                None => resource(&name, disk.id.as_str(), &op.key),
            };
            mark.disks.insert(disk.id.clone(), Held { resource, size: disk.size, unique: None });
        }
        // Excluded disks are not in the replica, and so not in Azure.
        mark.description.disks.retain(|disk| disk.included);
        mark.made = Some(Made {
            by: op.key.clone(),
            purpose: what.purpose,
            point: what.point,
            settled: false,
            tries: 0,
            prepared: None,
            base: BTreeMap::new(),
            aside: None,
        });
        self.create_mark(mark).await
    }

    /// The name that is chosen for a disk; one like it where a disk of the machine that another key has made has it, as one that was
    /// set aside has.
    async fn unless_kept(&self, op: &Op, what: &Recovery, chosen: String) -> Result<String> {
        let found = self.arm.disks(&self.group).get(&chosen).await?;
        let is_kept = |disk: &Disk| {
            self.is_of(what.machine.id(), &disk.tags)
                && self.must_be_made_by(&disk.name, &disk.tags, &op.key).is_err()
        };
        Ok(if found.as_ref().is_some_and(is_kept) { another(&chosen, &op.key) } else { chosen })
    }

    /// The base of the way back.
    async fn arm(&self, op: &Op, what: &Recovery, marked: &mut Marked) -> Result<Option<Cursor>> {
        let turn = self.step(op, what).await?;
        let disks: Vec<_> = marked.mark.disks.keys().cloned().collect();
        let asked = self.ask_for(&turn, &base(&op.key), &marked.mark, &disks).await;
        drop(turn);
        let token = Token { is_base: true, ..self.taken(&marked.mark, asked).await? };
        let names = token.names();
        let now = self.clock.now();
        let taken = |mark: &mut Mark, made: &mut Made| {
            mark.note_asked(now);
            made.base = names;
        };
        self.note(op, what, marked, taken).await?;
        token.cursor(&marked.mark).map(Some)
    }

    /// The base as it was armed. A machine may have run since: nothing is taken anew, and what is gone is no cursor.
    ///
    /// # Errors
    /// `Refused` where a disk is gone.
    async fn armed(&self, mark: &Mark) -> Result<Option<Cursor>> {
        let made = self.must_be_made(mark)?;
        if self.disks_of(mark).await?.len() < mark.disks.len() {
            let message = format!("a disk of {} that {} has made is gone", mark.name, made.by);
            return Err(Error::new(ErrorKind::Refused, message));
        }
        let (machine, mut snapshots) = (mark.machine.clone(), BTreeMap::new());
        for (id, name) in &made.base {
            let Some(found) = self.arm.snapshots(&self.group).get(name).await? else {
                tracing::warn!(snapshot = name, "the base of the way back is gone");
                return Ok(None);
            };
            self.must_be_made_by(name, &found.tags, &base(&made.by))?;
            snapshots.insert(id.clone(), found.into());
        }
        Token { machine, is_base: true, snapshots }.cursor(mark).map(Some)
    }

    /// # Errors
    /// `Refused` for what was brought.
    pub(super) fn must_be_made<'a>(&self, mark: &'a Mark) -> Result<&'a Made> {
        mark.made
            .as_ref()
            .ok_or_else(|| Error::new(ErrorKind::Refused, format!("{} was not made from a point", mark.name)))
    }
}

/// The key of the snapshots that arm the way back.
pub(super) fn base(made_by: &OpKey) -> OpKey {
    OpKey(format!("{}/base", made_by.as_str()))
}
