//! The authority of a vault: it mints tokens, signs certificates, and takes them back.

use super::certify::{Ca, Requested, Signed};
use super::digits::hex;
use super::ledger::{Issued, Ledger, Member, Spent, TokenRecord};
use super::place::{self, Key, RECORD};
use super::revoked::{Revoked, Serial};
use super::roster::{RosterEntry, Stated};
use super::service::Service;
use super::token::{Invitation, JoinToken};
use crate::fault::Result;
use serde::{Deserialize, Serialize};
use site_recovery::{Clock, Error, ErrorKind};
use site_recovery_register::{blocking, locked};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The authority, in a directory of its own. Several processes may have it open, to mint or to revoke beside the one that
/// serves it: each look and each change is one turn at the ledger.
#[derive(Debug, Clone)]
pub struct Authority(Arc<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    dir: PathBuf,
    ca: Arc<Ca>,
    pem: String,
    life: Duration,
    clock: Arc<dyn Clock>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    version: u32,
    certificate: String,
    key: Key,
}

/// What a service comes with to join.
pub(super) struct Joining {
    pub(super) token: String,
    pub(super) secret: Vec<u8>,
    pub(super) request: Vec<u8>,
    pub(super) stated: Stated,
}

/// What it gets.
#[derive(Debug)]
pub(super) struct Granted {
    pub(super) service: Service,
    /// PEM.
    pub(super) certificate: String,
    pub(super) life: Duration,
}

impl Authority {
    /// Opens the authority in `directory`, or makes one where there is none. Its certificates live a day. Blocks.
    ///
    /// # Errors
    /// `Refused` where others may look into the directory; `Corrupt` for what is there and damaged; `Unsupported` for what a
    /// newer program wrote; those of the file system.
    pub fn open(directory: impl Into<PathBuf>, clock: Arc<dyn Clock>) -> Result<Self> {
        let dir = directory.into();
        place::private(&dir)?;
        let path = dir.join("authority.json");
        let turn = locked(&dir.join("ledger.lock"))?;
        let record = match place::read::<Record>(&path)? {
            Some(record) => record,
            None => {
                let (certificate, key) = Ca::make(clock.now())?;
                let record = Record { version: RECORD, certificate, key: Key(key) };
                place::write(&path, &record)?;
                record
            }
        };
        drop(turn);
        place::known(record.version, &path)?;
        let ca = Arc::new(Ca::read(&record.certificate, &record.key.0)?);
        let life = Duration::from_secs(24 * 60 * 60);
        Ok(Self(Arc::new(Inner { dir, ca, pem: record.certificate, life, clock })))
    }

    /// The same one, whose certificates live that long from now on: a minute to 30 days. What is revoked is known to a service
    /// only once it has asked; a short life bounds what that costs.
    ///
    /// # Errors
    /// `Invalid` for another span.
    pub fn certificates_live(self, span: Duration) -> Result<Self> {
        let (least, most) = (Duration::from_secs(60), super::ledger::REMEMBERED);
        if !(least..=most).contains(&span) {
            let rule = "it is a minute to 30 days";
            return Err(Error::invalid("life", format!("{span:?}"), rule, "choose another span"));
        }
        Ok(Self(Arc::new(Inner { life: span, ..Inner::clone(&self.0) })))
    }

    /// Its certificate, as PEM: what is trusted by all who join.
    pub fn certificate(&self) -> &str {
        &self.0.pem
    }

    /// SHA-256 of its certificate, as tokens name it: hexadecimal digits.
    pub fn pin(&self) -> String {
        hex(&self.0.ca.pin())
    }

    pub(super) fn ca(&self) -> &Ca {
        &self.0.ca
    }

