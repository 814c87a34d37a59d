//! Which points there are: the newest in the ledger itself, older ones in leaves of sixty-four, leaves in nodes. So the
//! ledger stays small, a listing reads one object per leaf, and a change rewrites one leaf and its node.

use crate::attached::Attached;
use crate::cache::Cached;
use crate::folder::Folder;
use crate::pack::PackRef;
use serde::{Deserialize, Serialize};
use site_recovery::{
    Consistency, CutId, Error, ErrorKind, Generation, MachineId, Manifest, Point, PointId, Result, Timestamp,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Points in a leaf.
const LEAF: usize = 64;
/// Leaves in a node.
const NODE: usize = 128;
/// Points in the ledger itself before the older ones become a leaf.
const RECENT: usize = LEAF + LEAF / 2;

/// A sealed point, and where its bytes and its manifest are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) id: PointId,
    pub(crate) cut: CutId,
    members: Vec<MachineId>,
    taken: Timestamp,
    consistency: Consistency,
    generation: Generation,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) pins: BTreeSet<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) locked_until: Option<Timestamp>,
    /// Its manifest, and its map.
    pub(crate) object: Attached,
    /// The first session of it. Those before, after the last one of the point before, are of dropped points.
    pub(crate) first: u64,
    /// The last one.
    pub(crate) last: u64,
    /// Frame bytes that it wrote.
    pub(crate) own: Space,
    /// What dropped points before it wrote.
    #[serde(default, skip_serializing_if = "Gap::is_empty")]
    pub(crate) gap: Gap,
}

/// Frame bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Space {
    pub(crate) stored: u64,
    /// How many of them no point needs, about.
    pub(crate) dead: u64,
}

/// Between two points that are kept: what the dropped ones wrote, and the later one may need.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Gap {
    pub(crate) space: Space,
    /// Points that were dropped since it was looked through.
    #[serde(default)]
    pub(crate) dropped: u64,
    #[serde(default)]
    pub(crate) packs: Vec<PackRef>,
    /// Of the sessions up to this one no segment is left.
    #[serde(default)]
    pub(crate) swept: u64,
}

impl Space {
    pub(crate) fn and(self, other: Space) -> Space {
        Space { stored: self.stored + other.stored, dead: self.dead + other.dead }
    }
}

impl Gap {
    fn is_empty(&self) -> bool {
        *self == Gap::default()
    }
}

impl Kept {
    pub(crate) fn new(
        id: PointId,
        of: &Manifest,
        object: Attached,
        sessions: (u64, u64),
        own: Space,
    ) -> Self {
        Self {
            id,
            cut: of.cut.clone(),
            members: of.members.clone(),
            taken: of.taken,
            consistency: of.consistency,
            generation: of.machine.instance.generation,
            pins: BTreeSet::new(),
            locked_until: None,
            object,
            first: sessions.0,
            last: sessions.1,
            own,
            gap: Gap::default(),
        }
    }

