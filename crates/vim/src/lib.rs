//! A client of VMware's VIM, the SOAP interface of vCenter and of a standalone ESXi host: what the adapters for both share. It
//! knows nothing of protecting machines; an application uses those adapters instead.
//!
//! ```no_run
//! # async fn example() -> Result<(), site_recovery_vim::Error> {
//! use site_recovery::SystemClock;
//! use site_recovery_vim::{SecretRef, Settings, Trust, Vim};
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! let settings = Settings {
//!     url: "https://vcenter.example".into(),
//!     trust: Trust::Ca("/etc/site-recovery/vcenter-ca.pem".into()),
//!     user: "dr@vsphere.local".into(),
//!     password: SecretRef::File("/run/secrets/vcenter".into()),
//!     limits: Default::default(),
//! };
//! let vim = Vim::connect(&settings, Arc::new(SystemClock)).await?;
//! for machine in vim.machines(&vim.content().root_folder).await? {
//!     println!("{} is {:?}", machine.name, machine.power);
//!     let task = vim.create_snapshot(&machine.moref, "dr", "", true).await?;
//!     let snapshot = task.object(Duration::from_secs(600)).await?;
//!     let devices = vim.snapshot_devices(&snapshot).await?; // with the change ids of its disks
//!     vim.remove_snapshot(&snapshot).await?.wait(Duration::from_secs(3600)).await?;
//! }
//! vim.log_out().await
//! # }
//! ```
//!
//! # Where things are
//! | asked for | found at |
//! |---|---|
//! | a connection, its session, the server's clock | [`Vim`], [`Settings`], [`Limits`] |
//! | datacenters, hosts, datastores, networks | [`Vim::datacenters`] and its neighbours |
//! | machines, their devices and snapshots | [`Machine`], [`Devices`], [`Snapshot`] |
//! | a machine by its identifier, and its newest start | [`Vim::find`], [`Vim::newest_start`] |
//! | what has changed on a disk | [`Vim::changed_areas`] |
//! | machines changed, made, registered, removed | [`ConfigSpec`], [`DeviceChange`], [`Place`] |
//! | what a server does after it has answered | [`Task`] |
//! | bytes of files on datastores | [`DatastoreFile`], [`DatastorePath`] |
//! | the disks of a snapshot, each whole | [`Vim::export_snapshot`], [`Lease`] |
//! | disks and folders without a machine | [`Vim::create_disk`], [`Vim::make_folder`] |
//! | DRS, storage DRS and autostart | [`Override`], [`Vim::set_autostart`] |
//! | how another program logs in to the server | [`Vim::login`] |
//! | privileges and licences | [`Vim::lacking`], [`Vim::probe_writes`] |
//!
//! # Errors
//! Faults are told apart by type ([`Fault`]), never by their words. Two things matter to a caller most:
//! - [`Error::Unknown`]: a change whose answer was lost may have been made. It is never repeated here; look at what is.
//! - [`Machine::missing`]: what the user may not read is no error, and not absent either.
//!
//! Each [`Error`] becomes an error of the library by `?`; [`Error::kind`] says as which.
//!
//! # What is tried again
//! A session that has ended is opened anew, once for each call, also within pages and waits. Beside that only reads are tried
//! again: while nobody is there, after HTTP 503, after a broken connection; [`Limits::tries`] times. A server that hangs is
//! [`Silent`](Lost::Silent) after [`Limits::answer_ms`].
//!
//! # Trust
//! By an authority, or by the SHA-256 of the server's certificate ([`Trust`]); nothing is sent before, and nothing switches it
//! off. The password is read where it [stands](SecretRef) for each login. Neither it nor the session's cookie is in any error,
//! log or `Debug`.
//!
//! # What a server may send
//! Answers are bounded in bytes, depth, elements and attributes, and have no DTD. Structures that are newer than this crate are
//! passed by, values that it does not know are `Other`, and what is not said is `None`.
//!
//! # vCenter and hosts
//! From version 6.5 on: of older ones some properties are not there, and a server refuses all for one that it does not know. Both
//! take the same calls; [`Vim::is_vcenter`] tells which it is. A host has no clusters, no DRS, no moves, and one datacenter. A host that
//! a vCenter manages has to be asked through it.
#![forbid(unsafe_code)]

mod changed;
mod client;
mod collect;
mod datastore_path;
mod device;
mod download;
mod error;
mod events;
mod fault;
mod files;
#[cfg(test)]
mod fuzz;
mod http;
mod inventory;
mod lease;
mod lifecycle;
mod login;
mod machine;
mod moref;
mod names;
mod placement;
mod rights;
mod service;
mod snapshot;
mod spec;
mod storage;
mod task;
mod watch;
mod xml;

pub use changed::EVERYTHING;
pub use client::Vim;
pub use collect::Missing;
pub use datastore_path::DatastorePath;
pub use device::{
    Backing, BackingKind, Controller, ControllerKind, DeviceChange, Devices, Disk, DiskMode, Network,
    NewDisk, Nic, NicKind, Provisioning,
};
pub use download::Download;
pub use error::{Error, FileRefusal};
pub use events::StartEvent;
pub use fault::Fault;
pub use files::DatastoreFile;
pub use inventory::{Compute, Datacenter, Datastore, Folder, Host, Mount, NetworkEntity};
pub use lease::{Lease, LeaseDevice};
pub use lifecycle::{Place, Writes};
pub use login::Login;
pub use machine::{Details, Machine, Power, Tools};
pub use moref::Moref;
pub use placement::Override;
pub use rights::Licence;
pub use service::{About, Product, ServiceContent};
pub use site_recovery_https::{Limits, Lost, Secret, SecretRef, Settings, Trust, Unusable};
pub use snapshot::Snapshot;
pub use spec::{ConfigSpec, Firmware};
pub use task::{Task, TaskInfo, TaskResult, TaskState};
