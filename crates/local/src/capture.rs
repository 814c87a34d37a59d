//! Captures: the bytes of all disks of all members at one instant, kept until they are let go.
//!
//! Bytes stand in each machine's `captures/<key>/`; the capture exists when the site's own `captures/<key>.json` does,
//! which is written last. What has no such record is a leftover, and is swept.

use crate::command::{Ended, failed};
use crate::description::Command;
use crate::guest::hold_writers;
use crate::home::plain;
use crate::home::{Held, Home, Known};
use crate::tables::{self, Became};
use crate::{Site, copies, tracking};
use serde::{Deserialize, Serialize};
use site_recovery::{
    Capture, Consistency, CutId, DiskId, Error, Instance, Member, Op, OpKey, Result, Sidecar, Timestamp,
};
use site_recovery_register::durable;
use site_recovery_register::{Told, conflict, not_found, refused};
use std::fs::File;
use std::path::PathBuf;

/// The record that makes a capture exist.
#[derive(Debug, Serialize, Deserialize)]
struct Taken {
    key: OpKey,
    capture: Capture,
}

/// `captures/<key>/key.json` of one member: whose bytes these are. Written first, removed first.
#[derive(Debug, Serialize, Deserialize)]
struct Share {
    key: OpKey,
    table: String,
}

/// `frozen.json`: stands while a machine may be frozen by us.
#[derive(Debug, Serialize, Deserialize)]
struct Frozen {
    by: OpKey,
    since: Timestamp,
}

/// What stands at the instant.
struct Instant {
    taken: Timestamp,
    members: Vec<(Known, Vec<Sidecar>)>,
}

impl Site {
    pub(crate) fn capture(&self, op: &Op, of: &[Instance], want: Consistency) -> Result<Capture> {
        if of.is_empty() {
            return Err(Error::invalid("of", "empty", "a capture has a member", "name a machine"));
        }
        if of.iter().enumerate().any(|(at, i)| of[..at].iter().any(|j| j.machine == i.machine || j.is(i))) {
            return Err(Error::invalid("of", "twice the same", "each member once", "name it once"));
        }
        let _turns = self.register.turns(op, &of.iter().map(|i| &i.machine).collect::<Vec<_>>())?;
        let homes = of.iter().map(|i| self.home_of(i)).collect::<Result<Vec<_>>>()?;
        if let Some(capture) = self.standing(&op.key)? {
            let same = capture.members.iter().map(|m| &m.machine.instance).zip(of).all(|(a, b)| a.is(b));
            if !same || capture.members.len() != of.len() {
                return Err(conflict(format!("{} names a capture of other machines", op.key)));
            }
            return Ok(capture);
        }
        durable::remove_file(&self.taken_path(&op.key))?;
        let made = self.capture_anew(op, of, &homes, want);
        if made.is_err() {
            for home in &homes {
                let _ = self.drop_share(home, &op.key);
            }
        }
        made
    }

    /// The capture of this key, while a member of it lives.
    pub(crate) fn standing(&self, key: &OpKey) -> Result<Option<Capture>> {
        let Some(taken) = durable::read::<Taken>(&self.taken_path(key))? else { return Ok(None) };
        let lives = |m: &Member| {
            let home = self.home(&m.machine.instance.name);
            home.is_ok_and(|h| share_dir(&h, key).join("key.json").exists())
        };
        Ok((&taken.key == key && taken.capture.members.iter().any(lives)).then_some(taken.capture))
    }

    fn capture_anew(&self, op: &Op, of: &[Instance], homes: &[Home], want: Consistency) -> Result<Capture> {
        let mut shares = vec![];
        for home in homes {
            self.thaw_leftover(home)?;
            durable::remove_tree(&share_dir(home, &op.key))?;
            let share = Share { key: op.key.clone(), table: tracking::new_id(home, &op.key) };
            durable::write(&share_dir(home, &op.key).join("key.json"), &share)?;
            shares.push(share);
        }
        let (instant, consistency, quiesce_failed) = self.instant(op, homes, want)?;
        let mut members = vec![];
        for ((known, sidecars), (label, share)) in instant.members.iter().zip(of.iter().zip(&shares)) {
            let held = captured(known, &op.key);
            for disk in &held {
                File::open(&disk.path).and_then(|f| f.sync_all()).told("sync", &disk.path)?;
            }
            durable::sync_dir(&share_dir(&known.home, &op.key))?;
            let generation = known.generation(label);
            let cursor = tracking::record(&known.home, &share.table, &label.machine, generation, &held)?;
            note_sizes(known)?;
            let machine = known.machine(&self.name, Some(label));
            members.push(Member { machine, cursor: Some(cursor), sidecars: sidecars.clone() });
        }
        let cut = CutId(op.key.0.clone());
        let capture = Capture { cut, taken: instant.taken, consistency, quiesce_failed, members };
        durable::write(&self.taken_path(&op.key), &Taken { key: op.key.clone(), capture: capture.clone() })?;
        for (home, share) in homes.iter().zip(&shares) {
            tables::note(home, &share.table, Became::Captured, &living(home)?)?;
        }
        Ok(capture)
    }

