//! A landing site of byte arrays, and a source with the truth about every point that was sealed.
#![allow(dead_code, unreachable_pub, unused_imports, reason = "each test uses its part")]

mod landing;
mod oracle;

pub use landing::{Gate, Landing};
pub use oracle::{Fate, Oracle, differing, read_all, same};

use std::collections::BTreeMap;

/// Bytes of all disks.
pub type Image = BTreeMap<site_recovery::DiskId, Vec<u8>>;

/// Numbers that a seed gives again.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % end.max(1)
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.below(256) as u8).collect()
    }
}
