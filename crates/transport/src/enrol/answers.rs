//! What is answered at the authority's port.

use super::authority::{Authority, Granted, Joining, Membership};
use super::words::wire;
use super::words::wire::enrolment_server::Enrolment;
use super::words::wire::membership_server::Membership as Told;
use super::words::{status, version};
use crate::fault::Result;
use async_trait::async_trait;
use tonic::{Request, Response, Status};

/// For strangers.
pub(super) struct Enrols(pub(super) Authority);

/// For one member.
pub(super) struct Tells {
    pub(super) authority: Authority,
    pub(super) who: Membership,
}

type Answer<T> = std::result::Result<Response<T>, Status>;

fn answer<T>(answered: Result<T>) -> Answer<T> {
    answered.map(Response::new).map_err(|error| {
        tracing::warn!(target: "site_recovery_transport", %error, "the authority refuses");
        status(&error)
    })
}

fn joined(version: u32, granted: Granted, authority: &Authority) -> wire::Joined {
    let Granted { service, certificate, life } = granted;
    let (service, life) = (service.to_string(), life.as_millis() as u64);
    wire::Joined { version, service, certificate, life, authority: authority.certificate().to_owned() }
}

#[async_trait]
impl Enrolment for Enrols {
    async fn join(&self, request: Request<wire::JoinRequest>) -> Answer<wire::Joined> {
        let wire::JoinRequest { oldest, newest, token, secret, request, states } = request.into_inner();
        let work = async {
            let version = version(oldest, newest)?;
            let granted = self
                .0
                .join(Joining { token: token.clone(), secret, request, stated: states.try_into()? })
                .await?;
            tracing::info!(target: "site_recovery_transport", service = %granted.service, "joined");
            Ok(joined(version, granted, &self.0))
        };
        answer(work.await)
    }
}

#[async_trait]
impl Told for Tells {
    async fn renew(&self, request: Request<wire::RenewRequest>) -> Answer<wire::Joined> {
        let wire::RenewRequest { oldest, newest, request, states } = request.into_inner();
        let work = async {
            let version = version(oldest, newest)?;
            let granted = self.authority.renew(self.who.clone(), &request, states.try_into()?).await?;
            tracing::info!(target: "site_recovery_transport", service = %granted.service, "renewed");
            Ok(joined(version, granted, &self.authority))
        };
        answer(work.await)
    }

    async fn revocations(&self, request: Request<wire::RevocationsRequest>) -> Answer<wire::RevocationList> {
        let wire::RevocationsRequest { oldest, newest } = request.into_inner();
        let work = async {
            let version = version(oldest, newest)?;
            let revoked = self.authority.told_revoked(self.who.clone()).await?;
            let all = revoked.iter().map(|(serial, service)| wire::RevokedCertificate {
                serial: serial.to_string(),
                service: service.to_string(),
            });
            Ok(wire::RevocationList { version, all: all.collect() })
        };
        answer(work.await)
    }

    async fn roster(&self, request: Request<wire::RosterRequest>) -> Answer<wire::RosterList> {
        let wire::RosterRequest { oldest, newest } = request.into_inner();
        let work = async {
            let version = version(oldest, newest)?;
            let roster = self.authority.told_roster(self.who.clone()).await?;
            Ok(wire::RosterList { version, all: roster.into_iter().map(Into::into).collect() })
        };
        answer(work.await)
    }
}
