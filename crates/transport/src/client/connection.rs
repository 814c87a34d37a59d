//! One connection: the hello, requests out, answers in.

use super::far::Far;
use super::flight::{Flight, Grant, Next, told};
use crate::fault::{Fault, Result};
use crate::frame::{Kind, json};
use crate::message::{Hello, LONGEST_WORD, SPOKEN, Versions, Welcome, beat};
use crate::tls::Plane;
use crate::wire::{Inlet, Outlet, ways};
use site_recovery::{Capability, Clock, Error};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;

pub(super) struct Connection {
    outlet: Outlet,
    inlet: Inlet,
    clock: Arc<dyn Clock>,
    grant: Grant,
    beat: Duration,
    longest: u32,
    capability: Capability,
}

impl Connection {
    /// Connects and says hello. `number` counts up.
    pub(super) async fn open(far: &Far, number: u64) -> Result<Self, Fault> {
        let stream = TcpStream::connect(&far.address).await?;
        stream.set_nodelay(true)?;
        let (mut outlet, mut inlet) =
            ways(far.tls.connect(stream, Plane::Data).await?, &far.clock, far.stall);
        let hello = Hello {
            versions: SPOKEN,
            role: far.role.clone(),
            kind: far.kind.to_owned(),
            client: far.client.clone(),
            connection: number,
            silence: far.stall.as_millis() as u64,
            longest: far.longest,
        };
        let hello = serde_json::to_vec(&hello).expect("plain data serialises");
        // Who is not let in may find the way out closed already; why is to be read.
        let said = outlet.send(Kind::Hello, 0, &[hello.into()]).await;
        let header = match (inlet.header().await, said) {
            (Ok(header), _) => header,
            (Err(Fault::Tls(e)), _) => return Err(Fault::Tls(e)),
            (Err(_), Err(fault)) | (Err(fault), Ok(())) => return Err(fault),
        };
        let body = inlet.body(header, LONGEST_WORD).await?;
        match header.kind {
            Kind::Welcome => {}
            Kind::Unwelcome => return Err(Fault::Unwelcome(Error::from(told(&body)?))),
            other => return Err(Fault::Protocol(format!("{other:?} before a welcome"))),
        }
        let welcome: Welcome = json("a welcome", &body)?;
        if !SPOKEN.contains(welcome.version) {
            let theirs = Versions { oldest: welcome.version, newest: welcome.version };
            return Err(Fault::Version { ours: SPOKEN, theirs });
        }
        Ok(Self {
            outlet,
            inlet,
            clock: Arc::clone(&far.clock),
            grant: Grant { credit: welcome.credit, requests: welcome.requests },
            beat: beat(welcome.silence),
            longest: far.longest,
            capability: welcome.capability,
        })
    }

    pub(super) fn capability(&self) -> &Capability {
        &self.capability
    }

    /// Sends and receives until something breaks, or nobody asks any more.
    pub(super) async fn run(self, flight: &Flight) -> Fault {
        let Self { mut outlet, mut inlet, clock, grant, beat, longest, .. } = self;
        flight.connected();
        tokio::select! {
            biased;
            Err(fault) = receive(&mut inlet, flight, longest) => fault,
            Err(fault) = send(&mut outlet, flight, &*clock, grant, beat) => fault,
        }
    }
}

async fn send(
    outlet: &mut Outlet,
    flight: &Flight,
    clock: &dyn Clock,
    grant: Grant,
    beat: Duration,
) -> Result<std::convert::Infallible, Fault> {
    loop {
        match flight.next(grant) {
            Next::Send { kind, id, parts } => outlet.send(kind, id, &parts).await?,
            Next::Closed => {
                outlet.finish().await?;
                return Err(Fault::Ended("closed by its owner"));
            }
            Next::Nothing => tokio::select! {
                biased;
                () = flight.changed() => {}
                () = clock.sleep(beat) => outlet.send(Kind::Beat, 0, &[]).await?,
            },
        }
    }
}

async fn receive(
    inlet: &mut Inlet,
    flight: &Flight,
    longest: u32,
) -> Result<std::convert::Infallible, Fault> {
    loop {
        let header = inlet.header().await?;
        match header.kind {
            Kind::Beat if header.len == 0 => {}
            Kind::Answer => {
                let mut landing = flight.landing(header.id)?;
                match landing.room() {
                    Some(room) if room.len() == header.len as usize => {
                        inlet.fill(room).await?;
                        landing.filled();
                    }
                    Some(room) => {
                        let what = format!("{} bytes for a read of {}", header.len, room.len());
                        return Err(Fault::Protocol(what));
                    }
                    None => {
                        let body = inlet.body(header, landing.left_of(longest)).await?;
                        landing.last(body);
                    }
                }
            }
            Kind::Part => {
                let mut landing = flight.landing(header.id)?;
                if landing.room().is_some() {
                    return Err(Fault::protocol("a part of a list for a read"));
                }
                let body = inlet.body(header, landing.left_of(longest)).await?;
                landing.part(body);
            }
            Kind::Failed => {
                let landing = flight.landing(header.id)?;
                let body = inlet.body(header, LONGEST_WORD).await?;
                landing.failed(told(&body)?);
            }
            other => return Err(Fault::Protocol(format!("{other:?} from a server"))),
        }
    }
}
