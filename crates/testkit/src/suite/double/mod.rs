//! The two sides of a process server, as small as they can be: honest, unless a case tells them to fail.

mod replica;
mod source;

pub(super) use replica::{Failure, TinyReplica};
pub(super) use source::TinySource;
