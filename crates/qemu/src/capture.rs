//! Captures: a filter that copies before it writes, one per disk, switched in at one instant.
//!
//! `captures/<tag>.json` of each member says what was taken; it is written before the effect. Whether the effect happened
//! is what the names in QEMU say.

use crate::Site;
use crate::description::Format;
use crate::freeze::{Frozen, executes};
use crate::home::Home;
use crate::known::Known;
use crate::landed;
use crate::layer::Layer;
use crate::pause::{PAUSED, Switch};
use crate::tracking::{Link, Position, tag};
use crate::version::must_be_new_enough;
use serde::{Deserialize, Serialize};
use site_recovery::{
    Capture, Consistency, CutId, Error, ErrorKind, Instance, Member, Op, OpKey, Result, Sidecar,
};
use site_recovery_register::{conflict, durable};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Instants that are tried while firmware or TPM write.
const INSTANTS: usize = 3;

/// What one member's directory says of a capture.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Taken {
    pub(crate) key: OpKey,
    pub(crate) capture: Capture,
    /// What the filter of each disk stands on, by the disk's place: where the drive goes back to.
    pub(crate) below: BTreeMap<usize, String>,
    /// Older bitmaps that can be read beside it.
    pub(crate) older: Vec<String>,
    /// Its own.
    pub(crate) link: String,
    /// Whether its own process holds it, or the storage daemon.
    pub(crate) live: bool,
    /// Let go, but under a filter that is not.
    pub(crate) released: bool,
}

