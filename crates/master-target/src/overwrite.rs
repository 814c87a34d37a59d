//! The one way in which landing disks are written: what a run held is durable in the log before the run is written.

use crate::desk::{Desk, Entered};
use crate::layer::Kept;
use crate::line::Line;
use crate::log::{GROUP, Group, Log};
use crate::view::STRETCH;
use bytes::Bytes;
use site_recovery::{DiskId, Fill, Result, Run};

/// What is to be written; none for zeros.
#[derive(Debug)]
pub(crate) struct Write {
    pub(crate) disk: DiskId,
    pub(crate) run: Run,
    pub(crate) bytes: Option<Bytes>,
}

/// Which log takes what was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// That of what landed since the newest point.
    Pending,
    /// That of what rolling overwrote.
    Redo,
    /// None: it is in the log already.
    Nothing,
}

/// What a run held.
enum Before {
    Data(Bytes),
    Zero,
    Lost,
}

impl Desk {
    /// Overwrites runs of the landing disks. Durable after [`flush`](Self::flush).
    pub(crate) async fn overwrite(&self, line: &mut Entered, keep: Keep, writes: &[Write]) -> Result<()> {
        if keep != Keep::Nothing {
            self.keep(line, keep, writes).await?;
        }
        for Write { disk, run, bytes } in writes {
            let disk = self.disk(line, disk).await?;
            match bytes {
                Some(bytes) => disk.write(run.start, bytes.clone()).await?,
                None => disk.zero(*run).await?,
            }
        }
        Ok(())
    }

    /// Makes everything that was written durable.
    pub(crate) async fn flush(&self, line: &Entered) -> Result<()> {
        let disks = line.handles.lock().expect("no panic under this lock").clone();
        for disk in disks.values() {
            disk.flush().await?;
        }
        Ok(())
    }

    async fn keep(&self, line: &mut Entered, keep: Keep, writes: &[Write]) -> Result<()> {
        let bare = keep == Keep::Pending && !line.known()?.rests();
        let (mut held, mut bytes) = (vec![], 0);
        for Write { disk, run, .. } in writes {
            for gap in line.gaps(keep, disk, *run) {
                if bare {
                    held.push((disk.clone(), gap, Before::Lost));
                    continue;
                }
                let landing = self.disk(line, disk).await?;
                for extent in landing.extents(gap).await? {
                    if extent.fill == Fill::Zero {
                        held.push((disk.clone(), extent.run, Before::Zero));
                        continue;
                    }
                    for piece in extent.run.pieces(STRETCH) {
                        held.push((
                            disk.clone(),
                            piece,
                            Before::Data(landing.read(piece, &self.pool).await?),
                        ));
                        bytes += piece.len;
                        if bytes >= GROUP {
                            bytes = 0;
                            let full = std::mem::take(&mut held);
                            line.blocking(move |line| line.append(keep, group(full))).await?;
                        }
                    }
                }
            }
        }
        line.blocking(move |line| line.append(keep, group(held))).await
    }
}

fn group(held: Vec<(DiskId, Run, Before)>) -> Group {
    let mut group = Group::default();
    for (disk, run, before) in held {
        match before {
            Before::Data(bytes) => group.data(&disk, run, &bytes),
            Before::Zero => group.mark(&disk, run, Kept::Zero),
            Before::Lost => group.mark(&disk, run, Kept::Lost),
        }
    }
    group
}

impl Line {
    /// Appends to a log; durable when this returns.
    pub(crate) fn append(&mut self, keep: Keep, group: Group) -> Result<()> {
        let folder = self.folder.clone();
        let done = self.kept(keep).map_or(Ok(()), |log| log.append(&folder, group));
        if done.is_err() {
            self.forget();
        }
        done
    }

    /// What of a run is not in the log yet.
    fn gaps(&mut self, keep: Keep, disk: &DiskId, run: Run) -> Vec<Run> {
        let Some(log) = self.kept(keep) else { return vec![] };
        log.layer.over(disk, run).filter(|(_, held)| held.is_none()).map(|(gap, _)| gap).collect()
    }

    fn kept(&mut self, keep: Keep) -> Option<&mut Log> {
        match keep {
            Keep::Pending => self.pending.as_mut(),
            Keep::Redo => self.redo.as_mut(),
            Keep::Nothing => None,
        }
    }
}
