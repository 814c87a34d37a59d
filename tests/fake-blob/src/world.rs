//! What the fake holds.

use crate::answer::Refused;
use crate::call::Place;
use crate::config::{Account, Config};
use crate::copies::Copy;
use crate::exports::Export;
use crate::image::Image;
use crate::leases::Lease;
use crate::tickets::Tickets;
use bytes::Bytes;
use ring::rand::{SecureRandom, SystemRandom};
use std::collections::BTreeMap;
use std::fmt::Write;
use time::{Duration, OffsetDateTime};

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) config: Config,
    /// Host and port of this fake.
    pub(crate) authority: String,
    pub(crate) vaults: BTreeMap<String, Vault>,
    /// By the account in their URL.
    pub(crate) exports: BTreeMap<String, Export>,
    pub(crate) tickets: Tickets,
    /// How many polls the next copies stay pending for.
    pub(crate) copy_polls: usize,
    /// How many of the next copies fail.
    pub(crate) copy_failures: usize,
    pub(crate) skew: Duration,
    count: u64,
    last: OffsetDateTime,
}

#[derive(Debug)]
pub(crate) struct Vault {
    pub(crate) account: Account,
    pub(crate) containers: BTreeMap<String, Container>,
}

#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) stamp: Stamp,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) blobs: BTreeMap<String, Blob>,
    /// Blocks that were put and not yet committed, by blob and by their own name.
    pub(crate) blocks: BTreeMap<(String, String), Bytes>,
}

#[derive(Debug)]
pub(crate) struct Blob {
    pub(crate) live: Version,
    pub(crate) snapshots: BTreeMap<String, Version>,
    pub(crate) lease: Lease,
    /// Kept by a sink alone.
    pub(crate) sunk: Vec<Sunk>,
}

/// A page write of a sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sunk {
    /// In bytes.
    pub offset: u64,
    /// In bytes.
    pub len: u64,
    /// Of the bytes, by XXH3.
    pub xxh3: u64,
}

/// A blob or one of its snapshots.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    pub(crate) content: Content,
    pub(crate) stamp: Stamp,
    pub(crate) created: OffsetDateTime,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) content_type: String,
    pub(crate) copy: Option<Copy>,
    /// Changes when the blob is put anew, so that no difference is told across that.
    pub(crate) generation: u64,
}

#[derive(Clone, Debug)]
pub(crate) enum Content {
    Block(Bytes),
    Pages { image: Image, sequence: u64 },
}

/// When, and the tag of it.
#[derive(Clone, Debug)]
pub(crate) struct Stamp {
    pub(crate) etag: String,
    pub(crate) at: OffsetDateTime,
}

impl World {
    pub(crate) fn new(config: Config, authority: String) -> Self {
        let vault = |account: &Account| {
            (account.name.clone(), Vault { account: account.clone(), containers: BTreeMap::new() })
        };
        Self {
            vaults: config.accounts.iter().map(vault).collect(),
            config,
            authority,
            exports: BTreeMap::new(),
            tickets: Tickets::new(),
            copy_polls: 0,
            copy_failures: 0,
            skew: Duration::ZERO,
            count: 0,
            last: OffsetDateTime::UNIX_EPOCH,
        }
    }

    pub(crate) fn now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc() + self.skew
    }

    /// Another one each time, and later than the one before.
    pub(crate) fn stamp(&mut self) -> Stamp {
        self.count += 1;
        let tick = Duration::nanoseconds(100);
        self.last = self.now().max(self.last + tick);
        Stamp { etag: format!("\"0x8DD{:012X}\"", self.count), at: self.last }
    }

    pub(crate) fn vault(&mut self, account: &str) -> Result<&mut Vault, Refused> {
        let none = || Refused::new(404, "ResourceNotFound", "The specified resource does not exist.");
        self.vaults.get_mut(account).ok_or_else(none)
    }

    pub(crate) fn container(&mut self, place: &Place) -> Result<&mut Container, Refused> {
        let name = place.container.as_deref().unwrap_or_default();
        let none = || Refused::new(404, "ContainerNotFound", "The specified container does not exist.");
        self.vault(&place.account)?.containers.get_mut(name).ok_or_else(none)
    }

    pub(crate) fn blob(&mut self, place: &Place) -> Result<&mut Blob, Refused> {
        let name = place.blob.as_deref().unwrap_or_default();
        let none = || Refused::new(404, "BlobNotFound", "The specified blob does not exist.");
        if self.exports.contains_key(&place.account) {
            return self.exports.get_mut(&place.account).map(|export| &mut export.blob).ok_or_else(none);
        }
        self.container(place)?.blobs.get_mut(name).ok_or_else(none)
    }

    /// The blob, or the snapshot that the query names.
    pub(crate) fn version(&mut self, place: &Place) -> Result<&Version, Refused> {
        let blob = self.blob(place)?;
        match place.query("snapshot") {
            None => Ok(&blob.live),
            Some(at) => blob
                .snapshots
                .get(at)
                .ok_or_else(|| Refused::new(404, "BlobNotFound", "The specified blob does not exist.")),
        }
    }

    pub(crate) fn sinks(&self, place: &Place) -> bool {
        self.vaults.get(&place.account).is_some_and(|vault| vault.account.sink)
    }
}

impl Version {
    pub(crate) fn new(content: Content, stamp: Stamp, generation: u64) -> Self {
        Self {
            content,
            created: stamp.at,
            stamp,
            metadata: BTreeMap::new(),
            content_type: "application/octet-stream".to_owned(),
            copy: None,
            generation,
        }
    }

    pub(crate) fn len(&self) -> u64 {
        match &self.content {
            Content::Block(bytes) => bytes.len() as u64,
            Content::Pages { image, .. } => image.size(),
        }
    }

    pub(crate) fn kind(&self) -> &'static str {
        match self.content {
            Content::Block(_) => "BlockBlob",
            Content::Pages { .. } => "PageBlob",
        }
    }

    pub(crate) fn pages(&mut self) -> Result<(&mut Image, &mut u64), Refused> {
        match &mut self.content {
            Content::Pages { image, sequence } => Ok((image, sequence)),
            Content::Block(_) => Err(wrong_type()),
        }
    }

    pub(crate) fn image(&self) -> Result<&Image, Refused> {
        match &self.content {
            Content::Pages { image, .. } => Ok(image),
            Content::Block(_) => Err(wrong_type()),
        }
    }

    /// What is copied is there, or is not yet.
    pub(crate) fn settled(&self) -> Result<(), Refused> {
        match &self.copy {
            Some(copy) if copy.pending() => {
                Err(Refused::new(409, "PendingCopyOperation", "There is currently a pending copy operation."))
            }
            _ => Ok(()),
        }
    }
}

impl Blob {
    pub(crate) fn new(live: Version) -> Self {
        Self { live, snapshots: BTreeMap::new(), lease: Lease::default(), sunk: vec![] }
    }
}

fn wrong_type() -> Refused {
    Refused::new(409, "InvalidBlobType", "The blob type is invalid for this operation.")
}

/// 32 hexadecimal digits that nobody can guess.
pub(crate) fn random() -> String {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes).expect("random bytes of the system");
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The same with dashes.
pub(crate) fn uuid() -> String {
    let hex = random();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
