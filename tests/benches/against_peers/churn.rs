//! What a guest writes from one recovery point to the next on image R: a five-hundredth of it, at random places.

use crate::Outcome;
use crate::images::{Dice, SIZE_OF_R};

/// Bytes are taken from the beginning of R, so that they look like what is there.
const PATTERN: u64 = 64 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Churn {
    /// 33 writes of 64 KiB a point.
    Large,
    /// 524 writes of 4 KiB a point.
    Small,
}

/// One write: where, and from where in R its bytes are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Write {
    pub(crate) start: u64,
    pub(crate) from: u64,
}

impl Churn {
    pub(crate) fn named(name: &str) -> Outcome<Self> {
        let known = [Churn::Large, Churn::Small].into_iter().find(|c| c.name() == name);
        known.ok_or_else(|| format!("{name} is no churn").into())
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Churn::Large => "64k",
            Churn::Small => "4k",
        }
    }

    /// Bytes of one write.
    pub(crate) fn size(self) -> u64 {
        match self {
            Churn::Large => 64 << 10,
            Churn::Small => 4 << 10,
        }
    }

    fn count(self) -> u64 {
        match self {
            Churn::Large => 33,
            Churn::Small => 524,
        }
    }

    /// Bytes that a point writes.
    pub(crate) fn payload(self) -> u64 {
        self.count() * self.size()
    }

    /// What was written between the point before and this one; the first image is point 0.
    pub(crate) fn writes(self, point: usize) -> Vec<Write> {
        let mut dice = Dice(self.size() << 32 | point as u64);
        let write = |_| Write {
            start: dice.below(SIZE_OF_R / self.size()) * self.size(),
            from: dice.below(PATTERN - self.size()),
        };
        (0..self.count()).map(write).collect()
    }
}
