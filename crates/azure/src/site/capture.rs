//! Captures: an incremental snapshot of each disk.
//!
//! N snapshots are N instants, so that a capture of several disks of a machine that runs is [`Consistency::PerDisk`]: a base for
//! deltas, never booted from. A snapshot is a cursor as well: it stays until a later capture is sealed.

use super::Site;
use super::claim::is_changing;
use super::mark::{Became, Cut, Held, Mark, Marked};
use super::names::{self, resource};
use super::register::Turn;
use serde::{Deserialize, Serialize};
use site_recovery::{
    Capture, Consistency, Cursor, CutId, DiskId, Error, ErrorKind, Fate, Instance, Machine, MachineId,
    Member, Op, OpKey, Power, Result, Stamp, StartGuard,
};
use site_recovery_azure_arm::{NewSnapshot, Pending, Provisioning, Snapshot, Tags};
use std::collections::BTreeMap;

/// A cursor's token: which snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Token {
    pub(super) machine: MachineId,
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
    /// When Azure took it: another one under its name is of another time.
    pub(super) created: Option<String>,
}

impl From<Snapshot> for At {
    fn from(snapshot: Snapshot) -> Self {
        Self {
            name: snapshot.name,
            disk: snapshot.source_unique_id,
            family: snapshot.family_id,
            size: snapshot.size_bytes,
            created: snapshot.created,
        }
    }
}

/// A snapshot that was asked for.
pub(super) enum Asked {
    There(Snapshot),
    UnderWay(Pending<Snapshot>),
}

