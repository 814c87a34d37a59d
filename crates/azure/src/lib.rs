//! Azure as a site.
//!
//! - [`PageBlobs`]: recovery points in page blobs and their snapshots.
#![forbid(unsafe_code)]

mod document;
mod extents;
mod points;
mod vhd;

pub use points::PageBlobs;
