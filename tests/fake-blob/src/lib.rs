//! A fake of Azure Blob Storage, and of the disks that Azure exports, inside the process of a test.
//!
//! What it does and what it leaves out stands in its README.
#![forbid(unsafe_code)]

mod admit;
mod answer;
mod blobs;
mod blocks;
mod call;
mod clock;
mod conditions;
mod config;
mod containers;
mod copies;
mod delegation;
mod exports;
mod fake;
mod faults;
mod flushes;
mod image;
mod leases;
mod list;
mod log;
mod pages;
mod ranges;
mod route;
mod serve;
mod shared_key;
mod signatures;
mod snapshots;
mod tickets;
mod tls;
pub mod vhd;
mod world;
mod xml;

pub use config::{Account, Config};
pub use exports::Access;
pub use fake::{Fake, Held};
pub use faults::{Fault, Faults, Gate, Hits, Match};
pub use image::{Image, SECTOR};
pub use log::Entry;
pub use ranges::Change;
pub use tickets::jwt;
pub use world::Sunk;
