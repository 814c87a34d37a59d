//! What a service asks of others by its kind, whatever rules let it in: an engine speaks for its own authority alone, and whoever
//! only moves bytes decides nothing.
//!
//! | kind | asks |
//! |---|---|
//! | engine | everything, by operations of its own authority |
//! | keeper, master target | everything: they pass on what an engine told them |
//! | process server | what changed, bytes of captures, and to land records |
//! | all others | how something stands |
//!
//! A client whose certificate names no service of an authority of ours is bound by rules alone.
//!
//! *Where it ends*: a process server lands and reads by operations that it was told, and nobody proves to the other side that an
//! engine told them. With a stolen certificate of one an authority could be raised for the machines that it may name; the engine
//! is refused from then on, and nothing is written.

use crate::control::call::{
    Call as Asking, LandingSiteCall, ProcessServerCall, RecoverySiteCall, SourceCall,
};
use crate::enrol::{Service, ServiceKind};
use crate::fault::Result;
use crate::message::{Call, Openable};
use site_recovery::{Error, ErrorKind, Op};

/// By a client's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Duty {
    /// It names no service.
    Unknown,
    Engine(String),
    PassesOn,
    MovesBytes,
    Reads,
}

/// What a call comes to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Asks<'a> {
    Reading,
    Moving(Option<&'a Op>),
    Deciding(Option<&'a Op>),
}

impl Duty {
    pub(crate) fn of(service: Option<&Service>) -> Self {
        let Some(service) = service else { return Self::Unknown };
        match service.kind() {
            ServiceKind::Engine => Self::Engine(service.name().to_owned()),
            ServiceKind::Keeper | ServiceKind::MasterTarget => Self::PassesOn,
            ServiceKind::ProcessServer => Self::MovesBytes,
            ServiceKind::Agent | ServiceKind::PointStore | ServiceKind::Target | ServiceKind::Authority => {
                Self::Reads
            }
        }
    }

    /// Refuses what a service of this kind never asks.
    pub(crate) fn check(&self, asks: Asks<'_>) -> Result<()> {
        let denied = |said: String| Err(Error::new(ErrorKind::Denied, said));
        match (self, asks) {
            (Self::Engine(name), Asks::Moving(Some(op)) | Asks::Deciding(Some(op)))
                if op.epoch.owner.0 != *name =>
            {
                let said = format!("engine {name} does not speak for {}", op.epoch.owner);
                Err(Error::new(ErrorKind::StaleEpoch, said))
            }
            (Self::MovesBytes, Asks::Deciding(_)) => {
                denied("a process server moves bytes, and decides nothing".into())
            }
            (Self::Reads, Asks::Moving(_) | Asks::Deciding(_)) => {
                denied("a service of this kind asks for nothing but how something stands".into())
            }
            _ => Ok(()),
        }
    }
}

impl Call {
    pub(crate) fn asks(&self) -> Asks<'_> {
        match self {
            Self::Machines
            | Self::Head { .. }
            | Self::Points { .. }
            | Self::Manifest { .. }
            | Self::Hashes { .. }
            | Self::Changed { .. }
            | Self::Recall { .. }
            | Self::Scrub { .. }
            | Self::Open { what: Openable::Point { .. }, .. } => Asks::Reading,
            Self::Open { what: Openable::Captured { op, .. }, .. } | Self::Begin { op, .. } => {
                Asks::Moving(Some(op))
            }
            Self::Seal { ingest, .. } => Asks::Moving(Some(&ingest.op)),
            Self::Open { what: Openable::Landing { .. }, .. } | Self::Zero { .. } | Self::Flush { .. } => {
                Asks::Deciding(None)
            }
            Self::Claim { op, .. }
            | Self::Prepare { op, .. }
            | Self::Pin { op, .. }
            | Self::Unpin { op, .. }
            | Self::Prune { op, .. }
            | Self::Delete { op, .. }
            | Self::Remember { op, .. }
            | Self::Lock { op, .. } => Asks::Deciding(Some(op)),
        }
    }
}

