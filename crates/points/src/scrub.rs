//! Reading a point whole.

use crate::Points;
use crate::extent_map::Place;
use crate::overlay::Overlay;
use crate::reader::{Reader, shown};
use crate::sealed::Sealed;
use site_recovery::{DiskId, Error, ErrorKind, Finding, MachineId, PointId, Result, Run, Severity};
use std::collections::BTreeSet;

const REMEDY: &str = "recover from another point, and ship the disk again with a comparison";

impl Points {
    pub(crate) async fn read_whole(&self, machine: &MachineId, point: PointId) -> Result<Vec<Finding>> {
        let line = self.enter(machine).await?;
        let kept = line.ledger.timeline()?.catalogue.get(&line.folder, point).await?;
        let _hold = self.open.hold(machine, point);
        let folder = line.folder.clone();
        drop(line);
        let sealed = match Sealed::read(&folder, &kept.object).await {
            Ok(sealed) => sealed,
            Err(error) => return Ok(vec![damage(point, error, None)?]),
        };
        let reader = Reader::new(folder.clone(), machine, &self.records);
        let map = sealed.map(&folder);
        let mut check = Check { reader: &reader, point, findings: vec![], damaged: vec![] };
        for disk in sealed.manifest.machine.included() {
            match Overlay::of(&folder, &map.layers, &disk.id).await {
                Ok(overlay) => check.disk(overlay, &disk.id).await?,
                Err(error) => check.findings.push(damage(point, error, None)?),
            }
        }
        let Check { findings, damaged, .. } = check;
        self.note_damage(machine, damaged).await?;
        Ok(findings)
    }

    /// So that a comparison ships again what is damaged.
    async fn note_damage(&self, machine: &MachineId, damaged: Vec<Place>) -> Result<()> {
        if damaged.is_empty() {
            return Ok(());
        }
        let mut line = self.enter(machine).await?;
        let mut next = line.ledger.clone();
        let noted = &mut next.timeline_mut()?.damaged;
        let all: BTreeSet<_> =
            noted.iter().copied().chain(damaged.iter().map(|p| (p.segment, p.offset))).collect();
        *noted = all.into_iter().collect();
        line.commit(next).await
    }
}

struct Check<'a> {
    reader: &'a Reader,
    point: PointId,
    findings: Vec<Finding>,
    damaged: Vec<Place>,
}

impl Check<'_> {
    async fn disk(&mut self, mut overlay: Overlay<'_>, disk: &DiskId) -> Result<()> {
        loop {
            match overlay.next().await {
                Ok(None) => return Ok(()),
                Ok(Some((run, held))) => {
                    if let Some(place) = held.place() {
                        self.record(disk, run, place).await?;
                    }
                }
                Err(error) => {
                    self.findings.push(damage(self.point, error, None)?);
                    return Ok(());
                }
            }
        }
    }

    async fn record(&mut self, disk: &DiskId, run: Run, place: Place) -> Result<()> {
        if let Err(error) = self.reader.check(disk, place).await {
            let shown = format!("{} of disk {disk}", shown(run));
            self.findings.push(damage(self.point, error, Some(shown))?);
            self.damaged.push(place);
        }
        Ok(())
    }
}

/// A finding where bytes are damaged; every other error stays one.
fn damage(point: PointId, error: Error, place: Option<String>) -> Result<Finding> {
    if error.kind() != ErrorKind::Corrupt {
        return Err(error);
    }
    let place = place.map_or_else(String::new, |place| format!("{place}: "));
    let cause = format!("point {point}: {place}{error}");
    Ok(Finding::new("point.damaged", Severity::Critical, cause, REMEDY))
}
