//! One thing in the store is not what was written: what is read is right, or is an error that names the damage.

mod support;

use futures_util::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use site_recovery::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use support::life::points;
use support::*;

/// What the store should hold, and in which points.
struct History {
    store: Arc<InMemory>,
    images: BTreeMap<PointId, Image>,
    listed: Vec<Point>,
    newest: Image,
    /// The one segment that is in no point.
    open: Path,
}

/// Enough points for pages of the catalogue, merged layers and a pack; then most of them are dropped.
async fn history() -> History {
    let store = Arc::new(InMemory::new());
    let points = points(Arc::clone(&store) as _);
    let (mut image, mut dice, mut images) = (blank(), Dice(2027), BTreeMap::new());
    prepared(&points).await.expect("prepared");
    for number in 0..150 {
        let mut plan = churn(&mut image, &mut dice);
        for (disk, runs) in plan.clone().disks() {
            for run in runs {
                let bytes = &mut image.get_mut(disk).expect("a disk")[run.start as usize..run.end() as usize];
                bytes.fill_with(|| dice.below(256) as u8);
            }
        }
        if number == 0 {
            plan = whole();
        }
        let cut = format!("cut-{number}");
        let point = ship(&points, &op(&cut, 1), &cut, &image, &plan).await.expect("sealed");
        images.insert(point.id, image.clone());
    }
    // One is left in a leaf; the gap after it is long enough to be looked through.
    let stays = |id: &PointId| id.0 == 6 || id.0 >= 72 && id.0.is_multiple_of(6) || id.0 >= 145;
    let drop: Vec<PointId> = images.keys().copied().filter(|id| !stays(id)).collect();
    assert_eq!(points.prune(&op("p", 1), &id(), &drop).await.expect("pruned"), drop);
    images.retain(|id, _| !drop.contains(id));
    // Something lands that is in no point.
    let plan = set(&[("boot", 0, 8 * BLOCK)]);
    let mut newest = image;
    newest.get_mut(&DiskId::from("boot")).expect("a disk")[..8 * BLOCK as usize].fill(77);
    let ingest = points.begin(&op("open", 1), &machine(), &"open".into(), &plan).await.expect("begun");
    points.write(&ingest, 0, all_records(&newest, &plan, BLOCK)).await.expect("landed");
    let listed = points.points(&id()).await.expect("listed");
    let paths = objects(&store).await;
    let open = paths.into_iter().rfind(|path| kind(path) == "s").expect("a segment");
    History { store, images, listed, newest, open }
}

impl History {
    /// The oldest points, the newest, and some between.
    fn some(&self) -> Vec<(&PointId, &Image)> {
        let ends = [0, 1, self.images.len() - 1];
        let all = self.images.iter().enumerate();
        all.filter(|(at, _)| ends.contains(at) || at % 7 == 3).map(|(_, point)| point).collect()
    }

    /// At most this many objects of each kind.
    async fn objects_of_each(&self, most: usize) -> Vec<(Path, Vec<u8>)> {
        let mut kinds = BTreeMap::<String, Vec<Path>>::new();
        for path in objects(&self.store).await {
            kinds.entry(kind(&path).to_owned()).or_default().push(path);
        }
        let mut objects = vec![];
        for paths in kinds.into_values() {
            // Always the newest: of the ledgers, it alone counts.
            let step = paths.len().div_ceil(most);
            for path in paths.into_iter().rev().step_by(step) {
                let bytes = bytes_of(&self.store, &path).await;
                objects.push((path, bytes));
            }
        }
        objects
    }
}

async fn objects(store: &InMemory) -> Vec<Path> {
    let mut all: Vec<Path> =
        store.list(None).map_ok(|meta| meta.location).try_collect().await.expect("listed");
    all.sort();
    all
}

async fn bytes_of(store: &InMemory, path: &Path) -> Vec<u8> {
    store.get(path).await.expect("there").bytes().await.expect("read").to_vec()
}

/// What damage was found out about: nothing, where no promise needs what is damaged.
#[derive(Debug, Default)]
struct Found {
    named: usize,
}

impl Found {
    /// An answer, or none where the store says that something is damaged.
    fn right<T>(&mut self, result: Result<T>, place: &str) -> Option<T> {
        match result {
            Ok(answer) => Some(answer),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corrupt, "{place}: {error}");
                self.named += 1;
                None
            }
        }
    }
}

/// Asks everything of a store in which something is not what was written.
async fn ask(store: Arc<InMemory>, history: &History, place: &str) -> Found {
    let (points, mut found) = (points(Arc::clone(&store) as _), Found::default());
    if let Some(listed) = found.right(points.points(&id()).await, place) {
        assert_eq!(listed, history.listed, "{place}: the listing");
    }
    for (point, image) in history.some() {
        let read = image_at(&points, *point).await;
        let scrubbed = found.right(points.scrub(&id(), *point).await, place);
        match found.right(read, place) {
            Some(read) => assert!(read == *image, "{place}: point {point} has other bytes"),
            None => {
                assert!(scrubbed.is_none_or(|f| !f.is_empty()), "{place}: scrubbing {point} finds nothing")
            }
        }
    }
    found
}

