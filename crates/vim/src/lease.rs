//! Disks of a snapshot by HTTPS, each whole, as a stream (`HttpNfcLease`): slow, but of a running machine, too.
//!
//! The addresses of a lease hold a ticket, which stands for a login: they are in no log, no error, and no `Debug`.

use crate::client::{Call, Vim};
use crate::collect::Properties;
use crate::device::{Devices, Disk};
use crate::download::Download;
use crate::fault::Fault;
use crate::xml::{Xml, flag, list, number, text};
use crate::{Error, Moref};
use reqwest::Url;
use roxmltree::Node;
use site_recovery::{Spawner, TokioSpawner};
use std::fmt;
use std::time::Duration;

const EXPORT: &str = "ExportSnapshot";

/// How long a lease lives where its server does not say. Hosts say it in microseconds, vCenter in seconds.
const USUAL: u64 = 300;

/// A lease on a snapshot's disks. While it is held, its machine cannot be moved, changed or removed.
///
/// It ends by [`complete`](Lease::complete) or [`abort`](Lease::abort). One that is dropped is aborted in the background, where a
/// tokio runtime is there to do it; else, and where that fails, it ends by itself, after five minutes by default.
#[derive(Debug)]
pub struct Lease {
    held: Held,
    terms: Terms,
}

/// What a lease says of itself once it is ready.
#[derive(Debug)]
pub(crate) struct Terms {
    pub(crate) devices: Vec<LeaseDevice>,
    /// How often it wants to hear that somebody is there.
    pub(crate) every: Duration,
}

/// Something that a lease gives out.
#[derive(Clone, PartialEq, Eq)]
pub struct LeaseDevice {
    /// `/vm-70/VirtualLsiLogicController0:1`.
    pub key: String,
    /// Whether it is a disk, sent as a streamOptimized VMDK; else it is a file, such as the one of `nvram`.
    pub disk: bool,
    pub(crate) address: Url,
}

impl fmt::Debug for LeaseDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeaseDevice")
            .field("key", &self.key)
            .field("disk", &self.disk)
            .finish_non_exhaustive()
    }
}

impl Terms {
    /// Of an `HttpNfcLeaseInfo`.
    pub(crate) fn of(node: Node<'_, '_>, server: &Url) -> Result<Self, Error> {
        let device = |node| {
            let words =
                |name| text(node, name).ok_or_else(|| Error::garbage(format!("a lease has no {name}")));
            let address = address(words("url")?, server)
                .ok_or_else(|| Error::garbage("a lease has an address that is not https"))?;
            let disk = flag(node, "disk").unwrap_or(false);
            Ok(LeaseDevice { key: words("key")?.to_owned(), disk, address })
        };
        let devices = list(node, "deviceUrl").map(device).collect::<Result<_, Error>>()?;
        let seconds = number(node, "leaseTimeout").filter(|s| *s > 0).unwrap_or(USUAL);
        let every = (Duration::from_secs(seconds) / 4).min(Duration::from_secs(30));
        Ok(Self { devices, every })
    }
}

/// An address of a lease. A host that does not know its own name says `*`: whoever asks knows it.
fn address(said: &str, server: &Url) -> Option<Url> {
    let url = match said.split_once("://*") {
        Some((scheme, rest)) => {
            let path = rest.find('/').map_or("", |at| &rest[at..]);
            let port = server.port().map_or_else(String::new, |port| format!(":{port}"));
            Url::parse(&format!("{scheme}://{}{port}{path}", server.host_str()?))
        }
        None => Url::parse(said),
    };
    let plain = |url: &Url| url.scheme() == "https" && url.username().is_empty() && url.password().is_none();
    url.ok().filter(plain)
}

impl Vim {
    /// Asks for a lease on the disks of a snapshot, and waits until it is ready. Privilege: `VApp.Export`.
    ///
    /// # Errors
    /// [`Refused`](Error::Refused) with the lease's fault; [`Running`](Error::Running) where it is not ready after the limit;
    /// those of any change.
    ///
    /// # Cancel safety
    /// Dropped, it aborts a lease that it has, as [`Lease`] says.
    pub async fn export_snapshot(&self, snapshot: &Moref, limit: Duration) -> Result<Lease, Error> {
        let moref = self.call_for_object(Call::change(EXPORT, snapshot, Xml::new())).await?;
        let held = Held { vim: self.clone(), moref, open: true };
        let see = |p: &Properties<'_, '_>| Ok(p.text("state").filter(|state| state != "initializing"));
        let state = self.watch(&held.moref, &["state"], limit, see).await?;
        let late = || Error::Running { task: held.moref.clone(), span: limit };
        let state = state.ok_or_else(late)?;
        let read = |p: &Properties<'_, '_>| match (state.as_str(), p.node("info"), p.node("error")) {
            ("ready", Some(info), _) => Terms::of(info, self.http().base()),
            ("error", _, error) => {
                let unnamed = || (Fault::Other(String::new()), String::new());
                let (fault, words) = error.map_or_else(unnamed, Fault::localized);
                Err(Error::Refused { method: EXPORT, fault, words })
            }
            _ => Err(Error::garbage("a lease is neither ready nor failed")),
        };
        let terms = self.retrieve_one(&held.moref, &["info", "error"], read).await?;
        Ok(Lease { held, terms })
    }
}

