//! Writes to a disk as dm-era keeps them: for each block the era in which it was written last.
//!
//! The era target lies below the file systems and above the disk. A cut asks it for a new era; what was written since is
//! read from a snapshot of its metadata, by `era_invalidate` of thin-provisioning-tools:
//! ```text
//! dmsetup message <era> 0 checkpoint
//! dmsetup status <era>                                            the era that began
//! dmsetup message <era> 0 take_metadata_snap
//! era_invalidate --metadata-snapshot --written-since <N> <metadata device>
//! dmsetup message <era> 0 drop_metadata_snap
//! ```
//! It survives a restart of the agent. After one of the server it is not asked: whatever was started in between may have
//! written below it. A scan of everything takes its place.

use super::blocks::Blocks;
use super::scan::Hint;
use super::{Means, Written};
use crate::freeze::Programs;
use site_recovery::{Error, ErrorKind, Result, Run};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

const SECTOR: u64 = 512;
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// A device of the era target.
#[derive(Debug)]
pub struct Era {
    name: String,
    metadata: String,
    /// Bytes of one of its blocks.
    block: u64,
    size: u64,
    boot: String,
    programs: Arc<dyn Programs>,
}

impl Era {
    /// The mapped device `name`.
    ///
    /// # Errors
    /// `Unsupported` where it is not one era target; `Unavailable` where device-mapper does not answer.
    pub fn over(name: &str, programs: Arc<dyn Programs>) -> Result<Self> {
        let table = programs.run("dmsetup", &["table", name])?;
        let other =
            || Error::new(ErrorKind::Unsupported, format!("{name} is not one era target: {}", table.trim()));
        let mut lines = table.lines();
        let line = lines.next().filter(|_| lines.next().is_none()).ok_or_else(other)?;
        let fields: Vec<&str> = line.split_whitespace().collect();
        let ["0", sectors, "era", metadata, _origin, block, ..] = fields[..] else { return Err(other()) };
        let number = |text: &str| text.parse::<u64>().ok().filter(|n| *n > 0).ok_or_else(other);
        Ok(Self {
            name: name.into(),
            metadata: device(metadata),
            block: number(block)? * SECTOR,
            size: number(sectors)? * SECTOR,
            boot: fs::read_to_string(BOOT).unwrap_or_default().trim().into(),
            programs,
        })
    }

    fn message(&self, what: &str) -> Result<String> {
        self.programs.run("dmsetup", &["message", &self.name, "0", what])
    }

    /// The era that writes belong to now.
    fn current(&self) -> Result<u32> {
        let status = self.programs.run("dmsetup", &["status", &self.name])?;
        // start, length, "era", size of a metadata block, used/total, era, held root.
        let era = status.split_whitespace().nth(5).and_then(|era| era.parse().ok());
        era.ok_or_else(|| Error::new(ErrorKind::Unavailable, format!("{}: no era in {status:?}", self.name)))
    }

    fn mark(&self) -> Result<String> {
        self.message("checkpoint")?;
        Ok(format!("{} {}", self.boot, self.current()?))
    }

    fn written_since(&self, mark: &str) -> Result<Blocks> {
        let refused = |why: String| Error::new(ErrorKind::Refused, why);
        let (boot, era) = mark.rsplit_once(' ').ok_or_else(|| refused(format!("no mark: {mark:?}")))?;
        let era: u32 = era.parse().map_err(|_| refused(format!("no mark: {mark:?}")))?;
        if boot != self.boot || boot.is_empty() {
            return Err(refused("the server was restarted since".into()));
        }
        if self.current()? < era {
            return Err(refused("the eras were begun anew".into()));
        }
        // One that a dead agent left would tell less.
        let _there_was_none = self.message("drop_metadata_snap");
        self.message("take_metadata_snap")?;
        let since = era.to_string();
        let arguments = ["--metadata-snapshot", "--written-since", &since, &self.metadata];
        let told = self.programs.run("era_invalidate", &arguments);
        self.message("drop_metadata_snap")?;
        self.blocks(&told?)
    }

