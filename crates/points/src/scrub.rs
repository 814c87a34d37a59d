//! Reading a point whole.

use crate::Points;
use crate::reader::{Reader, shown};
use crate::working_copy::content;
use site_recovery::{Error, ErrorKind, Finding, MachineId, Manifest, PointId, Result, Severity};

const REMEDY: &str = "recover from another point, and ship the disk again with a comparison";

impl Points {
    pub(crate) async fn read_whole(&self, machine: &MachineId, point: PointId) -> Result<Vec<Finding>> {
        let line = self.enter(machine).await?;
        let points = line.ledger.timeline()?.upto(point)?;
        let _hold = self.open.hold(machine, point);
        let folder = line.folder.clone();
        let mut findings = vec![];
        if let Err(error) = folder.get_json::<Manifest>(&points[points.len() - 1].manifest).await {
            findings.push(damage(point, error, None)?);
        }
        let map = match content(&folder, points).await {
            Ok(map) => map,
            Err(error) => {
                findings.push(damage(point, error, None)?);
                return Ok(findings);
            }
        };
        drop(line);
        let reader = Reader::new(folder, machine, &self.records);
        for (disk, run, place) in map.all() {
            let Some(place) = place else { continue };
            if let Err(error) = reader.check(disk, place).await {
                let place = format!("{} of disk {disk}", shown(run));
                findings.push(damage(point, error, Some(place))?);
            }
        }
        Ok(findings)
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
