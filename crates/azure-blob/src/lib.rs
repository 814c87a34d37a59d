//! A client of Azure Blob Storage, as far as recovery points and disks need it. It knows nothing of protecting machines.
//!
//! - [`Container`]: its blobs, and what they are shared by. [`Document`]: a small blob that is replaced as a whole, by
//!   compare-and-set. [`PageBlob`]: a disk, written in place behind a sequence number that fences, with snapshots.
//! - [`Image`]: the bytes of a managed disk or snapshot, behind an address that its owner has signed.
//!
//! # Errors
//! [`Error`], told apart by what its caller does about it. [`Error::may_have_been_done`] says where a change may have been made
//! although there is an error.
//!
//! # What is tried again
//! Reads, and changes that end the same when they are made twice: writes and clears of pages, sizes, sequence numbers, deletions.
//! While the service is throttled, fails or gives no answer; [`Limits::tries`] times, with a pause that doubles, or that the
//! service asks for. All others are sent once: look at what is, before they are sent again. A token that is refused is renewed
//! once.
//!
//! # How fast
//! No faster than [`Limits`] say, for each blob and for the account, among all clones of a [`Container`]. The service throttles at
//! the same numbers, and less kindly.
//!
//! # Trust
//! TLS, always. Tokens, signatures and keys are in no error, log or `Debug`.
//!
//! # Cancel safety
//! A call that is dropped may have been sent, and may be carried out, even after a later one. Before pages are given to somebody
//! else, raise the [sequence number](PageBlob::raise_sequence): then nothing that is under way counts.
#![forbid(unsafe_code)]

mod answer;
mod blob;
mod container;
mod document;
mod error;
#[cfg(test)]
mod fuzz;
mod image;
mod list;
mod page_blob;
mod properties;
mod ranges;
mod rate;
mod read;
mod sas;
mod settings;
mod sign;
mod wire;
mod xml;

pub use answer::Answer;
pub use container::Container;
pub use document::Document;
pub use error::Error;
pub use image::Image;
pub use list::Listed;
pub use page_blob::{LARGEST_WRITE, PAGE, PageBlob};
pub use properties::{Copy, CopyState, Etag, Properties, SnapshotId};
pub use ranges::Change;
pub use settings::{Limits, Settings, Who};
pub use site_recovery::Run;
pub use site_recovery_https::{Lost, Secret, Trust, Unusable};
