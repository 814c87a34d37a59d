//! What a service shows, on disk and in use.

use super::certify;
use super::digits::sha256;
use super::handshake::{Revocations, Shows};
use super::link::{self, Given, Link};
use super::place::{self, Key, RECORD};
use super::revoked::{Revoked, Serial};
use super::roster::{RosterEntry, Stated, address_rule};
use super::service::Service;
use super::token::JoinToken;
use crate::allow::Shown;
use crate::fault::Result;
use crate::tls::{Asks, ClientTls, ServerTls, Serves};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use site_recovery::{Clock, Error, ErrorKind, SystemClock, Timestamp};
use site_recovery_register::{blocking, durable, refused};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;
use tokio::sync::watch;

/// The certificate of a service and its key, which was made here and never left. Clones are the same ones.
#[derive(Debug, Clone)]
pub struct Credentials(pub(super) Arc<Inner>);

/// Where credentials are, before they are joined or opened; see [`Credentials::at`].
#[derive(Debug, Clone)]
pub struct CredentialsBuilder {
    dir: PathBuf,
    clock: Arc<dyn Clock>,
    stated: Option<Stated>,
    authority: Option<String>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) dir: PathBuf,
    pub(super) clock: Arc<dyn Clock>,
    /// What is on disk.
    record: RwLock<Arc<Record>>,
    serves: watch::Sender<Serves>,
    asks: watch::Sender<Asks>,
    pub(super) revoked: Revocations,
    pub(super) roster: watch::Sender<Arc<Vec<RosterEntry>>>,
    /// What it says of itself with the next renewal.
    stated: RwLock<Stated>,
    /// One renewal at a time.
    renewing: Arc<tokio::sync::Mutex<()>>,
    /// One at a time takes over what the authority told, here and on disk.
    pub(super) learning: Mutex<()>,
}

/// All in one file, so that key and certificate never part.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) version: u32,
    pub(super) service: Service,
    /// Where the authority is.
    pub(super) authority: String,
    /// PEM.
    ca: String,
    certificate: String,
    key: Key,
    from: Timestamp,
    pub(super) until: Timestamp,
    pub(super) stated: Stated,
}

/// A key that was made for a token, before its certificate came.
#[derive(Debug, Serialize, Deserialize)]
struct Pending {
    version: u32,
    token: String,
    key: Key,
}

impl CredentialsBuilder {
    /// Another clock than the machine's.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// What the service says of itself. Without it, what it said last.
    #[must_use]
    pub fn states(mut self, stated: Stated) -> Self {
        self.stated = Some(stated);
        self
    }

    /// Where the authority is now (host and port), if it has moved since the service joined. It is the same one: moving proves
    /// nothing.
    #[must_use]
    pub fn authority(mut self, address: impl Into<String>) -> Self {
        self.authority = Some(address.into());
        self
    }

    /// Joins by a token, and replaces what may be here.
    ///
    /// # Errors
    /// `Denied` for a token that is not known, has expired, or was used by another key, for a server of another authority than
    /// the token's, and for roles that the token does not allow; `Unsupported`, naming both, where there is no common version;
    /// `Unavailable` where the authority is not reached; `Refused` where others may look into the directory; those of the
    /// file system.
    ///
    /// # Cancel safety
    /// Dropped, or failed by a reply that was lost, it can be called again with the same token: the key is the same one.
    pub async fn join(self, token: &JoinToken) -> Result<Credentials> {
        let stated = self.stated.clone().unwrap_or_default();
        stated.check()?;
        let (dir, id) = (self.dir.clone(), token.id.clone());
        let key = blocking(move || pending(&dir, &id)).await?;
        let request = certify::request(&key)?;
        let given = link::join(token, request, &stated, &self.clock).await?;
        let record = record(given, token.address.clone(), &key, stated, &*self.clock);
        let dir = self.dir.clone();
        let record = blocking(move || {
            // Before it is kept: what cannot be used leaves what was there.
            shows(&record)?;
            place::write(&dir.join("identity.json"), &record)?;
            durable::remove_file(&dir.join("joining.json"))?;
            Ok(record)
        })
        .await?;
        self.live(record).await
    }

