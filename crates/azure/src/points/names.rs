//! Where what stands in the container.
//!
//! ```text
//! m/<machine>/state                      all that is true of it: one document, changed by compare-and-set
//! m/<machine>/disk/<disk>-<state>-….vhd  the replica of a disk, a page blob; its snapshots are the points
//! m/<machine>/plan/<state>-…             what an ingest may write
//! m/<machine>/note/<session>/<number>    what it has landed
//! m/<machine>/note/fold-…/0              what several of them have
//! m/<machine>/fold/<state>-…             what points that were dropped leave behind
//! m/<machine>/point/<point>-<state>-…    what was sealed
//! ```
//! `<state>` is the number of the state that was to name it first: once the machine's state has that number or a higher one and does
//! not name it, none will.

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

    /// `tag` tells the calls apart that could make it at the same moment.
    pub(crate) fn disk(&self, disk: &DiskId, state: u64, tag: &str) -> String {
        format!("{}disk/{}-{state}-{tag}.vhd", self.0, plain(disk.as_str()))
    }

    /// Named by what it says: the same again is no other.
    pub(crate) fn plan(&self, state: u64, bytes: &[u8]) -> String {
        format!("{}plan/{state}-{:016x}", self.0, checksum(bytes))
    }

    /// Whether this is the name of a document that says so.
    pub(crate) fn says(name: &str, bytes: &[u8]) -> bool {
        name.ends_with(&format!("-{:016x}", checksum(bytes)))
    }

    /// The folders of what is named by the state that was to name it first.
    pub(crate) fn by_state(&self) -> [String; 4] {
        ["disk/", "plan/", "fold/", "point/"].map(|folder| format!("{}{folder}", self.0))
    }

    /// The number of that state.
    pub(crate) fn state_of(name: &str) -> Option<u64> {
        name.rsplit(['-', '/']).nth(1)?.parse().ok()
    }

    pub(crate) fn notes(&self, session: u64) -> String {
        format!("{}note/{session}/", self.0)
    }

    pub(crate) fn note(&self, session: u64, number: u64) -> String {
        format!("{}{number:08}", self.notes(session))
    }

    /// What dropped points were made into.
    pub(crate) fn folded(&self, state: u64, bytes: &[u8]) -> String {
        format!("{}fold/{state}-{:016x}", self.0, checksum(bytes))
    }

    pub(crate) fn folded_notes(&self, bytes: &[u8]) -> String {
        format!("{}note/fold-{:016x}/", self.0, checksum(bytes))
    }

    /// Named by what it says as well.
    pub(crate) fn point(&self, point: PointId, state: u64, bytes: &[u8]) -> String {
        format!("{}point/{point}-{state}-{:016x}", self.0, checksum(bytes))
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
        let names = Names::of(&"a-1".into());
        let tag = "0123abcd";
        for name in [
            names.disk(&"c-3".into(), 7, tag),
            names.plan(7, b"x"),
            names.folded(7, b"x"),
            names.point(PointId(9), 7, b"x"),
        ] {
            assert_eq!(Names::state_of(&name), Some(7), "{name}");
        }
        assert!(Names::says(&names.plan(7, b"x"), b"x") && !Names::says(&names.plan(7, b"x"), b"y"));
        assert_eq!((machine("~7"), machine("~zz")), (None, None));
    }
}