/// A member while it is captured.
pub(crate) struct Taking {
    pub(crate) known: Known,
    pub(crate) label: Instance,
    pub(crate) layer: Layer,
    pub(crate) tag: String,
    pub(crate) link: Link,
    pub(crate) below: BTreeMap<usize, String>,
    pub(crate) sidecars: Vec<Sidecar>,
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
        if let Some(capture) = self.standing(&op.key, of, &homes)? {
            return Ok(capture);
        }
        for (home, label) in homes.iter().zip(of) {
            self.undo_capture(home, &tag(&op.key, &label.machine))?;
        }
        for _ in 0..INSTANTS {
            let taken = self.capture_anew(op, of, &homes, want);
            if !matches!(taken, Ok(Some(_))) {
                for (home, label) in homes.iter().zip(of) {
                    if let Err(error) = self.undo_capture(home, &tag(&op.key, &label.machine)) {
                        tracing::warn!(machine = %home.name, %error, "a capture that failed left something behind");
                    }
                }
            }
            if let Some(capture) = taken? {
                return Ok(capture);
            }
        }
        let message = "firmware or TPM of a member wrote at each instant that was tried: ask again";
        Err(Error::new(ErrorKind::Busy, message))
    }

    /// The capture of this key, where each member's disks can still be read.
    fn standing(&self, key: &OpKey, of: &[Instance], homes: &[Home]) -> Result<Option<Capture>> {
        let mut found = None;
        for (home, label) in homes.iter().zip(of) {
            let tag = tag(key, &label.machine);
            let Some(taken) = self.taken(home, &tag)? else { return Ok(None) };
            let same =
                taken.capture.members.iter().map(|m| &m.machine.instance).zip(of).all(|(a, b)| a.is(b));
            if !same || taken.capture.members.len() != of.len() {
                return Err(conflict(format!("{key} names a capture of other machines")));
            }
            if taken.released || !self.is_served(home, &tag, &taken)? {
                return Ok(None);
            }
            found = Some(taken.capture);
        }
        Ok(found)
    }

    /// Whether every disk of a member is exported.
    pub(crate) fn is_served(&self, home: &Home, tag: &str, taken: &Taken) -> Result<bool> {
        let layer = if taken.live { self.live(home)? } else { self.stored(home)? };
        let Some(mut layer) = layer else { return Ok(false) };
        let exports = layer.exports()?;
        Ok(taken.below.keys().all(|n| exports.iter().any(|e| e.id == export(tag, *n))))
    }

    /// Nothing where the small files of a member were written at the instant: they would be of another one.
    fn capture_anew(
        &self,
        op: &Op,
        of: &[Instance],
        homes: &[Home],
        want: Consistency,
    ) -> Result<Option<Capture>> {
        let mut taking = vec![];
        for (home, label) in homes.iter().zip(of) {
            taking.push(self.prepare(op, home, label)?);
        }
        let (mut frozen, mut reached, mut why) = (vec![], want.min(Consistency::Crash), None);
        if want > Consistency::Crash {
            match self.freeze_all(&taking, want) {
                Ok((all, able)) => {
                    (frozen, reached) = (all, able);
                    let short = able < want;
                    why = short.then(|| "a member's agent has no hooks that ask applications".to_owned());
                }
                Err(e) => why = Some(e.message().to_owned()),
            }
        }
        for one in &mut taking {
            one.sidecars = self.sidecars(&one.known)?;
        }
        let capture = Capture {
            cut: CutId(op.key.0.clone()),
            taken: self.clock.now(),
            consistency: want.min(Consistency::Crash),
            quiesce_failed: (want > Consistency::Crash).then(|| "it was interrupted".to_owned()),
            members: taking.iter().map(|t| self.member(t)).collect(),
        };
        // What a repeat answers should this process die now: no more than is certain.
        for one in &taking {
            self.note(one, op, &capture, &[], false)?;
        }
        let together = want != Consistency::PerDisk;
        let switched = self.switch(&mut taking, together);
        let moved = self.sidecars_moved(&taking);
        // Every one is thawed, whatever the others say.
        let held: Vec<bool> = frozen.into_iter().map(Frozen::thaw).collect();
        switched?;
        if moved? {
            return Ok(None);
        }
        if held.contains(&false) {
            (reached, why) = (Consistency::Crash, Some("a guest went on before the instant".to_owned()));
        }
        let capture = Capture { consistency: reached, quiesce_failed: why, ..capture };
        let mut noted = vec![];
        for one in &mut taking {
            let older = self.expose(one)?;
            noted.push(older);
        }
        for (one, older) in taking.iter().zip(&noted) {
            self.note(one, op, &capture, older, false)?;
        }
        Ok(Some(capture))
    }

    fn sidecars_moved(&self, taking: &[Taking]) -> Result<bool> {
        for one in taking {
            if self.sidecars(&one.known)? != one.sidecars {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Everything that can be done before the instant.
    fn prepare(&self, op: &Op, home: &Home, label: &Instance) -> Result<Taking> {
        let known = self.known(home.clone())?;
        let layer = match self.live(home)? {
            Some(layer) => layer,
            None => {
                if self.is_written_outside(&known)? {
                    let message =
                        format!("{} is not ours to read: another process writes its images", home.name);
                    return Err(site_recovery_register::refused(message));
                }
                self.store(home, &self.stacks(&known)?)?
            }
        };
        let mut layer = layer;
        layer.end_streams()?;
        let tag = tag(&op.key, &label.machine);
        let mut taking = Taking {
            link: Link { generation: known.generation(label).0, place: 0, capture: tag.clone() },
            sidecars: vec![],
            known,
            label: label.clone(),
            layer,
            tag,
            below: BTreeMap::new(),
        };
        if landed::read(home)?.is_some_and(|l| l.ending.is_some()) {
            let message = format!("a merge of {} was broken off at its end: repeat that first", home.name);
            return Err(site_recovery_register::refused(message));
        }
        taking.layer.must_not_merge()?;
        let included: Vec<_> = taking.known.included().cloned().collect();
        let process = format_args!("the process of {}", home.name);
        must_be_new_enough(process, taking.layer.monitor.version())?;
        taking.layer.must_change_freely()?;
        if taking.layer.live {
            self.scratch_must_answer(home)?;
        }
        included.iter().try_for_each(|held| taking.layer.must_hold(held.n))?;
        taking.number()?;
        for held in included {
            let top = taking.layer.top(held.n)?;
            if taking.layer.live {
                self.insert_filter(&mut taking, held.n, held.spec.size)?;
            } else {
                taking.below.insert(held.n, top.clone());
            }
            taking.layer.begin_bitmap(&top, &taking.link, held.format == Format::Qcow2)?;
        }
        Ok(taking)
    }

    fn freeze_all(&self, taking: &[Taking], want: Consistency) -> Result<(Vec<Frozen>, Consistency)> {
        let (mut frozen, mut able) = (vec![], want);
        for one in taking {
            let name = &one.known.home.name;
            if !one.layer.live {
                let message = format!("{name} does not run, so nobody can freeze it");
                return Err(site_recovery_register::refused(message));
            }
            able = able.min(Self::reach(&one.known).unwrap_or(Consistency::FileSystem));
            frozen.push(self.freeze(&one.known, &one.layer)?);
        }
        Ok((frozen, able))
    }

    /// The instant: each disk's drive goes to its filter.
    fn switch(&self, taking: &mut [Taking], together: bool) -> Result<()> {
        let drives = taking.iter().filter(|t| t.layer.live).map(|t| t.below.len()).sum::<usize>();
        let mut switches = vec![];
        for one in taking.iter_mut().filter(|t| t.layer.live) {
            let pauses = together && drives > 1 && executes(&mut one.layer)?;
            let to = one.below.keys().map(|n| (*n, filter(&one.tag, *n))).collect();
            let note = one.known.home.own(PAUSED);
            switches.push(Switch { layer: &mut one.layer, pauses, to, note });
        }
        self.switch_all(&mut switches)
    }

    /// Ends the older bitmaps, and serves what stands at the instant.
    fn expose(&self, one: &mut Taking) -> Result<Vec<String>> {
        let mut shared: Option<Vec<String>> = None;
        for n in one.below.keys().copied().collect::<Vec<_>>() {
            let top = one.layer.top(n)?;
            let older = one.layer.freeze_older(&top, &one.link)?;
            let bitmaps: Vec<_> = older.iter().map(|b| (top.clone(), b.clone())).collect();
            let node = if one.layer.live { self.insert_access(one, n)? } else { top };
            one.layer.serve(&export(&one.tag, n), &node, &bitmaps, false)?;
            // A bitmap that one disk lacks says nothing of that disk.
            shared = Some(match shared {
                None => older,
                Some(before) => before.into_iter().filter(|b| older.contains(b)).collect(),
            });
        }
        Ok(shared.unwrap_or_default())
    }

    fn member(&self, one: &Taking) -> Member {
        let generation = one.known.generation(&one.label);
        let sizes = one.known.included().map(|d| (d.spec.id.clone(), d.spec.size)).collect();
        let position = Position { machine: one.label.machine.clone(), bitmap: one.link.to_string(), sizes };
        Member {
            machine: one.known.machine(&self.name, Some(&one.label)),
            cursor: Some(position.cursor(generation)),
            sidecars: one.sidecars.clone(),
        }
    }

    fn note(&self, one: &Taking, op: &Op, capture: &Capture, older: &[String], released: bool) -> Result<()> {
        let taken = Taken {
            key: op.key.clone(),
            capture: capture.clone(),
            below: one.below.clone(),
            older: older.to_vec(),
            link: one.link.to_string(),
            live: one.layer.live,
            released,
        };
        durable::write(&taken_path(&one.known.home, &one.tag), &taken)?;
        if let Some(mark) = &one.known.mark {
            // A disk that grew is never to shrink below its new size.
            let now = one.known.with_sizes(mark.clone());
            if &now != mark {
                one.known.home.set_mark(&now)?;
            }
        }
        Ok(())
    }

    pub(crate) fn taken(&self, home: &Home, tag: &str) -> Result<Option<Taken>> {
        durable::read(&taken_path(home, tag))
    }
}

impl Taking {
    /// The next place in the chain of bitmaps, the same for all disks; the one after it where the chain is broken, so that a
    /// place is missing in it.
    fn number(&mut self) -> Result<()> {
        let mut chains = vec![];
        for held in &self.known.disks {
            let top = self.layer.top(held.n)?;
            chains.push((held.spec.included, self.layer.chain(&top)?, top));
        }
        let everywhere: Vec<Link> = match chains.iter().find(|c| c.0) {
            Some((_, first, _)) => {
                let all = |l: &Link| chains.iter().all(|c| !c.0 || c.1.iter().any(|(m, _)| m == l));
                first.iter().map(|(l, _)| l.clone()).filter(all).collect()
            }
            None => vec![],
        };
        for (_, chain, top) in chains.iter_mut().filter(|c| c.0) {
            // What a capture that broke off began on some disks alone is no cursor, and the one before it still records.
            while let [.., (_, true), (last, _)] = &chain[..]
                && !everywhere.contains(last)
                && self.layer.drop_bitmap(top, &last.to_string())?
            {
                chain.pop();
            }
        }
        let last = chains.iter().flat_map(|c| &c.1).map(|(l, _)| l.place).max().unwrap_or(0);
        // Where none records, the newest was taken away, and nobody counted what was written since.
        let whole = chains.iter().all(|c| !c.0 || c.1.last().is_none_or(|(_, records)| *records));
        self.link.place = last + if whole { 1 } else { 2 };
        Ok(())
    }
}

pub(crate) fn taken_path(home: &Home, tag: &str) -> PathBuf {
    home.own("captures").join(format!("{tag}.json"))
}

pub(crate) fn export(tag: &str, n: usize) -> String {
    format!("dr-exp-{tag}-{n}")
}

pub(crate) fn filter(tag: &str, n: usize) -> String {
    format!("dr-cbw-{tag}-{n}")
}
