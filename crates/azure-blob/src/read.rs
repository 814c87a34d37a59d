//! Bytes of a blob, as they come.

use crate::Error;
use crate::blob::Blob;
use crate::page_blob::inside;
use crate::wire::{Repeat, Tries};
use azure_core::http::Url;
use futures_util::StreamExt;
use site_recovery::Run;

/// The most bytes that are asked for at once: one that breaks off costs no more.
const PIECE: u64 = 4 << 20;

/// Reads a run into a buffer of its length.
pub(crate) async fn read(blob: &Blob, url: Url, run: Run, into: &mut [u8]) -> Result<(), Error> {
    if into.len() as u64 != run.len {
        return Err(Error::invalid("into", into.len(), "it is as long as the run", "give such a buffer"));
    }
    if run.len == 0 {
        return Ok(());
    }
    inside(run)?;
    let mut rest = into;
    let mut at = run.start;
    while !rest.is_empty() {
        let len = (rest.len() as u64).min(PIECE);
        let (piece, after) = rest.split_at_mut(len as usize);
        whole(blob, &url, at, piece).await?;
        (rest, at) = (after, at + len);
    }
    Ok(())
}

async fn whole(blob: &Blob, url: &Url, at: u64, piece: &mut [u8]) -> Result<(), Error> {
    let mut tries = Tries::new(blob.wire.limits(), Repeat::Safely);
    let mut got = 0;
    loop {
        match once(blob, url, at + got as u64, &mut piece[got..]).await {
            (more, Ok(())) if got + more == piece.len() => return Ok(()),
            (more, Ok(())) => {
                let what = format!("it sends {} bytes of {}", got + more, piece.len());
                return Err(Error::garbage(&blob.name, what));
            }
            (more, Err(error)) => {
                got += more;
                tries.after(error).await?;
            }
        }
    }
}

/// How many bytes came, and whether that is all.
async fn once(blob: &Blob, url: &Url, at: u64, into: &mut [u8]) -> (usize, Result<(), Error>) {
    let range = format!("bytes={at}-{}", at + into.len() as u64 - 1);
    blob.wire.pass(&blob.rate, into.len() as u64).await;
    let failed = |error: &azure_core::Error| Error::of(error, &blob.name);
    let answer = match blob.wire.stream(url.clone(), &[("range", range)]).await {
        Ok(answer) => answer,
        Err(error) => return (0, Err(failed(&error))),
    };
    let (_, headers, mut body) = answer.deconstruct();
    let said = headers.get_optional_str(&"content-range".into()).unwrap_or_default();
    let wanted = format!("bytes {at}-{}/", at + into.len() as u64 - 1);
    if !said.starts_with(&wanted) {
        return (0, Err(Error::garbage(&blob.name, "it sends another range than was asked for")));
    }
    let mut got = 0;
    while let Some(chunk) = body.next().await {
        let chunk = match chunk {
            Ok(chunk) => chunk,
            Err(error) => return (got, Err(failed(&error))),
        };
        let Some(place) = into.get_mut(got..got + chunk.len()) else {
            return (got, Err(Error::garbage(&blob.name, "it sends more bytes than were asked for")));
        };
        place.copy_from_slice(&chunk);
        got += chunk.len();
    }
    (got, Ok(()))
}
