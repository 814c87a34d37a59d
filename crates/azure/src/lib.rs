//! Azure as a site.
//!
//! - [`Settings`]: one table that says where, and who asks. [`Subscription`]: what is opened of it, and its
//!   [readiness](Subscription::check).
//! - [`PageBlobs`]: recovery points in page blobs and their snapshots.
//! - [`Azure`]: a resource group in which machines are made of points, run, and are captured for the way back.
//! - [`RIGHTS`]: the least that whoever signs in may do.
#![forbid(unsafe_code)]

mod document;
mod extents;
mod points;
mod rights;
mod settings;
mod site;
mod subscription;
mod vhd;

pub use points::PageBlobs;
pub use rights::{On, RIGHTS, Right};
pub use settings::{Limits, Settings, StorageAccess};
pub use site::{Azure, Builder, Images, Place, Preparation, Profile, Seen};
pub use site_recovery_azure_arm::Limits as ManagerLimits;
pub use site_recovery_azure_blob::Limits as StorageLimits;
pub use site_recovery_azure_sign_in::{Cloud, SecretRef, SignIn, Trust};
pub use subscription::Subscription;
