//! One machine's objects, by name.

use crate::attached::Attached;
use crate::cache::Cache;
use crate::ledger::Noted;
use crate::newest::newest_ledger;
use crate::refusal::{damaged, failed};
use crate::segment::{self, Entry, SegmentId};
use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::path::Path;
use object_store::{
    Error as StoreError, GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutPayload,
    coalesce_ranges,
};
use serde::Serialize;
use site_recovery::{ChangeSet, Error, ErrorKind, MachineId, OpKey, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Sessions whose objects lie in one folder: few enough to be listed, many enough that folders are rare.
const SESSIONS: u64 = 256;
/// Parts of an object that lie not further apart are fetched as one.
const NEAR: u64 = 64 << 10;

/// The folder of a machine's ledgers, in its own.
pub(crate) const LEDGERS: &str = "ledger";

/// The name of a machine's folder.
pub(crate) fn folder_name(machine: &MachineId) -> String {
    OpKey::from(machine.as_str()).to_name()
}

#[derive(Debug, Clone)]
pub(crate) struct Folder {
    store: Arc<dyn ObjectStore>,
    root: Path,
    /// The directory that the store is, where it is one.
    here: Option<Arc<std::path::Path>>,
    pub(crate) cache: Arc<Cache>,
}

/// An object of a session, and how large it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Found {
    Segment(SegmentId, u64),
    Attached(Attached, u64),
}

impl Folder {
    pub(crate) fn new(store: Arc<dyn ObjectStore>, root: Path, cache: Arc<Cache>) -> Self {
        Self { store, root, here: None, cache }
    }

    /// The same, given that the store is this directory.
    pub(crate) fn in_directory(self, here: Option<Arc<std::path::Path>>) -> Self {
        Self { here, ..self }
    }

    pub(crate) fn is_here(&self) -> bool {
        self.here.is_some()
    }

    /// Frames of segments, by offset and length; none where one of them cannot be read just so. Blocks.
    pub(crate) fn read_here(
        &self,
        frames: &BTreeSet<(SegmentId, u64, u32)>,
    ) -> Option<BTreeMap<(SegmentId, u64), Bytes>> {
        let here = self.here.as_ref()?;
        let (mut found, mut open): (BTreeMap<_, _>, Option<(SegmentId, File)>) = (BTreeMap::new(), None);
        for (segment, offset, len) in frames {
            if open.as_ref().is_none_or(|(id, _)| id != segment) {
                open = Some((*segment, File::open(here.join(self.segment(*segment).as_ref())).ok()?));
            }
            let mut frame = vec![0; *len as usize];
            open.as_ref()?.1.read_exact_at(&mut frame, *offset).ok()?;
            found.insert((*segment, *offset), frame.into());
        }
        Some(found)
    }

    fn ledgers(&self) -> Path {
        self.root.clone().join(LEDGERS)
    }

    fn ledger(&self, number: u64) -> Path {
        self.ledgers().join(ledger_name(number))
    }

    fn pages(&self) -> Path {
        self.root.clone().join("pages")
    }

    fn shard(&self, session: u64) -> Path {
        self.root.clone().join("data").join(format!("{:017}", session / SESSIONS))
    }

    fn attached(&self, name: &Attached) -> Path {
        let folder = if name.is_page() { self.pages() } else { self.shard(name.number()) };
        folder.join(name.as_str())
    }

    fn segment(&self, id: SegmentId) -> Path {
        self.shard(id.session).join(format!("{:020}-s-{:020}", id.session, id.batch))
    }