impl Lease {
    /// What can be had.
    pub fn devices(&self) -> &[LeaseDevice] {
        &self.terms.devices
    }

    /// The one that is this disk, by its controller and its unit among `devices`, those of the snapshot. A disk is never taken by
    /// its place in the list: disks of one size could not be told apart afterwards.
    pub fn device_of(&self, devices: &Devices, disk: &Disk) -> Option<&LeaseDevice> {
        let (controller, unit) = (devices.controller_of(disk)?, disk.unit?);
        let name = format!("/{}{}:{unit}", controller.kind.word(), controller.bus);
        let mut named = self.terms.devices.iter().filter(|d| d.disk && d.key.ends_with(&name));
        named.next().filter(|_| named.next().is_none())
    }

    /// Begins to fetch a device, of at most `most` bytes as they are sent. One that broke off is begun anew from its start: a
    /// server knows no ranges here.
    ///
    /// vCenter names the host that has the disk. It is trusted as the server itself is, so a pin of vCenter's certificate does
    /// not do there; it gets no session.
    ///
    /// # Errors
    /// [`Lost`](Error::Lost), [`Status`](Error::Status).
    pub async fn fetch(&self, device: &LeaseDevice, most: u64) -> Result<Download<'_>, Error> {
        Download::begin(self, device, most).await
    }

    /// Says how far it is, in percent, so that the lease lives on.
    ///
    /// # Errors
    /// Those of any read; a fault where the lease has ended.
    pub async fn progress(&self, percent: u32) -> Result<(), Error> {
        let mut arguments = Xml::new();
        arguments.text("percent", percent.min(100));
        let call = Call::read("HttpNfcLeaseProgress", &self.held.moref, arguments);
        self.held.vim.call(call, |_| Ok(())).await
    }

    /// Ends it well.
    ///
    /// # Errors
    /// Those of any change; what was fetched is whole at any rate.
    pub async fn complete(mut self) -> Result<(), Error> {
        self.held.end("HttpNfcLeaseComplete").await
    }

    /// Ends it.
    ///
    /// # Errors
    /// Those of any change.
    pub async fn abort(mut self) -> Result<(), Error> {
        self.held.end("HttpNfcLeaseAbort").await
    }

    pub(crate) fn vim(&self) -> &Vim {
        &self.held.vim
    }

    pub(crate) fn every(&self) -> Duration {
        self.terms.every
    }
}

/// A lease that has to be ended.
#[derive(Debug)]
struct Held {
    vim: Vim,
    moref: Moref,
    open: bool,
}

impl Held {
    async fn end(&mut self, method: &'static str) -> Result<(), Error> {
        let ended = self.vim.call(Call::change(method, &self.moref, Xml::new()), |_| Ok(())).await;
        self.open = false;
        ended
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let (true, Ok(spawner)) = (self.open, TokioSpawner::current()) else { return };
        let (vim, moref) = (self.vim.clone(), self.moref.clone());
        spawner.spawn(Box::pin(async move {
            let mut again = Self { vim, moref, open: false };
            if let Err(error) = again.end("HttpNfcLeaseAbort").await {
                tracing::debug!(lease = %again.moref, %error, "a lease ends by itself");
            }
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_the_server_that_was_asked_with_its_port() {
        let server = Url::parse("https://esx.example:8443/").expect("right");
        let found = |said: &str| address(said, &server).map(String::from);
        let star = Some("https://esx.example:8443/ha-nfc/52-a/disk-0.vmdk".to_owned());
        assert_eq!(found("https://*/ha-nfc/52-a/disk-0.vmdk"), star);
        assert_eq!(found("https://*:443/ha-nfc/52-a/disk-0.vmdk"), star);
        let other = "https://esx2.example/nfc/52-a/disk-0.vmdk";
        assert_eq!(found(other).as_deref(), Some(other));
        for bad in ["http://*/nfc/1", "https://u:p@esx/nfc/1", "/nfc/1", "", "ftp://esx/1"] {
            assert_eq!(found(bad), None, "{bad}");
        }
        let six = Url::parse("https://[::1]:8443/").expect("right");
        assert_eq!(address("https://*/a", &six).map(String::from).as_deref(), Some("https://[::1]:8443/a"));
    }
}
