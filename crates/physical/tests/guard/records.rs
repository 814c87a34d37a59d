//! Phase records, and somebody who answers with them.

use crate::support::{machine, op_of};
use async_trait::async_trait;
use site_recovery::state::Phase;
use site_recovery::*;
use site_recovery_physical::guard::{Ask, Mark};
use std::sync::Mutex;

/// The original, and where it is recovered.
pub(crate) fn instance(site: &str, name: &str, generation: u64) -> Instance {
    Instance {
        machine: "m-web".into(),
        site: site.into(),
        name: name.into(),
        generation: Generation(generation),
    }
}

pub(crate) fn original() -> Instance {
    instance("hall-1", "web-1", 0)
}

pub(crate) fn recovered() -> Instance {
    instance("cloud", "web-1-recovered", 1)
}

pub(crate) fn mark(of: &Instance) -> Mark {
    Mark::of(of, &op_of("engine", 1, "x").epoch)
}

/// An item that stands so.
pub(crate) fn item(active: &Instance, phase: Phase, promotion: bool) -> Item {
    let machine = machine("m-web", "hall-1", "web-1", &[("root", 4096)]);
    let mut item = Item::new(machine, op_of("engine", 3, "x").epoch, Policy::default(), "out", "back");
    item.machine.instance = active.clone();
    item.state.phase = phase;
    item.promotion = promotion.then(|| Box::new(self::promotion(active)));
    item
}

pub(crate) fn promotion(of: &Instance) -> Promotion {
    Promotion {
        armed: Armed { instance: of.clone(), cursor: None, point: PointId(1) },
        recovery: None,
        made_by: "key".into(),
        previous: original(),
        booted: None,
        verdict: None,
        loss: None,
        observed: vec![],
        committed: false,
    }
}

pub(crate) fn record(item: Item) -> PhaseRecord {
    let control = Control { unit: "web".into(), members: vec![item.id().clone()], item };
    PhaseRecord { written: Timestamp(1), run: None, prepared: None, control }
}

/// What somebody answers next; the last answer stays. A fake of what the wire brings.
#[derive(Debug)]
pub(crate) struct FakeAnswers(pub(crate) Mutex<Vec<Answer>>);

#[derive(Debug, Clone)]
pub(crate) enum Answer {
    Record(Box<PhaseRecord>),
    Nothing,
    Fails(ErrorKind),
    Never,
}

impl FakeAnswers {
    pub(crate) fn of(answers: impl IntoIterator<Item = Answer>) -> std::sync::Arc<Self> {
        std::sync::Arc::new(Self(Mutex::new(answers.into_iter().collect())))
    }
}

pub(crate) fn says(active: &Instance, phase: Phase, revision: u64) -> Answer {
    let mut item = item(active, phase, false);
    item.revision = revision;
    Answer::Record(Box::new(record(item)))
}

#[async_trait]
impl Ask for FakeAnswers {
    async fn ask(&self, _: &Mark) -> Result<Option<PhaseRecord>> {
        let next = {
            let mut answers = self.0.lock().unwrap();
            if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() }
        };
        match next {
            Answer::Record(record) => Ok(Some(*record)),
            Answer::Nothing => Ok(None),
            Answer::Fails(kind) => Err(Error::new(kind, format!("it fails as {kind:?}"))),
            Answer::Never => std::future::pending().await,
        }
    }
}
