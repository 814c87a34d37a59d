//! What changed between two snapshots of a disk, as Azure tells it.

use super::Site;
use super::capture::{At, Token};
use super::exported::is_void;
use super::register::Asker;
use site_recovery::{Capture, ChangeSet, Changes, Cursor, DiskId, MachineId, Op, Result, Run};
use site_recovery_azure_blob::Change;

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
        let mark = self.mark_of(&member.machine.instance).await?.mark;
        let held = mark.held(capture)?;
        let asker =
            Asker { op: Op { key: held.key.clone(), epoch: held.epoch.clone() }, machine: machine.clone() };
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
            for run in self.between(&asker, from, to).await.map_err(|e| e.with("disk", &disk.id))? {
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
        let found = At::from(found);
        // Whoever takes one under a name that was given up, ourselves included, takes it at another time.
        let same = found.disk == from.disk && found.family == from.family && found.created == from.created;
        Ok(if same {
            differs(disk, from, to)
        } else {
            Some(format!("snapshot {} of disk {disk} is another one now", from.name))
        })
    }

    async fn between(&self, asker: &Asker, from: &At, to: &At) -> Result<Vec<Run>> {
        let told = self.differing(asker, from, to).await;
        // A disk's snapshots have few addresses at a time: the older one is asked for again by the next difference.
        let withheld = self.withhold(asker, &from.name).await;
        let told = told?;
        withheld?;
        Ok(told.into_iter().map(|(run, _)| run).collect())
    }

    async fn differing(&self, asker: &Asker, from: &At, to: &At) -> Result<Vec<(Run, Change)>> {
        let mut ended = false;
        loop {
            let before = self.exported(asker, &from.name).await?;
            let now = self.exported(asker, &to.name).await?;
            match now.image.changed(&before.address).await {
                // One of the two has ended, and none says which.
                Err(error) if is_void(&error) && !ended => {
                    ended = true;
                    self.forget(&from.name, &before).await;
                    self.forget(&to.name, &now).await;
                }
                told => return Ok(told?),
            }
        }
    }
}

/// Why there is no difference between these two.
fn differs(disk: &DiskId, from: &At, to: &At) -> Option<String> {
    if from.disk.is_none() || from.family.is_none() || from.created.is_none() {
        // Two of which nothing is known are not the same.
        Some(format!(
            "Azure does not tell which disk snapshot {} of disk {disk} is of, or when it took it",
            from.name
        ))
    } else if from.disk != to.disk || from.family != to.family {
        Some(format!("disk {disk} is another one than at the cursor"))
    } else if from.size != to.size {
        let crosses = (from.size <= BOUNDARY) != (to.size <= BOUNDARY);
        let why = if crosses { ", across 4 TiB" } else { "" };
        Some(format!("disk {disk} had {} bytes at the cursor, now {}{why}", from.size, to.size))
    } else {
        None
    }
}

fn token(cursor: &Cursor) -> Option<Token> {
    serde_json::from_slice(&cursor.token).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_of_what_azure_does_not_tell_are_of_no_one_disk() {
        let at = |disk: Option<&str>, family: Option<&str>| At {
            name: "s".into(),
            disk: disk.map(Into::into),
            family: family.map(Into::into),
            size: 1 << 30,
            created: Some("2026".into()),
        };
        let disk = "system".into();
        let known = at(Some("d"), Some("f"));
        assert_eq!(differs(&disk, &known, &known.clone()), None);
        let timeless = At { created: None, ..known.clone() };
        for unknown in [at(None, Some("f")), at(Some("d"), None), at(None, None), timeless] {
            assert!(differs(&disk, &unknown, &unknown.clone()).is_some(), "{unknown:?}");
        }
        assert!(differs(&disk, &known, &at(Some("d"), Some("g"))).is_some());
        assert!(differs(&disk, &known, &At { size: 2 << 30, ..known.clone() }).is_some());
    }
}
