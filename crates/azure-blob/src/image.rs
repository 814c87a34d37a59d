//! The bytes of a managed disk or snapshot.

use crate::blob::Blob;
use crate::page_blob::{clear, listed, write};
use crate::properties::Properties;
use crate::read::read;
use crate::settings::{Limits, Who};
use crate::wire::{Repeat, Wire};
use crate::{Change, Error};
use azure_core::http::Url;
use bytes::Bytes;
use site_recovery::Run;
use site_recovery_https::{Secret, Trust, Unusable};
use std::sync::Arc;

/// A managed disk or snapshot, as Resource Manager gives it out: behind an address that it has signed. The last 512 bytes are the
/// footer of its format, not its content.
#[derive(Debug, Clone)]
pub struct Image(Blob);

impl Image {
    /// The one at this signed address. Asks nothing yet.
    ///
    /// # Errors
    /// For what is no signed address, and limits that break a rule.
    pub fn new(sas: &Secret, trust: &Trust, limits: Limits) -> Result<Self, Unusable> {
        let unusable = || {
            let rule = "it is an address by https with what was signed behind its question mark";
            Unusable::new("sas", "another one", rule, "begin access to the disk again")
        };
        let mut url = Url::parse(sas.expose()).map_err(|_| unusable())?;
        let query = url.query().filter(|query| !query.is_empty()).ok_or_else(unusable)?;
        let who = Who::Sas(Secret::new(query.to_owned()));
        if url.scheme() != "https" || url.host_str().is_none() || !url.username().is_empty() {
            return Err(unusable());
        }
        url.set_query(None);
        url.set_fragment(None);
        let name =
            url.path().rsplit('/').next().filter(|name| !name.is_empty()).ok_or_else(unusable)?.to_owned();
        let wire = Arc::new(Wire::new(trust, limits, &who)?);
        Ok(Self(Blob::new(wire, &name, url)))
    }

    /// Its size in bytes, with the footer.
    ///
    /// # Errors
    /// [`Absent`](Error::Absent), [`Denied`](Error::Denied) once the access has ended, and the like.
    pub async fn size(&self) -> Result<u64, Error> {
        let blob = &self.0;
        let answer = blob.send(0, Repeat::Safely, || blob.client.get_properties(None)).await?;
        Ok(Properties::of(&blob.name, answer.headers())?.size)
    }

    /// Where within this run bytes have been written, in order; all else reads as zeros.
    ///
    /// # Errors
    /// As for [`size`](Self::size).
    pub async fn ranges(&self, run: Run) -> Result<Vec<Run>, Error> {
        let ranges = listed(&self.0, self.0.url.clone(), Some(run), &[]).await?;
        let data = ranges.into_iter().filter(|(_, change)| *change == Change::Written);
        Ok(data.map(|(run, _)| run).collect())
    }

    /// Reads a run, as [`PageBlob::read`](crate::PageBlob::read).
    ///
    /// # Errors
    /// As for [`size`](Self::size); [`Invalid`](Error::Invalid) where `into` is not as long as the run.
    pub async fn read(&self, run: Run, into: &mut [u8]) -> Result<(), Error> {
        read(&self.0, self.0.url.clone(), run, into).await
    }

    /// What has changed since an earlier snapshot of the same disk, given by its signed address, in order. What is not named is
    /// the same.
    ///
    /// # Errors
    /// As for [`size`](Self::size); [`Refused`](Error::Refused) for a snapshot of another disk, or one before the disk was
    /// resized.
    pub async fn changed(&self, previous: &Secret) -> Result<Vec<(Run, Change)>, Error> {
        if previous.expose().contains(|c: char| !c.is_ascii_graphic()) {
            return Err(Error::invalid(
                "previous",
                "another one",
                "it is a signed address",
                "begin access again",
            ));
        }
        let header = [("x-ms-previous-snapshot-url", previous.expose().to_owned())];
        listed(&self.0, self.0.url.clone(), None, &header).await
    }

    /// Writes into a disk that is being uploaded, as [`PageBlob::write`](crate::PageBlob::write) without fencing.
    ///
    /// # Errors
    /// As for [`size`](Self::size); [`Invalid`](Error::Invalid) for what is not of whole pages, or above
    /// [`LARGEST_WRITE`](crate::LARGEST_WRITE).
    pub async fn write(&self, at: u64, bytes: Bytes) -> Result<(), Error> {
        write(&self.0, at, bytes, None).await
    }

    /// Makes these bytes zeros in a disk that is being uploaded.
    ///
    /// # Errors
    /// As for [`write`](Self::write).
    pub async fn clear(&self, run: Run) -> Result<(), Error> {
        clear(&self.0, run, None).await
    }
}
