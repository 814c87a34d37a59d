//! Disks are written until they hold a point.

use crate::desk::{Desk, Entered, blocking};
use crate::layer::Layer;
use crate::line::read_manifest;
use crate::log::{GROUP, Stored};
use crate::overwrite::{Keep, Write};
use crate::timeline::HandOver;
use crate::view::{STRETCH, View};
use site_recovery::{DiskId, Error, ErrorKind, Extent, Fill, PointId, Replica, Result, Run};
use std::sync::Arc;

impl Desk {
    /// Brings the landing disks to the point of a hand-over. Writes the same bytes however often.
    pub(crate) async fn roll(
        &self,
        line: &mut Entered,
        over: &HandOver,
        from: &Arc<dyn Replica>,
    ) -> Result<()> {
        let point = over.point;
        if !over.own {
            let machine = line.known()?.machine.id().clone();
            let disks = from.open(&machine, point).await?;
            return self.copy(line, disks).await;
        }
        let undo = line.known()?.sealed(point).is_none_or(|s| s.undo || s.whole.is_none());
        if !undo {
            return self.copy_whole(line, point).await;
        }
        let way = line.blocking(move |line| line.way_to(point)).await?;
        self.lay(line, way, Keep::Redo).await
    }

    /// Takes back what rolling wrote.
    pub(crate) async fn unroll(&self, line: &mut Entered) -> Result<()> {
        let mut way = Layer::default();
        for log in line.redo.iter() {
            log.layer.pieces().for_each(|(disk, run, piece)| way.add(disk, run, &log.stored(run, piece)));
        }
        self.lay(line, way, Keep::Nothing).await
    }

    /// Lays what the log holds on the disks.
    pub(crate) async fn lay(&self, line: &mut Entered, way: Layer<Stored>, keep: Keep) -> Result<()> {
        let all: Vec<(DiskId, Stored)> =
            way.pieces().map(|(disk, run, stored)| (disk.clone(), stored.cut(run))).collect();
        let mut pieces = all.into_iter().peekable();
        while pieces.peek().is_some() {
            let mut bytes = 0;
            let mut some = vec![];
            while let Some(piece) = pieces.next_if(|_| bytes < GROUP) {
                bytes += piece.1.within.len;
                some.push(piece);
            }
            let writes = blocking(move || some.into_iter().map(read).collect::<Result<Vec<_>>>()).await?;
            self.overwrite(line, keep, &writes).await?;
        }
        self.flush(line).await
    }

    async fn copy_whole(&self, line: &mut Entered, point: PointId) -> Result<()> {
        let view = move |line: &mut crate::line::Line| {
            Ok((View::of(line, point)?, read_manifest(&line.folder, point)?))
        };
        let (view, manifest) = line.blocking(view).await?;
        for spec in manifest.machine.included() {
            for extent in self.extents(line, &view, &spec.id, Run::new(0, spec.size)).await? {
                for run in stretches(extent) {
                    let mut bytes = None;
                    if extent.fill == Fill::Data {
                        let mut read = vec![0; run.len as usize];
                        self.read(line, &view, &spec.id, run, &mut read).await?;
                        bytes = Some(read.into());
                    }
                    self.overwrite(line, Keep::Redo, &[Write { disk: spec.id.clone(), run, bytes }]).await?;
                }
            }
        }
        self.flush(line).await
    }

    /// Copies the point of another replica.
    async fn copy(&self, line: &mut Entered, disks: site_recovery::Disks) -> Result<()> {
        for spec in line.known()?.machine.included() {
            let message = || format!("disk {} is not in the point", spec.id);
            let source = disks.get(&spec.id).ok_or_else(|| Error::new(ErrorKind::Corrupt, message()))?;
            if source.size() > spec.size {
                let rule = format!("the landing disk has {} bytes", spec.size);
                let remedy = "prepare the machine as it was captured";
                return Err(Error::invalid("disk.size", source.size(), &rule, remedy).with("disk", &spec.id));
            }
        }
        for (disk, source) in disks {
            for extent in source.extents(Run::new(0, source.size())).await? {
                for run in stretches(extent) {
                    let data = extent.fill == Fill::Data;
                    let bytes = if data { Some(source.read(run, &self.pool).await?) } else { None };
                    self.overwrite(line, Keep::Redo, &[Write { disk: disk.clone(), run, bytes }]).await?;
                }
            }
        }
        self.flush(line).await
    }
}

/// What is read at once: a stretch of data, or all of a run of zeros.
fn stretches(extent: Extent) -> impl Iterator<Item = Run> {
    extent.run.pieces(if extent.fill == Fill::Data { STRETCH } else { u64::MAX })
}

fn read((disk, stored): (DiskId, Stored)) -> Result<Write> {
    let bytes = stored.read().map_err(|e| e.with("disk", &disk))?;
    Ok(Write { disk, run: stored.within, bytes: bytes.map(Into::into) })
}
