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

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults ServiceEndpoint=\"https://a/\" \
        ContainerName=\"c\"><Prefix>d/</Prefix><Blobs><BlobPrefix><Name>d/a &amp; b/</Name></BlobPrefix><Blob>\
        <Name Encoded=\"true\">d/%EF%BF%BFx</Name><Snapshot>2026-11-29T08:00:00.1234567Z</Snapshot><Properties>\
        <Etag>0x8D</Etag><Content-Length>1024</Content-Length><CopyStatus>success</CopyStatus></Properties><Metadata>\
        <Point>7</Point><disk>os</disk></Metadata><OrMetadata/></Blob><BlobPrefix><Name>d/c/</Name></BlobPrefix><Blob>\
        <Name>d/y%20z</Name><Properties><Etag>\"0x8E\"</Etag><Content-Length>3</Content-Length></Properties></Blob></Blobs>\
        <NextMarker>2!80!</NextMarker></EnumerationResults>";

    #[test]
    fn blobs_snapshots_and_folders_take_turns() {
        let page = parse(LIST.as_bytes()).expect("a list");
        assert_eq!(page.folders, ["d/a & b/", "d/c/"]);
        assert_eq!(page.next.as_deref(), Some("2!80!"));
        let metadata = [("point", "7"), ("disk", "os")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        let wanted = [
            Listed {
                name: "d/\u{ffff}x".into(),
                snapshot: SnapshotId::new("2026-11-29T08:00:00.1234567Z"),
                size: 1024,
                etag: Etag::new("\"0x8D\""),
                metadata: metadata.into(),
            },
            Listed {
                name: "d/y%20z".into(),
                snapshot: None,
                size: 3,
                etag: Etag::new("\"0x8E\""),
                metadata: BTreeMap::new(),
            },
        ];
        assert_eq!(page.blobs, wanted);
    }

    #[test]
    fn what_is_no_list_of_blobs_is_refused() {
        let cases = [
            LIST.replace("<Content-Length>3</Content-Length>", ""),
            LIST.replace("1024", "many"),
            LIST.replace("2026-11-29T08:00:00.1234567Z", "x&amp;sig=1"),
            LIST.replace("%EF%BF%BF", "%EF%BF"),
            LIST.replace("EnumerationResults", "PageList"),
            LIST[..LIST.len() - 30].to_owned(),
        ];
        for case in cases {
            assert!(parse(case.as_bytes()).is_err(), "{case}");
        }
    }
}
