//! What one kind of server has beside what all have.

use async_trait::async_trait;
use site_recovery::{Finding, Result};
use site_recovery_vim::{Moref, Vim};
use std::collections::BTreeSet;
use std::fmt::Debug;

/// What vCenter, or a host alone, has beside what both have. For the adapters of the two.
#[async_trait]
pub trait Estate: Debug + Send + Sync {
    /// Whether this is the kind of server that it is for, and whether that one may be changed at all.
    ///
    /// # Errors
    /// `Unsupported`, with what to do instead.
    async fn admit(&self, vim: &Vim) -> Result<()>;

    /// The machines that belong to the site; all that the server has where there is no choice.
    async fn chosen(&self, vim: &Vim) -> Result<Option<BTreeSet<Moref>>>;

    /// Keeps a machine where it is, host and datastore, until [`unpin`](Self::unpin), and names what it did for that. Overrides
    /// that somebody made stay as they are. A repeat does nothing.
    async fn pin(&self, vim: &Vim, machine: &Moref) -> Result<Vec<String>>;

    /// Takes back what `pin` named.
    async fn unpin(&self, vim: &Vim, machine: &Moref, pins: &[String]) -> Result<()>;

    /// What stands in the way of the whole circle at this kind of server, whichever kind it is. Reads alone.
    async fn check(&self, vim: &Vim, appliance: Option<&Moref>) -> Result<Vec<Finding>>;
}
