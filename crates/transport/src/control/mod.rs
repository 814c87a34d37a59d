//! The control plane: calls of roles in other processes, by gRPC over the data plane's mutual TLS.

pub(crate) mod call;
mod channel;
mod client;
mod named;
mod perform;
mod service;
mod tasks;
mod vitals;

pub(crate) use channel::Channel;
pub use client::{
    RemoteLandingSite, RemoteMasterTarget, RemoteProcessServer, RemoteSource, RemoteTarget, RemoteWitness,
};
pub(crate) use service::serve;
pub use vitals::{Heard, Heartbeat, Pulse, VitalSigns, Vitals};

use async_trait::async_trait;
use site_recovery::{Replica, Result, RoleName, Source};
use std::fmt::Debug;
use std::sync::Arc;

/// What the service protocol is made of, compiled from `proto/control.proto`.
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "written by a compiler")]
mod wire {
    tonic::include_proto!("site_recovery.control.v1");
}

/// The roles that a service reaches by name, with credentials of its own: calls across a network name the roles that they
/// are handed.
#[async_trait]
pub trait Names: Debug + Send + Sync {
    /// A source.
    ///
    /// # Errors
    /// `NotFound` for a name that stands for none.
    async fn source(&self, name: &RoleName) -> Result<Arc<dyn Source>>;

    /// A recovery point store, or a master target.
    ///
    /// # Errors
    /// `NotFound` for a name that stands for none.
    async fn replica(&self, name: &RoleName) -> Result<Arc<dyn Replica>>;
}
