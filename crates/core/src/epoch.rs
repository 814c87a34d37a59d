//! Write authority: who may change a machine's world now.

use crate::{EngineId, OpKey};
use serde::{Deserialize, Serialize};

/// Write authority over one machine: a number, and the engine that holds it.
///
/// Every component that can be changed keeps a *register* of the highest epoch it has seen, per machine. Of two
/// engines with the same number the first one wins; the other is told [`ErrorKind::StaleEpoch`](crate::ErrorKind::StaleEpoch).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epoch {
    /// Raised by one at the start of every operation.
    pub number: u64,
    /// The engine that raised it.
    pub owner: EngineId,
}

impl Epoch {
    /// The rule of every register: a call passes if its number is higher than the register's, or if number and
    /// owner are the register's own. A call that passes becomes the register.
    pub fn passes(&self, register: Option<&Epoch>) -> bool {
        register.is_none_or(|r| self.number > r.number || self == r)
    }

    /// The next epoch, held by `owner`. The last number has no next one and is never wrapped to a lower one: what is raised
    /// from it has the same number, and passes no register that another engine holds with it.
    pub fn raised(&self, owner: &EngineId) -> Epoch {
        Epoch { number: self.number.saturating_add(1), owner: owner.clone() }
    }
}

/// What every changing call carries: the key of its effect and the authority to make it.
///
/// Same key, same effect, at most once: a repeat gives the same answer. Adapters derive remote names or tags from
/// the key and look before they create, so that a call whose reply was lost has happened and is found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Op {
    /// Names the effect.
    pub key: OpKey,
    /// The authority under which it is asked for.
    pub epoch: Epoch,
}

impl Op {
    /// An operation below this one, with a key of its own.
    pub fn part(&self, part: &str) -> Op {
        Op { key: OpKey(format!("{}/{part}", self.key)), epoch: self.epoch.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s1_of_two_owners_with_one_number_the_first_wins() {
        let one = Epoch { number: 3, owner: "a".into() };
        let other = Epoch { number: 3, owner: "b".into() };
        assert!(one.passes(None) && one.passes(Some(&one)));
        assert!(!other.passes(Some(&one)));
        assert!(other.raised(&"b".into()).passes(Some(&one)));
        assert!(!one.passes(Some(&one.raised(&"b".into()))));
    }
    #[test]
    fn s1_the_last_number_is_not_followed_by_the_first() {
        let last = Epoch { number: u64::MAX, owner: "a".into() };
        let raised = last.raised(&"b".into());
        assert_eq!(raised.number, u64::MAX);
        assert!(!raised.passes(Some(&last)));
    }
}
