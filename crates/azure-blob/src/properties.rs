//! What a blob says of itself.

use crate::Error;
use azure_core::http::headers::Headers;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Which state of a blob; it changes with each change of the blob.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Etag(String);

impl Etag {
    /// As HTTP has it, with its quotation marks.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// As lists have it: some have none of the quotation marks.
    pub(crate) fn listed(text: &str) -> Self {
        let text = text.trim();
        Self(if text.starts_with('"') { text.to_owned() } else { format!("\"{text}\"") })
    }

    /// As HTTP has it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Etag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which snapshot of a blob: the moment that the service took it. They sort by it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SnapshotId(String);

impl SnapshotId {
    /// As `2026-11-29T08:00:00.1234567Z`; nothing for what could be none.
    pub fn new(text: &str) -> Option<Self> {
        let right = (10..=40).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b':' | b'.' | b'T' | b'Z'));
        right.then(|| Self(text.to_owned()))
    }

    /// As the service writes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for SnapshotId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::new(&text).ok_or("no name of a snapshot")
    }
}

impl From<SnapshotId> for String {
    fn from(id: SnapshotId) -> Self {
        id.0
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A copy into a blob, done by the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// By which it is [aborted](crate::PageBlob::abort_copy).
    pub id: String,
    /// How far it is.
    pub state: CopyState,
}

/// How far a copy is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyState {
    /// Under way.
    Pending {
        /// Bytes that are there.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// All is there.
    Success,
    /// Somebody has ended it; the blob has no bytes.
    Aborted,
    /// It failed; the blob has no bytes.
    Failed(String),
}

/// What a page blob says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Properties {
    /// In bytes.
    pub size: u64,
    /// Who writes it may be fenced by this; zero at first.
    pub sequence: u64,
    /// Of its content and metadata as they are.
    pub etag: Etag,
    /// What was given with it.
    pub metadata: BTreeMap<String, String>,
    /// The copy that it was made by, or is.
    pub copy: Option<Copy>,
    /// Whether somebody holds a lease on it.
    pub leased: bool,
}

impl Properties {
    pub(crate) fn of(blob: &str, headers: &Headers) -> Result<Self, Error> {
        let text = |name: &'static str| headers.get_optional_str(&name.into());
        let number = |name| text(name).and_then(|n| n.parse().ok());
        let size = number("content-length").ok_or_else(|| Error::garbage(blob, "it has no size"))?;
        let sequence = number("x-ms-blob-sequence-number").unwrap_or(0);
        let metadata = headers.iter().filter_map(|(name, value)| {
            let name = name.as_str().strip_prefix("x-ms-meta-")?;
            Some((name.to_owned(), value.as_str().to_owned()))
        });
        let metadata = metadata.collect();
        let copy = match text("x-ms-copy-id") {
            Some(id) => Some(Copy { id: id.to_owned(), state: state(blob, &text)? }),
            None => None,
        };
        let leased = text("x-ms-lease-status") == Some("locked");
        Ok(Self { size, sequence, etag: etag(blob, headers)?, metadata, copy, leased })
    }
}

fn state<'a>(blob: &str, text: &impl Fn(&'static str) -> Option<&'a str>) -> Result<CopyState, Error> {
    Ok(match text("x-ms-copy-status") {
        Some("success") => CopyState::Success,
        Some("aborted") => CopyState::Aborted,
        Some("failed") => {
            // `404 BlobNotFound ..`, and words that hold addresses.
            let said = text("x-ms-copy-status-description").unwrap_or_default();
            let plain =
                said.split_whitespace().take(2).filter(|w| w.bytes().all(|b| b.is_ascii_alphanumeric()));
            CopyState::Failed(plain.collect::<Vec<_>>().join(" "))
        }
        Some("pending") => {
            let progress = text("x-ms-copy-progress").and_then(|p| p.split_once('/'));
            let parsed = progress.and_then(|(done, total)| Some((done.parse().ok()?, total.parse().ok()?)));
            let (done, total) = parsed.unwrap_or((0, 0));
            CopyState::Pending { done, total }
        }
        _ => return Err(Error::garbage(blob, "its copy is in no state")),
    })
}

pub(crate) fn etag(blob: &str, headers: &Headers) -> Result<Etag, Error> {
    let found = headers.get_optional_str(&"etag".into());
    found.map(Etag::new).ok_or_else(|| Error::garbage(blob, "it has no etag"))
}

/// Metadata as it may be sent: names that HTTP keeps, and values of visible characters.
pub(crate) fn checked(
    metadata: &BTreeMap<String, String>,
) -> Result<Option<std::collections::HashMap<String, String>>, Error> {
    for (name, value) in metadata {
        let first = name.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b == b'_');
        let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if !first || !plain {
            let rule = "a name has small letters, digits and underscores, and no digit first";
            return Err(Error::invalid("metadata", format!("{name:?}"), rule, "choose another name"));
        }
        let visible = value.bytes().all(|b| (0x20..0x7f).contains(&b)) && value.trim() == value;
        if value.is_empty() || !visible || value.len() > 4096 {
            let shown = format!("{} bytes for {name}", value.len());
            let rule = "a value is one line of at most 4096 characters of ASCII, and not empty";
            return Err(Error::invalid("metadata", shown, rule, "encode it"));
        }
    }
    let all = metadata.iter().map(|(name, value)| (name.clone(), value.clone()));
    Ok((!metadata.is_empty()).then(|| all.collect()))
}
