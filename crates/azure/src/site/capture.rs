//! Captures: an incremental snapshot of each disk.
//!
//! N snapshots are N instants, so that a capture of several disks of a machine that runs is [`Consistency::PerDisk`]: a base for
//! deltas, never booted from. A snapshot is a cursor as well: it stays until a later capture is sealed.

use super::Site;
use super::mark::{Became, Cut, Held, Mark};
use super::materialise::base;
use super::names::{self, resource};
use serde::{Deserialize, Serialize};
use site_recovery::{
    Capture, Consistency, Cursor, CutId, DiskId, Error, ErrorKind, Fate, Instance, Member, Op, OpKey, Power,
    Result,
};
use site_recovery_azure_arm::{NewSnapshot, Provisioning, Snapshot, Tags};
use std::collections::{BTreeMap, BTreeSet};

/// A cursor's token: which snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Token {
    pub(super) machine: site_recovery::MachineId,
    /// Of the disks as they were made, before any machine had them.
    pub(super) is_base: bool,
    pub(super) snapshots: BTreeMap<DiskId, At>,
}

/// A snapshot of a disk, and what has to be the same for a difference to be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct At {
    pub(super) name: String,
    pub(super) disk: Option<String>,
    pub(super) family: Option<String>,
    pub(super) size: u64,
}

impl Token {
    pub(super) fn cursor(&self, mark: &Mark) -> Result<Cursor> {
        let token = serde_json::to_vec(self)
            .map_err(|e| Error::new(ErrorKind::Unsupported, "a cursor cannot be written").caused_by(e))?;
        Ok(Cursor { generation: mark.generation, token })
    }
}

impl Site {
    pub(super) async fn capture(&self, op: &Op, of: &[Instance], want: Consistency) -> Result<Capture> {
        let [instance] = of else {
            if of.is_empty() {
                return Err(Error::invalid("of", "empty", "a capture has a member", "name a machine"));
            }
            let message = "snapshots of several machines are not of one instant here";
            return Err(Error::new(ErrorKind::Unsupported, message));
        };
        let _turn = self.turn(op, &instance.machine).await?;
        let mut marked = self.mark_of(instance).await?;
        if let Some(cut) = marked.mark.cut(&op.key) {
            if cut.is == Became::Captured {
                return Ok(cut.capture.clone());
            }
            let message = format!("the capture of {} was released", op.key);
            return Err(Error::new(ErrorKind::Refused, message));
        }
        let machine = self.described(&marked.mark).await?;
        let runs = !matches!(self.power_of(&marked.mark).await?, Power::Off { .. });
        let taken = self.clock.now();
        let included: Vec<_> = machine.included().map(|disk| disk.id.clone()).collect();
        let token = self.snapshot(&op.key, &marked.mark, &included, &Tags::new()).await?;
        let instant = !runs || included.len() == 1;
        let consistency = if instant { Consistency::Crash } else { Consistency::PerDisk };
        let quiesce_failed = (want > consistency)
            .then(|| "Azure takes snapshots of disks one by one, and asks no guest".into());
        let snapshots = token.snapshots.iter().map(|(disk, at)| (disk.clone(), at.name.clone())).collect();
        let member = Member { machine, cursor: Some(token.cursor(&marked.mark)?), sidecars: vec![] };
        let cut = CutId(op.key.0.clone());
        let capture = Capture { cut, taken, consistency, quiesce_failed, members: vec![member] };
        let cut = Cut { key: op.key.clone(), capture: capture.clone(), snapshots, is: Became::Captured };
        let mut next = marked.mark.clone();
        next.cuts.push(cut);
        self.set_mark(&mut marked, next).await?;
        Ok(capture)
    }