    /// Number and bytes of the newest ledger; 0 where there is none. One without bytes was listed and is trimmed since: there
    /// is a newer one.
    pub(crate) async fn newest_ledger(&self) -> Result<(u64, Option<Bytes>)> {
        if let Some(here) = &self.here {
            let ledgers = here.join(self.ledgers().as_ref());
            let look = move || {
                let mut room = vec![];
                let (number, bytes) = newest_ledger(&ledgers, &mut room)?;
                Some((number, Bytes::copy_from_slice(bytes)))
            };
            if let Ok(Some((number, bytes))) = tokio::task::spawn_blocking(look).await {
                return Ok((number, Some(bytes)));
            }
        }
        let mut newest = self.list_ledgers().await?.into_iter().max().unwrap_or(0);
        // A listing may lag behind: what comes after it is asked for by name.
        while self.has_ledger(newest + 1).await? {
            newest += 1;
        }
        let bytes = if newest == 0 { None } else { self.get_ledger(newest).await? };
        Ok((newest, bytes))
    }

    /// Numbers of the ledgers there are.
    pub(crate) async fn list_ledgers(&self) -> Result<Vec<u64>> {
        let names = self.list(&self.ledgers()).await?;
        Ok(names.iter().filter_map(|meta| numbered(meta.location.filename()?)).collect())
    }

    /// Whether this is the newest ledger, given that it was once.
    pub(crate) async fn is_newest(&self, number: u64) -> Result<bool> {
        // In this order: a ledger that is there after the next one was not has no next one.
        let is_last = !self.has_ledger(number + 1).await? && self.has_ledger(number).await?;
        // Without the one before, it was created in the place of a trimmed one.
        Ok(is_last && (number == 1 || self.has_ledger(number - 1).await?))
    }

    pub(crate) async fn has_ledger(&self, number: u64) -> Result<bool> {
        self.exists(&self.ledger(number)).await
    }

    pub(crate) async fn get_ledger(&self, number: u64) -> Result<Option<Bytes>> {
        self.get(&self.ledger(number)).await
    }

    /// False where a ledger of that number exists already.
    pub(crate) async fn create_ledger(&self, number: u64, bytes: Bytes) -> Result<bool> {
        self.create(&self.ledger(number), bytes.into()).await
    }

    pub(crate) async fn delete_ledger(&self, number: u64) -> Result<()> {
        self.delete(&self.ledger(number)).await
    }

    /// Writes an object that a later ledger will refer to. One that an earlier try has left is as good, where it is whole:
    /// a store may keep it from being written over.
    pub(crate) async fn attach(&self, number: u64, kind: &str, bytes: Vec<u8>) -> Result<Attached> {
        let name = Attached::new(number, kind, &bytes);
        let (path, bytes) = (self.attached(&name), Bytes::from(bytes));
        let is_new = self.create(&path, bytes.clone().into()).await?;
        if !is_new && self.get(&path).await? != Some(bytes.clone()) {
            self.store.put(&path, bytes.into()).await.map_err(failed)?;
        }
        Ok(name)
    }

    pub(crate) async fn attach_json(
        &self,
        number: u64,
        kind: &str,
        what: &impl Serialize,
    ) -> Result<Attached> {
        self.attach(number, kind, json(kind, what)?).await
    }

    /// # Errors
    /// `Corrupt`, naming the object, where it is gone or not what was attached.
    pub(crate) async fn get_attached(&self, name: &Attached) -> Result<Bytes> {
        let path = self.attached(name);
        let bytes = self.get(&path).await?.ok_or_else(|| damaged(&path, "it is gone"))?;
        if !name.describes(&bytes) {
            return Err(damaged(&path, "its bytes are not those that were written"));
        }
        Ok(bytes)
    }

    /// A part of an attached object, whose bytes the caller verifies.
    pub(crate) async fn get_part(&self, name: &Attached, at: u64, len: u64) -> Result<Bytes> {
        self.range(&self.attached(name), at, len).await
    }

    pub(crate) async fn get_json<T: serde::de::DeserializeOwned>(&self, name: &Attached) -> Result<T> {
        let bytes = self.get_attached(name).await?;
        serde_json::from_slice(&bytes).map_err(|e| self.is_damaged(name, "it does not parse").caused_by(e))
    }

    pub(crate) async fn noted(&self, noted: &Noted) -> Result<ChangeSet> {
        match noted {
            Noted::Here(set) => Ok(set.clone()),
            Noted::There(object) => self.get_json(object).await,
        }
    }

