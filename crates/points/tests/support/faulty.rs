//! An object store in memory that fails at a chosen operation, before it or after it took effect: for ever, or once.

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, stream};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Death {
    Before,
    After,
}

/// One that dies counts the operations that change the store; from the chosen one on, nothing works any more. One that
/// stumbles counts every operation, and only the chosen one fails.
#[derive(Debug)]
pub(crate) struct Faulty {
    inner: Arc<InMemory>,
    at: u64,
    death: Death,
    once: bool,
    done: Arc<AtomicU64>,
}

impl std::fmt::Display for Faulty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Faulty")
    }
}

impl Faulty {
    pub(crate) fn new(inner: Arc<InMemory>, at: u64, death: Death) -> Self {
        Self { inner, at, death, once: false, done: Arc::default() }
    }

    pub(crate) fn stumbling(inner: Arc<InMemory>, at: u64, death: Death) -> Self {
        Self { once: true, ..Self::new(inner, at, death) }
    }

    /// One that never fails.
    pub(crate) fn sound(inner: Arc<InMemory>) -> Self {
        Self::new(inner, u64::MAX, Death::Before)
    }

    pub(crate) fn died(&self) -> bool {
        self.done.load(SeqCst) > self.at
    }

    fn read(&self) -> Result<()> {
        let answers = if self.once { self.step().answers } else { !self.died() };
        if answers { Ok(()) } else { Err(killed()) }
    }

    /// Whether the next operation takes effect, and whether its caller hears of it.
    fn step(&self) -> Step {
        let number = self.done.fetch_add(1, SeqCst);
        let answers = number < self.at || self.once && number > self.at;
        Step { answers, acts: answers || number == self.at && self.death == Death::After }
    }

    fn share(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), done: Arc::clone(&self.done), ..*self }
    }
}

struct Step {
    acts: bool,
    answers: bool,
}

fn killed() -> Error {
    Error::Generic { store: "Faulty", source: "killed".into() }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        if location.as_ref().contains("-s-") {
            // Whoever polls once has not landed anything.
            tokio::task::yield_now().await;
        }
        let Step { acts, answers } = self.step();
        let result = if acts { self.inner.put_opts(location, payload, opts).await } else { Err(killed()) };
        if answers { result } else { Err(killed()) }
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(Error::NotImplemented { operation: "multipart".into(), implementer: "Faulty".into() })
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.read()?;
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = Arc::new(self.share());
        locations
            .then(move |location| {
                let store = Arc::clone(&store);
                async move {
                    let location = location?;
                    let Step { acts, answers } = store.step();
                    let result = if acts { store.inner.delete(&location).await } else { Err(killed()) };
                    if answers { result.map(|()| location) } else { Err(killed()) }
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.read() {
            Ok(()) => self.inner.list(prefix),
            Err(error) => stream::once(async { Err(error) }).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.read()?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(Error::NotImplemented { operation: "copy".into(), implementer: "Faulty".into() })
    }
}