    /// Opens what joined before.
    ///
    /// # Errors
    /// `NotFound` where nothing is: join first. `Invalid` for an address or a statement that is none. `Refused` for a certificate that has expired: join anew. `Corrupt`,
    /// `Unsupported`; `Refused` where others may look into the directory; those of the file system.
    pub async fn open(self) -> Result<Credentials> {
        self.stated.as_ref().map_or(Ok(()), Stated::check)?;
        self.authority.as_deref().map_or(Ok(()), address_rule)?;
        let dir = self.dir.clone();
        let mut record = blocking(move || {
            place::private(&dir)?;
            let path = dir.join("identity.json");
            let Some(record) = place::read::<Record>(&path)? else {
                let said = format!("there are no credentials in {}: join by a token", dir.display());
                return Err(Error::new(ErrorKind::NotFound, said));
            };
            place::known(record.version, &path)?;
            Ok(record)
        })
        .await?;
        valid(&record.service, record.until, self.clock.now())?;
        record.authority = self.authority.clone().unwrap_or(record.authority);
        self.live(record).await
    }

    async fn live(self, record: Record) -> Result<Credentials> {
        let dir = self.dir.clone();
        let (revoked, roster) = blocking(move || {
            let revoked: Option<Revoked> = place::read(&dir.join("revoked.json"))?;
            let roster: Option<Vec<RosterEntry>> = place::read(&dir.join("roster.json"))?;
            Ok((revoked.unwrap_or_default(), roster.unwrap_or_default()))
        })
        .await?;
        let revoked = Revocations::new(Arc::new(revoked));
        let (serves, asks) = configs(&record, &self.clock, &revoked)?;
        Ok(Credentials(Arc::new(Inner {
            stated: RwLock::new(self.stated.unwrap_or_else(|| record.stated.clone())),
            dir: self.dir,
            clock: self.clock,
            record: RwLock::new(Arc::new(record)),
            serves: watch::Sender::new(serves),
            asks: watch::Sender::new(asks),
            revoked,
            roster: watch::Sender::new(Arc::new(roster)),
            renewing: Arc::default(),
            learning: Mutex::default(),
        })))
    }
}

impl Credentials {
    /// Those in this directory, which is for their owner alone and is made where it is missing.
    pub fn at(directory: impl Into<PathBuf>) -> CredentialsBuilder {
        CredentialsBuilder {
            dir: directory.into(),
            clock: Arc::new(SystemClock),
            stated: None,
            authority: None,
        }
    }

    /// Whose they are.
    pub fn service(&self) -> Service {
        self.record().service.clone()
    }

    /// The certificate's serial number.
    pub fn serial(&self) -> Serial {
        self.0.serves.borrow().serial.clone().expect("an authority's certificate has one")
    }

    /// When the certificate expires, by this side's clock.
    pub fn until(&self) -> Timestamp {
        self.record().until
    }

    /// From when they count.
    pub fn from(&self) -> Timestamp {
        self.record().from
    }

    /// For a server: it always shows the newest certificate.
    pub fn server_tls(&self) -> ServerTls {
        ServerTls::live(self.0.serves.clone(), self.0.revoked.clone())
    }

    /// For a client of this service, wherever it is: it always shows the newest certificate.
    ///
    /// # Errors
    /// None for a service that was made; `Invalid` is what TLS says of names.
    pub fn client_tls(&self, service: &Service) -> Result<ClientTls> {
        ClientTls::live(self.0.asks.clone(), &service.dns_name())
    }

    /// Says something else of the service, with the next renewal.
    ///
    /// # Errors
    /// `Invalid`, naming the field.
    pub fn state(&self, stated: Stated) -> Result<()> {
        stated.check()?;
        *self.0.stated.write().expect("no panic under this lock") = stated;
        Ok(())
    }

    /// Gets a certificate for a new key. Connections that stand go on; new ones show it.
    ///
    /// # Errors
    /// `Refused` for a certificate that has expired: join anew. `Denied` for one that was revoked, and for roles that the
    /// service may not state; `Unavailable`, `Busy` pass.
    ///
    /// # Cancel safety
    /// Dropped, the old certificate or the new one is in use, and the same is on disk.
    pub async fn renew(&self) -> Result<()> {
        let one = Arc::clone(&self.0.renewing).lock_owned().await;
        let stated = self.stated();
        let key = key()?;
        let mut link = self.link().await?;
        let given = link.renew(certify::request(&key)?, &stated).await?;
        let old = self.record();
        if given.service != old.service {
            let said =
                format!("the authority answers {} with a certificate of {}", old.service, given.service);
            return Err(Error::new(ErrorKind::Corrupt, said));
        }
        let record = record(given, old.authority.clone(), &key, stated, &*self.0.clock);
        let inner = Arc::clone(&self.0);
        // To its end, also where nobody waits: what is on disk is what is in use.
        blocking(move || {
            let _one = one;
            let (serves, asks) = configs(&record, &inner.clock, &inner.revoked)?;
            place::write(&inner.dir.join("identity.json"), &record)?;
            *inner.record.write().expect("no panic under this lock") = Arc::new(record);
            inner.serves.send_replace(serves);
            inner.asks.send_replace(asks);
            Ok(())
        })
        .await
    }

