//! Lists of blobs.

use crate::xml::walk;
use crate::{Etag, SnapshotId};
use percent_encoding::percent_decode_str;
use std::collections::BTreeMap;

/// A blob, or a snapshot of one, as a list has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Within its container.
    pub name: String,
    /// Which snapshot; none for the blob itself.
    pub snapshot: Option<SnapshotId>,
    /// In bytes.
    pub size: u64,
    /// Of its content and metadata as they are.
    pub etag: Etag,
    /// What was given with it.
    pub metadata: BTreeMap<String, String>,
}

/// A page of a list.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) blobs: Vec<Listed>,
    /// What names have in common up to the delimiter, with it.
    pub(crate) folders: Vec<String>,
    pub(crate) next: Option<String>,
}

#[derive(Default)]
struct Draft {
    name: Option<String>,
    snapshot: Option<SnapshotId>,
    size: Option<u64>,
    etag: Option<Etag>,
    metadata: BTreeMap<String, String>,
}

/// Reads `EnumerationResults`.
pub(crate) fn parse(body: &[u8]) -> Result<Page, String> {
    let (mut page, mut draft) = (Page::default(), Draft::default());
    walk(body, |element| {
        let text = element.text;
        match element.path {
            ["EnumerationResults", "Blobs", "Blob" | "BlobPrefix", "Name"] => {
                draft.name = Some(if element.encoded {
                    let decoded = percent_decode_str(text).decode_utf8();
                    decoded.map_err(|_| "a name is not in UTF-8")?.into_owned()
                } else {
                    text.to_owned()
                });
            }
            ["EnumerationResults", "Blobs", "Blob", "Snapshot"] if !text.is_empty() => {
                draft.snapshot = Some(SnapshotId::new(text).ok_or("a snapshot has no right name")?);
            }
            ["EnumerationResults", "Blobs", "Blob", "Properties", "Content-Length"] => {
                draft.size = Some(text.trim().parse().map_err(|_| "a size is no number")?);
            }
            ["EnumerationResults", "Blobs", "Blob", "Properties", "Etag"] => {
                draft.etag = Some(Etag::listed(text))
            }
            ["EnumerationResults", "Blobs", "Blob", "Metadata", name] => {
                draft.metadata.insert(name.to_ascii_lowercase(), text.to_owned());
            }
            ["EnumerationResults", "Blobs", "Blob"] => {
                let Draft { name: Some(name), snapshot, size: Some(size), etag: Some(etag), metadata } =
                    std::mem::take(&mut draft)
                else {
                    return Err("a blob has no name, size or etag".into());
                };
                page.blobs.push(Listed { name, snapshot, size, etag, metadata });
            }
            ["EnumerationResults", "Blobs", "BlobPrefix"] => {
                page.folders.push(std::mem::take(&mut draft).name.ok_or("a folder has no name")?);
            }
            ["EnumerationResults", "NextMarker"] if !text.is_empty() => page.next = Some(text.to_owned()),
            ["EnumerationResults", ..] => {}
            _ => return Err("it is no list of blobs".into()),
        }
        Ok(())
    })?;
    Ok(page)
}
