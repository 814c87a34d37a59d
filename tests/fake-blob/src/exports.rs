//! Managed disks and snapshots while they are exported: one page blob each, behind a signature of its own.

use crate::admit::failed;
use crate::answer::Refused;
use crate::call::Place;
use crate::image::Image;
use crate::signatures;
use crate::world::{Blob, Content, Version, World, random, uuid};
use std::time::Duration;
use time::OffsetDateTime;
use url::Url;

/// What an export lets do, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    pub(crate) write: bool,
    pub(crate) valid: Duration,
}

impl Access {
    /// Reads, for an hour.
    #[must_use]
    pub fn read() -> Self {
        Self { write: false, valid: Duration::from_secs(3600) }
    }

    /// Reads and writes of pages, for an hour.
    #[must_use]
    pub fn write() -> Self {
        Self { write: true, ..Self::read() }
    }

    /// For another time.
    #[must_use]
    pub fn valid_for(self, valid: Duration) -> Self {
        Self { valid, ..self }
    }
}

#[derive(Debug)]
pub(crate) struct Export {
    pub(crate) name: String,
    pub(crate) blob: Blob,
    container: String,
    write: bool,
    /// Of the current access; `None` after it was revoked.
    signed: Option<Signed>,
}

struct Signed {
    signature: String,
    identifier: String,
    until: OffsetDateTime,
}

impl std::fmt::Debug for Signed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signed").field("until", &self.until).finish_non_exhaustive()
    }
}

impl Export {
    pub(crate) fn check(&self, place: &Place, rights: &str, now: OffsetDateTime) -> Result<(), Refused> {
        let signed = self.signed.as_ref().ok_or_else(|| failed("The access was revoked."))?;
        let fits = place.query("sig") == Some(&signed.signature)
            && place.query("si") == Some(&signed.identifier)
            && place.container.as_ref() == Some(&self.container)
            && place.blob.as_deref() == Some("abcd");
        if !fits {
            return Err(failed("Signature did not match."));
        }
        if now >= signed.until {
            return Err(failed("Signature not valid in the specified time frame."));
        }
        signatures::allows(if self.write { "rwcd" } else { "r" }, rights)
    }

    pub(crate) fn revoke(&mut self) {
        self.signed = None;
    }
}

/// The vhd of a disk as it is served. The bytes of an export of the same name are thrown away, and its URL with them.
pub(crate) fn export(world: &mut World, name: &str, vhd: Image, access: Access) -> Url {
    let (stamp, until) = (world.stamp(), world.now() + access.valid);
    let (account, container) = (format!("md-{}", &random()[..12]), random()[..12].to_owned());
    let signed = Signed { signature: random(), identifier: uuid(), until };
    let query = format!("sv=2018-03-28&sr=b&si={}&sig={}", signed.identifier, signed.signature);
    let url = format!("https://{}/{account}/{container}/abcd?{query}", world.authority);
    let version = Version::new(Content::Pages { image: vhd, sequence: 0 }, stamp, 0);
    world.exports.retain(|_, export| export.name != name);
    let export = Export {
        name: name.to_owned(),
        blob: Blob::new(version),
        container,
        write: access.write,
        signed: Some(signed),
    };
    world.exports.insert(account, export);
    Url::parse(&url).expect("a URL of its own parts")
}
