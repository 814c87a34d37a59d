//! The fake as a test holds it.

use crate::call::Place;
use crate::config::Config;
use crate::exports::{self, Access};
use crate::faults::Faults;
use crate::image::Image;
use crate::log::{Entry, Log};
use crate::serve::{self, Service};
use crate::tickets::{Grant, token};
use crate::world::{Blob, Content, Sunk, Version, World, random};
use crate::{clock, tls};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use url::Url;

/// Azure Blob Storage on a free port of 127.0.0.1, with threads of its own. It stops when it is dropped.
pub struct Fake {
    service: Service,
    authority: String,
    pem: String,
    tenant: String,
    runtime: Option<Runtime>,
}

impl std::fmt::Debug for Fake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fake").field("authority", &self.authority).finish_non_exhaustive()
    }
}

/// A blob, or a snapshot of it, as it is.
#[derive(Clone, Debug)]
pub struct Held {
    /// The bytes of a block blob; `None` of a page blob.
    pub bytes: Option<Bytes>,
    /// The pages of a page blob.
    pub image: Option<Image>,
    /// Of a page blob.
    pub sequence_number: Option<u64>,
    /// Without `x-ms-meta-`.
    pub metadata: BTreeMap<String, String>,
    /// With its quotes.
    pub etag: String,
}

