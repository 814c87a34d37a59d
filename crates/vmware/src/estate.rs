//! What one kind of server has beside what all have.

use async_trait::async_trait;
use site_recovery::{Finding, Result};
use site_recovery_vim::{Moref, Product, Vim};
use std::collections::BTreeSet;
use std::fmt::Debug;

/// What vCenter, or a host alone, has beside what both have. For the adapters of the two.
#[async_trait]
pub trait Estate: Debug + Send + Sync {
    /// The kind of server that it is for. Of another one nothing else is asked.
    fn product(&self) -> Product;

    /// Whether that one may be changed at all.
    ///
    /// # Errors
    /// `Unsupported`, with what to do instead.
    async fn admit(&self, vim: &Vim) -> Result<()>;

    /// The machines that belong to the site; all that the server has where there is no choice.
    async fn chosen(&self, vim: &Vim) -> Result<Option<BTreeSet<Moref>>>;

    /// What may move a machine, host or datastore, by names that [`pin`](Self::pin) takes; they are written down before it is
    /// called. Overrides that somebody made stay as they are, and are not among them.
    async fn loose(&self, vim: &Vim, machine: &Moref) -> Result<Vec<String>>;

    /// Keeps a machine from being moved by these, until [`unpin`](Self::unpin). A repeat does nothing.
    async fn pin(&self, vim: &Vim, machine: &Moref, pins: &[String]) -> Result<()>;

    /// Takes back what `pin` did.
    async fn unpin(&self, vim: &Vim, machine: &Moref, pins: &[String]) -> Result<()>;

    /// What stands in the way of the whole circle at this kind of server. Reads alone.
    async fn check(&self, vim: &Vim, appliance: Option<&Moref>) -> Result<Vec<Finding>>;
}
