//! Which hash tables of a machine are still needed, by what became of their captures.

use crate::home::Home;
use crate::tracking;
use serde::{Deserialize, Serialize};
use site_recovery::{Fate, Result};
use site_recovery_register::durable;

/// How many tables of captures that did not become points are kept: a seal may have happened unseen.
const UNSEALED: usize = 4;

/// `tracking/index.json`. A hint alone: a table that it forgets costs a compare.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Index {
    /// Oldest first.
    tables: Vec<Entry>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    id: String,
    became: Became,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Became {
    /// A capture that lives, or was swept.
    Captured,
    Spooled,
    Sealed,
    Abandoned,
    /// The start of the way back.
    Armed,
}

impl From<Fate> for Became {
    fn from(fate: Fate) -> Self {
        match fate {
            Fate::Sealed => Self::Sealed,
            Fate::Spooled => Self::Spooled,
            Fate::Abandoned => Self::Abandoned,
        }
    }
}

impl Index {
    fn set(&mut self, id: &str, became: Became) {
        match self.tables.iter_mut().find(|e| e.id == id) {
            // What was sealed stays sealed, whatever is said of it later.
            Some(entry) if entry.became == Became::Sealed => {}
            Some(entry) => entry.became = became,
            None => self.tables.push(Entry { id: id.to_owned(), became }),
        }
    }

    /// Forgets what no delta can start from any more. `living` captures keep theirs.
    fn forget(&mut self, living: &[String]) {
        let last = |what: Became, all: &[Entry]| all.iter().rposition(|e| e.became == what);
        let sealed = last(Became::Sealed, &self.tables).unwrap_or(0);
        let armed = last(Became::Armed, &self.tables);
        let mut at = 0;
        self.tables.retain(|e| {
            at += 1;
            let (here, lives) = (at - 1, living.contains(&e.id));
            if e.became == Became::Armed { armed == Some(here) } else { here >= sealed || lives }
        });
        let spare =
            |e: &Entry| matches!(e.became, Became::Captured | Became::Abandoned) && !living.contains(&e.id);
        let mut surplus = self.tables.iter().filter(|e| spare(e)).count().saturating_sub(UNSEALED);
        self.tables.retain(|e| {
            let goes = surplus > 0 && spare(e);
            surplus -= usize::from(goes);
            !goes
        });
    }
}

/// Notes what became of a table, and removes those that nobody needs. `living` are the captures that exist.
pub(crate) fn note(home: &Home, id: &str, became: Became, living: &[String]) -> Result<()> {
    let path = home.own("tracking").join("index.json");
    let mut index: Index = durable::read(&path).unwrap_or_default().unwrap_or_default();
    if tracking::exists(home, id) {
        index.set(id, became);
    }
    index.forget(living);
    durable::write(&path, &index)?;
    let ids: Vec<&str> = index.tables.iter().map(|e| e.id.as_str()).collect();
    tracking::keep_only(home, &ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(index: &Index) -> Vec<&str> {
        index.tables.iter().map(|e| e.id.as_str()).collect()
    }

    #[test]
    fn src8_the_last_sealed_the_spooled_and_the_armed_stay() {
        let mut index = Index::default();
        for id in ["armed", "a", "b", "c", "d"] {
            index.set(id, if id == "armed" { Became::Armed } else { Became::Captured });
        }
        index.set("a", Became::Sealed);
        index.set("b", Became::Spooled);
        index.set("c", Became::Abandoned);
        index.forget(&["d".into()]);
        assert_eq!(ids(&index), ["armed", "a", "b", "c", "d"]);
        index.set("b", Became::Sealed);
        index.set("a", Became::Abandoned);
        index.forget(&[]);
        assert_eq!(ids(&index), ["armed", "b", "c", "d"]);
    }

    #[test]
    fn captures_that_never_seal_do_not_pile_up_and_the_sealed_stays() {
        let mut index = Index::default();
        index.set("sealed", Became::Captured);
        index.set("sealed", Became::Sealed);
        for n in 0..100 {
            index.set(&n.to_string(), Became::Captured);
            index.set(&n.to_string(), Became::Abandoned);
            index.forget(&[]);
        }
        assert_eq!(ids(&index), ["sealed", "96", "97", "98", "99"]);
    }
}