/// Prunes and hashes what is damaged; what goes well must have changed nothing else.
async fn live_on(store: Arc<InMemory>, history: &History, place: &str) -> Found {
    let (points, mut found) = (points(Arc::clone(&store) as _), Found::default());
    // What landed in no point and is gone stands nowhere: then the newest point does.
    let there = store.head(&history.open).await.is_ok();
    let sealed = history.images.values().next_back().expect("points");
    for (disk, bytes) in if there { &history.newest } else { sealed } {
        let run = Run::new(0, bytes.len() as u64);
        let Some(hashes) = found.right(points.hashes(&id(), disk, run).await, place) else { continue };
        for (at, (hash, block)) in hashes.iter().zip(bytes.chunks(HASH_BLOCK as usize)).enumerate() {
            let right = site_recovery_record::hash(block);
            assert!(*hash == right || *hash == Hash::MAX, "{place}: hash {at} of {disk}");
        }
    }
    let drop: Vec<PointId> = history.images.keys().copied().step_by(2).collect();
    let dropped = found.right(points.prune(&op("q", 1), &id(), &drop).await, place).unwrap_or_default();
    let listed = found.right(points.points(&id()).await, place).unwrap_or_default();
    let kept: Vec<_> = history.images.keys().filter(|id| !dropped.contains(id)).collect();
    let hidden = kept.iter().find(|id| listed.iter().all(|point| point.id != ***id));
    assert!(listed.is_empty() || hidden.is_none(), "{place}: point {hidden:?} is hidden");
    for (point, image) in history.some().into_iter().filter(|(id, _)| !dropped.contains(id)) {
        if let Some(read) = found.right(image_at(&points, *point).await, place) {
            assert!(read == *image, "{place}: point {point} has other bytes after a prune");
        }
    }
    found
}

fn kind(path: &Path) -> &str {
    match path.filename().and_then(|name| name.split('-').nth(1)) {
        Some(kind) => kind.split('.').next().unwrap_or(kind),
        None => "ledger",
    }
}

/// How often something was damaged, and how often that was told, by kind of object.
#[derive(Debug, Default)]
struct Tried(BTreeMap<String, (usize, usize)>);

impl Tried {
    async fn damaged(&mut self, store: InMemory, history: &History, path: &Path, place: &str) {
        let asked = ask(Arc::new(store.fork()), history, place).await.named;
        let lived = live_on(Arc::new(store), history, place).await.named;
        let (tried, named) = self.0.entry(kind(path).to_owned()).or_default();
        (*tried, *named) = (*tried + 1, *named + usize::from(asked + lived > 0));
    }

    fn was_told_of(&self, kinds: &[&str]) {
        for kind in kinds {
            assert!(self.0.get(*kind).is_some_and(|(_, named)| *named > 0), "{kind}: {self:?}");
        }
    }
}

const KINDS: [&str; 7] = ["ledger", "leaf", "map", "node", "pack", "point", "s"];

#[tokio::test(flavor = "multi_thread")]
async fn d1_a_flipped_bit_anywhere_is_named() {
    let history = history().await;
    let (mut dice, mut tried) = (Dice(4242), Tried::default());
    for (path, whole) in history.objects_of_each(8).await {
        let stride = 1 + whole.len() as u64 / 3;
        let mut at = dice.below(stride);
        while at < whole.len() as u64 {
            let (mut flipped, store) = (whole.clone(), history.store.fork());
            flipped[at as usize] ^= 1 << dice.below(8);
            store.put(&path, flipped.into()).await.expect("put");
            tried.damaged(store, &history, &path, &format!("a bit of byte {at} of {path}")).await;
            at += 1 + dice.below(2 * stride);
        }
    }
    tried.was_told_of(&KINDS);
}

#[tokio::test(flavor = "multi_thread")]
async fn d1_an_object_that_is_cut_gone_or_another_is_named() {
    let history = history().await;
    let (mut dice, mut tried) = (Dice(99), Tried::default());
    let objects = history.objects_of_each(5).await;
    for (number, (path, whole)) in objects.iter().enumerate() {
        let store = history.store.fork();
        let len = dice.below(whole.len() as u64) as usize;
        store.put(path, whole[..len].to_vec().into()).await.expect("put");
        tried.damaged(store, &history, path, &format!("{path} is cut to {len} bytes")).await;

        let store = history.store.fork();
        store.put(path, [&whole[..], &whole[..]].concat().into()).await.expect("put");
        tried.damaged(store, &history, path, &format!("{path} is there twice in one")).await;

        if kind(path) != "ledger" {
            let store = history.store.fork();
            store.delete(path).await.expect("deleted");
            tried.damaged(store, &history, path, &format!("{path} is gone")).await;
        }
        for step in [1, objects.len() / 2] {
            let (other, bytes) = &objects[(number + step) % objects.len()];
            // What is in no point yet is known by its own index alone.
            if [path, other].contains(&&history.open) {
                continue;
            }
            let store = history.store.fork();
            store.put(path, bytes.clone().into()).await.expect("put");
            store.put(other, whole.clone().into()).await.expect("put");
            tried.damaged(store, &history, path, &format!("{path} and {other} are swapped")).await;
        }
    }
    tried.was_told_of(&KINDS);
}
