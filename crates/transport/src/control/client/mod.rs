//! Roles of other processes as roles of this one.

mod landing_site;
mod process_server;
mod recovery_site;
mod source;
mod witness;

pub use landing_site::RemoteLandingSite;
pub use process_server::RemoteProcessServer;
pub use recovery_site::{RemoteMasterTarget, RemoteTarget};
pub use source::RemoteSource;
pub use witness::RemoteWitness;

/// What every remote role has in common: a name, and what it can do.
macro_rules! role {
    ($remote:ty) => {
        #[async_trait::async_trait]
        impl site_recovery::Role for $remote {
            fn name(&self) -> site_recovery::RoleName {
                self.name.clone()
            }

            fn capability(&self) -> site_recovery::Capability {
                self.control.capability().clone()
            }

            async fn claim(
                &self,
                op: &site_recovery::Op,
                machine: &site_recovery::MachineId,
            ) -> site_recovery::Result<()> {
                let call = $crate::control::call::Call::Claim { op: op.clone(), machine: machine.clone() };
                self.control.call("claim", call).await
            }
        }

        #[async_trait::async_trait]
        impl $crate::control::Pulse for $remote {
            fn service(&self) -> site_recovery::RoleName {
                self.name.clone()
            }

            async fn heard(&self) -> site_recovery::Result<$crate::control::Heard> {
                self.control.heard().await
            }
        }
    };
}
pub(super) use role;
