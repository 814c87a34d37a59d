//! Starts of a machine, as its platform tells them, without those that were ours.

use serde::{Deserialize, Serialize};
use site_recovery::{OpKey, Stamp};

/// A platform's stamp with our own starts counted out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Witness {
    /// What the platform said after our last act.
    ours: Option<Vec<u8>>,
    /// What is told as long as it says that.
    told: String,
}

impl Witness {
    /// What is told of what the platform says now.
    pub fn told(&self, says: &Stamp) -> Stamp {
        if self.is_as_left(says) {
            return Stamp(self.told.clone().into_bytes());
        }
        let both = [self.told.as_bytes(), &says.0].concat();
        Stamp(OpKey(format!("Stamp/{}", hex(&both))).to_name().into_bytes())
    }

    /// Whether the platform says what it said around our last act.
    pub fn is_as_left(&self, says: &Stamp) -> bool {
        self.ours.as_ref() == Some(&says.0)
    }

    /// Right before an act of ours: whatever happened past us until now stays told.
    pub fn before(&mut self, says: &Stamp) {
        self.told = String::from_utf8_lossy(&self.told(says).0).into_owned();
        self.ours = Some(says.0.clone());
    }

    /// Right after it: what changed meanwhile was ours.
    pub fn after(&mut self, says: &Stamp) {
        self.ours = Some(says.0.clone());
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_starts_leave_the_stamp_and_others_change_it_for_ever() {
        let at = |n: u8| Stamp(vec![n]);
        let mut witness = Witness::default();
        let first = witness.told(&at(1));
        assert!(!witness.is_as_left(&at(1)));
        witness.before(&at(1));
        assert!(witness.is_as_left(&at(1)));
        witness.after(&at(2));
        assert!(witness.is_as_left(&at(2)) && !witness.is_as_left(&at(1)));
        assert_eq!(witness.told(&at(2)), first);
        let started = witness.told(&at(3));
        assert_ne!(started, first);
        // Past us between two acts of ours, and back to what the platform said before.
        witness.before(&at(3));
        witness.after(&at(2));
        assert_eq!(witness.told(&at(2)), started);
        assert_ne!(witness.told(&at(3)), started);
    }
}