impl Token {
    /// What the snapshots are called.
    pub(super) fn names(&self) -> BTreeMap<DiskId, String> {
        self.snapshots.iter().map(|(disk, at)| (disk.clone(), at.name.clone())).collect()
    }

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
        let turn = self.turn(op, &instance.machine).await?;
        let mut marked = self.mark_of(instance).await?;
        match marked.mark.cut(&op.key) {
            Some(cut) if cut.is == Became::Captured => {
                let capture = cut.capture.clone();
                let next = marked.mark.held_under(&op.epoch, |cut| cut.key == op.key);
                self.set_mark(&mut marked, next).await?;
                return Ok(capture);
            }
            Some(cut) if cut.is != Became::Taking => {
                let message = format!("the capture of {} was released", op.key);
                return Err(Error::new(ErrorKind::Refused, message));
            }
            _ => {}
        }
        let machine = self.described(&marked.mark).await?;
        let off = off(&self.power_of(&marked.mark).await?);
        let begun = self.begun(&turn, &op.key, &mut marked, machine, off).await?;
        let included: Vec<_> = begun.snapshots.keys().cloned().collect();
        let asked = self.ask_for(&turn, &op.key, &marked.mark, &included).await;
        let token = self.taken(&marked.mark, asked).await?;
        // Off all the time, from before the first try of this capture.
        let stood = begun.off.is_some() && begun.off == self::off(&self.power_of(&marked.mark).await?);
        let consistency =
            if stood || included.len() == 1 { Consistency::Crash } else { Consistency::PerDisk };
        let quiesce_failed = (want > consistency)
            .then(|| "Azure takes snapshots of disks one by one, and asks no guest".into());
        let mut capture = Capture { consistency, quiesce_failed, ..begun.capture };
        let cursor = token.cursor(&marked.mark)?;
        capture.members.iter_mut().for_each(|member| member.cursor = Some(cursor.clone()));
        let mut next = marked.mark.clone();
        for cut in next.cuts.iter_mut().filter(|cut| cut.key == op.key) {
            (cut.capture, cut.is) = (capture.clone(), Became::Captured);
            cut.epoch = op.epoch.clone();
        }
        self.set_mark(&mut marked, next).await?;
        Ok(capture)
    }

    /// What is about to be taken stands in the mark before it is asked for. What an earlier call has left half taken goes, unless
    /// it is of this key, and of the disks as they are.
    ///
    /// # Errors
    /// `Unavailable` where it would be more than Azure takes: then nothing was changed.
    async fn begun(
        &self,
        turn: &Turn,
        key: &OpKey,
        marked: &mut Marked,
        machine: Machine,
        off: Option<Stamp>,
    ) -> Result<Cut> {
        let same = |cut: &Cut| {
            cut.key == *key && cut.capture.members.iter().all(|m| m.machine.disks == machine.disks)
        };
        let mut next = marked.mark.clone();
        let now = self.clock.now();
        let (stay, gone) = split(&next.cuts, |(_, cut)| cut.is != Became::Taking || same(cut));
        let asks = match stay.iter().find(|cut| cut.key == *key) {
            Some(cut) => self.lacks(cut).await?,
            None => true,
        };
        if asks {
            next.must_take_another(now)?;
            next.note_asked(now);
        }
        self.delete_snapshots(turn, &gone).await?;
        next.cuts = stay;
        let cut = if let Some(cut) = next.cut(key) {
            cut.clone()
        } else {
            let name = |id: &DiskId| (id.clone(), resource(&marked.mark.name, id.as_str(), key));
            let snapshots = machine.included().map(|disk| name(&disk.id)).collect();
            let capture = Capture {
                cut: CutId(key.0.clone()),
                taken: now,
                consistency: Consistency::PerDisk,
                quiesce_failed: None,
                members: vec![Member { machine, cursor: None, sidecars: vec![] }],
            };
            let epoch = turn.op.epoch.clone();
            let cut = Cut { key: key.clone(), epoch, capture, snapshots, is: Became::Taking, off };
            next.cuts.push(cut.clone());
            cut
        };
        self.set_mark(marked, next).await?;
        Ok(cut)
    }

    /// Whether one of its snapshots has still to be asked for.
    async fn lacks(&self, cut: &Cut) -> Result<bool> {
        for name in cut.snapshots.values() {
            let found = self.settled_snapshot(name).await?;
            if found.is_none_or(|found| found.provisioning != Provisioning::Succeeded) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Asks for a snapshot of each of these disks, all at once; those that are there already under this key are taken.
    pub(super) async fn ask_for(
        &self,
        turn: &Turn,
        key: &OpKey,
        mark: &Mark,
        disks: &[DiskId],
    ) -> Vec<Result<(DiskId, Asked)>> {
        let asked = disks.iter().map(async |id| {
            let held = mark.disks.get(id).ok_or_else(|| {
                Error::new(ErrorKind::NotFound, format!("{} has no disk {id} here", mark.name))
            })?;
            let asked = self.asked(turn, key, mark, id, held).await.map_err(|e| e.with("disk", id))?;
            Ok((id.clone(), asked))
        });
        futures_util::future::join_all(asked).await
    }

    /// Waits for snapshots that were asked for.
    pub(super) async fn taken(&self, mark: &Mark, asked: Vec<Result<(DiskId, Asked)>>) -> Result<Token> {
        let taken = asked.into_iter().map(async |asked| -> Result<_> {
            let (id, asked) = asked?;
            let taken = match asked {
                Asked::There(snapshot) => snapshot,
                Asked::UnderWay(pending) => {
                    pending.done().await.map_err(|e| Error::from(e).with("disk", &id))?
                }
            };
            Ok((id, At::from(taken)))
        });
        let taken = futures_util::future::join_all(taken).await;
        let snapshots = taken.into_iter().collect::<Result<_>>()?;
        Ok(Token { machine: mark.machine.clone(), is_base: false, snapshots })
    }

    async fn asked(&self, turn: &Turn, key: &OpKey, mark: &Mark, id: &DiskId, held: &Held) -> Result<Asked> {
        let name = resource(&mark.name, id.as_str(), key);
        let snapshots = self.arm.snapshots(&self.group);
        let disks = self.arm.disks(&self.group);
        let (found, disk) = futures_util::join!(self.settled_snapshot(&name), disks.get(&held.resource));
        if let Some(found) = &found? {
            self.must_be_made_by(&found.name, &found.tags, key)?;
            if found.provisioning == Provisioning::Succeeded {
                return Ok(Asked::There(found.clone()));
            }
            self.ask(turn, snapshots.delete(&name)).await?.done().await?;
        }
        let Some(disk) = disk? else {
            let message = format!("disk {} of {} is gone", held.resource, mark.name);
            return Err(Error::new(ErrorKind::NotFound, message));
        };
        let tags = self.tags(mark, key);
        let new =
            NewSnapshot { location: self.location.clone(), tags, source_id: disk.id, incremental: true };
        Ok(Asked::UnderWay(self.ask(turn, snapshots.put(&name, &new)).await?))
    }

    /// A snapshot, once Azure is not busy with it any more.
    async fn settled_snapshot(&self, name: &str) -> Result<Option<Snapshot>> {
        let snapshots = self.arm.snapshots(&self.group);
        let is_busy = |found: &Snapshot| is_changing(&found.provisioning);
        self.settled(&format!("snapshot {name}"), async || snapshots.get(name).await, is_busy).await
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

    /// Whether it was made here for this machine, by whatever key.
    pub(super) fn is_of(&self, machine: &MachineId, tags: &Tags) -> bool {
        let has = |tag: &str, value: &str| tags.get(tag).is_some_and(|held| held == value);
        has(names::SITE, self.name.as_str()) && has(names::MACHINE, machine.as_str())
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
        machine: &MachineId,
        fate: Fate,
    ) -> Result<()> {
        let member = capture.member(machine)?;
        let turn = self.turn(op, machine).await?;
        let Some(mut marked) = self.mark_if_there(&member.machine.instance).await? else { return Ok(()) };
        let key = OpKey(capture.cut.0.clone());
        let Some(at) = marked.mark.cuts.iter().position(|cut| cut.key == key) else { return Ok(()) };
        for snapshot in marked.mark.cuts[at].snapshots.values() {
            self.withhold(&turn, snapshot).await?;
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
                // The next delta begins at the last sealed one, or at the newest of these.
                let newest = next.cuts.iter().rposition(|cut| cut.is == Became::Spooled);
                let (stay, gone) =
                    split(&next.cuts, |(n, cut)| cut.is != Became::Spooled || Some(n) == newest);
                next.cuts = stay;
                gone
            }
            // What was sealed of it all the same stays a cursor.
            Fate::Abandoned if next.cuts[at].is == Became::Sealed => vec![],
            Fate::Abandoned => vec![next.cuts.remove(at)],
        };
        self.delete_snapshots(&turn, &gone).await?;
        self.set_mark(&mut marked, next).await
    }

    pub(super) async fn sweep(&self, op: &Op, instance: &Instance, keep: &[OpKey]) -> Result<Vec<OpKey>> {
        let turn = self.turn(op, &instance.machine).await?;
        let Some(mut marked) = self.mark_if_there(instance).await? else { return Ok(vec![]) };
        let held = |cut: &Cut| keep.contains(&cut.key);
        let mut next = marked.mark.held_under(&op.epoch, held);
        let (stay, gone) = split(&next.cuts, |(_, cut)| cut.is != Became::Taking || held(cut));
        self.delete_snapshots(&turn, &gone).await?;
        let mut swept: Vec<_> = gone.into_iter().map(|cut| cut.key).collect();
        next.cuts = stay;
        // Whatever a process that is gone has had signed: cursors too.
        for snapshot in next.made.iter().flat_map(|made| made.base.values()) {
            self.withhold(&turn, snapshot).await?;
        }
        for cut in next.cuts.iter_mut().filter(|cut| !held(cut)) {
            for snapshot in cut.snapshots.values() {
                self.withhold(&turn, snapshot).await?;
                if cut.is == Became::Captured {
                    self.keep_as_cursor(&turn, snapshot).await?;
                }
            }
            if cut.is == Became::Captured {
                cut.is = Became::Swept;
                swept.push(cut.key.clone());
            }
        }
        self.set_mark(&mut marked, next).await?;
        Ok(swept)
    }

    /// Whoever looks at the group sees that nobody holds it as a capture.
    async fn keep_as_cursor(&self, turn: &Turn, snapshot: &str) -> Result<()> {
        let snapshots = self.arm.snapshots(&self.group);
        if let Some(found) = snapshots.get(snapshot).await? {
            let mut tags = found.tags;
            tags.insert(names::KEPT_AS.to_owned(), "cursor".to_owned());
            self.ask(turn, snapshots.tag(snapshot, &tags)).await?.done().await?;
        }
        Ok(())
    }

    pub(super) async fn delete_snapshots(&self, turn: &Turn, cuts: &[Cut]) -> Result<()> {
        let all = cuts.iter().flat_map(|cut| cut.snapshots.values().map(move |name| (&cut.key, name)));
        let deleted = all.map(async |(key, name)| -> Result<()> {
            let Some(found) = self.settled_snapshot(name).await? else { return Ok(()) };
            if self.must_be_made_by(name, &found.tags, key).is_err() {
                return Ok(());
            }
            self.withhold(turn, name).await?;
            Ok(self.ask(turn, self.arm.snapshots(&self.group).delete(name)).await?.done().await?)
        });
        futures_util::future::join_all(deleted).await.into_iter().collect()
    }
}

/// What tells that it was off all the time, where it is off and something does.
fn off(power: &Power) -> Option<Stamp> {
    match power {
        Power::Off { start: StartGuard::Tells(stamp) } => Some(stamp.clone()),
        _ => None,
    }
}

fn split(cuts: &[Cut], stays: impl Fn((usize, &Cut)) -> bool) -> (Vec<Cut>, Vec<Cut>) {
    let (mut stay, mut gone) = (vec![], vec![]);
    for (n, cut) in cuts.iter().enumerate() {
        if stays((n, cut)) { stay.push(cut.clone()) } else { gone.push(cut.clone()) }
    }
    (stay, gone)
}