    pub(super) fn record(&self) -> Arc<Record> {
        Arc::clone(&self.0.record.read().expect("no panic under this lock"))
    }

    pub(super) fn stated(&self) -> Stated {
        self.0.stated.read().expect("no panic under this lock").clone()
    }

    /// When the certificate is to be renewed: at half of its life, or now if the service says something new of itself, or
    /// had it when the clock was ahead of now, and does not know how long it is good.
    pub(super) fn due(&self) -> Timestamp {
        let record = self.record();
        if self.stated() != record.stated || self.0.clock.now() < record.from {
            return Timestamp(0);
        }
        record.from.after(record.until.since(record.from) / 2)
    }

    pub(super) async fn link(&self) -> Result<Link> {
        let record = self.record();
        valid(&record.service, record.until, self.0.clock.now())?;
        let config = Arc::clone(&self.0.asks.borrow().config);
        let ca = CertificateDer::from_pem_slice(record.ca.as_bytes()).map_err(|_| damaged())?;
        Link::open(&record.authority, &config, sha256(&ca), &self.0.clock).await
    }
}

/// Whether a certificate still counts.
pub(crate) fn valid(service: &Service, until: Timestamp, now: Timestamp) -> Result<()> {
    if now < until {
        return Ok(());
    }
    let said = format!("the certificate of {service} expired at {until}: join anew, by a fresh token");
    Err(refused(said).with("expired", until))
}

fn key() -> Result<rcgen::KeyPair> {
    let key = rcgen::KeyPair::generate();
    key.map_err(|e| Error::new(ErrorKind::Unavailable, "no key can be made").caused_by(e))
}

fn damaged() -> Error {
    Error::new(ErrorKind::Corrupt, "the credentials are damaged: join anew, by a fresh token")
}

/// The key for this token: the one that was made for it already, where a reply was lost.
fn pending(dir: &std::path::Path, token: &str) -> Result<rcgen::KeyPair> {
    place::private(dir)?;
    let path = dir.join("joining.json");
    let known = place::read::<Pending>(&path)?.filter(|p| p.version == RECORD && p.token == token);
    if let Some(pending) = known {
        return rcgen::KeyPair::from_pem(&pending.key.0).map_err(|_| damaged());
    }
    let key = key()?;
    let record = Pending { version: RECORD, token: token.to_owned(), key: Key(key.serialize_pem()) };
    place::write(&path, &record)?;
    Ok(key)
}

fn record(
    given: Given,
    authority: String,
    key: &rcgen::KeyPair,
    stated: Stated,
    clock: &dyn Clock,
) -> Record {
    let now = clock.now();
    Record {
        version: RECORD,
        service: given.service,
        authority,
        ca: given.ca,
        certificate: given.certificate,
        key: Key(key.serialize_pem()),
        from: now,
        until: now.after(given.life.min(Duration::from_secs(366 * 24 * 60 * 60))),
        stated,
    }
}

fn shows(record: &Record) -> Result<Shows> {
    let certificate = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| damaged());
    Ok(Shows {
        certificate: certificate(&record.certificate)?,
        ca: certificate(&record.ca)?,
        key: PrivateKeyDer::from_pem_slice(record.key.0.as_bytes()).map_err(|_| damaged())?,
    })
}

fn configs(record: &Record, clock: &Arc<dyn Clock>, revoked: &Revocations) -> Result<(Serves, Asks)> {
    let shows = shows(record)?;
    let own = Some((record.service.clone(), record.until, Arc::clone(clock)));
    let serial = Shown::of(&shows.certificate).serial().cloned();
    Ok((
        Serves::new(shows.server(clock, revoked)?, own.clone(), serial),
        Asks::new(shows.client(clock, revoked)?, own),
    ))
}
