//! A small typed client of Azure Resource Manager: managed disks, their snapshots, machines, network cards, and what a region has.
//!
//! ```no_run
//! # async fn example(token: std::sync::Arc<dyn azure_core::credentials::TokenCredential>) -> Result<(), Box<dyn std::error::Error>> {
//! use site_recovery_azure_arm::{Access, Arm, Limits, NewSnapshot, Settings, Tags, Trust};
//!
//! let settings = Settings {
//!     resource_manager: "https://management.azure.com".parse()?,
//!     scope: "https://management.azure.com/.default".into(),
//!     subscription: "00000000-0000-0000-0000-000000000001".into(),
//!     trust: Trust::Ca("/etc/ssl/certs/ca-certificates.crt".into()),
//!     limits: Limits::default(),
//! };
//! let arm = Arm::new(&settings, token)?;
//! let (disks, snapshots) = (arm.disks("rg"), arm.snapshots("rg"));
//! let disk = disks.get("web-0").await?.ok_or("no such disk")?;
//! let new = NewSnapshot { location: disk.location, tags: Tags::new(), source_id: disk.id, incremental: true };
//! let pending = snapshots.put("web-0-base", &new).await?;
//! let hint = serde_json::to_vec(&pending.at())?; // kept, so that a later run can go on with `Arm::resume`
//! let base = pending.done().await?;
//! let sas = snapshots.grant(&base.name, Access::Read, 3600).await?.done().await?; // a secret
//! # Ok(())
//! # }
//! ```
//!
//! # Where things are
//! | asked for | found at |
//! |---|---|
//! | disks, snapshots, signed addresses of their bytes | [`Arm::disks`], [`Arm::snapshots`] |
//! | machines, their power, their disks | [`Arm::machines`] |
//! | network cards, networks, free addresses | [`Arm::nics`], [`Arm::network`], [`Arm::subnet`], [`Arm::address_is_free`] |
//! | what a region has | [`Arm::sizes`], [`Arm::usages`], [`Arm::availability_set`], [`Arm::group`] |
//! | the storage account, and what whoever signs in may do | [`Arm::storage_account`], [`Arm::permissions`] |
//! | what was begun before | [`Arm::resume`] |
//!
//! # What is sent how often
//! A read is tried [`Limits::tries`] times while nobody is there, Azure is in trouble or has too much to do. A change is sent
//! once: whoever asks for it looks at what is before it asks again ([`Error::may_have_been_done`]). What Azure has accepted is a
//! [`Pending`]; its operation is asked after as often as Azure says, through trouble, for a bounded time. A resource that Azure
//! says has failed is an error, never an answer.
//!
//! # Secrets
//! Each request asks its credential for a token, which goes to the server of the settings, or to one below its name, and to no
//! other that an answer names. Errors, logs and `Debug` hold no token and no signature; Azure's words are searched for them.
//!
//! # How it is built
//! Changes of disks and machines are sent by `azure_mgmt_compute`, Microsoft's generated client, which gets neither a token (it
//! logs it) nor the say over operations (it sends a change anew to learn of its end). Reads are this crate's own: the generated
//! models refuse a whole answer for one word that they do not know. So are networks. No type of the SDK is in this interface but
//! the credential.
//!
//! # What was tested
//! The protocol, against a server that answers as Azure's documents say. No real Azure was at hand.
#![forbid(unsafe_code)]

mod account;
mod arm;
mod bridge;
mod disk;
mod error;
mod images;
mod known;
mod machine;
mod machines;
mod network;
mod pending;
mod region;
mod rights;
mod said;
mod settings;
mod snapshot;
mod watch;
mod wire;
mod words;

pub use account::StorageAccount;
pub use arm::{Arm, Group, Tags};
pub use disk::{Access, Disk, DiskState, NewDisk, Origin};
pub use error::Error;
pub use images::{Disks, Snapshots};
pub use machine::{Machine, NewMachine, Power, View};
pub use machines::Machines;
pub use network::{Network, NewNic, Nic, Nics, Subnet};
pub use pending::{At, Outcome, Pending};
pub use region::{AvailabilitySet, Size, Usage};
pub use rights::Permission;
pub use said::Said;
pub use settings::{Limits, Settings};
pub use site_recovery_https::{Secret, Trust, Unusable};
pub use snapshot::{NewSnapshot, Snapshot};
pub use words::{Generation, OsType, Provisioning};
