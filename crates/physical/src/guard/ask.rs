//! The question.

use super::Mark;
use async_trait::async_trait;
use site_recovery::{PhaseRecord, Replica, Result};
use std::fmt::Debug;
use std::sync::Arc;

/// Somebody on the other side who knows where a machine stands.
#[async_trait]
pub trait Ask: Debug + Send + Sync {
    /// The newest phase record of the mark's machine; `None`: there is none.
    ///
    /// # Errors
    /// Whatever keeps it from being known. Any of them keeps the server off.
    async fn ask(&self, mark: &Mark) -> Result<Option<PhaseRecord>>;
}

/// A replica that this very process can ask.
#[async_trait]
impl Ask for Arc<dyn Replica> {
    async fn ask(&self, mark: &Mark) -> Result<Option<PhaseRecord>> {
        self.recall(&mark.machine).await
    }
}

/// Several who have to answer, every one of them: the record of the highest order counts.
#[derive(Debug)]
pub struct All(pub Vec<Arc<dyn Ask>>);

#[async_trait]
impl Ask for All {
    async fn ask(&self, mark: &Mark) -> Result<Option<PhaseRecord>> {
        let answers = futures_util::future::try_join_all(self.0.iter().map(|one| one.ask(mark))).await?;
        Ok(answers.into_iter().flatten().max_by_key(PhaseRecord::order))
    }
}
