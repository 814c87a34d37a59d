//! A container, and what its blobs are shared by.

use crate::blob::{self, Blob};
use crate::rate::Rate;
use crate::settings::{Settings, Who, account, address};
use crate::wire::{Repeat, Wire};
use crate::{Document, Error, Listed, PageBlob, list, sas};
use azure_core::http::Url;
use azure_storage_blob::{BlobContainerClient, BlobContainerClientOptions};
use site_recovery_https::{Secret, Unusable};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Blobs in one page of a list, and pages of a list, at the most: a thousand million blobs.
const PAGE: &str = "5000";
const MOST_PAGES: u32 = 200_000;

/// A container. Cheap to clone; all clones share connections and what may be asked of the service.
#[derive(Clone)]
pub struct Container(Arc<Inner>);

struct Inner {
    url: Url,
    /// For people.
    name: String,
    who: Who,
    wire: Arc<Wire>,
    rate: Rate,
}

impl fmt::Debug for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { url, who, .. } = &*self.0;
        f.debug_struct("Container").field("url", &url.as_str()).field("who", who).finish_non_exhaustive()
    }
}

impl Container {
    /// The container of these settings. Asks nothing yet.
    ///
    /// # Errors
    /// For settings, a signature or a key that break a rule.
    pub fn new(settings: &Settings, who: Who) -> Result<Self, Unusable> {
        let url = address(&settings.container)?;
        let wire = Arc::new(Wire::new(&settings.trust, settings.limits, &who)?);
        let name = format!("container {}", url.path().rsplit('/').next().unwrap_or_default());
        let rate = Rate::new(&settings.limits);
        Ok(Self(Arc::new(Inner { url, name, who, wire, rate })))
    }

    /// Makes it, closed to those whom nobody knows. That it is there is right.
    ///
    /// # Errors
    /// [`Denied`](Error::Denied), [`Busy`](Error::Busy) while one of its name is being removed, and the like.
    pub async fn make(&self) -> Result<(), Error> {
        let Inner { url, name, wire, rate, .. } = &*self.0;
        let options = BlobContainerClientOptions { client_options: wire.options(), ..Default::default() };
        let client = BlobContainerClient::new(url.clone(), None, Some(options));
        let client = client.expect("an address by https is a base");
        match wire.send(name, rate, 0, Repeat::Safely, || client.create(None)).await {
            Ok(_) | Err(Error::Exists(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// All blobs whose names begin so, and their snapshots, by name; each blob after its snapshots, the oldest first.
    ///
    /// # Errors
    /// [`Absent`](Error::Absent) where the container is not there, and the like.
    pub async fn list(&self, prefix: &str) -> Result<Vec<Listed>, Error> {
        let mut all: Vec<Listed> = vec![];
        self.pages_of(prefix, "include", "snapshots,metadata", |page| all.extend(page.blobs)).await?;
        // The service has them so; others that speak its protocol do not.
        all.sort_by(|a, b| {
            let key = |l: &Listed| (l.snapshot.is_none(), l.snapshot.clone());
            a.name.cmp(&b.name).then_with(|| key(a).cmp(&key(b)))
        });
        Ok(all)
    }

    /// What the names that begin so have next, up to and with a slash, in order: `points/` for `points/1` and `points/2`.
    ///
    /// # Errors
    /// As for [`list`](Self::list).
    pub async fn folders(&self, prefix: &str) -> Result<Vec<String>, Error> {
        let mut all: Vec<String> = vec![];
        self.pages_of(prefix, "delimiter", "/", |page| all.extend(page.folders)).await?;
        // One that goes on with the next page is named on both.
        all.dedup();
        Ok(all)
    }

    async fn pages_of(
        &self,
        prefix: &str,
        name: &str,
        value: &str,
        mut take: impl FnMut(list::Page),
    ) -> Result<(), Error> {
        let Inner { wire, rate, .. } = &*self.0;
        let mut marker = None::<String>;
        for _ in 0..MOST_PAGES {
            let mut url = self.0.url.clone();
            let pairs = [("restype", "container"), ("comp", "list"), ("maxresults", PAGE), (name, value)];
            url.query_pairs_mut().extend_pairs(pairs);
            if !prefix.is_empty() {
                url.query_pairs_mut().append_pair("prefix", prefix);
            }
            if let Some(marker) = &marker {
                url.query_pairs_mut().append_pair("marker", marker);
            }
            let call = || wire.get(url.clone(), &[]);
            let answer = wire.send(&self.0.name, rate, 0, Repeat::Safely, call).await?;
            let mut page =
                list::parse(&answer.into_body()).map_err(|what| Error::garbage(&self.0.name, what))?;
            let next = page.next.take();
            take(page);
            if next.is_none() {
                return Ok(());
            }
            if next == marker {
                break;
            }
            marker = next;
        }
        Err(Error::garbage(&self.0.name, "its list of blobs has no end"))
    }

    /// A blob of this name that is replaced as a whole. Asks nothing.
    pub fn document(&self, name: &str) -> Document {
        Document(self.blob(name))
    }

    /// A page blob of this name. Asks nothing.
    pub fn pages(&self, name: &str) -> PageBlob {
        PageBlob(self.blob(name))
    }

    fn blob(&self, name: &str) -> Blob {
        Blob::new(self.0.wire.clone(), name, self.url(name))
    }

    /// Whether who asks has nothing but a signature, which does not reach another blob as the source of a copy.
    pub fn is_by_signature(&self) -> bool {
        matches!(self.0.who, Who::Sas(_))
    }

    /// Where a blob of this name is, without a signature.
    pub fn url(&self, name: &str) -> Url {
        blob::url(&self.0.url, name)
    }

    /// The whole address of one blob, signed so that whoever has it may read it, and nothing else, for so long (a week at the
    /// most). Signed by a key that is lent to [`Who::Signed`], or by [`Who::Key`]'s own.
    ///
    /// # Errors
    /// [`Invalid`](Error::Invalid) for who has only a signature himself, and for a span out of bounds;
    /// [`Denied`](Error::Denied) for who may not have a key lent.
    pub async fn read_sas(&self, name: &str, span: Duration) -> Result<Secret, Error> {
        let Inner { url, name: container, who, wire, rate } = &*self.0;
        let times = sas::Times::of(span)?;
        let account = account(url);
        let path = url.path().trim_matches('/');
        let path = path.rsplit('/').next().unwrap_or_default();
        let what = format!("/blob/{account}/{path}/{name}");
        let query = match who {
            Who::Key { key, .. } => sas::by_key(key, &what, &times)?,
            Who::Signed(_) => {
                let mut service = url.clone();
                let above = url.path().trim_matches('/').split_once('/').map_or("", |(account, _)| account);
                service.set_path(above);
                let lent = sas::lent(wire, container, rate, service, &times).await?;
                sas::by_lent(&lent, &what, &times).map_err(|what| Error::garbage(container, what))?
            }
            Who::Sas(_) => {
                let rule = "one who has only a signature cannot sign";
                return Err(Error::invalid("who", "a signature", rule, "sign in by a token"));
            }
        };
        Ok(Secret::new(format!("{}?{query}", self.url(name))))
    }
}
