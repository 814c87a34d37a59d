//! One machine's objects, by name, and what the store says in our words.

use crate::extent_map::ExtentMap;
use crate::segment::{self, Entry, SegmentId};
use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::path::Path;
use object_store::{Error as StoreError, GetOptions, ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use serde::{Deserialize, Serialize};
use site_recovery::{Error, ErrorKind, Result};
use site_recovery_record::{checksum, hash};
use std::sync::Arc;

/// Names an immutable object that the ledger refers to: the number of the ledger that brought it, what it is, and the
/// digest and length of its bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Attached(String);

impl Attached {
    fn new(number: u64, kind: &str, bytes: &[u8]) -> Self {
        Self(format!("{number:020}-{kind}-{:032x}-{}", hash(bytes), bytes.len()))
    }

    fn describes(&self, bytes: &[u8]) -> bool {
        self.0.ends_with(&format!("-{:032x}-{}", hash(bytes), bytes.len()))
    }

    /// The ledger that brought it.
    pub(crate) fn number(&self) -> Option<u64> {
        self.0.split('-').next()?.parse().ok()
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Folder {
    store: Arc<dyn ObjectStore>,
    root: Path,
}

impl Folder {
    pub(crate) fn new(store: Arc<dyn ObjectStore>, root: Path) -> Self {
        Self { store, root }
    }

    fn ledgers(&self) -> Path {
        self.root.clone().join("ledger")
    }

    fn ledger(&self, number: u64) -> Path {
        self.ledgers().join(format!("{number:020}"))
    }

    fn attached(&self, name: &Attached) -> Path {
        self.root.clone().join("attached").join(name.0.as_str())
    }

    fn session(&self, session: u64) -> Path {
        self.root.clone().join("segments").join(format!("{session:020}"))
    }

    fn segment(&self, id: SegmentId) -> Path {
        self.session(id.session).join(format!("{:020}", id.batch))
    }

    /// Numbers of the ledgers there are.
    pub(crate) async fn list_ledgers(&self) -> Result<Vec<u64>> {
        let names = self.list(&self.ledgers()).await?;
        Ok(names.iter().filter_map(|path| path.filename()?.parse().ok()).collect())
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

    pub(crate) async fn attach(&self, number: u64, kind: &str, bytes: Vec<u8>) -> Result<Attached> {
        let name = Attached::new(number, kind, &bytes);
        self.store.put(&self.attached(&name), bytes.into()).await.map_err(failed)?;
        Ok(name)
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

    pub(crate) async fn get_json<T: serde::de::DeserializeOwned>(&self, name: &Attached) -> Result<T> {
        let bytes = self.get_attached(name).await?;
        serde_json::from_slice(&bytes)
            .map_err(|e| damaged(&self.attached(name), "it does not parse").caused_by(e))
    }

    pub(crate) async fn get_map(&self, name: &Attached) -> Result<ExtentMap> {
        let bytes = self.get_attached(name).await?;
        ExtentMap::decode(&bytes).ok_or_else(|| damaged(&self.attached(name), "it is no extent map"))
    }

    pub(crate) async fn list_attached(&self) -> Result<Vec<Attached>> {
        let names = self.list(&self.root.clone().join("attached")).await?;
        Ok(names.iter().filter_map(|path| Some(Attached(path.filename()?.to_owned()))).collect())
    }

    pub(crate) async fn delete_attached(&self, name: &Attached) -> Result<()> {
        self.delete(&self.attached(name)).await
    }

    /// Batches of one session, or of all.
    pub(crate) async fn list_segments(&self, session: Option<u64>) -> Result<Vec<SegmentId>> {
        let prefix = session.map_or_else(|| self.root.clone().join("segments"), |s| self.session(s));
        let names = self.list(&prefix).await?;
        let parse = |path: &Path| {
            let mut parts = path.as_ref().rsplit('/');
            let batch = parts.next()?.parse().ok()?;
            Some(SegmentId { session: parts.next()?.parse().ok()?, batch })
        };
        let mut found: Vec<SegmentId> = names.iter().filter_map(parse).collect();
        found.sort_unstable();
        Ok(found)
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
        if checksum(&index) != sum {
            return Err(damaged(&path, "its index does not match its checksum"));
        }
        segment::decode_index(&index).ok_or_else(|| damaged(&path, "its index does not parse"))
    }

    /// Frames of one segment, by offset and length.
    pub(crate) async fn get_frames(&self, id: SegmentId, frames: &[(u64, u32)]) -> Result<Vec<Bytes>> {
        let path = self.segment(id);
        let ranges: Vec<_> = frames.iter().map(|(at, len)| *at..at + u64::from(*len)).collect();
        match self.store.get_ranges(&path, &ranges).await {
            Ok(bytes) => Ok(bytes),
            Err(StoreError::NotFound { .. }) => Err(damaged(&path, "it is gone")),
            Err(error) => Err(self.cut_short(&path, ranges.iter().map(|r| r.end).max(), error).await),
        }
    }

    pub(crate) async fn delete_segment(&self, id: SegmentId) -> Result<()> {
        self.delete(&self.segment(id)).await
    }

    async fn range(&self, path: &Path, start: u64, len: u64) -> Result<Bytes> {
        let options = GetOptions::new().with_range(Some(start..start + len));
        let got = match self.store.get_opts(path, options).await {
            Ok(got) => got.bytes().await,
            Err(error) => Err(error),
        };
        match got {
            Ok(bytes) if bytes.len() as u64 == len => Ok(bytes),
            Ok(_) => Err(damaged(path, "it ends early")),
            Err(StoreError::NotFound { .. }) => Err(damaged(path, "it is gone")),
            Err(error) => Err(self.cut_short(path, Some(start + len), error).await),
        }
    }

    /// Tells an object that is shorter than it was from a store that does not answer.
    async fn cut_short(&self, path: &Path, end: Option<u64>, error: StoreError) -> Error {
        match self.store.head(path).await {
            Ok(meta) if end.is_some_and(|end| meta.size < end) => damaged(path, "it ends early"),
            _ => failed(error),
        }
    }

    async fn list(&self, prefix: &Path) -> Result<Vec<Path>> {
        self.store.list(Some(prefix)).map_ok(|meta| meta.location).try_collect().await.map_err(failed)
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

/// An object that is not what was written.
pub(crate) fn damaged(path: &Path, why: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("{path} is damaged: {why}")).with("object", path)
}

/// What a store's error means to a caller.
pub(crate) fn failed(error: StoreError) -> Error {
    let kind = match &error {
        StoreError::NotFound { .. } => ErrorKind::NotFound,
        StoreError::AlreadyExists { .. } | StoreError::Precondition { .. } => ErrorKind::Conflict,
        StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. } => ErrorKind::Denied,
        StoreError::NotSupported { .. } | StoreError::NotImplemented { .. } => ErrorKind::Unsupported,
        error if is_full(error) => ErrorKind::OutOfSpace,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, "the object store refused").caused_by(error)
}

fn is_full(error: &(dyn std::error::Error + 'static)) -> bool {
    let full = [std::io::ErrorKind::StorageFull, std::io::ErrorKind::QuotaExceeded];
    error.downcast_ref::<std::io::Error>().is_some_and(|e| full.contains(&e.kind()))
        || error.source().is_some_and(is_full)
}
