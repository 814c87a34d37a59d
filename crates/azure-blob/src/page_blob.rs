//! Disks, written in place.

use crate::blob::Blob;
use crate::document::exists;
use crate::properties::{checked, etag};
use crate::ranges::{Change, append, parse};
use crate::read::read;
use crate::wire::Repeat;
use crate::{Error, Etag, Properties, SnapshotId};
use azure_core::http::Url;
use azure_storage_blob::models::{
    BlobClientCreateSnapshotOptions, BlobClientStartCopyFromUrlOptions, HttpRange,
    PageBlobClientClearPagesOptions, PageBlobClientCreateOptions, PageBlobClientResizeOptions,
    PageBlobClientSetSequenceNumberOptions, PageBlobClientUploadPagesOptions, SequenceNumberActionType,
};
use bytes::Bytes;
use site_recovery::Run;
use site_recovery_https::Secret;
use std::collections::BTreeMap;

/// What is written is aligned to so many bytes.
pub const PAGE: u64 = 512;
/// The most bytes of one [`write`](PageBlob::write).
pub const LARGEST_WRITE: usize = 4 << 20;
/// The largest page blob.
const LARGEST: u64 = 8 << 40;
/// More pages of a list than the largest blob could have.
const MOST_LISTS: u32 = 1 << 21;

/// A page blob. What it has not been written to reads as zeros.
///
/// Writers are fenced by its sequence number: each write names the one that it was begun under, and is refused once another
/// writer has [raised](PageBlob::raise_sequence) it.
#[derive(Debug, Clone)]
pub struct PageBlob(pub(crate) Blob);

impl PageBlob {
    /// Makes it, of zeros. Sent once.
    ///
    /// # Errors
    /// [`Exists`](Error::Exists), [`Invalid`](Error::Invalid) for a size that is not of whole pages or above 8 TiB; with
    /// [`Lost`](Error::Lost) and [`Failed`](Error::Failed) it may be there.
    pub async fn create(&self, size: u64, metadata: &BTreeMap<String, String>) -> Result<Etag, Error> {
        sized(size)?;
        let (blob, metadata) = (&self.0, checked(metadata)?);
        let client = blob.client.page_blob_client();
        let call = || async {
            let options = PageBlobClientCreateOptions {
                if_none_match: Some("*".into()),
                metadata: metadata.clone(),
                ..Default::default()
            };
            client.create(size, Some(options)).await
        };
        let done = blob.send(0, Repeat::Never, call).await.map_err(exists)?;
        etag(&blob.name, done.headers())
    }

