//! The service's side of a connection to the authority.

use super::certify;
use super::digits::sha256;
use super::handshake::{self, MEMBER};
use super::revoked::Revoked;
use super::roster::{RosterEntry, Stated};
use super::service::Service;
use super::token::JoinToken;
use super::words::wire::enrolment_client::EnrolmentClient;
use super::words::wire::membership_client::MembershipClient;
use super::words::{LONGEST_TOLD, SPOKEN, agreed, entry, error, wire};
use crate::allow::Shown;
use crate::fault::{Fault, Result, within};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use site_recovery::{Clock, Error, ErrorKind};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

/// Until the authority has answered.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the authority gave: whom the certificate names, the certificate, how long it lives, and by whom it is signed.
pub(super) struct Given {
    pub(super) service: Service,
    /// PEM, and so is the next.
    pub(super) certificate: String,
    pub(super) ca: String,
    pub(super) life: Duration,
}

/// Spends a token for the key of this request.
pub(super) async fn join(
    token: &JoinToken,
    request: Vec<u8>,
    stated: &Stated,
    clock: &Arc<dyn Clock>,
) -> Result<Given> {
    let config = Arc::new(handshake::pinned(token.pin, clock)?);
    in_time(clock, async {
        let dialled = dial(&token.address, config).await;
        let channel = dialled.map_err(|fault| unreached(&fault, &token.address))?;
        let asked = wire::JoinRequest {
            oldest: SPOKEN.oldest,
            newest: SPOKEN.newest,
            token: token.id.clone(),
            secret: token.secret.to_vec(),
            request,
            states: Some(stated.into()),
        };
        let joined = EnrolmentClient::new(channel).join(asked).await.map_err(|status| error(&status))?;
        given(joined.into_inner(), token.pin)
    })
    .await
}

/// A connection of a service that shows its certificate.
pub(super) struct Link {
    client: MembershipClient<Channel>,
    clock: Arc<dyn Clock>,
    pin: [u8; 32],
}

impl Link {
    pub(super) async fn open(
        address: &str,
        config: &ClientConfig,
        pin: [u8; 32],
        clock: &Arc<dyn Clock>,
    ) -> Result<Self> {
        let mut config = config.clone();
        config.alpn_protocols = vec![MEMBER.to_vec()];
        let dialled =
            async { dial(address, Arc::new(config)).await.map_err(|fault| unreached(&fault, address)) };
        let channel = in_time(clock, dialled).await?;
        let client = MembershipClient::new(channel).max_decoding_message_size(LONGEST_TOLD);
        Ok(Self { client, clock: Arc::clone(clock), pin })
    }

    pub(super) async fn renew(&mut self, request: Vec<u8>, stated: &Stated) -> Result<Given> {
        let asked = wire::RenewRequest {
            oldest: SPOKEN.oldest,
            newest: SPOKEN.newest,
            request,
            states: Some(stated.into()),
        };
        let asking = async { self.client.renew(asked).await.map_err(|status| error(&status)) };
        given(in_time(&self.clock, asking).await?.into_inner(), self.pin)
    }

    pub(super) async fn revoked(&mut self) -> Result<Revoked> {
        let asked = wire::RevocationsRequest { oldest: SPOKEN.oldest, newest: SPOKEN.newest };
        let asking = async { self.client.revocations(asked).await.map_err(|status| error(&status)) };
        let told = in_time(&self.clock, asking).await?.into_inner();
        agreed(told.version)?;
        let mut revoked = Revoked::default();
        for wire::RevokedCertificate { serial, service } in told.all {
            revoked.add(serial.parse()?, service.parse()?);
        }
        Ok(revoked)
    }

    pub(super) async fn roster(&mut self) -> Result<Vec<RosterEntry>> {
        let asked = wire::RosterRequest { oldest: SPOKEN.oldest, newest: SPOKEN.newest };
        let asking = async { self.client.roster(asked).await.map_err(|status| error(&status)) };
        let told = in_time(&self.clock, asking).await?.into_inner();
        agreed(told.version)?;
        Ok(told.all.into_iter().filter_map(entry).collect())
    }
}

async fn in_time<T>(clock: &Arc<dyn Clock>, asking: impl Future<Output = Result<T>>) -> Result<T> {
    // On the heap: it is deep, and so are those who wait for it.
    let asking = Box::pin(async { asking.await.map_err(Fault::Unwelcome) });
    within(&**clock, PATIENCE, "answer of the authority", asking).await.map_err(|fault| match fault {
        Fault::Unwelcome(error) => error,
        fault => fault.told(),
    })
}

pub(super) async fn dial(address: &str, config: Arc<ClientConfig>) -> Result<Channel, Fault> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let name = site_recovery_tls::server_name(&certify::authority().dns_name()).map_err(Fault::Unwelcome)?;
    let asked = config.alpn_protocols.clone();
    let secure = Box::pin(TlsConnector::from(config).connect(name, stream)).await.map_err(Fault::from)?;
    let session = secure.get_ref().1;
    if session.alpn_protocol() != asked.first().map(Vec::as_slice) {
        return Err(Fault::protocol("another service's handshake"));
    }
    // In TLS 1.3 a certificate is refused only once the handshake has ended for its holder: here, and not in a call, it is
    // told from a connection that broke. An HTTP/2 server speaks first.
    let mut secure = BufReader::new(secure);
    if secure.fill_buf().await?.is_empty() {
        return Err(Fault::Broken(std::io::ErrorKind::UnexpectedEof.into()));
    }
    let mut secure = Some(TokioIo::new(secure));
    // One connection, and not another one behind its back.
    let once = tower::service_fn(move |_| {
        let over = || std::io::Error::new(std::io::ErrorKind::NotConnected, "this connection is over");
        std::future::ready(secure.take().ok_or_else(over))
    });
    let endpoint = Endpoint::from_static("http://authority");
    let channel = Box::pin(endpoint.connect_with_connector(once)).await;
    channel.map_err(|e| Fault::Broken(std::io::Error::other(e)))
}

fn unreached(fault: &Fault, address: &str) -> Error {
    let told = fault.told();
    let status = if told.is_temporary() {
        site_recovery::ErrorStatus::Temporary
    } else {
        site_recovery::ErrorStatus::Permanent
    };
    Error::new(told.kind(), format!("the authority at {address}: {}", told.message())).status(status)
}

fn given(joined: wire::Joined, pin: [u8; 32]) -> Result<Given> {
    let wire::Joined { version, service, certificate, life, authority } = joined;
    agreed(version)?;
    let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes());
    let service: Service = service.parse()?;
    let names = der(&certificate).ok().and_then(|der| Shown::of(&der).service().cloned());
    if names.as_ref() != Some(&service) || !der(&authority).is_ok_and(|der| sha256(&der) == pin) {
        let said =
            format!("the authority answers with a certificate that is not of {service}, or not its own");
        return Err(Error::new(ErrorKind::Corrupt, said));
    }
    Ok(Given { service, certificate, ca: authority, life: Duration::from_millis(life) })
}
