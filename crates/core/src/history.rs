//! Finished runs, as text.

use crate::JobRun;
use serde::de::{Deserialize, Deserializer, Error};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

/// Finished runs, oldest first, kept as the JSON that is journalled, and read when somebody asks for them: a run takes several
/// times its text, a vault remembers sixteen of every unit, and nearly nobody asks.
#[derive(Debug, Clone, Default)]
pub struct History(Vec<Box<RawValue>>);

impl History {
    /// All of them.
    pub fn runs(&self) -> Vec<JobRun> {
        self.0.iter().map(|text| read(text)).collect()
    }

    /// The last ones first, read one by one.
    pub fn newest_first(&self) -> impl Iterator<Item = JobRun> {
        self.0.iter().rev().map(|text| read(text))
    }

    /// The last one.
    pub fn last(&self) -> Option<JobRun> {
        self.newest_first().next()
    }

    /// One more.
    pub(crate) fn push(&mut self, run: &JobRun) {
        self.0.push(serde_json::value::to_raw_value(run).expect("plain data serialises"));
    }

    /// Forgets the others.
    pub(crate) fn retain(&mut self, keep: impl Fn(&JobRun) -> bool) {
        self.0.retain(|text| keep(&read(text)));
    }

    /// Forgets the oldest, beyond so many.
    pub(crate) fn keep_last(&mut self, most: usize) {
        self.0.drain(..self.0.len().saturating_sub(most));
    }
}

fn read(text: &RawValue) -> JobRun {
    serde_json::from_str(text.get()).expect("it was read once already, or written by this type")
}

impl From<Vec<JobRun>> for History {
    fn from(runs: Vec<JobRun>) -> Self {
        let mut history = Self::default();
        runs.iter().for_each(|run| history.push(run));
        history
    }
}

impl PartialEq for History {
    fn eq(&self, other: &Self) -> bool {
        self.runs() == other.runs()
    }
}

impl Eq for History {}

impl Serialize for History {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(to)
    }
}

/// What does not read as runs is refused here, and not when somebody asks.
impl<'de> Deserialize<'de> for History {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let texts = Vec::<Box<RawValue>>::deserialize(from)?;
        for text in &texts {
            serde_json::from_str::<JobRun>(text.get()).map_err(D::Error::custom)?;
        }
        Ok(Self(texts))
    }
}
