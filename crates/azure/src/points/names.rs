//! Where what stands in the container.
//!
//! ```text
//! m/<machine>/state                      all that is true of it: one document, changed by compare-and-set
//! m/<machine>/disk/<disk>-<session>-….vhd  the replica of a disk, a page blob; its snapshots are the points
//! m/<machine>/plan/<session>-…           what an ingest may write
//! m/<machine>/note/<session>/<number>    what it has landed
//! m/<machine>/point/<point>-…            what was sealed
//! ```

use site_recovery::{DiskId, MachineId, PointId};
use site_recovery_record::checksum;

/// Of all machines.
pub(crate) const MACHINES: &str = "m/";

/// The names of one machine's blobs.
#[derive(Debug, Clone)]
pub(crate) struct Names(String);

impl Names {
    pub(crate) fn of(machine: &MachineId) -> Self {
        Self(format!("{MACHINES}{}/", plain(machine.as_str())))
    }

    pub(crate) fn all(&self) -> &str {
        &self.0
    }

    pub(crate) fn state(&self) -> String {
        format!("{}state", self.0)
    }

    pub(crate) fn disks(&self) -> String {
        format!("{}disk/", self.0)
    }

    pub(crate) fn plans(&self) -> String {
        format!("{}plan/", self.0)
    }

    pub(crate) fn points(&self) -> String {
        format!("{}point/", self.0)
    }

    /// `tag` tells the calls apart that could make it at the same moment.
    pub(crate) fn disk(&self, disk: &DiskId, session: u64, tag: &str) -> String {
        format!("{}{}-{session}-{tag}.vhd", self.disks(), plain(disk.as_str()))
    }

    /// Named by what it says: the same again is no other.
    pub(crate) fn plan(&self, session: u64, bytes: &[u8]) -> String {
        format!("{}{session}-{:016x}", self.plans(), checksum(bytes))
    }

    pub(crate) fn notes(&self, session: u64) -> String {
        format!("{}note/{session}/", self.0)
    }

    pub(crate) fn note(&self, session: u64, number: u64) -> String {
        format!("{}{number:08}", self.notes(session))
    }

    /// Named by what it says as well.
    pub(crate) fn point(&self, point: PointId, bytes: &[u8]) -> String {
        format!("{}{point}-{:016x}", self.points(), checksum(bytes))
    }
}

/// The machine of a folder of [`MACHINES`], without the slash.
pub(crate) fn machine(folder: &str) -> Option<MachineId> {
    let mut name = vec![];
    let mut left = folder.bytes();
    while let Some(byte) = left.next() {
        match byte {
            b'~' => {
                let digits = [left.next()?, left.next()?];
                name.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
            }
            plain => name.push(plain),
        }
    }
    String::from_utf8(name).ok().map(MachineId)
}

/// A name that a blob's may hold as one part of it, and an address unchanged: letters, digits, hyphens and underscores stay, the
/// rest is `~` and two digits.
pub(crate) fn plain(name: &str) -> String {
    let mut all = String::new();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => all.push(byte.into()),
            other => all.push_str(&format!("~{other:02x}")),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_comes_back_and_none_leaves_its_place() {
        for name in ["web", "..", "a/b", "ü~1 %", "~7e", ""] {
            let plain = plain(name);
            assert_eq!(machine(&plain), Some(name.into()));
            assert!(!plain.contains(['/', '.', '%', ' ']), "{plain}");
        }
        assert_eq!((machine("~7"), machine("~zz")), (None, None));
    }
}
