//! `prepare`: a timeline is opened, and the page blobs of its disks are made.

use super::line::Line;
use super::state::{Owed, Replicated, Seeded, State, Timeline, call};
use super::{PageBlobs, reports};
use crate::vhd::{self, FOOTER};
use site_recovery::{ChangeSet, Error, ErrorKind, Machine, Op, Result, Run, Seed};
use site_recovery_azure_blob::Error as BlobError;
use std::collections::BTreeMap;

impl PageBlobs {
    pub(super) async fn set_up(&self, op: &Op, machine: &Machine, seed: &Seed) -> Result<()> {
        machine.validate()?;
        let mut line = self.enter(machine.id()).await?;
        let mut next = line.state.admit(op)?;
        let call = call("prepare", op, seed);
        if next.done(&call).is_some() {
            return line.commit(next).await;
        }
        let has_points = next.timeline.as_ref().is_some_and(|t| !t.points.is_empty());
        if *seed == Seed::Fresh && has_points {
            let message =
                format!("{} has points here: prepare it from one of them, or delete it", machine.id());
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        next.session += 1;
        let is_new = *seed == Seed::Fresh || next.timeline.is_none();
        if is_new {
            let before = next.timeline.replace(blank(machine));
            next.owed.extend(before.iter().flat_map(leftovers));
        }
        next.timeline_mut()?.close();
        let seeded = match seed {
            Seed::Fresh => None,
            Seed::Unknown { .. } => Some((None, ChangeSet::new())),
            Seed::Known { at: None, cursor, differs, .. } => Some((Some(cursor.clone()), differs.clone())),
            Seed::Known { at: Some(at), cursor, differs, .. } => {
                let since = line.written_after(*at).await?;
                Some((Some(cursor.clone()), since.union(differs)))
            }
        };
        let timeline = next.timeline_mut()?;
        timeline.must_take(machine)?;
        timeline.seed = seeded.map(|(cursor, touched)| Seeded { cursor, touched });
        timeline.machine = machine.clone();
        line.fit(&mut next, op, machine).await?;
        let strays = line.strays(&next, next.session, is_new).await?;
        next.owed.extend(strays);
        next.remember(call, &[]);
        line.commit(next).await?;
        line.collect().await;
        Ok(())
    }
}

fn blank(machine: &Machine) -> Timeline {
    Timeline {
        machine: machine.clone(),
        disks: BTreeMap::new(),
        seed: None,
        open: None,
        carried: vec![],
        points: vec![],
    }
}

/// What a timeline without points leaves behind.
fn leftovers(timeline: &Timeline) -> Vec<Owed> {
    let blobs = timeline.disks.values().map(|disk| Owed::Blob { blob: disk.blob.clone() });
    let sessions = timeline.carried.iter().chain(&timeline.open);
    let notes = sessions
        .flat_map(|open| [Owed::Document { name: open.plan.clone() }, Owed::Notes { session: open.session }]);
    blobs.chain(notes).collect()
}

impl Line {
    /// Makes page blobs for disks that have none, and grows those of disks that grew. The state names them from the next commit on;
    /// what is made before a commit that fails is found by its name again.
    pub(super) async fn fit(&self, next: &mut State, op: &Op, machine: &Machine) -> Result<()> {
        let session = next.session;
        let tag = call("disk", op, machine.id());
        for disk in machine.included() {
            let timeline = next.timeline_mut()?;
            match timeline.disks.get_mut(&disk.id) {
                Some(had) if had.size >= disk.size => {}
                Some(had) => {
                    self.grow(&had.blob, had.size, disk.size, session).await?;
                    had.size = disk.size;
                }
                None => {
                    let blob = self.names.disk(&disk.id, session, &tag[..8]);
                    self.make(&blob, disk.size).await?;
                    timeline.disks.insert(disk.id.clone(), Replicated { blob, size: disk.size });
                }
            }
        }
        Ok(())
    }

    async fn make(&self, blob: &str, size: u64) -> Result<()> {
        let image = vhd::rounded(size);
        let pages = self.store.container.pages(blob);
        match pages.create(image + FOOTER, &BTreeMap::new()).await {
            Ok(_) => {}
            // By an earlier call of the same key, which was broken off before the state named it: nothing wrote to it.
            Err(BlobError::Exists { .. }) => {}
            Err(error) if error.may_have_been_done() && pages.properties().await?.is_some() => {}
            Err(error) => return Err(error.into()),
        }
        let footer = self.footer(blob, image);
        pages.write(image, footer, 0).await.map_err(reports)
    }

    /// From one size to a larger one; also where an earlier call has begun it.
    async fn grow(&self, blob: &str, from: u64, to: u64, session: u64) -> Result<()> {
        let (old, new) = (vhd::rounded(from), vhd::rounded(to));
        if old == new {
            return Ok(());
        }
        let pages = self.store.container.pages(blob);
        pages.raise_sequence(session).await.map_err(reports)?;
        pages.resize(new + FOOTER).await.map_err(reports)?;
        pages.write(new, self.footer(blob, new), session).await.map_err(reports)?;
        pages.clear(Run::new(old, FOOTER), session).await.map_err(reports)
    }

    fn footer(&self, blob: &str, image: u64) -> bytes::Bytes {
        let id = site_recovery_record::hash(blob.as_bytes()).to_le_bytes();
        bytes::Bytes::copy_from_slice(&vhd::footer(image, id, self.store.clock.now().0 / 1000))
    }
}