    pub(crate) fn point(&self) -> Point {
        Point {
            id: self.id,
            cut: self.cut.clone(),
            members: self.members.clone(),
            taken: self.taken,
            consistency: self.consistency,
            generation: self.generation,
            pins: self.pins.iter().cloned().collect(),
            locked_until: self.locked_until,
            verified: true,
            verified_boot: None,
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Catalogue {
    nodes: Vec<PageRef>,
    /// Oldest first; the newest point is always here.
    recent: Vec<Kept>,
}

/// A leaf or a node, and what it spans.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct PageRef {
    object: Attached,
    first: PointId,
    last: PointId,
    /// Of the last point in it.
    session: u64,
}

/// What is to become of points: another entry, or none.
pub(crate) type Edits = BTreeMap<PointId, Option<Kept>>;

impl Catalogue {
    pub(crate) fn newest(&self) -> Option<&Kept> {
        self.recent.last()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.recent.is_empty()
    }

    pub(crate) fn recent(&self) -> &[Kept] {
        &self.recent
    }

    /// # Errors
    /// `NotFound` where there is no such point.
    pub(crate) async fn get(&self, folder: &Folder, id: PointId) -> Result<Kept> {
        match self.at_or_after(folder, id).await? {
            Some(kept) if kept.id == id => Ok(kept),
            _ => Err(Error::new(ErrorKind::NotFound, format!("there is no point {id}"))),
        }
    }

    /// The oldest point that is not older than this.
    pub(crate) async fn at_or_after(&self, folder: &Folder, id: PointId) -> Result<Option<Kept>> {
        self.first_where(folder, |page| page.last >= id, |kept| kept.id >= id).await
    }

    /// The point whose sessions, or whose gap's, this one is among.
    pub(crate) async fn owner(&self, folder: &Folder, session: u64) -> Result<Option<Kept>> {
        self.first_where(folder, |page| page.session >= session, |kept| kept.last >= session).await
    }

    /// The newest point that is older than this.
    pub(crate) async fn before(&self, folder: &Folder, id: PointId) -> Result<Option<Kept>> {
        let at = self.recent.partition_point(|kept| kept.id < id);
        if at > 0 {
            return Ok(Some(self.recent[at - 1].clone()));
        }
        for node in self.nodes.iter().rev().filter(|node| node.first < id) {
            for leaf in folder.node(node).await?.iter().rev().filter(|leaf| leaf.first < id) {
                if let Some(kept) = folder.leaf(leaf).await?.iter().rev().find(|kept| kept.id < id) {
                    return Ok(Some(kept.clone()));
                }
            }
        }
        Ok(None)
    }

    /// At most `most` points after this one, oldest first.
    pub(crate) async fn after(&self, folder: &Folder, id: Option<PointId>, most: usize) -> Result<Vec<Kept>> {
        let (mut found, from) = (vec![], id.map_or(PointId(0), |id| PointId(id.0.saturating_add(1))));
        for node in self.nodes.iter().filter(|node| node.last >= from) {
            for leaf in folder.node(node).await?.iter().filter(|leaf| leaf.last >= from) {
                if found.len() >= most {
                    break;
                }
                found.extend(folder.leaf(leaf).await?.iter().filter(|kept| kept.id >= from).cloned());
            }
        }
        found.extend(self.recent.iter().filter(|kept| kept.id >= from).cloned());
        found.truncate(most);
        Ok(found)
    }

    /// Adds the newest point. The older ones in the ledger become a leaf now and then, by ledger `number`; what that
    /// replaces comes back.
    pub(crate) async fn push(&mut self, folder: &Folder, number: u64, kept: Kept) -> Result<Vec<Attached>> {
        self.recent.push(kept);
        if self.recent.len() <= RECENT {
            return Ok(vec![]);
        }
        let leaf: Vec<Kept> = self.recent.drain(..LEAF).collect();
        let leaf = folder.write_leaf(number, leaf).await?;
        match self.nodes.last_mut() {
            Some(last) if folder.node(last).await?.len() < NODE => {
                let leaves = folder.node(last).await?.iter().cloned().chain([leaf]).collect();
                let before = std::mem::replace(last, folder.write_node(number, leaves).await?);
                Ok(vec![before.object])
            }
            _ => {
                self.nodes.push(folder.write_node(number, vec![leaf]).await?);
                Ok(vec![])
            }
        }
    }

    /// Changes and removes points, by ledger `number`. What it replaces comes back.
    pub(crate) async fn edit(
        &mut self,
        folder: &Folder,
        number: u64,
        edits: &Edits,
    ) -> Result<Vec<Attached>> {
        let mut replaced = vec![];
        self.recent = edited(std::mem::take(&mut self.recent), edits);
        let mut nodes = vec![];
        for node in std::mem::take(&mut self.nodes) {
            if edits.range(node.first..=node.last).next().is_none() {
                nodes.push(node);
                continue;
            }
            let (mut leaves, mut open): (Vec<PageRef>, Vec<Kept>) = (vec![], vec![]);
            for leaf in folder.node(&node).await?.iter() {
                let points = folder.leaf(leaf).await?;
                let untouched = edits.range(leaf.first..=leaf.last).next().is_none();
                if untouched && open.is_empty() {
                    leaves.push(leaf.clone());
                    continue;
                }
                // A leaf that grew small takes the next one in.
                if untouched && open.len() + points.len() > LEAF {
                    leaves.push(folder.write_leaf(number, std::mem::take(&mut open)).await?);
                    leaves.push(leaf.clone());
                    continue;
                }
                open.extend(edited(points.to_vec(), edits));
                replaced.push(leaf.object.clone());
                if open.len() > LEAF / 2 {
                    let rest = open.split_off(open.len().min(LEAF));
                    leaves.push(folder.write_leaf(number, std::mem::replace(&mut open, rest)).await?);
                }
            }
            if !open.is_empty() {
                leaves.push(folder.write_leaf(number, open).await?);
            }
            replaced.push(node.object);
            if !leaves.is_empty() {
                nodes.push(folder.write_node(number, leaves).await?);
            }
        }
        self.nodes = nodes;
        Ok(replaced)
    }

    /// Every page that it is made of.
    pub(crate) async fn pages(&self, folder: &Folder) -> Result<BTreeSet<Attached>> {
        let mut pages = BTreeSet::new();
        for node in &self.nodes {
            pages.insert(node.object.clone());
            pages.extend(folder.node(node).await?.iter().map(|leaf| leaf.object.clone()));
        }
        Ok(pages)
    }

    async fn first_where(
        &self,
        folder: &Folder,
        reaches: impl Fn(&PageRef) -> bool,
        is_it: impl Fn(&Kept) -> bool,
    ) -> Result<Option<Kept>> {
        if let Some(node) = self.nodes.get(self.nodes.partition_point(|node| !reaches(node))) {
            let leaves = folder.node(node).await?;
            if let Some(leaf) = leaves.get(leaves.partition_point(|leaf| !reaches(leaf))) {
                let points = folder.leaf(leaf).await?;
                return Ok(points.get(points.partition_point(|kept| !is_it(kept))).cloned());
            }
        }
        Ok(self.recent.get(self.recent.partition_point(|kept| !is_it(kept))).cloned())
    }
}

fn edited(points: Vec<Kept>, edits: &Edits) -> Vec<Kept> {
    let edit = |kept: Kept| match edits.get(&kept.id) {
        Some(edit) => edit.clone(),
        None => Some(kept),
    };
    points.into_iter().filter_map(edit).collect()
}

impl Folder {
    async fn leaf(&self, leaf: &PageRef) -> Result<Arc<Vec<Kept>>> {
        if let Some(Cached::Leaf(points)) = self.cache.get(&leaf.object, 0) {
            return Ok(points);
        }
        let points: Arc<Vec<Kept>> = Arc::new(self.get_json(&leaf.object).await?);
        self.cache.put(&leaf.object, 0, Cached::Leaf(Arc::clone(&points)));
        Ok(points)
    }

    async fn node(&self, node: &PageRef) -> Result<Arc<Vec<PageRef>>> {
        if let Some(Cached::Node(leaves)) = self.cache.get(&node.object, 0) {
            return Ok(leaves);
        }
        let leaves: Arc<Vec<PageRef>> = Arc::new(self.get_json(&node.object).await?);
        self.cache.put(&node.object, 0, Cached::Node(Arc::clone(&leaves)));
        Ok(leaves)
    }

    async fn write_leaf(&self, number: u64, points: Vec<Kept>) -> Result<PageRef> {
        let object = self.attach_json(number, "leaf", &points).await?;
        let (first, last) = (points.first().expect("a leaf has points"), points.last().expect("as above"));
        let page = PageRef { object, first: first.id, last: last.id, session: last.last };
        self.cache.put(&page.object, 0, Cached::Leaf(Arc::new(points)));
        Ok(page)
    }

    async fn write_node(&self, number: u64, leaves: Vec<PageRef>) -> Result<PageRef> {
        let object = self.attach_json(number, "node", &leaves).await?;
        let (first, last) = (leaves.first().expect("a node has leaves"), leaves.last().expect("as above"));
        let page = PageRef { object, first: first.first, last: last.last, session: last.session };
        self.cache.put(&page.object, 0, Cached::Node(Arc::new(leaves)));
        Ok(page)
    }
}
