//! Pinned points that must outlive the landing disks: written out whole, without their zeros.

use crate::desk::{Desk, Entered};
use crate::line::read_manifest;
use crate::log::Writer;
use crate::view::{STRETCH, View};
use site_recovery::{DiskId, Error, ErrorKind, Fill, PointId, Result, Run};

impl Desk {
    /// Writes out every pinned point that has no copy, but the one that is about to run.
    pub(crate) async fn write_pinned(&self, line: &mut Entered, runs: Option<PointId>) -> Result<()> {
        let pinned = |s: &&crate::timeline::Sealed| !s.point.pins.is_empty() && s.whole.is_none();
        let points =
            line.known()?.points.iter().filter(pinned).map(|s| s.point.id).filter(|p| Some(*p) != runs);
        for point in points.collect::<Vec<_>>() {
            self.write_whole(line, point).await?;
        }
        Ok(())
    }

    async fn write_whole(&self, line: &mut Entered, point: PointId) -> Result<()> {
        let number = line.known()?.next_file;
        let (view, runs) = self.data(line, point).await?;
        let (bytes, free) = (runs.iter().map(|(_, r)| r.len).sum::<u64>(), line.folder.free()?);
        if bytes > free {
            let message = format!(
                "point {point} is pinned and needs up to {bytes} bytes on the retention volume, {free} are free"
            );
            return Err(Error::new(ErrorKind::OutOfSpace, message));
        }
        let mut file = line.blocking(move |line| Writer::new(&line.folder, number)).await?;
        for (disk, run) in &runs {
            for piece in run.pieces(STRETCH) {
                let (mut bytes, disk) = (vec![0; piece.len as usize], disk.clone());
                self.read(line, &view, &disk, piece, &mut bytes).await?;
                file = line.blocking(move |_| file.data(&disk, piece, &bytes).map(|()| file)).await?;
            }
        }
        let part = line.blocking(move |_| file.finish()).await?;
        line.publish(|t| {
            t.next_file = number + 1;
            t.points.iter_mut().filter(|s| s.point.id == point).for_each(|s| s.whole = Some(part));
        })
        .await
    }

    /// What of a point may be other than zeros.
    async fn data(&self, line: &mut Entered, point: PointId) -> Result<(View, Vec<(DiskId, Run)>)> {
        let (view, manifest) = line
            .blocking(move |line| Ok((View::of(line, point)?, read_manifest(&line.folder, point)?)))
            .await?;
        let mut runs = vec![];
        for disk in manifest.machine.included() {
            let extents = self.extents(line, &view, &disk.id, Run::new(0, disk.size)).await?;
            let data = extents.into_iter().filter(|e| e.fill == Fill::Data);
            runs.extend(data.map(|e| (disk.id.clone(), e.run)));
        }
        Ok((view, runs))
    }
}