impl Asking {
    pub(crate) fn asks(&self) -> Asks<'_> {
        match self {
            Self::Vitals | Self::Standing { .. } => Asks::Reading,
            Self::Claim { op, .. } => Asks::Deciding(Some(op)),
            Self::Source(call) => of_source(call),
            Self::ProcessServer(call) => match call {
                ProcessServerCall::Ship { op, .. } | ProcessServerCall::Drain { op, .. } => {
                    Asks::Deciding(Some(op))
                }
                ProcessServerCall::Lag { .. } | ProcessServerCall::Knows { .. } => Asks::Reading,
            },
            Self::RecoverySite(call) => of_recovery_site(call),
            Self::LandingSite(call) => of_landing_site(call),
        }
    }
}

fn of_source(call: &SourceCall) -> Asks<'_> {
    match call {
        SourceCall::Discover | SourceCall::Power { .. } => Asks::Reading,
        SourceCall::Changes { .. } => Asks::Moving(None),
        SourceCall::Enrol { op, .. }
        | SourceCall::Dismiss { op, .. }
        | SourceCall::Capture { op, .. }
        | SourceCall::Release { op, .. }
        | SourceCall::Sweep { op, .. }
        | SourceCall::Consolidate { op, .. }
        | SourceCall::Fence { op, .. }
        | SourceCall::Unfence { op, .. } => Asks::Deciding(Some(op)),
    }
}

fn of_recovery_site(call: &RecoverySiteCall) -> Asks<'_> {
    match call {
        RecoverySiteCall::Check { .. } | RecoverySiteCall::Propose { .. } | RecoverySiteCall::Offers => {
            Asks::Reading
        }
        RecoverySiteCall::Materialise { op, .. }
        | RecoverySiteCall::Withdraw { op, .. }
        | RecoverySiteCall::Boot { op, .. }
        | RecoverySiteCall::Tend { op, .. }
        | RecoverySiteCall::Settle { op, .. }
        | RecoverySiteCall::SetAside { op, .. }
        | RecoverySiteCall::Destroy { op, .. } => Asks::Deciding(Some(op)),
    }
}

fn of_landing_site(call: &LandingSiteCall) -> Asks<'_> {
    match call {
        LandingSiteCall::Survey { .. } | LandingSiteCall::Stamp { .. } => Asks::Reading,
        LandingSiteCall::Attach { op, .. }
        | LandingSiteCall::Branch { op, .. }
        | LandingSiteCall::Part { op, .. }
        | LandingSiteCall::Merge { op, .. }
        | LandingSiteCall::Arm { op, .. }
        | LandingSiteCall::Detach { op, .. }
        | LandingSiteCall::Start { op, .. }
        | LandingSiteCall::Stop { op, .. }
        | LandingSiteCall::Remove { op, .. } => Asks::Deciding(Some(op)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use site_recovery::Epoch;

    fn duty(kind: ServiceKind) -> Duty {
        Duty::of(Some(&Service::new(kind, "one").unwrap()))
    }

    #[test]
    fn c2_a_service_asks_for_what_its_kind_is_for() {
        let op = |owner: &str| Op { key: "k".into(), epoch: Epoch { number: 1, owner: owner.into() } };
        let (own, others) = (op("one"), op("two"));
        let engine = duty(ServiceKind::Engine);
        engine.check(Asks::Deciding(Some(&own))).unwrap();
        for asks in [Asks::Deciding(Some(&others)), Asks::Moving(Some(&others))] {
            assert_eq!(engine.check(asks).unwrap_err().kind(), ErrorKind::StaleEpoch);
        }
        for kind in [ServiceKind::Keeper, ServiceKind::MasterTarget] {
            duty(kind).check(Asks::Deciding(Some(&others))).unwrap();
        }
        let moves = duty(ServiceKind::ProcessServer);
        moves.check(Asks::Moving(Some(&others))).unwrap();
        assert_eq!(moves.check(Asks::Deciding(Some(&own))).unwrap_err().kind(), ErrorKind::Denied);
        for kind in [ServiceKind::Agent, ServiceKind::Target, ServiceKind::PointStore] {
            duty(kind).check(Asks::Reading).unwrap();
            duty(kind).check(Asks::Moving(None)).unwrap_err();
        }
        Duty::of(None).check(Asks::Deciding(Some(&others))).unwrap();
    }
}
