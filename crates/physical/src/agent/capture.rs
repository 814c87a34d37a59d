//! Captures of this server: what is written down before, and what after the instant.
//!
//! `captures/<key>/intent.json` names every snapshot before it is made; the capture exists when `capture.json` does, which
//! is written last and removed first. An intent without it is a leftover, and is swept.

use super::instant::Planned;
use super::mark::Known;
use super::{FORMAT, Inner, Mark};
use crate::inventory::ServerDisk;
use crate::snapshot::{Handle, Means};
use crate::tracking::{CutRef, Tracked};
use serde::{Deserialize, Serialize};
use site_recovery::audit::sha256_hex;
use site_recovery::{
    Capture, Consistency, CutId, DiskId, DiskSpec, Instance, Machine, Member, Op, OpKey, Result,
};
use site_recovery_register::{conflict, durable, not_found};
use std::path::PathBuf;
use std::sync::Arc;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Intent {
    format: u32,
    pub(crate) key: OpKey,
    pub(crate) cut: CutRef,
    pub(crate) disks: Vec<Intended>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Intended {
    pub(crate) id: DiskId,
    pub(crate) size: u64,
    pub(crate) snapshot: Handle,
}

impl Inner {
    pub(crate) fn capture(&self, op: &Op, of: &Instance, want: Consistency, known: Known) -> Result<Capture> {
        self.must_be_us(of)?;
        let _turn = self.register.turn(op, &of.machine)?;
        let mark = known.marked()?;
        if mark.machine != of.machine {
            return Err(conflict(format!("{} carries the mark of machine {}", of.name, mark.machine)));
        }
        if let Some(capture) = self.standing(&op.key)? {
            return Ok(capture);
        }
        self.remove_capture(&op.key)?;
        let made = self.capture_anew(op, want, &known, mark);
        if made.is_err() {
            let _swept_later = self.remove_capture(&op.key);
        }
        made
    }

    fn capture_anew(&self, op: &Op, want: Consistency, known: &Known, mark: &Mark) -> Result<Capture> {
        let mut planned = vec![];
        for (id, disk) in known.included()? {
            let name = snapshot_name(&op.key, &mark.machine.0, &id);
            let (means, handle) = self.means_of(disk, &name)?;
            planned.push((id, disk, means, handle));
        }
        let tracked = |(id, disk, ..): &(DiskId, &ServerDisk, Arc<dyn Means>, Handle)| Tracked {
            id: id.clone(),
            hardware: disk.id.clone(),
            size: disk.size,
        };
        let mut tracked: Vec<Tracked> = planned.iter().map(tracked).collect();
        // Where they are plugged in says nothing.
        tracked.sort_by(|a, b| a.id.cmp(&b.id));
        let cut = self.tracking.begin(&mark.machine, mark.generation, tracked)?;
        let intended = |(id, disk, _, handle): &(DiskId, &ServerDisk, _, Handle)| Intended {
            id: id.clone(),
            size: disk.size,
            snapshot: handle.clone(),
        };
        let disks = planned.iter().map(intended).collect();
        let intent = Intent { format: FORMAT, key: op.key.clone(), cut: cut.clone(), disks };
        durable::write(&self.dir(&op.key).join("intent.json"), &intent)?;
        self.note_sizes(known, mark)?;
        self.begin_tracing(planned.iter().map(|(_, disk, ..)| *disk));
        let mut prepared = vec![];
        for (id, disk, means, handle) in &planned {
            let snapshot = means.prepare(disk, handle)?;
            prepared.push(Planned { id: id.clone(), disk, means: Arc::clone(means), snapshot });
        }
        let instant = self.instant(&mut prepared, want, mark, &op.key)?;
        self.tracking.cut(&cut, instant.written, instant.held);
        prepared.iter_mut().try_for_each(|p| p.snapshot.settle())?;
        let machine = known.machine(&self.settings.site, &self.settings.name);
        let cursor = Some(cut.cursor(mark.generation));
        let capture = Capture {
            cut: CutId(op.key.0.clone()),
            taken: instant.taken,
            consistency: instant.consistency,
            quiesce_failed: instant.reason,
            members: vec![Member { machine, cursor, sidecars: vec![] }],
        };
        durable::write(&self.dir(&op.key).join("capture.json"), &capture)?;
        Ok(capture)
    }

    /// The first means that serves a disk.
    pub(crate) fn means_of(&self, disk: &ServerDisk, name: &str) -> Result<(Arc<dyn Means>, Handle)> {
        let mut refused = None;
        for means in &self.settings.snapshots {
            match means.plan(disk, name) {
                Ok(handle) => return Ok((Arc::clone(means), handle)),
                Err(e) => refused = refused.or(Some(e)),
            }
        }
        Err(refused.unwrap_or_else(|| {
            let message = format!("no means of snapshots is set for {}: name one", disk.device.display());
            site_recovery::Error::new(site_recovery::ErrorKind::Unsupported, message)
        }))
    }

    /// A disk that grew is never to shrink below its new size.
    fn note_sizes(&self, known: &Known, mark: &Mark) -> Result<()> {
        let mut now = mark.clone();
        for disk in &known.server.disks {
            if let Some(marked) = now.disks.get_mut(&disk.id) {
                marked.size = disk.size;
            }
        }
        if &now == mark { Ok(()) } else { durable::write(&self.own("mark.json"), &now) }
    }

    /// The capture of this key, while it lives.
    pub(crate) fn standing(&self, key: &OpKey) -> Result<Option<Capture>> {
        let capture = durable::read::<Capture>(&self.dir(key).join("capture.json"))?;
        Ok(capture.filter(|c| c.cut.0 == key.0))
    }

    pub(crate) fn is_whole(&self, key: &OpKey) -> bool {
        self.dir(key).join("capture.json").exists()
    }

    pub(crate) fn intent(&self, key: &OpKey) -> Result<Option<Intent>> {
        durable::read(&self.dir(key).join("intent.json"))
    }

    /// Every snapshot that we made, or began to make.
    pub(crate) fn intents(&self) -> Result<Vec<Intent>> {
        let dirs = durable::list(&self.own("captures"))?;
        dirs.iter().filter_map(|d| durable::read(&d.join("intent.json")).transpose()).collect()
    }

    /// Cuts of captures that live.
    pub(crate) fn living(&self) -> Result<Vec<CutRef>> {
        let mut all = self.intents()?;
        all.retain(|i| self.is_whole(&i.key));
        Ok(all.into_iter().map(|i| i.cut).collect())
    }

    /// The disks of a capture that lives, and where their bytes are.
    pub(crate) fn captured(&self, capture: &Capture) -> Result<Vec<(DiskSpec, PathBuf)>> {
        let key = OpKey(capture.cut.0.clone());
        let released = || not_found(format!("capture {key} was released or swept"));
        let standing = self.standing(&key)?.ok_or_else(released)?;
        let intent = self.intent(&key)?.ok_or_else(released)?;
        let mut all = vec![];
        for spec in standing.members.iter().map(|m| &m.machine).flat_map(Machine::included) {
            let disk = intent.disks.iter().find(|d| d.id == spec.id).ok_or_else(released)?;
            all.push((spec.clone(), self.path_of(disk)?));
        }
        Ok(all)
    }

    pub(crate) fn path_of(&self, disk: &Intended) -> Result<PathBuf> {
        self.means_named(&disk.snapshot)?.open(&disk.snapshot)
    }

    fn means_named(&self, handle: &Handle) -> Result<&Arc<dyn Means>> {
        let means = self.settings.snapshots.iter().find(|m| m.name() == handle.means);
        means.ok_or_else(|| not_found(format!("snapshots by {} are no longer set", handle.means)))
    }

    /// Lets a capture go. Says whether there was one.
    pub(crate) fn remove_capture(&self, key: &OpKey) -> Result<bool> {
        let was = self.is_whole(key);
        let dir = self.dir(key);
        durable::remove_file(&dir.join("capture.json"))?;
        if let Some(intent) = self.intent(key)? {
            for disk in &intent.disks {
                self.means_named(&disk.snapshot)?.remove(&disk.snapshot)?;
            }
        }
        durable::remove_tree(&dir)?;
        Ok(was)
    }

    /// Removes every capture but those of `keep`, and all leftovers.
    pub(crate) fn sweep(&self, keep: &[OpKey]) -> Result<Vec<OpKey>> {
        let mut gone = vec![];
        for intent in self.intents()? {
            let kept = keep.contains(&intent.key) && self.is_whole(&intent.key);
            if !kept && self.remove_capture(&intent.key)? {
                gone.push(intent.key);
            }
        }
        Ok(gone)
    }

    fn dir(&self, key: &OpKey) -> PathBuf {
        self.own("captures").join(key.to_name())
    }
}

/// What everybody can see is ours: `sr-` and sixteen digits that come from key, machine and disk.
fn snapshot_name(key: &OpKey, machine: &str, disk: &DiskId) -> String {
    format!("sr-{}", &sha256_hex(format!("{key}\n{machine}\n{disk}").as_bytes())[..16])
}
