//! What can be asked of a timeline, and what is written beside it.

use crate::desk::{Desk, blocking};
use crate::line::read_manifest;
use crate::register;
use site_recovery::{Error, ErrorKind, Head, MachineId, Manifest, Op, PhaseRecord, Point, PointId, Result};

impl Desk {
    pub(crate) async fn claim(&self, op: &Op, machine: &MachineId) -> Result<()> {
        let _line = self.enter(op, machine).await?;
        self.landing.claim(op, machine).await
    }

    /// Where the timeline stands. Looks at the landing as well, where it answers: a start from outside is seen here,
    /// before a delta is planned.
    pub(crate) async fn head(&self, machine: &MachineId) -> Result<Head> {
        let Some(looking) = self.look(machine).await? else { return Ok(Head::Empty) };
        let Some(timeline) = &looking.timeline else { return Ok(Head::Empty) };
        let stamp = match timeline.lands() {
            Ok(()) => self.landing.stamp(&timeline.landing).await.ok(),
            Err(_) => None,
        };
        if stamp.is_some_and(|stamp| timeline.outsider(&stamp)) {
            drop(looking);
            let mut line = self.take(machine).await?;
            if line.known()?.lands().is_ok() {
                self.outsider(&mut line).await?;
            }
            let timeline = line.known()?;
            return Ok(timeline.head(line.cursor(), line.overwritten()));
        }
        Ok(timeline.head(looking.cursor(), looking.overwritten()))
    }

    pub(crate) async fn points(&self, machine: &MachineId) -> Result<Vec<Point>> {
        let looking = self.look(machine).await?;
        let timeline = looking.as_ref().and_then(|l| l.timeline.as_ref());
        Ok(timeline.map_or_else(Vec::new, |t| t.points.iter().map(|s| s.point.clone()).collect()))
    }

    pub(crate) async fn manifest(&self, machine: &MachineId, point: PointId) -> Result<Manifest> {
        let looking = self.look_at(machine).await?;
        let missing = || Error::new(ErrorKind::NotFound, format!("there is no point {point}"));
        looking.known()?.sealed(point).ok_or_else(missing)?;
        blocking(move || read_manifest(&looking.folder, point)).await
    }

    pub(crate) async fn remember(&self, op: &Op, machine: &MachineId, record: &PhaseRecord) -> Result<()> {
        let mut line = self.enter(op, machine).await?;
        let record = record.clone();
        line.blocking(move |line| register::remember(&line.folder, &record)).await
    }
}
