//! Which volumes can hold a retention log. The rules are those of Azure's retention drives: in use for nothing else, no
//! cache, not locked, not FAT, with capacity. Where Azure leaves a volume out in silence, it is listed here with its reason.

use crate::desk::blocking;
use rustix::fs::{Access, StatVfsMountFlags, access, statfs, statvfs};
use site_recovery::{Error, ErrorKind, Offer, Result};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Magic numbers of file systems (`statfs(2)`) that cannot hold a log, and why.
const UNFIT: [(u64, &str); 3] = [
    (0x4d44, "it is a FAT file system, which loses what is written at a power cut"),
    (0x2011_bab0, "it is an exFAT file system, which loses what is written at a power cut"),
    (0x7371_7368, "it can only be read"),
];

/// Those that live in memory: `tmpfs`, `ramfs`.
const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];

/// What volumes are used for already.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Uses {
    /// Where machines land.
    pub landing: Vec<PathBuf>,
    /// Where a process server or a service keeps its own.
    pub caches: Vec<PathBuf>,
}

/// Whether what is kept there is gone with the next start of the host. Enough for a test; a [`judge`] does not mind.
pub fn is_in_memory(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| IN_MEMORY.contains(&(found.f_type as u64)))
}

/// Whether a directory can hold the log, and if not, why.
pub fn judge(path: &Path, uses: &Uses) -> Offer {
    let name = path.display().to_string();
    let Ok(volume) = statvfs(path) else {
        return Offer { name, size: 0, free: 0, ineligible: Some("it does not answer".to_owned()) };
    };
    let size = volume.f_blocks.saturating_mul(volume.f_frsize);
    let free = volume.f_bavail.saturating_mul(volume.f_frsize);
    let own = real(path);
    let whole = is_mounted(&own);
    // A file system that is mounted here is the volume, by whatever path somebody else has it.
    let used = |by: &[PathBuf]| {
        let shares = |used: &&PathBuf| {
            let used = real(used);
            own.starts_with(&used) || used.starts_with(&own) || (whole && are_one(&own, &used))
        };
        by.iter().find(shares).cloned()
    };
    let magic = statfs(path).map_or(0, |found| found.f_type as u64);
    let ineligible = if volume.f_flag.contains(StatVfsMountFlags::RDONLY) {
        Some("it is read-only".to_owned())
    } else if size == 0 {
        Some("it has no capacity".to_owned())
    } else if let Some((_, why)) = UNFIT.iter().find(|(unfit, _)| *unfit == magic) {
        Some((*why).to_owned())
    } else if let Some(store) = used(&uses.landing) {
        Some(format!("it is on datastore {}, on which machines land", store.display()))
    } else if let Some(cache) = used(&uses.caches) {
        Some(format!("{} is kept there", cache.display()))
    } else if access(path, Access::WRITE_OK | Access::EXEC_OK).is_err() {
        Some("it cannot be written".to_owned())
    } else {
        None
    };
    Offer { name, size, free, ineligible }
}

/// What else is kept on the file system of a directory that could hold the log, apart from it. Where that is no volume of its
/// own, one takes the room of the other, and both go with one disk: enough for a small site, which says so.
pub fn beside(path: &Path, uses: &Uses) -> Vec<PathBuf> {
    let own = real(path);
    let all = uses.landing.iter().chain(&uses.caches);
    all.filter(|used| are_one(&own, &real(used))).cloned().collect()
}

/// A path without links and dots, as far as it is there.
fn real(path: &Path) -> PathBuf {
    let there = path.ancestors().find_map(|above| Some((above, above.canonicalize().ok()?)));
    there.map_or_else(
        || path.to_owned(),
        |(above, real)| match path.strip_prefix(above) {
            Ok(rest) if rest.as_os_str().is_empty() => real,
            Ok(rest) => real.join(rest),
            Err(_) => real,
        },
    )
}

/// The file system that a path is on, or would be.
fn file_system(path: &Path) -> Option<u64> {
    path.ancestors().find_map(|above| Some(above.metadata().ok()?.dev()))
}

fn are_one(one: &Path, other: &Path) -> bool {
    file_system(one).is_some_and(|one| file_system(other) == Some(one))
}

fn is_mounted(path: &Path) -> bool {
    path.parent().is_some_and(|above| !are_one(path, above))
}

