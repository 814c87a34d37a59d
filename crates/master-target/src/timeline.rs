//! What is remembered of one machine's timeline, and how points leave it. Pure: nothing here touches a file.

use serde::{Deserialize, Serialize};
use site_recovery::{
    Armed, ChangeSet, Cursor, CutId, Head, Instance, Machine, Op, OpKey, Point, PointId, Run, Settings, Stamp,
};

/// One machine's timeline, as it stands on the retention volume.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Timeline {
    /// The machine as it was last prepared or ingested.
    pub(crate) machine: Machine,
    pub(crate) settings: Settings,
    /// The key under which it was prepared last.
    pub(crate) prepared: OpKey,
    /// The disks that are written.
    pub(crate) landing: Instance,
    /// Whether they were there before us.
    pub(crate) brought: bool,
    /// What the landing site said of them when we last had them in hand.
    pub(crate) stamp: Option<Stamp>,
    /// Whether somebody else wrote on them since the newest point.
    pub(crate) doubted: bool,
    pub(crate) stage: Stage,
    pub(crate) next_point: u64,
    pub(crate) next_file: u64,
    pub(crate) session: u64,
    /// Listed points, oldest first.
    pub(crate) points: Vec<Sealed>,
    /// Stretches in which each point's distance to the next is known; the last one goes on.
    pub(crate) chains: Vec<Chain>,
    /// The file of the log that takes what is overwritten now.
    pub(crate) pending: u64,
    /// From where the next delta starts, until the next point is sealed.
    pub(crate) seed: Option<From>,
    pub(crate) open: Option<Opened>,
    /// What was set aside and is not destroyed yet.
    pub(crate) kept: Vec<Kept>,
}

/// Who has the landing disks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Stage {
    /// We have: the way back lands on them.
    Landing,
    /// A machine stands, or is about to stand, over them.
    HandedOver(HandOver),
    /// A machine has them for good.
    Released(Instance),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct HandOver {
    pub(crate) made_by: OpKey,
    pub(crate) point: PointId,
    /// Whether the point is one of ours.
    pub(crate) own: bool,
    /// Whether a branch stands, or may stand, under the disks.
    pub(crate) branched: bool,
    /// The file of the log that takes what rolling overwrites.
    pub(crate) redo: u64,
    pub(crate) step: Step,
    pub(crate) armed: Option<Armed>,
}

/// How far a hand-over got. What is named may have begun; what comes before is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Step {
    Rolling,
    Arming,
    Armed,
    Booting,
    Withdrawing,
    Settling,
}

/// A point and where its bytes are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sealed {
    pub(crate) point: Point,
    /// The file that has it whole, where one does.
    pub(crate) whole: Option<Part>,
    /// Whether the log leads to it from landing disks that nobody else wrote.
    pub(crate) undo: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Chain {
    /// The lowest number that a point of it can have.
    pub(crate) first: PointId,
    /// Oldest first.
    pub(crate) links: Vec<Link>,
}

/// What was overwritten on the way to a point, from the one before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Link {
    pub(crate) to: PointId,
    /// Files, oldest first: of two that have a run, the first one counts.
    pub(crate) parts: Vec<Part>,
    /// Runs of which no bytes are kept any more.
    pub(crate) bare: Vec<u64>,
    /// Whether nobody else wrote on the way.
    pub(crate) sure: bool,
}

/// A closed file of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) number: u64,
    pub(crate) end: u64,
}

/// The source at `cursor` differs from the working copy in at most `touched` and what is pending.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct From {
    pub(crate) cursor: Option<Cursor>,
    pub(crate) touched: ChangeSet,
}

/// The open ingest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Opened {
    pub(crate) op: Op,
    pub(crate) cut: CutId,
    pub(crate) plan: ChangeSet,
    pub(crate) resume: site_recovery::Landed,
}

/// An instance that was set aside.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) by: OpKey,
    pub(crate) was: Instance,
    pub(crate) instance: Instance,
}

impl Timeline {
    pub(crate) fn sealed(&self, point: PointId) -> Option<&Sealed> {
        self.points.iter().find(|s| s.point.id == point)
    }

    pub(crate) fn newest(&self) -> Option<PointId> {
        self.points.last().map(|s| s.point.id)
    }

    pub(crate) fn handed_over(&self) -> Option<&HandOver> {
        match &self.stage {
            Stage::HandedOver(over) => Some(over),
            _ => None,
        }
    }

    /// Whether the landing disks, under what the log holds, are still as they were handed over.
    pub(crate) fn opens(&self) -> bool {
        match &self.stage {
            Stage::Landing => true,
            Stage::HandedOver(over) => over.step <= Step::Armed,
            Stage::Released(_) => false,
        }
    }

    pub(crate) fn hand_over(&mut self) -> Option<&mut HandOver> {
        match &mut self.stage {
            Stage::HandedOver(over) => Some(over),
            _ => None,
        }
    }

