//! The newest points of many machines: each replica is asked once.

use super::ItemHandle;
use crate::{Error, ErrorKind, MachineId, Point, Replica, Result};
use futures_util::future;
use std::sync::Arc;

/// What one replica is asked: about these machines, which stand at these places.
struct Question {
    replica: Arc<dyn Replica>,
    machines: Vec<MachineId>,
    places: Vec<usize>,
}

impl ItemHandle {
    /// The newest point of each of these, in their order: the one that this engine saw last, as it was then, else as the
    /// replica says. What is known of their boots, and who pins them now, is told by [`points`](Self::points).
    ///
    /// # Errors
    /// Each has its own: those of its replica; `NotFound` once it has left; `Corrupt` of a replica that does not answer for
    /// each (REP-16).
    ///
    /// # Cancel safety
    /// It only looks.
    pub async fn newest_points(items: &[Self]) -> Vec<Result<Option<Point>>> {
        let mut questions = vec![];
        let seen = items.iter().enumerate().map(|(place, item)| item.seen_or_asked(place, &mut questions));
        let mut told: Vec<_> = seen.collect();
        let ask = |question: Question| async move {
            (question.places, question.replica.newest(&question.machines).await)
        };
        for (places, answers) in future::join_all(questions.into_iter().map(ask)).await {
            let (asked, answered) = (places.len(), answers.len());
            if asked == answered {
                places.into_iter().zip(answers).for_each(|(place, newest)| told[place] = newest);
                continue;
            }
            for place in places {
                let message = format!("{answered} newest points were told of {asked} machines (REP-16)");
                told[place] = Err(Error::new(ErrorKind::Corrupt, message));
            }
        }
        told
    }

    /// What this engine has seen last; where it has not, its replica is asked besides.
    fn seen_or_asked(&self, place: usize, questions: &mut Vec<Question>) -> Result<Option<Point>> {
        let unit = self.slot.unit();
        let item = self.of(&unit)?;
        if let Some(sealed) = self.slot.newest(&self.machine) {
            return Ok(Some(sealed));
        }
        let replica = &self.shared.leg_of(item)?.replica;
        let asked = |question: &Question| std::ptr::addr_eq(&*question.replica, &**replica);
        let at = questions.iter().position(asked).unwrap_or_else(|| {
            let replica = Arc::clone(replica);
            questions.push(Question { replica, machines: vec![], places: vec![] });
            questions.len() - 1
        });
        questions[at].machines.push(self.machine.clone());
        questions[at].places.push(place);
        Ok(None)
    }
}