    /// Takes the bytes, frozen where that is wanted and works, else as they stand.
    fn instant(
        &self,
        op: &Op,
        homes: &[Home],
        want: Consistency,
    ) -> Result<(Instant, Consistency, Option<String>)> {
        if want <= Consistency::Crash {
            return Ok((self.copy_all(op, homes, None)?, Consistency::Crash, None));
        }
        let (reached, until) = match self.freeze_all(op, homes, want) {
            Ok(frozen) => frozen,
            Err(reason) => {
                self.thaw_all(homes)?;
                let instant = self.copy_all(op, homes, None)?;
                return Ok((instant, Consistency::Crash, Some(reason.message().to_owned())));
            }
        };
        let copied = self.copy_all(op, homes, Some(until));
        self.thaw_all(homes)?;
        match copied {
            Ok(instant) => {
                let why = "a member's freeze command does not speak for applications";
                Ok((instant, reached, (reached < want).then(|| why.to_owned())))
            }
            Err(e) if self.clock.now() > until => {
                let reason = format!("the copy took longer than a machine may be frozen ({e})");
                let instant = self.copy_all(op, homes, None)?;
                Ok((instant, Consistency::Crash, Some(reason)))
            }
            Err(e) => Err(e),
        }
    }

    /// Copies all disks of all members while every writer waits.
    fn copy_all(&self, op: &Op, homes: &[Home], until: Option<Timestamp>) -> Result<Instant> {
        let mut sorted: Vec<&Home> = homes.iter().collect();
        sorted.sort_by_key(|h| &h.name);
        let _writers = sorted.into_iter().map(hold_writers).collect::<Result<Vec<_>>>()?;
        let taken = self.clock.now();
        let mut in_time = || match until {
            Some(until) if self.clock.now() > until => Err(refused("the limit of the freeze is over")),
            _ => Ok(()),
        };
        let mut members = vec![];
        for home in homes {
            let known = Known::read(home.clone())?;
            for held in known.disks.iter().filter(|d| d.spec.included) {
                let to = share_dir(home, &op.key).join(disk_file(&held.spec.id));
                if to.exists() {
                    durable::remove_file(&to)?;
                }
                copies::clone(&held.path, &to, &mut in_time)?;
            }
            let sidecars = known.sidecars()?;
            members.push((known, sidecars));
        }
        in_time()?;
        Ok(Instant { taken, members })
    }

    /// Freezes every member; says what that is good for, and until when it may last.
    fn freeze_all(&self, op: &Op, homes: &[Home], want: Consistency) -> Result<(Consistency, Timestamp)> {
        let (mut reached, mut until) = (want, Timestamp(u64::MAX));
        for home in homes {
            let commands = home.description()?.commands;
            let Some(freeze) = commands.freeze else {
                return Err(refused(format!("{} has no freeze command", home.name)));
            };
            if self.running(home)? != Some(true) {
                return Err(refused(format!("{} does not run, so nobody can freeze it", home.name)));
            }
            if !commands.freezes_applications {
                reached = reached.min(Consistency::FileSystem);
            }
            durable::write(
                &home.own("frozen.json"),
                &Frozen { by: op.key.clone(), since: self.clock.now() },
            )?;
            until = until.min(self.clock.now().after(freeze.limit()));
            let ended = self.run(home, "freeze", &freeze, freeze.limit(), &[])?;
            if ended != Ended::Exit(Some(0)) {
                // A freeze that says no has frozen nothing: a thaw that says no is then no news.
                if ended != Ended::TimedOut && self.thaw_leftover(home).is_err() {
                    durable::remove_file(&home.own("frozen.json"))?;
                }
                return Err(failed(home, "freeze", &freeze, ended));
            }
        }
        Ok((reached, until))
    }