    /// A number for a new file.
    pub(crate) fn file(&mut self) -> u64 {
        self.next_file += 1;
        self.next_file - 1
    }

    /// Where the timeline stands, when `pending` was overwritten since the newest point.
    pub(crate) fn head(&self, newest: Option<Cursor>, pending: ChangeSet) -> Head {
        let point = self.newest();
        match (&self.seed, point) {
            (None, Some(point)) if pending.is_empty() => Head::Sealed { point, cursor: newest },
            (None, None) if pending.is_empty() => Head::Empty,
            (None, _) => Head::Unsettled { point, cursor: newest, touched: pending },
            (Some(from), _) => {
                let touched = pending.union(&from.touched);
                Head::Unsettled { point, cursor: from.cursor.clone(), touched }
            }
        }
    }

    /// Somebody wrote on the landing disks: every point that rests on them is in doubt, and so is the distance.
    pub(crate) fn doubt(&mut self, stamp: Option<Stamp>) {
        (self.stamp, self.doubted) = (stamp, true);
        for sealed in &mut self.points {
            sealed.undo = false;
            sealed.point.verified = sealed.whole.is_some();
        }
        self.seed = Some(From { cursor: None, touched: ChangeSet::new() });
        self.open = None;
        self.session += 1;
    }

    /// Files to lay over the landing disks for a point, the one that counts first. What is pending comes last.
    pub(crate) fn above(&self, point: PointId) -> Vec<Part> {
        let links = self.chains.last().map_or(&[][..], |c| &c.links);
        links.iter().filter(|l| l.to > point).flat_map(|l| l.parts.iter().copied()).collect()
    }

    /// Links that together hold everything between two points; none where that is not known.
    pub(crate) fn between(&self, from: Option<PointId>, to: PointId) -> Option<Vec<&Link>> {
        let (low, high) = (from.map(|f| f.min(to)), from.map_or(to, |f| f.max(to)));
        let chain = self.chains.iter().rev().find(|c| c.first <= high)?;
        if low.is_some_and(|low| low < chain.first) {
            return None;
        }
        let starts = std::iter::once(None).chain(chain.links.iter().map(|l| Some(l.to)));
        let inside =
            |(start, link): &(Option<PointId>, &Link)| start.is_none_or(|s| s < high) && Some(link.to) > low;
        let links: Vec<&Link> = starts.zip(&chain.links).filter(inside).map(|(_, link)| link).collect();
        links.iter().all(|l| l.sure).then_some(links)
    }

    /// Takes points off the list. Of their links nothing is lost: each goes into the next newer one.
    pub(crate) fn drop_points(&mut self, gone: &[PointId]) {
        self.points.retain(|s| !gone.contains(&s.point.id));
        let Some(chain) = self.chains.last_mut() else { return };
        for point in gone {
            let Some(at) = chain.links.iter().position(|l| l.to == *point) else { continue };
            if at + 1 < chain.links.len() {
                let dropped = chain.links.remove(at);
                let next = &mut chain.links[at];
                next.parts.splice(0..0, dropped.parts);
                next.bare.splice(0..0, dropped.bare);
                next.sure &= dropped.sure;
            }
        }
    }

    /// Links with bytes that lead to no listed point any more.
    pub(crate) fn idle(&self) -> Vec<PointId> {
        let settled = matches!(self.stage, Stage::Released(_));
        let mut idle = vec![];
        for (at, chain) in self.chains.iter().enumerate() {
            let goes_on = at + 1 == self.chains.len() && !settled;
            let resting = |s: &&Sealed| s.point.id >= chain.first;
            let oldest = self.points.iter().find(resting).map(|s| s.point.id).filter(|_| goes_on);
            let dead = |l: &&Link| !l.parts.is_empty() && oldest.is_none_or(|oldest| l.to <= oldest);
            idle.extend(chain.links.iter().filter(dead).map(|l| l.to));
        }
        idle
    }

    pub(crate) fn links(&mut self) -> impl Iterator<Item = &mut Link> {
        self.chains.iter_mut().flat_map(|c| c.links.iter_mut())
    }

    /// Every file that is still named.
    pub(crate) fn files(&self) -> Vec<u64> {
        let links = self.chains.iter().flat_map(|c| &c.links);
        let parts = links.flat_map(|l| l.parts.iter().map(|p| p.number).chain(l.bare.iter().copied()));
        let whole = self.points.iter().filter_map(|s| s.whole.map(|w| w.number));
        parts.chain(whole).chain([self.pending]).chain(self.handed_over().map(|o| o.redo)).collect()
    }
}

/// All of the replicated disks of a machine is in `plan`.
pub(crate) fn compares(plan: &ChangeSet, machine: &Machine) -> bool {
    machine.included().all(|d| plan.contains(&d.id, Run::new(0, d.size)))
}
