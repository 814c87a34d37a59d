//! What a site keeps of its own where its platform keeps nothing: the epoch register, and records that survive a power
//! cut.
//!
//! # For adapter authors
//! - [`Register`] is the epoch register of a site that is reached through this host: a locked file per machine. Whoever
//!   holds a [`Turn`] has passed it, and nobody else passes meanwhile, here or in another process. Put its directory
//!   beside the machines, where neither the removal of one nor the platform's own undo reaches it.
//! - [`act`] runs one act of an adapter on a thread of its own. An act that has its turn is finished even when nobody waits
//!   for it any more; one that still waits for its turn begins nothing (ROL-4).
//! - [`durable`] reads and writes small records, each the old text or the new one, never half of either.
//! - [`open_state`] keeps the state directory of one site from another one.
//! - [`Witness`] counts our own starts out of what a platform tells of all.
//! - [`Told`] turns what the file system says into the library's errors.
#![forbid(unsafe_code)]

mod act;
pub mod durable;
mod identity;
mod register;
mod told;
mod witness;

pub use act::{act, blocking};
pub use identity::{belongs_to, open_state};
pub use register::{Register, Turn, lock_file, locked};
pub use told::{Told, conflict, not_found, refused};
pub use witness::Witness;
