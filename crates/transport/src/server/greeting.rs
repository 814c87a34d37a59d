//! From the connection to the welcome: who it is, what it may do, and whom it wants to talk to.

use super::clients::Registered;
use super::served::Served;
use super::strangers::Stranger;
use super::{Offer, session::goodbye};
use crate::allow::{Rights, Shown};
use crate::fault::{Fault, Result};
use crate::frame::{Kind, json};
use crate::message::{Hello, LONGEST_WORD, SPOKEN, Welcome};
use crate::tls::{Plane, Secure};
use crate::told::Told;
use crate::wire::{Inlet, Outlet, ways};
use futures_util::future::{AbortRegistration, Abortable};
use site_recovery::{Error, ErrorKind};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

/// Who is welcome.
pub(super) struct Guest {
    pub(super) outlet: Outlet,
    pub(super) inlet: Inlet,
    pub(super) hello: Hello,
    pub(super) served: Served,
    pub(super) rights: Rights,
    pub(super) place: OwnedSemaphorePermit,
    pub(super) registered: Registered,
}

/// Who has come, by its certificate, and what for.
pub(super) struct Comer {
    pub(super) secure: Secure,
    pub(super) shown: Shown,
    pub(super) plane: Plane,
    /// What it may do, and a place for it; or why it is not let in.
    pub(super) admitted: Result<(Rights, OwnedSemaphorePermit)>,
}

/// Hears who comes.
pub(super) async fn identify(
    stream: TcpStream,
    (stranger, registration): (Stranger, AbortRegistration),
    offer: &Offer,
) -> Result<Comer, Fault> {
    let identified = Abortable::new(offer.identify(stream), registration).await;
    drop(stranger);
    identified.map_err(|_| Fault::Ended("the oldest of too many that had not said who they are"))?
}

/// Says welcome on the data plane, or why not.
pub(super) async fn greet(comer: Comer, offer: &Offer) -> Result<Guest, Fault> {
    let (mut outlet, mut inlet) = ways(comer.secure, &offer.clock, offer.limits.stall);
    let (rights, place) = match comer.admitted {
        Ok(admitted) => admitted,
        Err(error) => return Err(turn_away(outlet, inlet, Fault::Unwelcome(error)).await),
    };
    let header = inlet.header().await?;
    if header.kind != Kind::Hello {
        return Err(Fault::protocol(format!("{:?} before a hello", header.kind)));
    }
    let hello: Hello = json("a hello", &inlet.body(header, LONGEST_WORD).await?)?;
    let admitted = async {
        let (version, served) = offer.admit(&hello)?;
        let registered = offer.clients.register(&hello.client, hello.connection).await?;
        Ok::<_, Fault>((version, served, registered))
    };
    match admitted.await {
        Ok((version, served, registered)) => {
            let welcome = serde_json::to_vec(&offer.welcome(version, &served, &hello.kind))
                .expect("plain data serialises");
            outlet.send(Kind::Welcome, 0, &[welcome.into()]).await?;
            Ok(Guest { outlet, inlet, hello, served, rights, place, registered })
        }
        Err(fault) => Err(turn_away(outlet, inlet, fault).await),
    }
}

/// Says why, and lets it be read.
async fn turn_away(mut outlet: Outlet, inlet: Inlet, fault: Fault) -> Fault {
    if outlet.send(Kind::Unwelcome, 0, &[Told::from(&fault.told()).to_json().into()]).await.is_ok() {
        goodbye(outlet, inlet).await;
    }
    fault
}

impl Offer {
    async fn identify(&self, stream: TcpStream) -> Result<Comer, Fault> {
        stream.set_nodelay(true)?;
        let (secure, shown, plane) = self.tls.accept(stream).await?;
        let admitted = self.rules.rights(&shown).and_then(|rights| {
            let place = Arc::clone(&self.places).try_acquire_owned();
            let taken = |_| {
                let said = format!("all {} connections are taken", self.limits.connections);
                Error::new(ErrorKind::Busy, said).with("limit", "Limits::connections")
            };
            Ok((rights, place.map_err(taken)?))
        });
        Ok(Comer { secure, shown, plane, admitted })
    }

    /// The version to speak, and whom with.
    fn admit(&self, hello: &Hello) -> Result<(u32, Served), Fault> {
        let version = SPOKEN.common(hello.versions);
        let version = version.ok_or(Fault::Version { ours: SPOKEN, theirs: hello.versions })?;
        Ok((version, self.served(&hello.role)?))
    }

    fn welcome(&self, version: u32, served: &Served, kind: &str) -> Welcome {
        Welcome {
            version,
            capability: served.capability_as(kind),
            credit: self.limits.connection_bytes as u32,
            requests: self.limits.connection_requests as u32,
            silence: self.limits.stall.as_millis() as u64,
        }
    }
}
