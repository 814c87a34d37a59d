//! An object store in memory that keeps what it has, as one with a retention policy does: until it is opened, nothing is
//! deleted and nothing written over.

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::*;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

#[derive(Debug, Clone, Default)]
pub(crate) struct Worm {
    pub(crate) inner: Arc<InMemory>,
    expired: Arc<AtomicBool>,
    stumbles: Arc<AtomicBool>,
    held: Arc<Mutex<BTreeSet<Path>>>,
}

impl std::fmt::Display for Worm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Worm")
    }
}

impl Worm {
    /// The time is over for which everything is kept; these are held for ever.
    pub(crate) fn expire_but(&self, held: impl IntoIterator<Item = Path>) {
        *self.held.lock().expect("no panic under this lock") = held.into_iter().collect();
        self.expired.store(true, SeqCst);
    }

    /// The next ledger is not created.
    pub(crate) fn stumble(&self) {
        self.stumbles.store(true, SeqCst);
    }

    fn is_held(&self, location: &Path) -> bool {
        self.held.lock().expect("no panic under this lock").contains(location)
    }

    async fn permit(&self, location: &Path) -> Result<()> {
        match self.inner.head(location).await {
            Err(Error::NotFound { .. }) => Ok(()),
            Ok(_) if self.expired.load(SeqCst) && !self.is_held(location) => Ok(()),
            Ok(_) => Err(Error::PermissionDenied {
                path: location.to_string(),
                source: "it is kept by the store's retention policy".into(),
            }),
            Err(error) => Err(error),
        }
    }
}

#[async_trait]
impl ObjectStore for Worm {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        if location.as_ref().contains("/ledger/") && self.stumbles.swap(false, SeqCst) {
            return Err(Error::Generic { store: "Worm", source: "it stumbled".into() });
        }
        if !matches!(opts.mode, PutMode::Create) {
            self.permit(location).await?;
        }
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(Error::NotImplemented { operation: "multipart".into(), implementer: "Worm".into() })
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let delete = move |location: Path| {
            let store = store.clone();
            async move {
                store.permit(&location).await?;
                store.inner.delete(&location).await.map(|()| location)
            }
        };
        locations.and_then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(Error::NotImplemented { operation: "copy".into(), implementer: "Worm".into() })
    }
}
