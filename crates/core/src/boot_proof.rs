//! Boot proofs: a point was booted in isolation, and somebody looked whether the guest came up.

use crate::{DataLoss, Item, Point, PointId, Timestamp, Verdict};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// So many proofs of a machine are remembered: the newest, and the newest good one however old it is.
pub const KEPT_BOOT_PROOFS: usize = 32;

/// What a probe found of a booted machine, and what it measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probed {
    /// Whether the machine is as it should be.
    pub verdict: Verdict,
    /// How long the guest took to come up, where the probe knows it better than the time until its answer.
    pub boot: Option<Duration>,
    /// How many of the guest's own records the point lacks, where the guest counts and the probe knows what was written.
    pub lost_records: Option<u64>,
    /// What a person should know. Eight are kept, and of each its beginning.
    pub notes: Vec<String>,
}

impl From<Verdict> for Probed {
    fn from(verdict: Verdict) -> Self {
        Self { verdict, boot: None, lost_records: None, notes: vec![] }
    }
}

impl Probed {
    pub(crate) fn bad(reason: impl Into<String>) -> Self {
        Verdict::Bad { reason: reason.into() }.into()
    }
}

/// What a boot proof of one point came to. Kept in the item, so that it survives the engine and is adopted with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootProof {
    /// The instant of the point.
    pub taken: Timestamp,
    /// When the verdict was there.
    pub at: Timestamp,
    /// From the boot until the guest had come up; `None` where it did not.
    pub boot: Option<Duration>,
    /// Whether the point is proven.
    pub verdict: Verdict,
    /// What a failover to the point would have lost at most when the proof began.
    pub loss: DataLoss,
    /// How many of the guest's own records the point lacked, where the probe could tell.
    pub lost_records: Option<u64>,
    /// What the probe noted.
    pub notes: Vec<String>,
}

impl BootProof {
    /// Notes that are kept.
    const NOTES: usize = 8;
    /// Characters of a note or a reason that are kept: what is kept travels in every point that is sealed later.
    const LETTERS: usize = 400;

    pub(crate) fn new(probed: Probed, took: Option<Duration>, loss: DataLoss, at: Timestamp) -> Self {
        let short = |text: String| text.chars().take(Self::LETTERS).collect::<String>();
        let verdict = match probed.verdict {
            Verdict::Good => Verdict::Good,
            Verdict::Bad { reason } => Verdict::Bad { reason: short(reason) },
        };
        let boot = probed.boot.or(took).filter(|_| verdict == Verdict::Good);
        let notes = probed.notes.into_iter().take(Self::NOTES).map(short).collect();
        Self { taken: loss.from, at, boot, verdict, loss, lost_records: probed.lost_records, notes }
    }

    /// Whether the point is proven to boot.
    pub fn is_good(&self) -> bool {
        self.verdict == Verdict::Good
    }
}

impl Point {
    /// Whether it was proven to boot.
    pub fn boots(&self) -> bool {
        self.verified_boot.as_deref().is_some_and(BootProof::is_good)
    }
}

impl Item {
    /// The last point of which a proof was tried, and what it came to. Proofs are of the newest point, so the newest
    /// point's is the last one.
    pub fn last_boot_proof(&self) -> Option<(PointId, &BootProof)> {
        self.boot_proofs.last_key_value().map(|(point, proof)| (*point, proof))
    }

    /// The newest point that was proven to boot.
    pub fn last_good_boot(&self) -> Option<(PointId, &BootProof)> {
        self.boot_proofs.iter().rev().find(|(_, proof)| proof.is_good()).map(|(point, proof)| (*point, proof))
    }

    pub(crate) fn remember_boot(&mut self, point: PointId, proof: BootProof) {
        self.boot_proofs.insert(point, proof);
        while self.boot_proofs.len() > KEPT_BOOT_PROOFS {
            let good = self.last_good_boot().map(|(point, _)| point);
            let oldest = self.boot_proofs.keys().copied().find(|point| Some(*point) != good);
            oldest.map(|point| self.boot_proofs.remove(&point));
        }
    }