impl Fake {
    /// # Panics
    /// When this host gives no port or no thread.
    #[must_use]
    pub fn start(config: Config) -> Self {
        let runtime =
            Builder::new_multi_thread().worker_threads(2).enable_all().thread_name("fake-blob").build();
        let runtime = runtime.expect("threads");
        let (acceptor, pem) = tls::acceptor().expect("a certificate");
        // Not by the runtime: the caller may be inside of another one.
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        listener.set_nonblocking(true).expect("a socket that does not block");
        let authority = listener.local_addr().expect("an address").to_string();
        let tenant = config.tenant.clone();
        let world = World::new(config, authority.clone());
        let service =
            Service { world: Arc::new(Mutex::new(world)), faults: Faults::default(), log: Log::default() };
        let own = service.clone();
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).expect("a socket");
            serve::listen(listener, acceptor, own).await;
        });
        Self { service, authority, pem, tenant, runtime: Some(runtime) }
    }

    /// `https://127.0.0.1:port`. An account's endpoint is this with its name as the first part of the path.
    #[must_use]
    pub fn endpoint(&self) -> Url {
        Url::parse(&format!("https://{}", self.authority)).expect("an address is a URL")
    }

    /// The certificate of the authority that signed the fake's own.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.pem
    }

    /// A bearer token that the fake takes for so long, another one each time.
    #[must_use]
    pub fn token(&self, valid: Duration) -> String {
        token(&self.tenant, self.world().now(), valid)
    }

    /// From now on the fake takes no token that it has seen before.
    pub fn expire_tokens(&self) {
        self.world().tickets.expire_seen();
    }

    /// Moves the fake's clock on: leases, tokens and signatures end by it.
    pub fn pass(&self, time: Duration) {
        self.world().skew += time;
    }

    /// The query of a signature for a blob, or for all of a container. `permissions` are Azure's letters, `rwdl`, say.
    #[must_use]
    pub fn sas(
        &self,
        account: &str,
        container: &str,
        blob: Option<&str>,
        permissions: &str,
        valid: Duration,
    ) -> String {
        let mut world = self.world();
        let expires = clock::seconds(world.now() + valid);
        let resource = if blob.is_some() { "b" } else { "c" };
        let pairs =
            [("sv", "2022-11-02"), ("sr", resource), ("sp", permissions), ("se", &expires), ("spr", "https")];
        let grant = Grant {
            account: account.to_owned(),
            container: container.to_owned(),
            blob: blob.map(str::to_owned),
            query: pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        };
        let signature = random();
        world.tickets.granted.insert(signature.clone(), grant);
        let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
        format!("{query}&sig={signature}")
    }

    /// What goes wrong.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.service.faults
    }

    /// What ended so far, in order.
    #[must_use]
    pub fn log(&self) -> Vec<Entry> {
        self.service.log.all()
    }

    /// Forgets what ended.
    pub fn clear_log(&self) {
        self.service.log.clear();
    }

    /// Copies that start from now on stay pending for so many polls (HEAD or GET of the copy). They start with none.
    pub fn copies_take(&self, polls: usize) {
        self.world().copy_polls = polls;
    }

    /// So many of the next copies fail when their polls are over.
    pub fn copies_fail(&self, copies: usize) {
        self.world().copy_failures = copies;
    }

    /// Serves a disk as Azure does after `beginGetAccess`: the disk and the footer of a fixed VHD behind it, 512 bytes more.
    /// The URL has its signature in it. An export of the same name, and its URL, are gone.
    ///
    /// # Panics
    /// When the disk is not whole mebibytes.
    pub fn export(&self, name: &str, disk: &Image, access: Access) -> Url {
        exports::export(&mut self.world(), name, disk.with_footer(), access)
    }

    /// Serves a disk that is to be uploaded: nothing is written yet, not even the footer. `size` is that of the disk.
    pub fn export_upload(&self, name: &str, size: u64, valid: Duration) -> Url {
        let access = Access::write().valid_for(valid);
        exports::export(&mut self.world(), name, Image::new(size + 512), access)
    }

    /// The URL is refused from now on. The bytes stay.
    pub fn revoke(&self, name: &str) {
        self.world()
            .exports
            .values_mut()
            .filter(|export| export.name == name)
            .for_each(exports::Export::revoke);
    }

    /// What an export holds now, the footer with it.
    #[must_use]
    pub fn exported(&self, name: &str) -> Option<Image> {
        let world = self.world();
        let export = world.exports.values().find(|export| export.name == name)?;
        export.blob.live.image().ok().cloned()
    }

    /// A blob. A path without its account's container or blob is `None`.
    #[must_use]
    pub fn blob(&self, account: &str, container: &str, blob: &str) -> Option<Held> {
        self.look(account, container, blob, |blob| held(&blob.live))
    }

    /// The snapshots of a blob, oldest first.
    #[must_use]
    pub fn snapshots(&self, account: &str, container: &str, blob: &str) -> Vec<(String, Held)> {
        let all =
            |blob: &Blob| blob.snapshots.iter().map(|(at, version)| (at.clone(), held(version))).collect();
        self.look(account, container, blob, all).unwrap_or_default()
    }

    /// The page writes that a sink took, in order.
    #[must_use]
    pub fn sunk(&self, account: &str, container: &str, blob: &str) -> Vec<Sunk> {
        self.look(account, container, blob, |blob| blob.sunk.clone()).unwrap_or_default()
    }

    /// The names of a container's blobs; empty where there is none.
    #[must_use]
    pub fn blobs(&self, account: &str, container: &str) -> Vec<String> {
        let world = self.world();
        let container = world.vaults.get(account).and_then(|vault| vault.containers.get(container));
        container.map(|container| container.blobs.keys().cloned().collect()).unwrap_or_default()
    }

    /// The pages that a URL of this fake names, with its `snapshot` if it has one; signatures are not asked for.
    #[must_use]
    pub fn image_at(&self, url: &Url) -> Option<Image> {
        if url.authority() != self.authority {
            return None;
        }
        self.world().version(&Place::of(url)).ok()?.image().ok().cloned()
    }

    /// Puts a page blob without a request. `false` where there is no such container.
    pub fn put_image(&self, account: &str, container: &str, blob: &str, image: Image) -> bool {
        let mut world = self.world();
        let stamp = world.stamp();
        let Some(vault) = world.vaults.get_mut(account) else { return false };
        let Some(container) = vault.containers.get_mut(container) else { return false };
        let generation = stamp.at.unix_timestamp_nanos() as u64;
        let version = Version::new(Content::Pages { image, sequence: 0 }, stamp, generation);
        container.blobs.insert(blob.to_owned(), Blob::new(version));
        true
    }

    fn look<T>(
        &self,
        account: &str,
        container: &str,
        blob: &str,
        read: impl FnOnce(&Blob) -> T,
    ) -> Option<T> {
        let world = self.world();
        world.vaults.get(account)?.containers.get(container)?.blobs.get(blob).map(read)
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.service.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn held(version: &Version) -> Held {
    let (bytes, image, sequence_number) = match &version.content {
        Content::Block(bytes) => (Some(bytes.clone()), None, None),
        Content::Pages { image, sequence } => (None, Some(image.clone()), Some(*sequence)),
    };
    let (metadata, etag) = (version.metadata.clone(), version.stamp.etag.clone());
    Held { bytes, image, sequence_number, metadata, etag }
}
