//! The whole circle in a temporary directory, by the verbs that a person types, and shown as a session.

mod guest;

use crate::args::{Cli, Verb};
use crate::screen::Screen;
use crate::{exit, init, show, verb};
use clap::Parser;
use guest::Guest;
use site_recovery::{Error, ErrorKind, Result};
use std::io::Write;
use std::path::Path;

/// Protects, drills, fails over, commits, reprotects, fails back, commits; then both sides' disks have equal digests.
///
/// # Errors
/// Whatever goes another way.
pub(crate) async fn demo(keep: bool) -> Result<()> {
    let unusable = |e: std::io::Error| Error::new(ErrorKind::Unavailable, "no temporary directory").caused_by(e);
    let dir = tempfile::Builder::new().prefix("site-recovery-demo-").tempdir().map_err(unusable)?;
    let told = story(dir.path()).await;
    if keep {
        say(&format!("kept in {}\n", dir.keep().display()));
    }
    told
}

async fn story(dir: &Path) -> Result<()> {
    say("$ site-recovery init\n");
    init::init(dir)?;
    let here = Guest::install(dir, "here").await?;
    say("# here/web has two disks of random bytes, and is switched on\n");
    for words in ["protect web", "list"] {
        step(dir, words).await?;
    }
    here.write("orders of the morning").await?;
    for words in ["replicate web", "points web", "drill web", "drill web --clean-up", "failover web"] {
        step(dir, words).await?;
    }
    same(dir)?;
    step(dir, "commit web --yes").await?;
    let there = Guest::at(dir, "cloud").await?;
    there.write("orders of the afternoon").await?;
    say("# cloud/web has taken the orders of the afternoon\n");
    for words in ["reprotect web", "failback web", "commit web --yes"] {
        step(dir, words).await?;
    }
    same(dir)?;
    for words in ["reprotect web", "show web"] {
        step(dir, words).await?;
    }
    say("# over and back: nothing was lost, and only what had changed was moved\n");
    Ok(())
}

/// A verb as it is typed, and what it said.
async fn step(dir: &Path, words: &str) -> Result<()> {
    say(&format!("$ site-recovery {words}\n"));
    let parsed = Cli::try_parse_from(["site-recovery"].into_iter().chain(words.split(' ')));
    let unparsed = |e: clap::Error| Error::new(ErrorKind::Invalid, e.to_string());
    let Cli { mut global, verb } = parsed.map_err(unparsed)?;
    let Verb::Asked(asked) = verb else {
        return Err(Error::new(ErrorKind::Invalid, format!("{words} is not asked of the engine")));
    };
    global.config = Some(dir.join("site-recovery.toml"));
    let end = verb::done(&global, asked, &mut Screen::dark()).await;
    let code = exit::of(&end);
    match end {
        Ok(answer) => {
            say(&show::text(&answer).replace(&format!("{}/", dir.display()), ""));
            match code {
                exit::DONE => Ok(()),
                code => Err(Error::new(ErrorKind::Conflict, format!("{words} ended with {code}"))),
            }
        }
        Err(failed) => Err(Error::new(failed.kind, failed.message)),
    }
}

/// Both sides' disks, by their digests.
fn same(dir: &Path) -> Result<()> {
    say("$ sha256sum */web/*.raw\n");
    let (here, there) = (guest::digests(dir, "here")?, guest::digests(dir, "cloud")?);
    for (site, digests) in [("cloud", &there), ("here", &here)] {
        for (disk, digest) in digests {
            say(&format!("{}…  {site}/web/{disk}\n", &digest[..16]));
        }
    }
    if here != there {
        return Err(Error::new(ErrorKind::Corrupt, "both sides' disks differ"));
    }
    Ok(())
}

fn say(text: &str) {
    let mut out = std::io::stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
