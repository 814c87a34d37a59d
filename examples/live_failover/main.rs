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
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = options()?;
    if !is_here("live_failover", &options.emulator) {
        return Ok(());
    }
    let work = tempfile::Builder::new().prefix("live-").tempdir();
    let work = work.map_err(|e| Error::new(ErrorKind::Unavailable, "no work directory").caused_by(e))?;
    let told = story::tell(&options, work.path()).await;
    if options.keep {
        println!("kept: {}", work.keep().display());
    }
    told
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
            "--qemu" => options.emulator.unpacked = Some(value()?),
            "--picture" => options.picture = Some(value()?),
            "--keep" => options.keep = true,
            _ => {
                return Err(Error::invalid(
                    "options",
                    &word,
                    "one of --qemu, --picture, --keep",
                    "see the top of main.rs",
                ));
            }
        }
    }
    Ok(options)
}
