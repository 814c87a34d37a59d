//! Which clients of the authority are let in, and which machines each may name.

use crate::duty::{Asks, Duty};
use crate::enrol::{Serial, Service, ServiceKind};
use crate::fault::Result;
use ring::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;
use site_recovery::{EngineId, Error, ErrorKind, MachineId};
use std::collections::BTreeSet;
use std::fmt;

/// Whom a rule is about: by its certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client(By);

#[derive(Debug, Clone, PartialEq, Eq)]
enum By {
    Fingerprint([u8; 32]),
    Name(String),
    Service(Service),
    Kind(ServiceKind),
}

/// What a client may name in its calls, reading ones as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Machines {
    /// Every machine.
    All,
    /// These alone; others are not listed for it, and calls about them, or with them in a manifest or a phase record, are
    /// `Denied`. Of a replication group it takes all members to ship one.
    Only(BTreeSet<MachineId>),
}

impl Client {
    /// Whoever shows this very certificate: its SHA-256, 64 hexadecimal digits with or without colons, as of
    /// `openssl x509 -noout -fingerprint -sha256`.
    ///
    /// # Errors
    /// `Invalid` where it is no such fingerprint.
    pub fn fingerprint(hex: &str) -> Result<Self> {
        let digits: Vec<u8> = hex.bytes().filter(|b| *b != b':').collect();
        let byte = |pair: &[u8]| match std::str::from_utf8(pair) {
            Ok(pair) if pair.bytes().all(|b| b.is_ascii_hexdigit()) => u8::from_str_radix(pair, 16).ok(),
            _ => None,
        };
        let bytes: Option<Vec<u8>> = digits.chunks(2).map(byte).collect();
        match bytes.and_then(|bytes| bytes.try_into().ok()) {
            Some(bytes) if digits.len() == 64 => Ok(Self(By::Fingerprint(bytes))),
            _ => {
                let rule = "a SHA-256 has 64 hexadecimal digits, colons between them or not";
                let remedy = "take that of openssl x509 -noout -fingerprint -sha256";
                Err(Error::invalid("fingerprint", format!("{hex:?}"), rule, remedy))
            }
        }
    }

    /// Whoever shows a certificate with this DNS name or URI among its subject alternative names, as it stands there: a
    /// wildcard stands for nothing.
    pub fn name(name: impl Into<String>) -> Self {
        Self(By::Name(name.into()))
    }

    /// The service of this kind and name, whichever of its certificates it shows.
    ///
    /// # Errors
    /// `Invalid` where that is no name of a service.
    pub fn service(kind: ServiceKind, name: &str) -> Result<Self> {
        Service::new(kind, name).map(|service| Self(By::Service(service)))
    }

    /// All services of this kind.
    pub fn kind(kind: ServiceKind) -> Self {
        Self(By::Kind(kind))
    }
}

/// The rules; without any, all clients may do all.
#[derive(Debug, Default)]
pub(crate) struct Rules(pub(crate) Vec<(Client, Machines)>);

/// Who has come, by its certificate.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    fingerprint: [u8; 32],
    names: Vec<String>,
    serial: Option<Serial>,
    service: Option<Service>,
}

/// What one client may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rights {
    machines: Machines,
    duty: Duty,
}

impl Rules {
    /// What a client may do, by all rules about it together.
    pub(crate) fn rights(&self, client: &Shown) -> Result<Rights> {
        let duty = Duty::of(client.service());
        if self.0.is_empty() {
            return Ok(Rights { machines: Machines::All, duty });
        }
        let of_client =
            self.0.iter().filter(|(whom, _)| client.is(whom)).map(|(_, machines)| machines.clone());
        let all = of_client.reduce(|some, more| match (some, more) {
            (Machines::Only(mut some), Machines::Only(more)) => {
                some.extend(more);
                Machines::Only(some)
            }
            _ => Machines::All,
        });
        all.map(|machines| Rights { machines, duty })
            .ok_or_else(|| Error::new(ErrorKind::Denied, format!("no rule here lets {client} in")))
    }
}

impl Shown {
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Self {
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(digest(&SHA256, certificate).as_ref());
        let Ok(end) = webpki::EndEntityCert::try_from(certificate) else {
            return Self { fingerprint, names: vec![], serial: None, service: None };
        };
        let names = end.valid_dns_names().chain(end.valid_uri_names()).map(str::to_owned).collect();
        // Of two, neither: an authority of ours names one.
        let mut services = end.valid_uri_names().filter_map(Service::of_uri);
        let service = services.next().filter(|_| services.next().is_none());
        Self { fingerprint, names, serial: Some(Serial::of(end.serial())), service }
    }

    /// The certificate's serial number.
    pub(crate) fn serial(&self) -> Option<&Serial> {
        self.serial.as_ref()
    }

    /// The service that it names, where it names one.
    pub(crate) fn service(&self) -> Option<&Service> {
        self.service.as_ref()
    }

    /// The engine that it names, where it is one: whose evidence may be admitted.
    pub(crate) fn engine(&self) -> Option<EngineId> {
        let engine = self.service.as_ref().filter(|service| service.kind() == ServiceKind::Engine);
        engine.map(|service| EngineId(service.name().to_owned()))
    }

    fn is(&self, whom: &Client) -> bool {
        match &whom.0 {
            By::Fingerprint(fingerprint) => *fingerprint == self.fingerprint,
            By::Name(name) => self.names.iter().any(|shown| {
                // Case matters in a URI and not in a DNS name.
                shown == name || !name.contains(':') && shown.eq_ignore_ascii_case(name)
            }),
            By::Service(service) => self.service.as_ref() == Some(service),
            By::Kind(kind) => self.service.as_ref().is_some_and(|service| service.kind() == *kind),
        }
    }
}

impl Rights {
    pub(crate) fn may_name(&self, machine: &MachineId) -> bool {
        match &self.machines {
            Machines::All => true,
            Machines::Only(some) => some.contains(machine),
        }
    }

    /// Refuses what a service of this client's kind never asks.
    pub(crate) fn check_duty(&self, asks: Asks<'_>) -> Result<()> {
        self.duty.check(asks)
    }

    /// Refuses what is about another machine.
    pub(crate) fn check(&self, machine: &MachineId) -> Result<()> {
        if self.may_name(machine) {
            return Ok(());
        }
        let said = format!("this client may not name machine {machine}");
        Err(Error::new(ErrorKind::Denied, said).with("machine", machine))
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the certificate with SHA-256 ")?;
        self.fingerprint.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        write!(f, " and the names {:?}", &self.names[..self.names.len().min(8)])
    }
}
