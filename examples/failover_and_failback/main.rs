//! The whole tutorial on real disks: protect, replicate, drill, fail over, validate, commit, reprotect, replicate back,
//! fail back, commit, reprotect, replicate; while somebody writes to the machine all the time. Ends with proofs, and
//! with an exit code that is not 0 if one of them fails.
//!
//! ```text
//! cargo run --release --example failover_and_failback -- [options]
//!   --disk FILE   the system disk is a copy of FILE, which is only read
//!   --size MIB    of the system disk, 128 if not told; the data disk has a quarter of it
//!   --keep        keep the work directory
//!   --crash       the engine dies by SIGKILL at random journal writes, is started again each time, and goes on to the end
//!   --kill-at N   so at its Nth journal write; N,N,... counts anew from each start, and repeats what --crash has printed
//!   --adopt       the journal is deleted half-way; a new vault takes over from the replica
//! ```

mod crash;
mod guest;
mod image;
mod proof;
mod screen;
mod story;

use crate::image::Size;
use site_recovery::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str =
    "failover_and_failback [--disk FILE] [--size MIB] [--keep] [--kill-at N[,N]... | --crash] [--adopt]";

/// What was asked for on the command line.
#[derive(Debug)]
struct Options {
    disk: Option<PathBuf>,
    size: Size,
    keep: bool,
    kill_at: Vec<u64>,
    crash: bool,
    adopt: bool,
    /// Of an engine that [`crash::supervise`] has started: where to work, and when to die.
    work: Option<PathBuf>,
    die_at: Option<u64>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let ended = match Options::read(std::env::args().skip(1)) {
        Ok(options) => run(&options).await,
        Err(error) => Err(error),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("FAILED: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: &Options) -> Result<()> {
    if let Some(work) = &options.work {
        return story::tell(options, work).await;
    }
    let work = tempfile::Builder::new().prefix("site-recovery-").tempdir();
    let mut work = work.map_err(|e| Error::new(ErrorKind::Unavailable, "no work directory").caused_by(e))?;
    if options.keep {
        work.disable_cleanup(true);
        println!("everything is in {}, and stays there", work.path().display());
    }
    if options.crash || !options.kill_at.is_empty() {
        crash::supervise(options, work.path()).await
    } else {
        story::tell(options, work.path()).await
    }
}

impl Options {
    fn read(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let (size, kill_at) = (Size { system: 128 }, vec![]);
        let (disk, keep, crash, adopt, work, die_at) = (None, false, false, false, None, None);
        let mut options = Self { disk, size, keep, kill_at, crash, adopt, work, die_at };
        while let Some(argument) = arguments.next() {
            let mut value = || {
                let rule = format!("{argument} has a value");
                arguments.next().ok_or_else(|| Error::invalid("option", &argument, &rule, USAGE))
            };
            let number = |text: &str| match text.parse() {
                Ok(number) if number > 0 => Ok(number),
                _ => Err(Error::invalid("option", text, "a number above 0 is expected", USAGE)),
            };
            match argument.as_str() {
                "--disk" => options.disk = Some(value()?.into()),
                "--keep" => options.keep = true,
                "--size" => options.size.system = number(&value()?)?,
                "--kill-at" => options.kill_at = value()?.split(',').map(number).collect::<Result<_>>()?,
                "--crash" => options.crash = true,
                "--adopt" => options.adopt = true,
                "--work" => options.work = Some(value()?.into()),
                "--die-at" => options.die_at = Some(number(&value()?)?),
                _ => return Err(Error::invalid("option", &argument, "it is not known", USAGE)),
            }
        }
        Ok(options)
    }

    /// What an engine of its own is started with, to work in `work` and to die at its `die_at`th journal write.
    fn for_engine(&self, work: &Path, die_at: Option<u64>) -> Vec<String> {
        let mut arguments = vec!["--work".to_owned(), work.display().to_string()];
        arguments.extend(["--size".to_owned(), self.size.system.to_string()]);
        if let Some(disk) = &self.disk {
            arguments.extend(["--disk".to_owned(), disk.display().to_string()]);
        }
        if self.adopt {
            arguments.push("--adopt".to_owned());
        }
        if let Some(at) = die_at {
            arguments.extend(["--die-at".to_owned(), at.to_string()]);
        }
        arguments
    }
}
