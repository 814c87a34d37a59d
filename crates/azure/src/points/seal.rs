//! `seal`: an ingest becomes a point.

use super::ingest::not_open;
use super::line::Line;
use super::sealed::{Sealed, Snapshots};
use super::session::{Session, resumed};
use super::state::{At, Kept, Open, Owed, State, call};
use super::{PageBlobs, reports};
use crate::document;
use site_recovery::{
    ChangeSet, Complete, Error, ErrorKind, Ingest, Machine, Manifest, Point, PointId, Result,
};
use site_recovery_azure_blob::SnapshotId;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

/// In the metadata of a snapshot: the session that made it.
pub(super) const SESSION: &str = "srsession";

impl PageBlobs {
    pub(super) async fn make_point(
        &self,
        ingest: &Ingest,
        manifest: &Manifest,
        complete: Complete,
    ) -> Result<Point> {
        let session = self.session(ingest).await;
        let mut line = self.enter(&ingest.machine).await?;
        let mut next = line.state.admit(&ingest.op)?;
        let call = call("seal", &ingest.op, &manifest.cut);
        let timeline = next.timeline()?;
        let open = timeline.open.clone().filter(|o| o.session == ingest.session && o.op == ingest.op);
        if let Some(kept) = timeline.points.iter().rev().find(|kept| kept.point.cut == manifest.cut) {
            let point = kept.point.clone();
            if open.is_some() {
                next.timeline_mut()?.close();
                next.session += 1;
                line.commit(next).await?;
            }
            return Ok(point);
        }
        if let Some([dropped]) = next.done(&call) {
            let message = format!("cut {} was sealed as point {dropped}, which was dropped", manifest.cut);
            return Err(Error::new(ErrorKind::Refused, message).with("point", dropped));
        }
        let (Some(open), Ok(session)) = (open, &session) else { return Err(not_open(ingest)) };
        if !session.is(ingest) {
            return Err(not_open(ingest));
        }
        must_match(ingest, &open, &timeline.machine, manifest)?;
        let counted = session.count();
        if counted != (complete.records(), complete.digest()) {
            let message = format!(
                "{} records landed in this session, {} were sent, or they are not the same ones: begin again",
                counted.0,
                complete.records()
            );
            return Err(Error::new(ErrorKind::Corrupt, message).with("session", ingest.session));
        }
        let (snapshots, twins) = line.snapshot(&next, session, manifest).await?;
        let own = resumed(&timeline.carried, &open.op, &open.cut);
        let broken: Vec<_> = timeline.carried.iter().filter(|c| !own.contains(&c.session)).cloned().collect();
        let mut unknown = ChangeSet::new();
        for carried in &broken {
            unknown = unknown.union(&line.plan(&carried.plan).await?);
        }
        let sealed = Sealed {
            manifest: manifest.clone(),
            changes: session.touched().union(&unknown),
            unknown,
            sessions: own.into_iter().chain([open.session]).collect(),
        };
        let is_new = |disk| timeline.newest().is_none_or(|kept| !kept.snapshots.contains_key(disk));
        let may_be_more = !timeline.carried.is_empty() || snapshots.keys().any(is_new);
        let id = PointId(next.next_point);
        let bytes = document::encode(&sealed)?;
        let document = line.names.point(id, &bytes);
        line.put(&document, bytes).await?;
        let point = Point {
            id,
            cut: manifest.cut.clone(),
            members: manifest.members.clone(),
            taken: manifest.taken,
            consistency: manifest.consistency,
            generation: manifest.control.item.lineage.current(),
            pins: vec![],
            locked_until: None,
            verified: true,
            verified_boot: None,
        };
        next.next_point += 1;
        next.remember(call, &[id]);
        next.owed.extend(twins);
        next.owed.extend(broken.iter().map(|open| Owed::Notes { session: open.session }));
        let timeline = next.timeline_mut()?;
        (timeline.seed, timeline.open) = (None, None);
        timeline.carried.clear();
        timeline.machine = manifest.machine.clone();
        timeline.points.push(Kept { point: point.clone(), document, snapshots, inherits: vec![] });
        let strays = line.strays(&next, open.session, may_be_more).await?;
        next.owed.extend(strays);
        line.commit(next).await?;
        self.0.forget_session(&ingest.machine);
        line.collect().await;
        Ok(point)
    }
}