    pub(super) fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.clock
    }

    /// Mints a token. Only a digest of its secret is kept.
    ///
    /// # Errors
    /// `Invalid`, naming the field; `Conflict` for a role that another service has, or is promised: revoke that service first.
    pub async fn mint(&self, invitation: Invitation) -> Result<JoinToken> {
        self.turn(move |inner, ledger| inner.mint(ledger, invitation)).await
    }

    /// Revokes all certificates of a service, its tokens that were not used yet, and its entry in the roster. Services learn
    /// of it when they ask next. A token that is minted later lets it join anew.
    ///
    /// # Errors
    /// `NotFound` for a service that never joined and has no token.
    pub async fn revoke(&self, service: &Service) -> Result<Revoked> {
        let service = service.clone();
        self.turn(move |inner, ledger| inner.revoke(ledger, &service)).await
    }

    /// Revokes one certificate. Its service may still have others.
    ///
    /// # Errors
    /// `NotFound` for a certificate that is not on record.
    pub async fn revoke_certificate(&self, serial: &Serial) -> Result<Revoked> {
        let serial = serial.clone();
        self.turn(move |_, ledger| {
            let of = |m: &Member| m.issued.iter().any(|issued| issued.serial == serial);
            let Some(member) = ledger.members()?.into_iter().find(of) else {
                let said = format!("no certificate {serial} is on record here");
                return Err(Error::new(ErrorKind::NotFound, said));
            };
            let mut revoked = ledger.revoked()?;
            revoked.add(serial, member.service);
            ledger.put_revoked(&revoked)?;
            Ok(revoked)
        })
        .await
    }

    /// All certificates that were revoked.
    ///
    /// # Errors
    /// Those of the file system.
    pub async fn revoked(&self) -> Result<Revoked> {
        self.turn(|_, ledger| ledger.revoked()).await
    }

    /// Where every service is.
    ///
    /// # Errors
    /// Those of the file system.
    pub async fn roster(&self) -> Result<Vec<RosterEntry>> {
        self.turn(|_, ledger| ledger.roster()).await
    }

    /// Spends a token.
    pub(super) async fn join(&self, joining: Joining) -> Result<Granted> {
        // Before its turn: it is the costly part of what strangers can ask for.
        let request = Requested::read(&joining.request)?;
        self.turn(move |inner, ledger| inner.join(ledger, joining, &request)).await
    }

    /// Signs a new key of a service that shows a certificate which counts.
    pub(super) async fn renew(&self, who: Membership, request: &[u8], stated: Stated) -> Result<Granted> {
        let request = Requested::read(request)?;
        self.turn(move |inner, ledger| inner.renew(ledger, &who, &request, stated)).await
    }

    /// For a service that shows a certificate which counts.
    pub(super) async fn told_revoked(&self, who: Membership) -> Result<Revoked> {
        self.turn(move |_, ledger| who.check(ledger).and_then(|_| ledger.revoked())).await
    }

    /// For a service that shows a certificate which counts.
    pub(super) async fn told_roster(&self, who: Membership) -> Result<Vec<RosterEntry>> {
        self.turn(move |_, ledger| who.check(ledger).and_then(|_| ledger.roster())).await
    }

    async fn turn<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner, &Ledger) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let inner = Arc::clone(&self.0);
        blocking(move || work(&inner, &Ledger::turn(&inner.dir)?)).await
    }
}

/// Who asks, by its certificate.
#[derive(Debug, Clone)]
pub(super) struct Membership {
    pub(super) service: Service,
    pub(super) serial: Serial,
}

impl Membership {
    fn check(&self, ledger: &Ledger) -> Result<Member> {
        if ledger.revoked()?.contains(&self.serial) {
            let said = format!("the certificate of {} was revoked: it can only join anew", self.service);
            return Err(Error::new(ErrorKind::Denied, said).with("serial", &self.serial));
        }
        let member = ledger.member(&self.service)?;
        let member = member.filter(|m| m.issued.iter().any(|issued| issued.serial == self.serial));
        member.ok_or_else(|| {
            let said =
                format!("the certificate of {} is not on record here: it can only join anew", self.service);
            Error::new(ErrorKind::Denied, said).with("serial", &self.serial)
        })
    }
}

impl Inner {
    fn mint(&self, ledger: &Ledger, invitation: Invitation) -> Result<JoinToken> {
        invitation.check()?;
        let now = self.clock.now();
        ledger.forget(now)?;
        let Invitation { service, address, roles, valid } = invitation;
        for role in &roles {
            if let Some(holder) = ledger.holder(role, now)?.filter(|holder| *holder != service) {
                let said = format!("{role} is {holder}'s: revoke that one before another service gets it");
                return Err(Error::new(ErrorKind::Conflict, said).with("role", role));
            }
        }
        let token = JoinToken::mint(self.ca.pin(), address)?;
        let record = TokenRecord {
            version: RECORD,
            service,
            roles,
            secret: JoinToken::digest(&token.secret),
            expires: now.after(valid),
            void: false,
            spent: None,
        };
        ledger.put_token(&token.id, &record)?;
        Ok(token)
    }

