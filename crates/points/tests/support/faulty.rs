//! An object store in memory that dies at a chosen operation: before it, or after it took effect.

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, stream};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    Before,
    After,
}

/// Counts the operations that change the store; from the chosen one on, nothing works any more.
#[derive(Debug)]
pub struct Faulty {
    pub inner: Arc<InMemory>,
    at: u64,
    death: Death,
    done: Arc<AtomicU64>,
}

impl std::fmt::Display for Faulty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Faulty")
    }
}

impl Faulty {
    pub fn new(inner: Arc<InMemory>, at: u64, death: Death) -> Self {
        Self { inner, at, death, done: Arc::default() }
    }

    pub fn died(&self) -> bool {
        self.done.load(SeqCst) > self.at
    }

    fn dead(&self) -> Result<()> {
        if self.died() { Err(killed()) } else { Ok(()) }
    }
}

fn killed() -> Error {
    Error::Generic { store: "Faulty", source: "killed".into() }
}

/// Whether this operation takes effect, and whether its caller hears of it.
fn step(done: &AtomicU64, at: u64, death: Death) -> (bool, bool) {
    let number = done.fetch_add(1, SeqCst);
    (number < at || number == at && death == Death::After, number < at)
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let (acts, answers) = step(&self.done, self.at, self.death);
        let result = if acts { self.inner.put_opts(location, payload, opts).await } else { Err(killed()) };
        if answers { result } else { Err(killed()) }
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(Error::NotImplemented { operation: "multipart".into(), implementer: "Faulty".into() })
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.dead()?;
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let (inner, done, at, death) = (Arc::clone(&self.inner), Arc::clone(&self.done), self.at, self.death);
        locations
            .then(move |location| {
                let (inner, done) = (Arc::clone(&inner), Arc::clone(&done));
                async move {
                    let location = location?;
                    let (acts, answers) = step(&done, at, death);
                    let result = if acts { inner.delete(&location).await } else { Err(killed()) };
                    if answers { result.map(|()| location) } else { Err(killed()) }
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.dead() {
            Ok(()) => self.inner.list(prefix),
            Err(error) => stream::once(async { Err(error) }).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.dead()?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(Error::NotImplemented { operation: "copy".into(), implementer: "Faulty".into() })
    }
}
