//! How objects of a server are named.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A reference to a managed object: its type and its id. Good on the server that gave it, as long as the object lives; ids differ
/// between servers and may come back for another object after one was registered anew.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Moref {
    /// `VirtualMachine`, `Datastore`, and so on. No Rust type: a task may be of something that has none.
    pub kind: String,
    /// `vm-65`; on a host `7`.
    pub id: String,
}

impl Moref {
    /// The object of this type and id.
    pub fn new(kind: impl Into<String>, id: impl Into<String>) -> Self {
        Self { kind: kind.into(), id: id.into() }
    }
}

impl fmt::Display for Moref {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.id)
    }
}