    fn thaw_all(&self, homes: &[Home]) -> Result<()> {
        // Every one is tried, whatever the others say.
        let thawed: Vec<Result<()>> = homes.iter().map(|h| self.thaw_leftover(h)).collect();
        thawed.into_iter().collect()
    }

    /// Thaws a machine that one of our freezes may have left frozen.
    pub(crate) fn thaw_leftover(&self, home: &Home) -> Result<()> {
        let mark = home.own("frozen.json");
        if !mark.exists() {
            return Ok(());
        }
        if let Some(thaw) = home.description()?.commands.thaw {
            self.thaw(home, &thaw)?;
        }
        durable::remove_file(&mark)
    }

    fn thaw(&self, home: &Home, thaw: &Command) -> Result<()> {
        let ended = self.run(home, "thaw", thaw, thaw.limit(), &[])?;
        // A machine that is off is not frozen, whatever the command says.
        if ended == Ended::Exit(Some(0)) || self.running(home)? == Some(false) {
            return Ok(());
        }
        let error = failed(home, "thaw", thaw, ended);
        tracing::error!(machine = %home.name, %error, "a machine may be frozen: thaw it by hand");
        Err(error)
    }

    /// The captured files of one member.
    pub(crate) fn captured_disks(&self, capture: &Capture, home: &Home) -> Result<Vec<(DiskId, PathBuf)>> {
        let key = OpKey(capture.cut.0.clone());
        let dir = share_dir(home, &key);
        if !dir.join("key.json").exists() || self.standing(&key)?.is_none() {
            return Err(not_found(format!("capture {key} of {} was released or swept", home.name)));
        }
        let member = capture.members.iter().find(|m| m.machine.instance.name == home.name);
        let member = member.ok_or_else(|| not_found(format!("{} is not in capture {key}", home.name)))?;
        Ok(member.machine.included().map(|d| (d.id.clone(), dir.join(disk_file(&d.id)))).collect())
    }

    /// Removes one member's bytes, and the record with the last of them. Says whether there was anything.
    pub(crate) fn drop_share(&self, home: &Home, key: &OpKey) -> Result<bool> {
        let dir = share_dir(home, key);
        let there = dir.join("key.json").exists();
        durable::remove_file(&dir.join("key.json"))?;
        durable::remove_tree(&dir)?;
        if self.standing(key)?.is_none() {
            durable::remove_file(&self.taken_path(key))?;
        }
        Ok(there)
    }

    /// Removes every capture of the machine but those of `keep`, and all leftovers.
    pub(crate) fn sweep_captures(&self, home: &Home, keep: &[OpKey]) -> Result<Vec<OpKey>> {
        let mut gone = vec![];
        for dir in durable::list(&home.own("captures"))? {
            match durable::read::<Share>(&dir.join("key.json"))? {
                Some(share) if keep.contains(&share.key) => {}
                Some(share) => {
                    self.drop_share(home, &share.key)?;
                    gone.push(share.key);
                }
                None => durable::remove_tree(&dir)?,
            }
        }
        Ok(gone)
    }

    fn taken_path(&self, key: &OpKey) -> PathBuf {
        self.own("captures").join(format!("{}.json", plain(key.as_str())))
    }
}

/// Tables of the captures that live on this machine.
pub(crate) fn living(home: &Home) -> Result<Vec<String>> {
    let dirs = durable::list(&home.own("captures"))?;
    let shares = dirs.iter().map(|d| durable::read::<Share>(&d.join("key.json")));
    shares.filter_map(|s| s.transpose().map(|s| s.map(|s| s.table))).collect()
}

/// The disks of a member, as the capture holds them.
fn captured(known: &Known, key: &OpKey) -> Vec<Held> {
    let dir = share_dir(&known.home, key);
    let included = known.disks.iter().filter(|d| d.spec.included);
    included.map(|d| Held { path: dir.join(disk_file(&d.spec.id)), ..d.clone() }).collect()
}

/// A disk that grew is never to shrink below its new size.
fn note_sizes(known: &Known) -> Result<()> {
    let Some(mark) = &known.mark else { return Ok(()) };
    let now = known.with_sizes(mark.clone());
    if &now == mark { Ok(()) } else { known.home.set_mark(&now) }
}

fn share_dir(home: &Home, key: &OpKey) -> PathBuf {
    home.own("captures").join(plain(key.as_str()))
}

fn disk_file(disk: &DiskId) -> String {
    format!("{}.raw", plain(disk.as_str()))
}
