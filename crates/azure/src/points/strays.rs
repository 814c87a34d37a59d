//! What calls have made that were broken off before the state named it: it is looked for where there may be some, and owed.

use super::line::Line;
use super::seal::SESSION;
use super::state::{Owed, State};
use site_recovery::Result;
use std::collections::BTreeSet;

impl Line {
    /// Plans that `next` does not name; of `all`, also disks, their snapshots and documents of points. Nothing of sessions behind
    /// this one: they may be in the making elsewhere.
    pub(super) async fn strays(&self, next: &State, session: u64, all: bool) -> Result<Vec<Owed>> {
        let Some(timeline) = &next.timeline else { return Ok(vec![]) };
        let (plans, disks, points) = (self.names.plans(), self.names.disks(), self.names.points());
        let mut named: BTreeSet<&str> = timeline.disks.values().map(|disk| disk.blob.as_str()).collect();
        let mut snapshots = BTreeSet::new();
        named.extend(timeline.carried.iter().chain(&timeline.open).map(|open| open.plan.as_str()));
        for kept in &timeline.points {
            named.extend(kept.inherits.iter().chain([&kept.document]).map(String::as_str));
            named.extend(kept.snapshots.values().map(|at| at.blob.as_str()));
            snapshots.extend(kept.snapshots.values().map(|at| (at.blob.as_str(), &at.snapshot)));
        }
        let is_past = |number: Option<&str>| {
            number.and_then(|number| number.parse().ok()).is_some_and(|number: u64| number <= session)
        };
        let mut strays = vec![];
        for listed in self.store.container.list(if all { self.names.all() } else { &plans }).await? {
            let name = listed.name.as_str();
            let owed = match listed.snapshot {
                Some(snapshot) if named.contains(name) => (!snapshots.contains(&(name, &snapshot))
                    && is_past(listed.metadata.get(SESSION).map(String::as_str)))
                .then(|| Owed::Snapshot { blob: name.to_owned(), snapshot }),
                _ if named.contains(name) => None,
                None if name.starts_with(&plans) => is_past(name[plans.len()..].split('-').next())
                    .then(|| Owed::Document { name: name.to_owned() }),
                None if name.starts_with(&disks) => {
                    is_past(name.rsplit('-').nth(1)).then(|| Owed::Blob { blob: name.to_owned() })
                }
                None if name.starts_with(&points) => Some(Owed::Document { name: name.to_owned() }),
                _ => None,
            };
            strays.extend(owed.filter(|owed| !next.owed.contains(owed)));
        }
        Ok(strays)
    }
}
