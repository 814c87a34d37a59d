//! Azure as a site.
//!
//! - [`PageBlobs`]: recovery points in page blobs and their snapshots.
//! - [`Azure`]: a resource group in which machines are made of points, run, and are captured for the way back.
#![forbid(unsafe_code)]

mod document;
mod extents;
mod points;
mod site;
mod vhd;

pub use points::PageBlobs;
pub use site::{Azure, Builder, Images, Place, Preparation, Profile};
