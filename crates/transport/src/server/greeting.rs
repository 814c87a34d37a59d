//! From the connection to the welcome: who it is, what it may do, and whom it wants to talk to.

use super::clients::Registered;
use super::strangers::Stranger;
use super::{Offer, session::goodbye};
use crate::allow::Rights;
use crate::fault::{Fault, Result};
use crate::frame::{Kind, json};
use crate::message::{Hello, LONGEST_WORD, SPOKEN, Welcome};
use crate::tls::Plane;
use crate::told::Told;
use crate::wire::{Inlet, Outlet, ways};
use futures_util::future::{AbortRegistration, Abortable};
use site_recovery::{Error, ErrorKind, RecoveryPointStore};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

/// Who is welcome.
pub(super) struct Guest {
    pub(super) outlet: Outlet,
    pub(super) inlet: Inlet,
    pub(super) hello: Hello,
    pub(super) role: Arc<dyn RecoveryPointStore>,
    pub(super) rights: Rights,
    pub(super) place: OwnedSemaphorePermit,
    pub(super) registered: Registered,
}

/// Hears who comes, and says welcome or why not.
pub(super) async fn greet(
    stream: TcpStream,
    (stranger, registration): (Stranger, AbortRegistration),
    offer: &Offer,
) -> Result<Guest, Fault> {
    let identified = Abortable::new(identify(stream, offer), registration).await;
    drop(stranger);
    let making_room = |_| Fault::Ended("the oldest of too many that had not said who they are");
    let (mut outlet, mut inlet, rights, place) = identified.map_err(making_room)??;
    let header = inlet.header().await?;
    if header.kind != Kind::Hello {
        return Err(Fault::protocol(format!("{:?} before a hello", header.kind)));
    }
    let hello: Hello = json("a hello", &inlet.body(header, LONGEST_WORD).await?)?;
    let admitted = async {
        let (version, role) = offer.admit(&hello)?;
        let registered = offer.clients.register(&hello.client, hello.connection).await?;
        Ok::<_, Fault>((version, role, registered))
    };
    match admitted.await {
        Ok((version, role, registered)) => {
            let welcome = serde_json::to_vec(&offer.welcome(version, &*role)).expect("plain data serialises");
            outlet.send(Kind::Welcome, 0, &[welcome.into()]).await?;
            Ok(Guest { outlet, inlet, hello, role, rights, place, registered })
        }
        Err(fault) => Err(turn_away(outlet, inlet, fault).await),
    }
}

/// Who it is by its certificate, what it may do, and a place for it.
async fn identify(
    stream: TcpStream,
    offer: &Offer,
) -> Result<(Outlet, Inlet, Rights, OwnedSemaphorePermit), Fault> {
    stream.set_nodelay(true)?;
    let (secure, shown, plane) = offer.tls.accept(stream).await?;
    if plane != Plane::Data {
        return Err(Fault::protocol("the client asks for control, which is not served here"));
    }
    let (outlet, inlet) = ways(secure, &offer.clock, offer.limits.stall);
    let rights = match offer.rules.rights(&shown) {
        Ok(rights) => rights,
        Err(denied) => return Err(turn_away(outlet, inlet, Fault::Unwelcome(denied)).await),
    };
    match Arc::clone(&offer.places).try_acquire_owned() {
        Ok(place) => Ok((outlet, inlet, rights, place)),
        Err(_) => {
            let said = format!("all {} connections are taken", offer.limits.connections);
            let busy = Error::new(ErrorKind::Busy, said).with("limit", "Limits::connections");
            Err(turn_away(outlet, inlet, Fault::Unwelcome(busy)).await)
        }
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
    /// The version to speak, and whom with.
    fn admit(&self, hello: &Hello) -> Result<(u32, Arc<dyn RecoveryPointStore>), Fault> {
        let version = SPOKEN.common(hello.versions);
        let version = version.ok_or(Fault::Version { ours: SPOKEN, theirs: hello.versions })?;
        let role = self.roles.get(&hello.role).cloned().ok_or_else(|| {
            let said = format!("no role {:?} is served here", hello.role.0);
            Fault::Unwelcome(Error::new(ErrorKind::NotFound, said))
        })?;
        Ok((version, role))
    }

    fn welcome(&self, version: u32, role: &dyn RecoveryPointStore) -> Welcome {
        Welcome {
            version,
            capability: role.capability(),
            credit: self.limits.connection_bytes as u32,
            requests: self.limits.connection_requests as u32,
            silence: self.limits.stall.as_millis() as u64,
        }
    }
}
