//! A writer that lives in a host, and what stands on the disks of a point in its time.

use super::disk::fsck;
use super::tool::{run, try_run, until};
use super::{Binary, Host, Mount, Process, build, tokens};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The file on each disk.
const FILE: &str = "tokens";

/// `ordered-writer`, on one or more file systems.
pub struct Writer(Process);

impl Writer {
    /// Starts it. Token n is durable on each disk before it is written to the next.
    pub fn start(host: &Host, on: &[&Mount<'_>], pause: Duration) -> Self {
        let mut arguments = vec![pause.as_millis().to_string()];
        arguments.extend(on.iter().map(|mount| mount.at().join(FILE).to_str().unwrap().to_owned()));
        Self(host.start_program(program(), &arguments))
    }

    /// How many tokens it said are durable on all disks.
    pub fn acknowledged(&self) -> u64 {
        let said = self.0.output();
        // The last line may not be whole yet.
        let whole = said.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let newest = whole.lines().last().and_then(|line| line.strip_prefix("ACK ")?.parse::<u64>().ok());
        newest.map_or(0, |newest| newest + 1)
    }

    /// Waits until it said so many.
    pub fn until(&mut self, count: u64) {
        until(&format!("{count} tokens"), || {
            assert!(self.0.has_ended().is_none(), "the writer ended: {}", self.0.output());
            self.acknowledged() >= count
        });
    }

    pub fn process(&mut self) -> &mut Process {
        &mut self.0
    }
}

/// Cargo made it for this package's own tests already.
fn program() -> PathBuf {
    match option_env!("CARGO_BIN_EXE_ordered-writer") {
        Some(path) => path.into(),
        None => build(&[Binary { package: "site-recovery-tests", name: "ordered-writer" }]).remove(0),
    }
}

/// A cut in a writer's time: all that it wrote up to there stands on every disk, and nothing that came after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    /// Tokens that stand on all disks.
    pub count: u64,
    /// Disks that have one token more, from the first.
    pub ahead: usize,
}

/// What stands in the files of a point, in the writer's order.
///
/// # Errors
/// How it is no prefix.
pub fn check_logs(logs: &[Vec<u8>]) -> Result<Prefix, String> {
    let counts: Vec<u64> =
        (0..).zip(logs).map(|(disk, log)| tokens::count(disk, log)).collect::<Result<_, _>>()?;
    let (first, count) = (counts.first().copied().unwrap_or(0), counts.last().copied().unwrap_or(0));
    let ahead = counts.iter().filter(|each| **each > count).count();
    // Each disk has as many as the one before, and but one place where there is one less.
    if counts.is_sorted_by(|a, b| a >= b) && first <= count + 1 {
        return Ok(Prefix { count, ahead });
    }
    Err(format!("the disks are not of one time: {counts:?}"))
}

/// What stands on the images of a point, in the writer's order. They are looked at in copies beside them, or clones where the
/// file system has these: as after a loss of power, a file system's journal is replayed before it is read.
///
/// # Errors
/// How it is no prefix, or what is wrong with a file system.
pub fn check_images(images: &[&Path]) -> Result<Prefix, String> {
    check_logs(&images.iter().map(|image| log_of(image)).collect::<Result<Vec<_>, _>>()?)
}

fn log_of(image: &Path) -> Result<Vec<u8>, String> {
    let dir = tempfile::tempdir_in(image.parent().unwrap()).unwrap();
    let (copy, log) = (dir.path().join("copy"), dir.path().join("log"));
    run("cp", &["--reflink=auto".as_ref(), image.as_os_str(), copy.as_os_str()]);
    // Ends with 1 where it replayed something; what it could not replay, the next check finds.
    let replayed = try_run("e2fsck", &["-y", "-E", "journal_only", copy.to_str().unwrap()]);
    fsck(&copy).map_err(|complaint| format!("{}: {complaint}; {replayed:?}", image.display()))?;
    run("debugfs", &["-R", &format!("dump /{FILE} {}", log.display()), copy.to_str().unwrap()]);
    // Not there: nothing was written yet.
    Ok(fs::read(&log).unwrap_or_default())
}