    /// What it says of itself; nothing where it is not there.
    ///
    /// # Errors
    /// [`Denied`](Error::Denied), [`Lost`](Error::Lost) and the like.
    pub async fn properties(&self) -> Result<Option<Properties>, Error> {
        let blob = &self.0;
        match blob.send(0, Repeat::Safely, || blob.client.get_properties(None)).await {
            Ok(answer) => Properties::of(&blob.name, answer.headers()).map(Some),
            Err(Error::Absent(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Raises its sequence number to this, if it is lower. Then every write that names a lower one is refused.
    ///
    /// # Errors
    /// [`Absent`](Error::Absent), and the like.
    pub async fn raise_sequence(&self, to: u64) -> Result<(), Error> {
        let (blob, number) = (&self.0, sequenced(to)?);
        let client = blob.client.page_blob_client();
        let call = || async {
            let options = PageBlobClientSetSequenceNumberOptions {
                blob_sequence_number: Some(number),
                ..Default::default()
            };
            client.set_sequence_number(SequenceNumberActionType::Max, Some(options)).await
        };
        blob.send(0, Repeat::Safely, call).await.map(drop)
    }

    /// Makes this its sequence number, if it is still in that state; gives the state that it is in then. Sent once. Of all who have
    /// read the same state one alone gets a number so.
    ///
    /// # Errors
    /// [`Changed`](Error::Changed); with [`Lost`](Error::Lost) and [`Failed`](Error::Failed) it may have been done.
    pub async fn take_sequence(&self, number: u64, state: &Etag) -> Result<Etag, Error> {
        let (blob, number) = (&self.0, sequenced(number)?);
        let client = blob.client.page_blob_client();
        let call = || async {
            let options = PageBlobClientSetSequenceNumberOptions {
                blob_sequence_number: Some(number),
                if_match: Some(state.as_str().into()),
                ..Default::default()
            };
            client.set_sequence_number(SequenceNumberActionType::Update, Some(options)).await
        };
        let done = blob.send(0, Repeat::Never, call).await?;
        etag(&blob.name, done.headers())
    }

    /// Writes these bytes at this offset, if the sequence number is still this one.
    ///
    /// # Errors
    /// [`Invalid`](Error::Invalid), before anything is sent, for what is not of whole pages or above [`LARGEST_WRITE`];
    /// [`Superseded`](Error::Superseded) where the sequence number is another one.
    pub async fn write(&self, at: u64, bytes: Bytes, sequence: u64) -> Result<(), Error> {
        write(&self.0, at, bytes, Some(sequenced(sequence)?)).await
    }

    /// Makes these bytes zeros and gives their room back, if the sequence number is still this one. Of any length.
    ///
    /// # Errors
    /// As for [`write`](Self::write).
    pub async fn clear(&self, run: Run, sequence: u64) -> Result<(), Error> {
        clear(&self.0, run, Some(sequenced(sequence)?)).await
    }

    /// Keeps it as it is now, with this metadata or its own. Sent once: a lost answer may leave a snapshot; find it by its
    /// metadata.
    ///
    /// # Errors
    /// [`Absent`](Error::Absent), and the like.
    pub async fn snapshot(&self, metadata: &BTreeMap<String, String>) -> Result<SnapshotId, Error> {
        let (blob, metadata) = (&self.0, checked(metadata)?);
        let call = || async {
            let options =
                BlobClientCreateSnapshotOptions { metadata: metadata.clone(), ..Default::default() };
            blob.client.create_snapshot(Some(options)).await
        };
        let done = blob.send(0, Repeat::Never, call).await?;
        let id = done.headers().get_optional_str(&"x-ms-snapshot".into()).and_then(SnapshotId::new);
        id.ok_or_else(|| Error::garbage(&blob.name, "its snapshot has no name"))
    }

    /// Where within this run bytes have been written, in order; all else reads as zeros.
    ///
    /// # Errors
    /// [`Absent`](Error::Absent), and the like.
    pub async fn ranges(&self, at: Option<&SnapshotId>, run: Run) -> Result<Vec<Run>, Error> {
        let ranges = listed(&self.0, self.0.at(at), Some(run), &[]).await?;
        let data = ranges.into_iter().filter(|(_, change)| *change == Change::Written);
        Ok(data.map(|(run, _)| run).collect())
    }

    /// Reads a run. A body that breaks off is gone on with where it did.
    ///
    /// # Errors
    /// [`Invalid`](Error::Invalid) where `into` is not as long as the run; [`Absent`](Error::Absent), and the like. `into` may have
    /// been written to.
    pub async fn read(&self, at: Option<&SnapshotId>, run: Run, into: &mut [u8]) -> Result<(), Error> {
        read(&self.0, self.0.at(at), run, into).await
    }

    /// Makes it so large, if it is still in that state; what is added reads as zeros. Sent once.
    ///
    /// # Errors
    /// [`Changed`](Error::Changed); [`Invalid`](Error::Invalid) as for [`create`](Self::create); with [`Lost`](Error::Lost) and
    /// [`Failed`](Error::Failed) it may have been done.
    pub async fn resize(&self, size: u64, state: &Etag) -> Result<(), Error> {
        sized(size)?;
        let blob = &self.0;
        let client = blob.client.page_blob_client();
        let call = || async {
            let options =
                PageBlobClientResizeOptions { if_match: Some(state.as_str().into()), ..Default::default() };
            client.resize(size, Some(options)).await
        };
        blob.send(0, Repeat::Never, call).await.map(drop)
    }

    /// Removes one snapshot, or the blob itself. That it is not there is right.
    ///
    /// # Errors
    /// [`Refused`](Error::Refused) (`SnapshotsPresent`) for a blob with snapshots.
    pub async fn delete(&self, at: Option<&SnapshotId>) -> Result<(), Error> {
        self.0.delete(at, false).await
    }

    /// Removes the blob with all its snapshots. That it is not there is right.
    ///
    /// # Errors
    /// [`Denied`](Error::Denied), [`Lost`](Error::Lost) and the like.
    pub async fn delete_all(&self) -> Result<(), Error> {
        self.0.delete(None, true).await
    }

    /// Makes it as a copy of another blob or a snapshot, which the service goes on with by itself:
    /// [`properties`](Self::properties) tell how far it is. Sent once. A source of another account needs `sas`, the query of its
    /// signed address.
    ///
    /// # Errors
    /// [`Exists`](Error::Exists); with [`Lost`](Error::Lost) and [`Failed`](Error::Failed) it may have been begun.
    pub async fn copy_from(&self, source: &Url, sas: Option<&Secret>) -> Result<(), Error> {
        let blob = &self.0;
        let call = || async {
            let options =
                BlobClientStartCopyFromUrlOptions { if_none_match: Some("*".into()), ..Default::default() };
            blob.client.start_copy_from_url(signed(source, sas), Some(options)).await
        };
        blob.send(0, Repeat::Never, call).await.map_err(exists).map(drop)
    }

    /// Ends a copy that is under way; the blob is left without bytes. That it has ended is right.
    ///
    /// # Errors
    /// [`Absent`](Error::Absent), and the like.
    pub async fn abort_copy(&self, id: &str) -> Result<(), Error> {
        let blob = &self.0;
        match blob.send(0, Repeat::Safely, || blob.client.abort_copy(id, None)).await {
            Err(Error::Refused(answer)) if answer.is("NoPendingCopyOperation") => Ok(()),
            done => done.map(drop),
        }
    }
}

/// An address with what somebody has signed.
fn signed(url: &Url, sas: Option<&Secret>) -> String {
    match (sas, url.query()) {
        (None, _) => url.to_string(),
        (Some(sas), None) => format!("{url}?{}", sas.expose().trim_start_matches('?')),
        (Some(sas), Some(_)) => format!("{url}&{}", sas.expose().trim_start_matches('?')),
    }
}

pub(crate) async fn write(blob: &Blob, at: u64, bytes: Bytes, sequence: Option<i64>) -> Result<(), Error> {
    let len = bytes.len() as u64;
    aligned(Run::new(at, len))?;
    if bytes.len() > LARGEST_WRITE {
        return Err(Error::invalid("bytes", len, "one write has at most 4 MiB", "write in pieces"));
    }
    let client = blob.client.page_blob_client();
    let call = || async {
        let options =
            PageBlobClientUploadPagesOptions { if_sequence_number_equal_to: sequence, ..Default::default() };
        client.upload_pages(bytes.clone().into(), len, HttpRange::new(at, len), Some(options)).await
    };
    blob.send(len, Repeat::Safely, call).await.map(drop)
}

pub(crate) async fn clear(blob: &Blob, run: Run, sequence: Option<i64>) -> Result<(), Error> {
    aligned(run)?;
    let client = blob.client.page_blob_client();
    let call = || async {
        let options =
            PageBlobClientClearPagesOptions { if_sequence_number_equal_to: sequence, ..Default::default() };
        client.clear_pages(HttpRange::new(run.start, run.len), Some(options)).await
    };
    blob.send(0, Repeat::Safely, call).await.map(drop)
}

/// All pages of a list of ranges, put together.
pub(crate) async fn listed(
    blob: &Blob,
    mut url: Url,
    run: Option<Run>,
    headers: &[(&'static str, String)],
) -> Result<Vec<(Run, Change)>, Error> {
    let mut headers = headers.to_vec();
    if let Some(run) = run {
        if run.len == 0 {
            return Ok(vec![]);
        }
        inside(run)?;
        headers.push(("range", HttpRange::new(run.start, run.len).to_string()));
    }
    let within = run.unwrap_or(Run::new(0, u64::MAX));
    url.query_pairs_mut().append_pair("comp", "pagelist");
    let (mut all, mut marker) = (vec![], None::<String>);
    for _ in 0..MOST_LISTS {
        let mut url = url.clone();
        if let Some(marker) = &marker {
            url.query_pairs_mut().append_pair("marker", marker);
        }
        let answer = blob.send(0, Repeat::Safely, || blob.wire.get(url.clone(), &headers)).await?;
        let garbage = |what| Error::garbage(&blob.name, what);
        let page = parse(&answer.into_body()).map_err(garbage)?;
        append(&mut all, page.ranges, within).map_err(garbage)?;
        if page.next.is_none() {
            return Ok(all);
        }
        if page.next == marker {
            break;
        }
        marker = page.next;
    }
    Err(Error::garbage(&blob.name, "its list of pages has no end"))
}

/// A run that has an end, and one that the service can be told.
pub(crate) fn inside(run: Run) -> Result<(), Error> {
    if run.len > 0 && run.start.checked_add(run.len).is_some_and(|end| end <= i64::MAX as u64) {
        return Ok(());
    }
    let value = format!("{} bytes from {}", run.len, run.start);
    Err(Error::invalid("run", value, "it has bytes, and ends within what a disk can have", "name such a run"))
}

fn aligned(run: Run) -> Result<(), Error> {
    inside(run)?;
    if run.start.is_multiple_of(PAGE) && run.len.is_multiple_of(PAGE) {
        return Ok(());
    }
    let value = format!("{} bytes from {}", run.len, run.start);
    Err(Error::invalid("run", value, "it is of whole pages of 512 bytes", "align it"))
}

fn sized(size: u64) -> Result<(), Error> {
    if size.is_multiple_of(PAGE) && size <= LARGEST {
        return Ok(());
    }
    Err(Error::invalid(
        "size",
        size,
        "it is of whole pages of 512 bytes, and at most 8 TiB",
        "choose such a size",
    ))
}

fn sequenced(number: u64) -> Result<i64, Error> {
    let least =
        |_| Error::invalid("sequence", number, "it is below 2^63", "count from one again in a new blob");
    i64::try_from(number).map_err(least)
}
