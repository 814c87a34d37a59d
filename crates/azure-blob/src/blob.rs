//! One blob of a container: where it is, and what all kinds have in common.

use crate::rate::Rate;
use crate::wire::{Repeat, Wire};
use crate::{Error, SnapshotId};
use azure_core::http::Url;
use azure_storage_blob::models::{BlobClientDeleteOptions, DeleteSnapshotsOptionType};
use azure_storage_blob::{BlobClient, BlobClientOptions};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::fmt;
use std::future::Future;
use std::sync::Arc;

/// What stands in an address as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

#[derive(Clone)]
pub(crate) struct Blob {
    pub(crate) wire: Arc<Wire>,
    pub(crate) name: String,
    pub(crate) url: Url,
    pub(crate) client: Arc<BlobClient>,
    pub(crate) rate: Arc<Rate>,
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blob").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The address of a blob of this container.
pub(crate) fn url(container: &Url, name: &str) -> Url {
    let mut url = container.clone();
    let path = format!("{}/{}", container.path().trim_end_matches('/'), utf8_percent_encode(name, PLAIN));
    url.set_path(&path);
    url
}

/// Refuses names that the service, or an address, would make others of.
fn check(name: &str) -> Result<(), Error> {
    let right = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.ends_with('.');
    if name.len() <= 1024
        && name.split('/').all(right)
        && !name.contains(|c: char| c.is_control() || c == '\\')
    {
        return Ok(());
    }
    let rule = "a name has at most 1024 bytes, in parts that are not empty and end with no dot";
    Err(Error::invalid("name", format!("{name:?}"), rule, "choose another name"))
}

impl Blob {
    pub(crate) fn new(wire: Arc<Wire>, name: &str, url: Url) -> Self {
        let options = BlobClientOptions { client_options: wire.options(), ..Default::default() };
        let client =
            BlobClient::new(url.clone(), None, Some(options)).expect("an address by https is a base");
        let rate = wire.rate(name);
        Self { wire, name: name.to_owned(), url, client: Arc::new(client), rate }
    }

    /// Sends what `call` sends, once or until it is done.
    pub(crate) async fn send<T, F: Future<Output = azure_core::Result<T>>>(
        &self,
        bytes: u64,
        repeat: Repeat,
        call: impl Fn() -> F,
    ) -> Result<T, Error> {
        check(&self.name)?;
        self.wire.send(&self.name, &self.rate, bytes, repeat, call).await
    }

    /// Its address, or that of a snapshot.
    pub(crate) fn at(&self, snapshot: Option<&SnapshotId>) -> Url {
        let mut url = self.url.clone();
        if let Some(snapshot) = snapshot {
            url.query_pairs_mut().append_pair("snapshot", snapshot.as_str());
        }
        url
    }

    pub(crate) async fn delete(&self, at: Option<&SnapshotId>, all: bool) -> Result<(), Error> {
        let call = || async {
            let options = BlobClientDeleteOptions {
                snapshot: at.map(|at| at.as_str().to_owned()),
                delete_snapshots: all.then_some(DeleteSnapshotsOptionType::Include),
                ..Default::default()
            };
            self.client.delete(Some(options)).await
        };
        match self.send(0, Repeat::Safely, call).await {
            Ok(_) | Err(Error::Absent(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