/// All file systems that are mounted from a device, with the reason where one cannot hold the log.
///
/// # Errors
/// `Unavailable` where the mounts cannot be read.
pub async fn volumes(uses: Uses) -> Result<Vec<Offer>> {
    blocking(move || {
        let unread = |e| Error::new(ErrorKind::Unavailable, "the mounts cannot be read").caused_by(e);
        let mounts = std::fs::read("/proc/self/mountinfo").map_err(unread)?;
        let mut paths: Vec<PathBuf> = mounts.split(|byte| *byte == b'\n').filter_map(mounted).collect();
        paths.sort();
        paths.dedup();
        Ok(paths.iter().map(|path| judge(path, &uses)).collect())
    })
    .await
}

/// Where a line of `mountinfo` (proc(5)) mounts a device.
fn mounted(line: &[u8]) -> Option<PathBuf> {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let dash = fields.iter().position(|field| *field == b"-")?;
    let device = fields.get(dash + 2)?;
    let path = fields.get(4)?;
    device.starts_with(b"/dev/").then(|| PathBuf::from(OsStr::from_bytes(&unescaped(path))))
}

/// Blanks and the like stand there as three octal digits behind a backslash.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let (mut out, mut at) = (vec![], 0);
    while at < field.len() {
        let digits = field.get(at + 1..at + 4).filter(|_| field[at] == b'\\');
        let code = digits.and_then(|d| u8::from_str_radix(std::str::from_utf8(d).ok()?, 8).ok());
        match code {
            Some(byte) => {
                out.push(byte);
                at += 4;
            }
            None => {
                out.push(field[at]);
                at += 1;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(path: &str, uses: &Uses) -> Option<String> {
        judge(Path::new(path), uses).ineligible
    }

    #[test]
    fn a_volume_that_cannot_hold_the_log_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_str().unwrap();
        let judged = judge(dir.path(), &Uses::default());
        assert_eq!(judged.ineligible, None);
        assert!(judged.size > 0 && judged.free > 0);
        let landing = Uses { landing: vec![dir.path().into()], caches: vec![] };
        assert!(why(&format!("{path}/."), &landing).unwrap().contains("on which machines land"));
        let caches = Uses { landing: vec![], caches: vec![dir.path().join("spool")] };
        assert!(why(path, &caches).unwrap().contains("spool is kept there"));
        assert_eq!(why("/nowhere", &Uses::default()).unwrap(), "it does not answer");
        assert!(is_in_memory(Path::new("/dev/shm")) && !is_in_memory(Path::new("/proc")));
        assert_eq!(why("/proc", &Uses::default()).unwrap(), "it has no capacity");
    }

    #[test]
    fn a_use_is_found_by_whatever_path_it_has() {
        let dir = tempfile::tempdir().unwrap();
        let [retention, landing, link] = ["retention", "landing", "link"].map(|name| dir.path().join(name));
        std::fs::create_dir(&retention).unwrap();
        std::os::unix::fs::symlink(&retention, &link).unwrap();
        let at = |path: PathBuf| Uses { landing: vec![path], caches: vec![] };
        let why = |uses: &Uses| judge(&retention, uses).ineligible;
        // Through a link, through dots, and where it is yet to be made.
        for inside in [link.clone(), link.join("not/yet"), dir.path().join("landing/../retention/disks")] {
            std::fs::create_dir_all(&landing).unwrap();
            assert!(why(&at(inside.clone())).unwrap().contains("on which machines land"), "{inside:?}");
            assert!(judge(&link, &at(inside)).ineligible.is_some());
        }
        // Beside it on one file system: told, and no more.
        let neighbour = Uses { landing: vec![landing.clone()], caches: vec!["/proc".into()] };
        assert_eq!(why(&neighbour), None);
        assert_eq!(beside(&retention, &neighbour), [landing]);
        assert_eq!(beside(&retention, &at("/proc".into())), Vec::<PathBuf>::new());
        // A file system that is mounted there is the volume as a whole.
        assert!(is_mounted(Path::new("/proc")) && !is_mounted(&retention) && !is_mounted(Path::new("/")));
    }

    #[test]
    fn mounts_are_those_of_devices_with_their_names_as_they_are() {
        let line = br"36 35 98:0 /mnt1 /mnt/a\040b rw,noatime master:1 - ext3 /dev/root rw,errors=continue";
        assert_eq!(mounted(line), Some("/mnt/a b".into()));
        assert_eq!(mounted(b"22 27 0:20 / /sys rw - sysfs sysfs rw"), None);
        assert_eq!(mounted(b"22 27"), None);
        assert_eq!(unescaped(br"\1\xyz\134"), br"\1\xyz\");
    }

    #[tokio::test]
    async fn all_volumes_are_listed() {
        let all = volumes(Uses::default()).await.unwrap();
        assert!(all.iter().any(|offer| offer.name == "/"), "{all:?}");
    }
}
