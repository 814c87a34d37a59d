//! What changed between two snapshots of a disk, as Azure tells it.

use super::Site;
use super::capture::{At, Token};
use super::exported::is_void;
use site_recovery::{Capture, ChangeSet, Changes, Cursor, DiskId, MachineId, Result, Run};
use site_recovery_azure_blob::{Change, Error as BlobError};

/// Azure tells no difference across this size of a disk (compute-docs, incremental snapshots).
const BOUNDARY: u64 = 4 << 40;

impl Site {
    pub(super) async fn changes(
        &self,
        capture: &Capture,
        machine: &MachineId,
        since: &Cursor,
    ) -> Result<Changes> {
        let member = capture.member(machine)?;
        let lost = |reason: String| Ok(Changes::Lost { reason });
        let Some(until) = &member.cursor else { return lost("the capture carries no cursor".into()) };
        if since.generation != until.generation {
            return lost(format!(
                "the cursor is of generation {}, not {}",
                since.generation, until.generation
            ));
        }
        let (Some(old), Some(new)) = (token(since), token(until)) else {
            return lost("the cursor is none of this site".into());
        };
        if old.machine != *machine || new.machine != *machine {
            return lost(format!("the cursor is of {}, not of {machine}", old.machine));
        }
        let mark = self.mark_of(&member.machine.instance).await?.mark;
        let prepared = mark.made.and_then(|made| made.prepared).unwrap_or_default();
        // What guest preparation wrote stands in the disks as they were made, and not in the point.
        let mut changed = if old.is_base { prepared } else { ChangeSet::new() };
        for disk in member.machine.included() {
            let (Some(from), Some(to)) = (old.snapshots.get(&disk.id), new.snapshots.get(&disk.id)) else {
                return lost(format!("disk {} was not there at the cursor", disk.id));
            };
            if let Some(reason) = self.no_difference(&disk.id, from, to).await? {
                return lost(reason);
            }
            if from.name == to.name {
                continue;
            }
            for run in self.between(from, to).await.map_err(|e| e.with("disk", &disk.id))? {
                if let Some(run) = run.intersection(Run::new(0, disk.size)) {
                    changed.add(&disk.id, run);
                }
            }
        }
        Ok(Changes::Known(changed))
    }

    /// Why Azure would tell no difference, or another one than we need.
    async fn no_difference(&self, disk: &DiskId, from: &At, to: &At) -> Result<Option<String>> {
        let found = self.arm.snapshots(&self.group).get(&from.name).await?;
        let Some(found) = found else {
            return Ok(Some(format!("snapshot {} of disk {disk} is gone", from.name)));
        };
        let same = found.source_unique_id == from.disk && found.family_id == from.family;
        Ok(if !same {
            Some(format!("snapshot {} of disk {disk} is another one now", from.name))
        } else if from.disk != to.disk || from.family != to.family {
            Some(format!("disk {disk} is another one than at the cursor"))
        } else if from.size != to.size {
            let crosses = (from.size <= BOUNDARY) != (to.size <= BOUNDARY);
            let why = if crosses { ", across 4 TiB" } else { "" };
            Some(format!("disk {disk} had {} bytes at the cursor, now {}{why}", from.size, to.size))
        } else {
            None
        })
    }

    async fn between(&self, from: &At, to: &At) -> Result<Vec<Run>> {
        let told = match self.told(from, to).await? {
            Err(error) if is_void(&error) => self.told(from, to).await?,
            answer => answer,
        };
        // A disk's snapshots have few addresses at a time: the older one is asked for again by the next difference.
        self.withhold(&from.name).await?;
        Ok(told?.into_iter().map(|(run, _)| run).collect())
    }

    /// What the service says. Addresses that it does not take any more are forgotten.
    async fn told(&self, from: &At, to: &At) -> Result<std::result::Result<Vec<(Run, Change)>, BlobError>> {
        let (before, now) = (self.exported(&from.name).await?, self.exported(&to.name).await?);
        let told = now.image.changed(&before.address).await;
        if told.as_ref().is_err_and(is_void) {
            self.forget(&from.name, &before);
            self.forget(&to.name, &now);
        }
        Ok(told)
    }
}

fn token(cursor: &Cursor) -> Option<Token> {
    serde_json::from_slice(&cursor.token).ok()
}
