//! `prepare`: a timeline is opened, and the page blobs of its disks are made.

use super::line::Line;
use super::names::Names;
use super::state::{Owed, Replicated, Seeded, State, Timeline, call};
use super::{PageBlobs, reports};
use crate::vhd::{self, FOOTER};
use site_recovery::{ChangeSet, Error, ErrorKind, Machine, Op, PointId, Result, Run, Seed};
use site_recovery_azure_blob::Error as BlobError;
use std::collections::BTreeMap;

/// How often a growth starts over.
const TRIES: u32 = 3;

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
        if *seed == Seed::Fresh || next.timeline.is_none() {
            let before = next.timeline.replace(blank(machine, PointId(next.next_point)));
            next.owed.extend(before.iter().flat_map(|timeline| leftovers(timeline, &line.names)));
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
        next.remember(call, &[]);
        line.commit(next).await?;
        line.collect().await;
        Ok(())
    }
}

fn blank(machine: &Machine, first: PointId) -> Timeline {
    Timeline {
        first,
        machine: machine.clone(),
        disks: BTreeMap::new(),
        seed: None,
        open: None,
        carried: vec![],
        lost: None,
        points: vec![],
    }
}

/// What a timeline without points leaves behind.
fn leftovers(timeline: &Timeline, names: &Names) -> Vec<Owed> {
    let blobs = timeline.disks.values().map(|disk| Owed::Blob { blob: disk.blob.clone() });
    let plans = timeline.plans().into_iter().map(|name| Owed::Document { name: name.to_owned() });
    let sessions = timeline.carried.iter().chain(&timeline.open);
    let notes = sessions.map(|open| Owed::Notes { notes: names.notes(open.session) });
    blobs.chain(plans).chain(notes).collect()
}

impl Line {
    /// Makes page blobs for disks that have none, and grows those of disks that grew. The state names them from the next commit on;
    /// what is made before a commit that fails is found by its name again. The next session is one after all that wrote here.
    pub(super) async fn fit(&self, next: &mut State, op: &Op, machine: &Machine) -> Result<()> {
        let (session, number) = (next.session, self.next_number());
        let mut grown = session;
        for disk in machine.included() {
            let timeline = next.timeline_mut()?;
            match timeline.disks.get_mut(&disk.id) {
                Some(had) if had.size >= disk.size => {}
                Some(had) => {
                    if let Some(number) = self.grow(&had.blob, had.size, disk.size, session).await? {
                        // What is left of the growth on the way is refused from the next session on.
                        grown = grown.max(number + 1);
                    }
                    had.size = disk.size;
                }
                None => {
                    let tag = call("disk", op, &(machine.id(), disk.size));
                    let blob = self.names.disk(&disk.id, number, &tag[..8]);
                    self.make(&blob, disk.size).await?;
                    timeline.disks.insert(disk.id.clone(), Replicated { blob, size: disk.size, sealed: 0 });
                }
            }
        }
        next.session = grown;
        Ok(())
    }

    async fn make(&self, blob: &str, size: u64) -> Result<()> {
        let image = vhd::rounded(size);
        let pages = self.store.container.pages(blob);
        self.makes();
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

    /// From one size to a larger one, under a sequence number that no other call has, `least` or above it. Gives that number; none
    /// where there is nothing to do.
    ///
    /// An earlier call may have begun it, to this size or another one. What is still on the way of that one is refused: its pages by
    /// their number, its size by the state that it was read in.
    ///
    /// # Errors
    /// `Busy` where others change the blob at the same moment.
    async fn grow(&self, blob: &str, from: u64, to: u64, least: u64) -> Result<Option<u64>> {
        let (old, new) = (vhd::rounded(from), vhd::rounded(to));
        if old == new {
            return Ok(None);
        }
        let pages = self.store.container.pages(blob);
        for _ in 0..TRIES {
            let Some(found) = pages.properties().await? else {
                return Err(Error::new(ErrorKind::Corrupt, format!("{blob} is gone, which a disk needs")));
            };
            let number = least.max(found.sequence + 1);
            let grown = async {
                let state = pages.take_sequence(number, &found.etag).await?;
                pages.resize(new + FOOTER, &state).await?;
                pages.write(new, self.footer(blob, new), number).await?;
                // The footers that were there before: content starts at the old one.
                pages.clear(Run::new(old, new - old), number).await
            };
            match grown.await {
                Ok(()) => return Ok(Some(number)),
                Err(error) if matches!(error, BlobError::Changed(_)) || error.may_have_been_done() => {
                    tracing::debug!(%error, blob, "a blob is grown once more");
                }
                Err(error) => return Err(reports(error)),
            }
        }
        let message = format!("{blob} is changed by others while it grows: try again");
        Err(Error::new(ErrorKind::Busy, message))
    }

    fn footer(&self, blob: &str, image: u64) -> bytes::Bytes {
        let id = site_recovery_record::hash(blob.as_bytes()).to_le_bytes();
        bytes::Bytes::copy_from_slice(&vhd::footer(image, id, self.store.clock.now().0 / 1000))
    }
}