    /// A snapshot of each of these disks, all at once; those that are there already under this key are taken.
    pub(super) async fn snapshot(
        &self,
        key: &OpKey,
        mark: &Mark,
        disks: &[DiskId],
        more: &Tags,
    ) -> Result<Token> {
        let taken = disks.iter().map(async |id| -> Result<_> {
            let held = mark.disks.get(id).ok_or_else(|| {
                Error::new(ErrorKind::NotFound, format!("{} has no disk {id} here", mark.name))
            })?;
            let snapshot = self.taken(key, mark, id, held, more).await.map_err(|e| e.with("disk", id))?;
            let at = At {
                name: snapshot.name,
                disk: snapshot.source_unique_id,
                family: snapshot.family_id,
                size: snapshot.size_bytes,
            };
            Ok((id.clone(), at))
        });
        let taken = futures_util::future::join_all(taken).await;
        let snapshots = taken.into_iter().collect::<Result<_>>()?;
        Ok(Token { machine: mark.machine.clone(), is_base: false, snapshots })
    }

    async fn taken(
        &self,
        key: &OpKey,
        mark: &Mark,
        id: &DiskId,
        held: &Held,
        more: &Tags,
    ) -> Result<Snapshot> {
        let name = resource(&mark.name, id.as_str(), key);
        let snapshots = self.arm.snapshots(&self.group);
        let found = snapshots.get(&name).await?;
        if let Some(found) = &found {
            self.must_be_made_by(&found.name, &found.tags, key)?;
            if found.provisioning == Provisioning::Succeeded {
                return Ok(found.clone());
            }
            if found.provisioning == Provisioning::Failed {
                snapshots.delete(&name).await?.done().await?;
            }
        }
        let Some(disk) = self.arm.disks(&self.group).get(&held.resource).await? else {
            let message = format!("disk {} of {} is gone", held.resource, mark.name);
            return Err(Error::new(ErrorKind::NotFound, message));
        };
        let mut tags = self.tags(mark, key);
        tags.extend(more.clone());
        let new =
            NewSnapshot { location: self.location.clone(), tags, source_id: disk.id, incremental: true };
        Ok(snapshots.put(&name, &new).await?.done().await?)
    }

    /// Tags of what is made for a machine.
    pub(super) fn tags(&self, mark: &Mark, key: &OpKey) -> Tags {
        Tags::from([
            (names::SITE.to_owned(), self.name.to_string()),
            (names::MACHINE.to_owned(), mark.machine.to_string()),
            (names::MADE_BY.to_owned(), key.to_name()),
            (names::GENERATION.to_owned(), mark.generation.to_string()),
        ])
    }

    /// # Errors
    /// `Conflict` for a resource in the place of ours.
    pub(super) fn must_be_made_by(&self, name: &str, tags: &Tags, key: &OpKey) -> Result<()> {
        if tags.get(names::MADE_BY) == Some(&key.to_name())
            && tags.get(names::SITE) == Some(&self.name.to_string())
        {
            return Ok(());
        }
        let message = format!("{name} is there in group {}, and was not made by {key}", self.group);
        Err(Error::new(ErrorKind::Conflict, message))
    }

    pub(super) async fn release(
        &self,
        op: &Op,
        capture: &Capture,
        machine: &site_recovery::MachineId,
        fate: Fate,
    ) -> Result<()> {
        let member = capture.member(machine)?;
        let _turn = self.turn(op, machine).await?;
        let Some(mut marked) = self.mark_if_there(&member.machine.instance).await? else { return Ok(()) };
        let key = OpKey(capture.cut.0.clone());
        let Some(at) = marked.mark.cuts.iter().position(|cut| cut.key == key) else { return Ok(()) };
        for snapshot in marked.mark.cuts[at].snapshots.values() {
            self.withhold(snapshot).await?;
        }
        let mut next = marked.mark.clone();
        let gone: Vec<Cut> = match fate {
            Fate::Sealed => {
                next.cuts[at].is = Became::Sealed;
                let held = |(n, cut): (usize, &Cut)| n >= at || cut.is == Became::Captured;
                let (stay, gone) = split(&next.cuts, held);
                next.cuts = stay;
                gone
            }
            Fate::Spooled => {
                next.cuts[at].is = Became::Spooled;
                vec![]
            }
            // What was sealed of it all the same stays a cursor.
            Fate::Abandoned if next.cuts[at].is == Became::Sealed => vec![],
            Fate::Abandoned => vec![next.cuts.remove(at)],
        };
        self.delete_snapshots(&gone).await?;
        self.set_mark(&mut marked, next).await
    }

