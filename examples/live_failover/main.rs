//! The whole circle with a guest that lives: it boots from its own full disk and appends numbered records for ever, each
//! durable before it says so. Protect; three points, one of them quiesced; a drill; the host dies; fail over; reprotect;
//! replicate back; fail back as planned. At each point the guest's disk is looked at: the file system is in the state that
//! the point's kind promises, and the records are a prefix that holds every acknowledged one. Ends with an exit code that
//! is not 0 if one of this is not so.
//!
//! ```text
//! cargo run --release --example live_failover --features qemu -- [options]
//!   --qemu DIR      a QEMU package that was unpacked there, instead of the programs of PATH
//!   --picture FILE  draws the run: RPO over time, the points, both failovers (SVG)
//!   --keep          keep the work directory
//!   --runs N        tells the story N times, and ends with a table of what was measured
//! ```
//! Needs QEMU, e2fsprogs and the guest's image, which `tests/run --setup` makes. Guests are emulated: no KVM is needed.

mod picture;
mod story;
mod watch;

use site_recovery::{Error, ErrorKind, Result};
use site_recovery_examples::live::{Emulator, is_here};
use std::path::PathBuf;

#[derive(Debug, Default)]
struct Options {
    emulator: Emulator,
    picture: Option<PathBuf>,
    keep: bool,
    runs: Option<usize>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = options()?;
    if !is_here("live_failover", &options.emulator) {
        return Ok(());
    }
    let mut runs = vec![];
    for _ in 0..options.runs.unwrap_or(1) {
        let work = tempfile::Builder::new().prefix("live-").tempdir();
        let work = work.map_err(|e| Error::new(ErrorKind::Unavailable, "no work directory").caused_by(e))?;
        let told = story::tell(&options, work.path()).await;
        if options.keep {
            println!("kept: {}", work.keep().display());
        }
        runs.push(told?);
    }
    if options.runs.is_some() {
        table(&runs);
    }
    Ok(())
}

/// Percentiles over all runs, as a table in Markdown.
fn table(runs: &[story::Measured]) {
    println!("\n| over {} runs | median | 95th percentile | most |\n|---|---:|---:|---:|", runs.len());
    for (at, (what, _, unit)) in runs.first().into_iter().flatten().enumerate() {
        let mut all: Vec<f64> = runs.iter().map(|run| run[at].1).collect();
        all.sort_by(f64::total_cmp);
        let of = |share: f64| all[((all.len() - 1) as f64 * share).round() as usize];
        println!("| {what} | {:.1} {unit} | {:.1} {unit} | {:.1} {unit} |", of(0.5), of(0.95), of(1.0));
    }
}

fn options() -> Result<Options> {
    let mut options = Options::default();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || {
            words
                .next()
                .map(PathBuf::from)
                .ok_or_else(|| Error::invalid("options", &word, "it has a value", "add it"))
        };
        match word.as_str() {
            "--qemu" => options.emulator.unpacked = value()?.canonicalize().ok().or(Some("absent".into())),
            "--picture" => options.picture = Some(value()?),
            "--keep" => options.keep = true,
            "--runs" => options.runs = value()?.to_str().and_then(|n| n.parse().ok()),
            _ => {
                return Err(Error::invalid(
                    "options",
                    &word,
                    "one of --qemu, --picture, --keep, --runs",
                    "see the top of main.rs",
                ));
            }
        }
    }
    Ok(options)
}
