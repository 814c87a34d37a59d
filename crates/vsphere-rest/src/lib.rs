//! A small typed client of vCenter's Automation API, its REST interface: lists, power, tags. What else a machine may need
//! (snapshots, disks, a standalone ESXi host) is in VMware's older SOAP interface alone.
//!
//! ```no_run
//! # async fn example() -> Result<(), vmware_vsphere_rest::Error> {
//! use site_recovery::SystemClock;
//! use std::sync::Arc;
//! use vmware_vsphere_rest::{MachineFilter, Power, SecretRef, Settings, TagWatch, Trust, VCenter};
//!
//! let settings = Settings {
//!     url: "https://vcenter.example".into(),
//!     trust: Trust::Ca("/etc/vcenter-ca.pem".into()),
//!     user: "dr@vsphere.local".into(),
//!     password: SecretRef::File("/run/secrets/vcenter".into()),
//!     limits: Default::default(),
//! };
//! let vcenter = VCenter::connect(&settings, Arc::new(SystemClock)).await?;
//! let off = MachineFilter { power: vec![Power::Off], ..Default::default() };
//! for machine in vcenter.machines(&off).await? {
//!     println!("{} ({})", machine.name, machine.id);
//! }
//! let gold = "dr=gold".parse()?; // category dr, tag gold
//! for machine in vcenter.machines_by_tag(&gold).await? {
//!     vcenter.shut_down_guest(&machine.id).await?;
//! }
//! let mut watch = TagWatch::new(vcenter.clone(), gold);
//! let changes = watch.look().await?; // as often as you like
//! println!("{} more, {} fewer", changes.added.len(), changes.removed.len());
//! vcenter.log_out().await
//! # }
//! ```
//!
//! # Where things are
//! | asked for | found at |
//! |---|---|
//! | a connection and its session | [`VCenter`], [`Settings`], [`Limits`] |
//! | datacenters, folders, hosts, clusters, datastores, networks | [`VCenter::datacenters`] and its neighbours, with a [`Filter`] |
//! | machines | [`VCenter::machines`] with a [`MachineFilter`], [`VCenter::machine`] with its [`Details`] |
//! | on, off, reset, suspended, shut down | [`VCenter::start`] and its neighbours |
//! | categories and tags | [`VCenter::find_tag`], [`VCenter::create_tag`], [`VCenter::attach`] |
//! | what is tagged with what | [`VCenter::attached_objects_on`], [`VCenter::attached_tags_on`] |
//! | machines with a tag, and how that changes | [`VCenter::machines_by_tag`], [`TagWatch`] |
//!
//! # Which servers
//! vCenter from 7.0 U2 on has this API below `/api`; older ones, from 6.5 on, have it below `/rest`, with other answers and
//! errors. Which it is, the login finds out; [`VCenter::dialect`] tells, and all else is the same. A standalone ESXi host has
//! neither: [`Error::NoApi`].
//!
//! # Errors
//! A server's refusals are told apart by type ([`Refusal`]), never by their words, which are kept for people. A change whose
//! answer was lost is [`Error::Unknown`]: it may have been made, and is never repeated here. Each [`Error`] becomes an error of
//! `site-recovery` by `?`; [`Error::kind`] says as which.
//!
//! # What is tried again
//! A session that has ended is opened anew, once for each call. Beside that only reads are tried again: while nobody is there,
//! after HTTP 503, after a broken connection; [`Limits::tries`] times. A server that hangs is [`Silent`](Lost::Silent) after
//! [`Limits::answer_ms`].
//!
//! # Trust
//! By an authority, or by the SHA-256 of the server's certificate ([`Trust`]); nothing is sent before, and nothing switches it
//! off. The password is read where it [stands](SecretRef) for each login. Neither it nor the session's token is in any error,
//! log or `Debug`.
//!
//! # What a server may send
//! Answers are bounded in bytes. Fields that this crate does not know are passed by, values that it does not know are `Other`.
//!
//! # What was tested
//! The protocol, against VMware's simulator: its own tags below `/rest`, and for the rest a fake after VMware's documentation.
//! No real vCenter was at hand.
#![forbid(unsafe_code)]

mod client;
mod error;
mod http;
mod inventory;
mod machine;
mod names;
mod shape;
mod tags;
mod watch;

pub use client::VCenter;
pub use error::{Error, Refusal};
pub use inventory::{
    Cluster, ClusterId, Connection, Datacenter, DatacenterId, Datastore, DatastoreId, DatastoreKind, Filter,
    Folder, FolderId, FolderKind, Host, HostId, Network, NetworkId, NetworkKind,
};
pub use machine::{
    Details, Disk, DiskBacking, Guest, GuestPower, Hardware, Identity, Machine, MachineFilter, MachineId,
    Nic, NicBacking, Power,
};
pub use shape::Dialect;
pub use site_recovery_https::{Limits, Lost, SecretRef, Settings, Trust, Unusable};
pub use tags::{Cardinality, Category, CategoryId, ObjectId, ObjectTags, Tag, TagId, TagName, TaggedObjects};
pub use watch::{TagChanges, TagWatch};
