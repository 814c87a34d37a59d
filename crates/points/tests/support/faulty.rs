//! An object store in memory that fails at a chosen operation, before it or after it took effect: for ever, or once.

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::*;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Death {
    Before,
    After,
}

/// How an operation fails. One that a fault does not speak of goes well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// No answer, or one like "500 Internal Server Error".
    Silent(Death),
    /// There is no room for what is put.
    Full,
    /// The answer to a create got lost, and the client's repeat found it done: it is there already.
    Exists,
    /// The same, in the words of another store.
    Precondition,
    /// What is read ends early, as if it were whole.
    Short,
    /// A listing misses what was put last.
    Stale,
}

/// One that dies counts the operations that change the store; from the chosen one on, nothing works any more. One that
/// stumbles counts every operation, and only the chosen one fails.
#[derive(Debug, Clone)]
pub(crate) struct Faulty {
    inner: Arc<InMemory>,
    at: u64,
    fault: Fault,
    once: bool,
    /// Reads are counted, too.
    every: bool,
    /// How often whoever asks is told to come again.
    slow: u64,
    done: Arc<AtomicU64>,
    /// What was put, in order.
    put: Arc<Mutex<Vec<Path>>>,
}

impl std::fmt::Display for Faulty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Faulty")
    }
}

/// The operation fails.
struct Hit {
    first: bool,
}

impl Faulty {
    pub(crate) fn new(inner: Arc<InMemory>, at: u64, death: Death) -> Self {
        let (once, every, slow) = (false, false, 0);
        let (done, put) = (Arc::default(), Arc::default());
        Self { inner, at, fault: Fault::Silent(death), once, every, slow, done, put }
    }

    pub(crate) fn stumbling(inner: Arc<InMemory>, at: u64, death: Death) -> Self {
        Self { once: true, every: true, ..Self::new(inner, at, death) }
    }

    /// One that is slow, too, and counts every operation.
    pub(crate) fn hostile(inner: Arc<InMemory>, at: u64, fault: Fault, once: bool) -> Self {
        Self { fault, once, every: true, slow: 1 + at % 5, ..Self::new(inner, at, Death::Before) }
    }

    /// One that never fails.
    pub(crate) fn sound(inner: Arc<InMemory>) -> Self {
        Self::new(inner, u64::MAX, Death::Before)
    }

    pub(crate) fn died(&self) -> bool {
        self.done.load(SeqCst) > self.at
    }

    fn changes(&self) -> Option<Hit> {
        let number = self.done.fetch_add(1, SeqCst);
        let hit = if self.once { number == self.at } else { number >= self.at };
        hit.then_some(Hit { first: number == self.at })
    }

    fn reads(&self) -> Option<Hit> {
        if self.every { self.changes() } else { self.died().then_some(Hit { first: false }) }
    }

    async fn pause(&self) {
        for _ in 0..self.slow {
            tokio::task::yield_now().await;
        }
    }

    async fn really_put(&self, at: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let result = self.inner.put_opts(at, payload, opts).await?;
        self.put.lock().expect("no panic").push(at.clone());
        Ok(result)
    }

    /// Whether a listing of `prefix` misses this.
    fn last_put(&self, prefix: Option<&Path>) -> Option<Path> {
        let put = self.put.lock().expect("no panic");
        put.iter().rev().find(|path| prefix.is_none_or(|prefix| path.prefix_matches(prefix))).cloned()
    }
}

fn killed() -> Error {
    Error::Generic { store: "Faulty", source: "killed".into() }
}

fn full() -> Error {
    let source = std::io::Error::from(std::io::ErrorKind::StorageFull);
    Error::Generic { store: "Faulty", source: Box::new(source) }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        if location.as_ref().contains("-s-") {
            // Whoever polls once has not landed anything.
            tokio::task::yield_now().await;
        }
        self.pause().await;
        let Some(Hit { first }) = self.changes() else {
            return self.really_put(location, payload, opts).await;
        };
        let creates = matches!(opts.mode, PutMode::Create);
        let (path, source) = (location.to_string(), "it was sent again".into());
        match self.fault {
            Fault::Silent(death) => {
                if first && death == Death::After {
                    self.really_put(location, payload, opts).await?;
                }
                Err(killed())
            }
            Fault::Full => Err(full()),
            Fault::Exists if creates => {
                self.really_put(location, payload, opts).await?;
                Err(Error::AlreadyExists { path, source })
            }
            Fault::Precondition if creates => {
                self.really_put(location, payload, opts).await?;
                Err(Error::Precondition { path, source })
            }
            _ => self.really_put(location, payload, opts).await,
        }
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(Error::NotImplemented { operation: "multipart".into(), implementer: "Faulty".into() })
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.pause().await;
        let hit = self.reads().is_some();
        if hit && matches!(self.fault, Fault::Silent(_)) {
            return Err(killed());
        }
        let got = self.inner.get_opts(location, options).await?;
        if !hit || self.fault != Fault::Short {
            return Ok(got);
        }
        let (meta, range, attributes) = (got.meta.clone(), got.range.clone(), got.attributes.clone());
        let whole = got.bytes().await?;
        let short = whole.slice(..whole.len() / 2);
        let payload = GetResultPayload::Stream(stream::iter([Ok(short)]).boxed());
        Ok(GetResult { payload, meta, range, attributes, extensions: Default::default() })
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        locations
            .then(move |location| {
                let store = store.clone();
                async move {
                    let location = location?;
                    store.pause().await;
                    if let (Some(Hit { first }), Fault::Silent(death)) = (store.changes(), store.fault) {
                        if first && death == Death::After {
                            store.inner.delete(&location).await?;
                        }
                        return Err(killed());
                    }
                    store.inner.delete(&location).await.map(|()| location)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match (self.reads(), self.fault) {
            (Some(_), Fault::Silent(_)) => stream::once(async { Err(killed()) }).boxed(),
            (Some(_), Fault::Stale) => {
                let missed = self.last_put(prefix);
                let seen = move |meta: &ObjectMeta| Some(&meta.location) != missed.as_ref();
                self.inner.list(prefix).try_filter(move |meta| std::future::ready(seen(meta))).boxed()
            }
            _ => self.inner.list(prefix),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.pause().await;
        match (self.reads(), self.fault) {
            (Some(_), Fault::Silent(_)) => Err(killed()),
            _ => self.inner.list_with_delimiter(prefix).await,
        }
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(Error::NotImplemented { operation: "copy".into(), implementer: "Faulty".into() })
    }
}