impl Line {
    /// A snapshot of each disk, of which a broken-off call may have made some already; and those that there are twice.
    async fn snapshot(
        &self,
        next: &State,
        session: &Session,
        manifest: &Manifest,
    ) -> Result<(Snapshots, Vec<Owed>)> {
        let looks = session.is_doubtful.swap(true, Ordering::SeqCst);
        let disks = next.timeline()?.disks.iter();
        let disks = disks.filter(|(id, _)| manifest.machine.included().any(|d| d.id == **id));
        let made = disks.map(async |(id, disk)| -> Result<_> {
            let found = if looks { self.made_by(&disk.blob, session.number).await? } else { vec![] };
            let mut found = found.into_iter();
            let snapshot = match found.next() {
                Some(snapshot) => snapshot,
                None => self.take(&disk.blob, session.number).await?,
            };
            let twins: Vec<_> =
                found.map(|snapshot| Owed::Snapshot { blob: disk.blob.clone(), snapshot }).collect();
            Ok((id.clone(), At { blob: disk.blob.clone(), snapshot, size: disk.size }, twins))
        });
        let (mut snapshots, mut owed) = (Snapshots::new(), vec![]);
        for made in futures_util::future::join_all(made).await {
            let (id, at, twins) = made?;
            snapshots.insert(id, at);
            owed.extend(twins);
        }
        Ok((snapshots, owed))
    }

    async fn take(&self, blob: &str, session: u64) -> Result<SnapshotId> {
        let metadata = BTreeMap::from([(SESSION.to_owned(), session.to_string())]);
        match self.store.container.pages(blob).snapshot(&metadata).await {
            Ok(snapshot) => Ok(snapshot),
            Err(error) if error.may_have_been_done() => {
                let found = self.made_by(blob, session).await?.into_iter().next();
                found.ok_or_else(|| error.into())
            }
            Err(error) => Err(reports(error)),
        }
    }

    /// The snapshots that a session has made of a blob, oldest first.
    async fn made_by(&self, blob: &str, session: u64) -> Result<Vec<SnapshotId>> {
        let session = session.to_string();
        let listed = self.store.container.list(blob).await?.into_iter();
        let own = listed.filter(|l| l.name == blob && l.metadata.get(SESSION) == Some(&session));
        Ok(own.filter_map(|listed| listed.snapshot).collect())
    }
}

fn must_match(ingest: &Ingest, open: &Open, begun: &Machine, manifest: &Manifest) -> Result<()> {
    if manifest.machine.id() != &ingest.machine {
        let rule = format!("the ingest is of {}", ingest.machine);
        let id = manifest.machine.id();
        return Err(Error::invalid("manifest.machine", id, &rule, "seal its own manifest"));
    }
    let disks = |machine: &Machine| -> Vec<_> {
        machine.included().map(|disk| (disk.id.clone(), disk.size)).collect()
    };
    if disks(&manifest.machine) != disks(begun) {
        let value = format!("{:?}", disks(&manifest.machine));
        let rule = format!("the ingest was begun with {:?}", disks(begun));
        let remedy = "begin with the captured machine";
        return Err(Error::invalid("manifest.machine.disks", value, &rule, remedy));
    }
    if manifest.cut != open.cut {
        let rule = format!("the ingest was begun for cut {}", open.cut);
        return Err(Error::invalid("manifest.cut", &manifest.cut, &rule, "seal the cut that was begun"));
    }
    Ok(())
}
