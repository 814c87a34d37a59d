//! Small blobs that are replaced as a whole.

use crate::blob::Blob;
use crate::properties::etag;
use crate::wire::Repeat;
use crate::{Error, Etag};
use azure_storage_blob::models::BlockBlobClientUploadOptions;
use bytes::Bytes;

/// A block blob that is read and replaced whole: whoever replaces it names the state that he has read.
#[derive(Debug, Clone)]
pub struct Document(pub(crate) Blob);

impl Document {
    /// All of it, and its state; nothing where it is not there.
    ///
    /// # Errors
    /// [`Denied`](Error::Denied), [`Lost`](Error::Lost) and the like.
    pub async fn read(&self) -> Result<Option<(Bytes, Etag)>, Error> {
        let blob = &self.0;
        let answer = match blob.send(0, Repeat::Safely, || blob.wire.get(blob.url.clone(), &[])).await {
            Ok(answer) => answer,
            Err(Error::Absent(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let (_, headers, body) = answer.deconstruct();
        Ok(Some((body.into(), etag(&blob.name, &headers)?)))
    }

    /// Makes it. Sent once.
    ///
    /// # Errors
    /// [`Exists`](Error::Exists); with [`Lost`](Error::Lost) and [`Failed`](Error::Failed) it may be there.
    pub async fn create(&self, bytes: Bytes) -> Result<Etag, Error> {
        let options =
            || BlockBlobClientUploadOptions { if_none_match: Some("*".into()), ..Default::default() };
        self.put(bytes, options).await.map_err(exists)
    }

    /// Replaces it, if it is still in that state. Sent once.
    ///
    /// # Errors
    /// [`Changed`](Error::Changed) where it is not, or is gone; with [`Lost`](Error::Lost) and [`Failed`](Error::Failed) it may
    /// have been replaced.
    pub async fn replace(&self, bytes: Bytes, state: &Etag) -> Result<Etag, Error> {
        let options =
            || BlockBlobClientUploadOptions { if_match: Some(state.as_str().into()), ..Default::default() };
        self.put(bytes, options).await.map_err(|error| match error {
            Error::Absent(answer) if !answer.is("ContainerNotFound") => Error::Changed(answer),
            other => other,
        })
    }

    async fn put(
        &self,
        bytes: Bytes,
        options: impl Fn() -> BlockBlobClientUploadOptions<'static>,
    ) -> Result<Etag, Error> {
        let blob = &self.0;
        let client = blob.client.block_blob_client();
        let call = || async { client.upload(bytes.clone().into(), Some(options())).await };
        let done = blob.send(bytes.len() as u64, Repeat::Never, call).await?;
        let found = done.etag.ok_or_else(|| Error::garbage(&blob.name, "it has no etag"))?;
        Ok(Etag::new(found))
    }

    /// Removes it; that it is not there is right.
    ///
    /// # Errors
    /// [`Denied`](Error::Denied), [`Lost`](Error::Lost) and the like.
    pub async fn delete(&self) -> Result<(), Error> {
        self.0.delete(None, false).await
    }
}

/// Whoever makes what is there is told so in several ways.
pub(crate) fn exists(error: Error) -> Error {
    match error {
        Error::Changed(answer) => Error::Exists(answer),
        other => other,
    }
}
