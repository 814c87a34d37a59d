//! What landed since the newest point: on top of it, this is the working copy.

use crate::catalogue::Space;
use crate::extent_map::{ExtentMap, Piece, share};
use crate::folder::Folder;
use crate::ledger::{Carried, Timeline};
use crate::map::Map;
use crate::sealed::Sealed;
use crate::segment::{Entry, SegmentId};
use site_recovery::{ChangeSet, CutId, DiskId, Landed, Op, PointId, Result, Run};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Kept in memory, and always to be made again from what is durable.
#[derive(Debug, Default)]
pub(crate) struct WorkingCopy {
    segments: BTreeMap<SegmentId, Vec<Entry>>,
    /// All of `segments`, in order.
    pub(crate) delta: ExtentMap,
    base: Option<(PointId, Map)>,
    progress: Option<Progress>,
}

/// How far the open session is.
#[derive(Debug)]
pub(crate) struct Progress {
    session: u64,
    pub(crate) plan: Arc<ChangeSet>,
    /// What the operation has landed, in this session and in those it resumed.
    own: ExtentMap,
    pub(crate) landed: Landed,
}

impl WorkingCopy {
    /// Reads the indexes of what landed that is not known yet, and forgets what does not count any more.
    pub(crate) async fn sync(&mut self, folder: &Folder, timeline: &Timeline) -> Result<()> {
        let open = timeline.open.as_ref().map(|open| open.session);
        self.sync_with(folder, timeline, open).await
    }

    /// The same for a session that was opened just now: nothing can have landed in it yet.
    pub(crate) async fn sync_opened(&mut self, folder: &Folder, timeline: &Timeline) -> Result<()> {
        self.sync_with(folder, timeline, None).await
    }

    async fn sync_with(&mut self, folder: &Folder, timeline: &Timeline, open: Option<u64>) -> Result<()> {
        let wanted = wanted(folder, timeline, open).await?;
        let mut missing = vec![];
        for id in wanted.iter().filter(|id| !self.segments.contains_key(id)) {
            missing.push((*id, folder.get_index(*id).await?));
        }
        // From here on nothing waits: a dropped future leaves segments and delta as one.
        let before = self.segments.len();
        self.segments.retain(|id, _| wanted.contains(id));
        let stale = self.segments.len() != before || !missing.is_empty();
        self.segments.extend(missing);
        if stale {
            self.lay_anew();
        }
        Ok(())
    }

    fn lay_anew(&mut self) {
        self.delta = ExtentMap::default();
        for (id, entries) in &self.segments {
            entries.iter().for_each(|entry| entry.insert_into(&mut self.delta, *id));
        }
    }

    /// Takes note of a batch that is durable.
    pub(crate) fn land(&mut self, id: SegmentId, entries: Vec<Entry>) {
        let last = self.segments.last_key_value().is_none_or(|(last, _)| *last < id);
        let apart = || entries.iter().all(|e| self.delta.pieces(&e.disk, e.run).is_empty());
        let on_top = last || apart();
        if let Some(progress) = self.progress.as_mut().filter(|p| p.session == id.session) {
            progress.land(id, &entries);
        }
        self.segments.insert(id, entries);
        if on_top {
            self.segments[&id].iter().for_each(|entry| entry.insert_into(&mut self.delta, id));
        } else {
            self.lay_anew();
        }
    }

    /// Whether it knows what the open session has landed.
    pub(crate) fn follows(&self, session: u64) -> bool {
        self.progress.as_ref().is_some_and(|p| p.session == session)
    }

    pub(crate) fn has(&self, id: SegmentId) -> bool {
        self.segments.contains_key(&id)
    }

    /// Records of one session, and their digest.
    pub(crate) fn count(&self, session: u64) -> (u64, u64) {
        let of_session = self.segments.iter().filter(|(id, _)| id.session == session);
        of_session
            .flat_map(|(_, entries)| entries)
            .fold((0, 0), |(records, digest), entry| (records + 1, entry.fold_into(digest)))
    }

    /// Frame bytes of all that landed, and how many of them were written over since.
    pub(crate) fn space(&self) -> Space {
        let frames = self.segments.values().flatten().filter_map(|entry| entry.frame);
        let stored = frames.map(|(_, len)| u64::from(len)).sum();
        let visible = self.delta.all().filter_map(|(_, run, held)| Some(share(run, &held.place()?)));
        Space { stored, dead: stored.saturating_sub(visible.sum()) }
    }