    pub(crate) fn is_damaged(&self, name: &Attached, why: &str) -> Error {
        damaged(&self.attached(name), why)
    }

    /// Every page there is.
    pub(crate) async fn list_pages(&self) -> Result<Vec<Attached>> {
        let names = self.list(&self.pages()).await?;
        Ok(names.iter().filter_map(|meta| Attached::named(meta.location.filename()?)).collect())
    }

    /// Everything of these sessions, in order.
    pub(crate) async fn list_sessions(&self, first: u64, last: u64) -> Result<Vec<Found>> {
        let mut found = vec![];
        if first > last {
            return Ok(found);
        }
        for shard in first / SESSIONS..=last / SESSIONS {
            let (folder, from) = (self.shard(shard * SESSIONS), format!("{first:020}"));
            let there = self.store.list_with_offset(Some(&folder), &folder.clone().join(from));
            let there: Vec<ObjectMeta> = there.try_collect().await.map_err(failed)?;
            let of_them =
                there.iter().filter_map(parse).filter(|found| (first..=last).contains(&found.session()));
            found.extend(of_them);
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Batches of one session.
    pub(crate) async fn list_segments(&self, session: u64) -> Result<Vec<SegmentId>> {
        let found = self.list_sessions(session, session).await?;
        let segments = found.into_iter().filter_map(|found| match found {
            Found::Segment(id, _) => Some(id),
            Found::Attached(..) => None,
        });
        Ok(segments.collect())
    }

    /// False where a segment of that name exists already.
    pub(crate) async fn create_segment(&self, id: SegmentId, parts: Vec<Bytes>) -> Result<bool> {
        self.create(&self.segment(id), parts.into_iter().collect()).await
    }

    pub(crate) async fn get_index(&self, id: SegmentId) -> Result<Vec<Entry>> {
        let path = self.segment(id);
        let header = self.range(&path, 0, segment::HEADER).await?;
        let (len, sum) = segment::decode_header(&header)
            .filter(|(len, _)| *len > 0)
            .ok_or_else(|| damaged(&path, "it is no segment"))?;
        let index = self.range(&path, segment::HEADER, len).await?;
        if id.checksum_of(&index) != sum {
            return Err(damaged(&path, "its index does not match its checksum, or belongs elsewhere"));
        }
        segment::decode_index(&index).ok_or_else(|| damaged(&path, "its index does not parse"))
    }

    /// Frames of one segment, by offset and length; none where there is no such segment.
    pub(crate) async fn get_frames(
        &self,
        id: SegmentId,
        frames: &[(u64, u32)],
    ) -> Result<Option<Vec<Bytes>>> {
        let ranges: Vec<_> = frames.iter().map(|(at, len)| *at..at + u64::from(*len)).collect();
        self.parts(&self.segment(id), &ranges).await
    }

    /// Parts of an attached object, whose bytes the caller verifies.
    pub(crate) async fn get_parts(&self, name: &Attached, parts: &[(u64, u32)]) -> Result<Vec<Bytes>> {
        let ranges: Vec<_> = parts.iter().map(|(at, len)| *at..at + u64::from(*len)).collect();
        let path = self.attached(name);
        self.parts(&path, &ranges).await?.ok_or_else(|| damaged(&path, "it is gone"))
    }

    pub(crate) fn is_gone(&self, id: SegmentId) -> Error {
        damaged(&self.segment(id), "it is gone")
    }

    pub(crate) async fn delete_segment(&self, id: SegmentId) -> Result<()> {
        self.delete(&self.segment(id)).await
    }

    pub(crate) async fn delete_attached(&self, name: &Attached) -> Result<()> {
        self.delete(&self.attached(name)).await
    }

    /// Not by the store's own `get_ranges`: that one takes it for granted that all it asked for has come.
    async fn parts(&self, path: &Path, ranges: &[Range<u64>]) -> Result<Option<Vec<Bytes>>> {
        let fetch = async |range| match self.part(path, range).await {
            Ok(part) => part.ok_or(None),
            Err(error) => Err(Some(error)),
        };
        match coalesce_ranges(ranges, fetch, NEAR).await {
            Ok(parts) => Ok(Some(parts)),
            Err(None) => Ok(None),
            Err(Some(error)) => Err(error),
        }
    }

    async fn range(&self, path: &Path, start: u64, len: u64) -> Result<Bytes> {
        self.part(path, start..start + len).await?.ok_or_else(|| damaged(path, "it is gone"))
    }

    /// Exactly these bytes; none where there is no such object.
    async fn part(&self, path: &Path, range: Range<u64>) -> Result<Option<Bytes>> {
        let options = GetOptions::new().with_range(Some(range.clone()));
        let got = match self.store.get_opts(path, options).await {
            Ok(got) => got.bytes().await,
            Err(error) => Err(error),
        };
        match got {
            Ok(bytes) if bytes.len() as u64 == range.end - range.start => Ok(Some(bytes)),
            Ok(_) => Err(damaged(path, "it ends early")),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.cut_short(path, range.end, error).await),
        }
    }

    /// Tells an object that is shorter than it was from a store that does not answer.
    async fn cut_short(&self, path: &Path, end: u64, error: StoreError) -> Error {
        match self.store.head(path).await {
            Ok(meta) if meta.size < end => damaged(path, "it ends early"),
            _ => failed(error),
        }
    }

    async fn list(&self, prefix: &Path) -> Result<Vec<ObjectMeta>> {
        self.store.list(Some(prefix)).try_collect().await.map_err(failed)
    }

    async fn exists(&self, path: &Path) -> Result<bool> {
        match self.store.head(path).await {
            Ok(_) => Ok(true),
            Err(StoreError::NotFound { .. }) => Ok(false),
            Err(error) => Err(failed(error)),
        }
    }

    async fn get(&self, path: &Path) -> Result<Option<Bytes>> {
        let got = match self.store.get(path).await {
            Ok(got) => got.bytes().await,
            Err(error) => Err(error),
        };
        match got {
            Ok(bytes) => Ok(Some(bytes)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    async fn create(&self, path: &Path, payload: PutPayload) -> Result<bool> {
        match self.store.put_opts(path, payload, PutMode::Create.into()).await {
            Ok(_) => Ok(true),
            Err(StoreError::AlreadyExists { .. }) => Ok(false),
            Err(error) => Err(failed(error)),
        }
    }

    async fn delete(&self, path: &Path) -> Result<()> {
        match self.store.delete(path).await {
            Ok(()) | Err(StoreError::NotFound { .. }) => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }
}

pub(crate) fn ledger_name(number: u64) -> String {
    format!("{number:020}")
}

/// The number of a ledger of this name; of no other spelling of it, which would be looked for in vain.
pub(crate) fn numbered(name: &str) -> Option<u64> {
    let is_ours = name.len() == 20 && name.bytes().all(|byte| byte.is_ascii_digit());
    name.parse().ok().filter(|number| is_ours && *number < u64::MAX / 2)
}

impl Found {
    pub(crate) fn session(&self) -> u64 {
        match self {
            Found::Segment(id, _) => id.session,
            Found::Attached(name, _) => name.number(),
        }
    }
}

pub(crate) fn json(kind: &str, what: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(what).map_err(|e| {
        Error::new(ErrorKind::Unsupported, format!("the {kind} cannot be written as JSON")).caused_by(e)
    })
}

fn parse(meta: &ObjectMeta) -> Option<Found> {
    let name = meta.location.filename()?;
    match name.split_once("-s-") {
        Some((session, batch)) => {
            let id = SegmentId { session: session.parse().ok()?, batch: batch.parse().ok()? };
            Some(Found::Segment(id, meta.size))
        }
        None => Some(Found::Attached(Attached::named(name)?, meta.size)),
    }
}