    /// The points, each with what is known of its boot. A replica knows nothing of it; a timeline that began anew has
    /// points of the same numbers and of other instants.
    pub(crate) fn with_proofs(&self, mut points: Vec<Point>) -> Vec<Point> {
        for point in &mut points {
            let proof = self.boot_proofs.get(&point.id).filter(|proof| proof.taken == point.taken);
            point.verified_boot = proof.cloned().map(Box::new);
        }
        points
    }

    /// Points that a proof is remembered of and that are not among these any more.
    pub(crate) fn boots_of_none(&self, points: &[Point]) -> Vec<PointId> {
        let is = |point: &Point, id: PointId, proof: &BootProof| point.id == id && point.taken == proof.taken;
        let gone = self.boot_proofs.iter().filter(|(id, proof)| !points.iter().any(|p| is(p, **id, proof)));
        gone.map(|(id, _)| *id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::choose::tests::point;
    use crate::{Consistency, Epoch, Policy};

    fn item() -> Item {
        let instance = crate::Instance {
            machine: "m".into(),
            site: "here".into(),
            name: "web".into(),
            generation: crate::Generation(0),
        };
        let machine = crate::Machine {
            instance,
            title: None,
            disks: vec![],
            nics: vec![],
            cpus: 1,
            memory: 1,
            firmware: crate::Firmware::default(),
            os: crate::OsFamily::Linux,
            platform: crate::Platform::default(),
            guest: crate::GuestFacts::default(),
        };
        let epoch = Epoch { number: 1, owner: crate::EngineId("e".into()) };
        Item::new(machine, epoch, Policy::default(), "out", "back")
    }

    fn proof(taken: u64, verdict: Verdict) -> BootProof {
        let loss = DataLoss::since(Timestamp(taken), Timestamp(taken + 5));
        BootProof::new(verdict.into(), Some(Duration::from_secs(9)), loss, Timestamp(taken + 10))
    }

    fn bad() -> Verdict {
        Verdict::Bad { reason: "silent".into() }
    }

    #[test]
    fn proofs_are_bounded_and_the_newest_good_one_stays() {
        let mut item = item();
        item.remember_boot(PointId(3), proof(3, Verdict::Good));
        item.remember_boot(PointId(4), proof(4, Verdict::Good));
        for id in 5..500 {
            item.remember_boot(PointId(id), proof(id, bad()));
            assert!(item.boot_proofs.len() <= KEPT_BOOT_PROOFS);
        }
        assert_eq!(item.last_good_boot().map(|(p, _)| p), Some(PointId(4)));
        assert_eq!(item.last_boot_proof().map(|(p, _)| p), Some(PointId(499)));
        assert!(!item.boot_proofs.contains_key(&PointId(3)) && item.boot_proofs.contains_key(&PointId(469)));
    }

    #[test]
    fn a_proof_is_of_its_point_and_not_of_another_one_with_its_number() {
        let mut item = item();
        item.remember_boot(PointId(1), proof(10, Verdict::Good));
        item.remember_boot(PointId(2), proof(20, bad()));
        let points: Vec<Point> = [(1, 10), (2, 21), (3, 30)]
            .map(|(id, taken)| point(id, "c", &["m"], taken, Consistency::Crash))
            .to_vec();
        assert_eq!(item.boots_of_none(&points), [PointId(2)]);
        let told = item.with_proofs(points);
        assert_eq!(told.iter().map(Point::boots).collect::<Vec<_>>(), [true, false, false]);
        assert!(told[1].verified_boot.is_none(), "taken at another instant");
    }

    #[test]
    fn what_a_probe_says_is_cut_short_and_a_bad_boot_has_no_time() {
        let long = "x".repeat(10_000);
        let loss = DataLoss::since(Timestamp(1), Timestamp(2));
        let probed = Probed { notes: vec![long.clone(); 50], ..Probed::bad(long) };
        let proof = BootProof::new(probed, Some(Duration::from_secs(1)), loss, Timestamp(3));
        assert!(serde_json::to_string(&proof).expect("plain data serialises").len() < 5_000);
        assert_eq!((proof.boot, proof.is_good()), (None, false));
    }
}
