//! A small typed client of Azure Resource Manager: managed disks, their snapshots, machines, network cards, and what a region has.
#![forbid(unsafe_code)]

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
mod said;
mod settings;
mod snapshot;
mod watch;
mod wire;
mod words;

pub use arm::{Arm, Group, Tags};
pub use disk::{Access, Disk, DiskState, NewDisk, Origin};
pub use error::Error;
pub use images::{Disks, Snapshots};
pub use machine::{Machine, NewMachine, Power, View};
pub use machines::Machines;
pub use network::{Network, NewNic, Nic, Nics, Subnet};
pub use pending::{At, Outcome, Pending};
pub use region::{AvailabilitySet, Size, Usage};
pub use said::Said;
pub use settings::{Limits, Settings};
pub use site_recovery_https::{Secret, Trust, Unusable};
pub use snapshot::{NewSnapshot, Snapshot};
pub use words::{Generation, OsType, Provisioning};