    pub(super) async fn sweep(&self, op: &Op, instance: &Instance, keep: &[OpKey]) -> Result<Vec<OpKey>> {
        let _turn = self.turn(op, &instance.machine).await?;
        let Some(mut marked) = self.mark_if_there(instance).await? else { return Ok(vec![]) };
        let mut next = marked.mark.clone();
        let mut swept = vec![];
        for cut in next.cuts.iter_mut().filter(|c| c.is == Became::Captured && !keep.contains(&c.key)) {
            for snapshot in cut.snapshots.values() {
                self.withhold(snapshot).await?;
                self.keep_as_cursor(snapshot).await?;
            }
            cut.is = Became::Swept;
            swept.push(cut.key.clone());
        }
        self.set_mark(&mut marked, next).await?;
        self.delete_strays(&marked.mark, keep).await?;
        Ok(swept)
    }

    /// Deletes snapshots of captures that were broken off before a mark named them.
    pub(super) async fn delete_strays(&self, mark: &Mark, keep: &[OpKey]) -> Result<()> {
        let snapshots = self.arm.snapshots(&self.group);
        let mut ours = snapshots.list().await?;
        ours.retain(|found| {
            found.tags.get(names::SITE) == Some(&self.name.to_string())
                && found.tags.get(names::MACHINE) == Some(&mark.machine.to_string())
        });
        if ours.is_empty() {
            return Ok(());
        }
        // Of one machine several may stand here: what it was recovered as, a drill, what was set aside.
        let marks = self.marks().await?.into_iter().filter(|other| other.machine == mark.machine);
        let mut known: BTreeSet<_> = keep.iter().map(OpKey::to_name).collect();
        for mark in marks {
            known.extend(mark.cuts.iter().map(|cut| cut.key.to_name()));
            known.extend(mark.made.map(|made| base(&made.by).to_name()));
        }
        ours.retain(|found| found.tags.get(names::MADE_BY).is_some_and(|by| !known.contains(by)));
        for stray in ours {
            self.withhold(&stray.name).await?;
            snapshots.delete(&stray.name).await?.done().await?;
        }
        Ok(())
    }

    /// Whoever looks at the group sees that nobody holds it as a capture.
    async fn keep_as_cursor(&self, snapshot: &str) -> Result<()> {
        let snapshots = self.arm.snapshots(&self.group);
        if let Some(found) = snapshots.get(snapshot).await? {
            let mut tags = found.tags;
            tags.insert(names::KEPT_AS.to_owned(), "cursor".to_owned());
            snapshots.tag(snapshot, &tags).await?.done().await?;
        }
        Ok(())
    }

    pub(super) async fn delete_snapshots(&self, cuts: &[Cut]) -> Result<()> {
        let snapshots = self.arm.snapshots(&self.group);
        let deleted = cuts.iter().flat_map(|cut| cut.snapshots.values()).map(async |name| -> Result<()> {
            self.withhold(name).await?;
            Ok(snapshots.delete(name).await?.done().await?)
        });
        futures_util::future::join_all(deleted).await.into_iter().collect()
    }
}

fn split(cuts: &[Cut], stays: impl Fn((usize, &Cut)) -> bool) -> (Vec<Cut>, Vec<Cut>) {
    let (mut stay, mut gone) = (vec![], vec![]);
    for (n, cut) in cuts.iter().enumerate() {
        if stays((n, cut)) { stay.push(cut.clone()) } else { gone.push(cut.clone()) }
    }
    (stay, gone)
}