    /// The content of the newest point.
    pub(crate) async fn base(&mut self, folder: &Folder, timeline: &Timeline) -> Result<Map> {
        let Some(newest) = timeline.catalogue.newest() else { return Ok(Map::new(folder.clone(), vec![])) };
        if let Some((point, map)) = &self.base
            && *point == newest.id
        {
            return Ok(map.clone());
        }
        let map = Sealed::read(folder, &newest.object).await?.map(folder);
        self.base = Some((newest.id, map.clone()));
        Ok(map)
    }

    /// What a run holds, sealed or not, without gap.
    pub(crate) async fn pieces(&self, base: &Map, disk: &DiskId, run: Run) -> Result<Vec<Piece>> {
        let (mut found, mut at): (Vec<Piece>, u64) = (vec![], run.start);
        for (piece, held) in self.delta.pieces(disk, run) {
            if piece.start > at {
                found.extend(base.pieces(disk, Run::new(at, piece.start - at)).await?);
            }
            found.push((piece, Some(held)));
            at = piece.end();
        }
        if at < run.end() {
            found.extend(base.pieces(disk, Run::new(at, run.end() - at)).await?);
        }
        Ok(found)
    }

    /// How far the open session is; to be called after [`sync`](Self::sync).
    pub(crate) async fn progress(&mut self, folder: &Folder, timeline: &Timeline) -> Result<&mut Progress> {
        let open = timeline.open.as_ref().expect("asked for an open session");
        if self.progress.as_ref().is_none_or(|p| p.session != open.session) {
            let plan = Arc::new(folder.noted(&open.plan).await?);
            let mut sessions = resumed(&timeline.carried, &open.op, &open.cut);
            sessions.insert(open.session);
            let mut own = ExtentMap::default();
            for (id, entries) in self.segments.iter().filter(|(id, _)| sessions.contains(&id.session)) {
                entries.iter().for_each(|entry| entry.insert_into(&mut own, *id));
            }
            let mut progress = Progress { session: open.session, plan, own, landed: Landed::new() };
            progress.advance();
            self.progress = Some(progress);
        }
        Ok(self.progress.as_mut().expect("made above"))
    }
}

impl Progress {
    fn land(&mut self, id: SegmentId, entries: &[Entry]) {
        entries.iter().for_each(|entry| entry.insert_into(&mut self.own, id));
        self.advance();
    }

    fn advance(&mut self) {
        for (disk, runs) in self.plan.disks() {
            let from = self.landed.get(disk).copied().unwrap_or(0);
            if let Some(below) = durable_below(&self.own, disk, runs, from) {
                self.landed.insert(disk.clone(), below);
            }
        }
    }
}

/// Everything of `runs` below this is in `own`, given that it is below `from`. None where nothing is.
fn durable_below(own: &ExtentMap, disk: &DiskId, runs: &[Run], from: u64) -> Option<u64> {
    let (first, mut below) = (runs.partition_point(|run| run.end() <= from), (from > 0).then_some(from));
    for run in &runs[first..] {
        let start = run.start.max(from);
        let rest = Run::new(start, run.end() - start);
        match own.first_gap(disk, rest) {
            Some(gap) if gap > start => return Some(gap),
            Some(_) => return below,
            None => below = Some(run.end()),
        }
    }
    below
}

/// The newest closed sessions that belong to the same operation, and to the same bytes.
fn resumed(carried: &[Carried], op: &Op, cut: &CutId) -> BTreeSet<u64> {
    let same = carried.iter().rev().take_while(|c| c.op.key == op.key && c.cut == *cut);
    same.map(|c| c.session).collect()
}

async fn wanted(folder: &Folder, timeline: &Timeline, open: Option<u64>) -> Result<BTreeSet<SegmentId>> {
    let mut wanted = BTreeSet::new();
    for Carried { session, landed, .. } in &timeline.carried {
        match landed {
            Some(batches) => wanted.extend(batches.iter().flat_map(|(first, last)| {
                (*first..=*last).map(|batch| SegmentId { session: *session, batch })
            })),
            None => wanted.extend(folder.list_segments(*session).await?),
        }
    }
    if let Some(session) = open {
        wanted.extend(folder.list_segments(session).await?);
    }
    Ok(wanted)
}