    fn blocks(&self, told: &str) -> Result<Blocks> {
        let mut blocks = Blocks::none(self.size);
        for (from, to) in parse(told)? {
            let place = |block: u64| block.checked_mul(self.block);
            let (Some(start), Some(end)) = (place(from), place(to)) else {
                return Err(Error::new(ErrorKind::Corrupt, format!("block {to} of {}", self.name)));
            };
            blocks.add_run(Run::new(start, end - start));
        }
        Ok(blocks)
    }
}

impl Means for Era {
    fn name(&self) -> &'static str {
        "era"
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn cut(&mut self) -> Written {
        match self.mark() {
            Ok(mark) => Written::Marked(mark),
            Err(e) => Written::Told(Hint::Anything(e.to_string())),
        }
    }

    fn since(&mut self, mark: &str) -> Hint {
        match self.written_since(mark) {
            Ok(blocks) => Hint::Blocks(blocks),
            Err(e) => Hint::Anything(e.to_string()),
        }
    }
}

/// A device as `dmsetup table` names it: by numbers, or by its path. The kernel says how it is called; `/dev/block` is udev's.
fn device(named: &str) -> String {
    let numbers =
        named.split_once(':').is_some_and(|(a, b)| a.parse::<u32>().is_ok() && b.parse::<u32>().is_ok());
    if !numbers {
        return named.into();
    }
    let kernel = fs::canonicalize(PathBuf::from("/sys/dev/block").join(named)).ok();
    match kernel.as_deref().and_then(|path| path.file_name()) {
        // A slash within a name is written so.
        Some(name) => format!("/dev/{}", name.to_string_lossy().replace('!', "/")),
        None => format!("/dev/block/{named}"),
    }
}

/// What `era_invalidate` says: `<block block="7"/>` and `<range begin="2" end = "5"/>`, the end not in it.
fn parse(told: &str) -> Result<Vec<(u64, u64)>> {
    let broken = |line: &str| Error::new(ErrorKind::Corrupt, format!("era_invalidate says {line:?}"));
    let mut lines = told.lines().map(str::trim).filter(|l| !l.is_empty());
    if lines.next() != Some("<blocks>") {
        return Err(broken(told.lines().next().unwrap_or_default()));
    }
    let mut all = vec![];
    for line in lines.by_ref() {
        if line == "</blocks>" {
            return match lines.next() {
                None => Ok(all),
                Some(more) => Err(broken(more)),
            };
        }
        let value = |name: &str| -> Option<u64> {
            let rest = line.split_once(&format!(" {name}"))?.1.trim_start().strip_prefix('=')?;
            rest.trim_start().strip_prefix('"')?.split_once('"')?.0.parse().ok()
        };
        let found = if line.starts_with("<block ") {
            value("block").and_then(|b| Some((b, b.checked_add(1)?)))
        } else if line.starts_with("<range ") {
            value("begin").zip(value("end")).filter(|(begin, end)| begin < end)
        } else {
            None
        };
        all.push(found.ok_or_else(|| broken(line))?);
    }
    Err(broken("no end"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d4_what_era_invalidate_says_is_read_whole_or_not_at_all() {
        let told = "<blocks>\n  <range begin=\"2\" end = \"5\"/>\n  <block block=\"900\"/>\n</blocks>\n";
        assert_eq!(parse(told).unwrap(), [(2, 5), (900, 901)]);
        assert_eq!(parse("<blocks>\n</blocks>").unwrap(), []);
        for broken in [
            "",
            "no metadata snapshot taken.",
            "<blocks>\n",
            "<blocks>\n  <block block=\"900\"/>\n",
            "<blocks>\n  <block block=\"x\"/>\n</blocks>",
            "<blocks>\n  <range begin=\"5\" end=\"5\"/>\n</blocks>",
            "<blocks>\n  <run at=\"5\"/>\n</blocks>",
            "<blocks>\n</blocks>\nmore",
        ] {
            assert_eq!(parse(broken).unwrap_err().kind(), ErrorKind::Corrupt, "{broken}");
        }
    }
}