    fn join(&self, ledger: &Ledger, joining: Joining, request: &Requested) -> Result<Granted> {
        let now = self.clock.now();
        let Joining { token: id, secret, stated, .. } = joining;
        let denied = |said: &str| Error::new(ErrorKind::Denied, format!("{said}: have a new one minted"));
        // One answer for both: whoever has no secret learns nothing about ids.
        let known = ledger.token(&id)?.filter(|token| token.secret == JoinToken::digest(&secret));
        let mut token = known.ok_or_else(|| denied("this token is not known here"))?;
        if token.void {
            return Err(denied("this token was revoked"));
        }
        if now >= token.expires {
            return Err(denied("this token has expired"));
        }
        let key = request.digest();
        if token.spent.as_ref().is_some_and(|spent| spent.key != key) {
            return Err(denied("this token was used already, by another key"));
        }
        let revoked = ledger.revoked()?;
        if token.spent.as_ref().is_some_and(|spent| revoked.contains(&spent.serial)) {
            return Err(denied("this token was used already, and what it gave was revoked"));
        }
        let fresh = Member {
            version: RECORD,
            service: token.service.clone(),
            granted: vec![],
            stated: Stated::default(),
            issued: vec![],
        };
        let mut member = ledger.member(&token.service)?.unwrap_or(fresh);
        let before = member.granted.clone();
        // A rescue system's token takes nothing from the server's own: what a service may say is taken back by revoking it.
        member.granted.extend(token.roles.iter().filter(|role| !before.contains(role)).cloned());
        member.state(stated)?;
        let signed = self.sign(&mut member, request)?;
        ledger.put_member(&member)?;
        token.spent = Some(Spent { key, serial: signed.serial.clone() });
        ledger.put_token(&id.to_ascii_lowercase(), &token)?;
        Ok(self.granted(member.service, signed))
    }

    fn renew(
        &self,
        ledger: &Ledger,
        who: &Membership,
        request: &Requested,
        stated: Stated,
    ) -> Result<Granted> {
        let mut member = who.check(ledger)?;
        member.state(stated)?;
        let signed = self.sign(&mut member, request)?;
        ledger.put_member(&member)?;
        Ok(self.granted(member.service, signed))
    }

    fn sign(&self, member: &mut Member, request: &Requested) -> Result<Signed> {
        let now = self.clock.now();
        let signed = self.ca.sign(&member.service, request.key(), now, self.life)?;
        let issued = Issued { serial: signed.serial.clone(), key: request.digest(), until: signed.until };
        member.issue(issued, now)?;
        Ok(signed)
    }

    fn granted(&self, service: Service, signed: Signed) -> Granted {
        Granted { service, certificate: signed.certificate.pem(), life: signed.until.since(self.clock.now()) }
    }

    fn revoke(&self, ledger: &Ledger, service: &Service) -> Result<Revoked> {
        let member = ledger.member(service)?;
        let tokens: Vec<_> = ledger.tokens()?.into_iter().filter(|(_, t)| t.service == *service).collect();
        if member.is_none() && tokens.is_empty() {
            let said = format!("{service} never joined here, and has no token");
            return Err(Error::new(ErrorKind::NotFound, said));
        }
        let mut revoked = ledger.revoked()?;
        for issued in member.iter().flat_map(|member| &member.issued) {
            revoked.add(issued.serial.clone(), service.clone());
        }
        ledger.put_revoked(&revoked)?;
        for (id, token) in tokens {
            ledger.put_token(&id, &TokenRecord { void: true, ..token })?;
        }
        if let Some(member) = member {
            ledger.put_member(&Member { granted: vec![], stated: Stated::default(), ..member })?;
        }
        Ok(revoked)
    }
}

#[cfg(test)]
mod tests;
