//! What all groups share: where they work, how often, and what measures them.

use crate::Outcome;
use crate::images::Images;
use crate::meter::Meter;
use crate::report::Report;
use std::fs;
use std::path::{Path, PathBuf};

#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) meter: Meter,
    pub(crate) report: Report,
    pub(crate) images: Images,
    work: PathBuf,
    pairs: Option<usize>,
}

impl Bench {
    pub(crate) fn open(pairs: Option<usize>, images: Option<PathBuf>) -> Outcome<Self> {
        let tmp = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let target = tmp.parent().ok_or("the target directory has no name")?;
        let work = tmp.join("against-peers");
        fs::create_dir_all(&work)?;
        let images = Images::new(images.unwrap_or_else(|| work.join("images")))?;
        let report = Report::new(target.join("against-peers.json"));
        Ok(Self { meter: Meter::new(), report, images, work, pairs })
    }

    pub(crate) fn header(&self) -> String {
        let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("?");
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        format!(
            "{threads} x {}, Linux {}, load {}\nCPU seconds: {}; memory: the most that the tree held, looked at every 10 ms\n\
             ratios are medians over pairs of ours / peer",
            cpu.trim_start_matches(['\t', ' ', ':']),
            kernel.trim(),
            load.split(' ').next().unwrap_or("?"),
            self.meter.how(),
        )
    }

    /// How many pairs to run: as asked for, else as this group can afford.
    pub(crate) fn pairs(&self, affordable: usize) -> usize {
        self.pairs.unwrap_or(affordable)
    }

    /// Ours and the peer in turn; who begins changes with each pair.
    pub(crate) fn in_turn<T, U>(
        &self,
        pairs: usize,
        mut ours: impl FnMut() -> Outcome<T>,
        mut peer: impl FnMut() -> Outcome<U>,
    ) -> Outcome<Vec<(T, U)>> {
        let pair = |number| {
            if number % 2 == 0 {
                let first = ours()?;
                return Ok((first, peer()?));
            }
            let first = peer()?;
            Ok((ours()?, first))
        };
        (0..pairs).map(pair).collect()
    }

    /// A path in the directory of this run.
    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.work.join(name)
    }

    /// An empty directory of this name.
    pub(crate) fn fresh(&self, name: &str) -> Outcome<PathBuf> {
        let path = self.at(name);
        clear(&path)?;
        fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// Removes what a group left, but for images and for histories that the next groups read.
    pub(crate) fn tidy_after(&self, group: &str) -> Outcome<()> {
        for entry in fs::read_dir(&self.work)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let stays = name == "images" || (name.starts_with("history-") && group != "G10");
            if !stays {
                clear(&path)?;
            }
        }
        Ok(())
    }

    /// Removes all that was made under the target directory but the report.
    pub(crate) fn remove(&self) -> Outcome<()> {
        clear(&self.work)
    }
}

/// Removes a file or a directory, if there is one.
pub(crate) fn clear(path: &Path) -> Outcome<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(there) if there.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => Ok(()),
    };
    removed.map_err(|e| format!("{} cannot be removed: {e}", path.display()).into())
}

/// Bytes that a file, or all files of a directory, take on the disk.
pub(crate) fn stored(path: &Path) -> Outcome<u64> {
    use std::os::unix::fs::MetadataExt;
    let there = fs::symlink_metadata(path)?;
    if !there.is_dir() {
        return Ok(there.blocks() * 512);
    }
    fs::read_dir(path)?.map(|entry| stored(&entry?.path())).sum()
}

/// Copies a directory, durably, so that nothing of it is written back while something is measured.
pub(crate) fn copy_tree(from: &Path, to: &Path) -> Outcome<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
            fs::File::open(&target)?.sync_all()?;
        }
    }
    Ok(())
}

/// Reads a file whole, so that it lies in the page cache.
pub(crate) fn warm(path: &Path) -> Outcome<()> {
    std::io::copy(&mut fs::File::open(path)?, &mut std::io::sink())?;
    Ok(())
}
