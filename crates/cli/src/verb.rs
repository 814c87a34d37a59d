//! One verb that is asked of the engine, from its words to its exit code.

use crate::answer::{Answer, Failed};
use crate::args::{Asked, Global};
use crate::execute::Request;
use crate::prompt::{self, Said};
use crate::screen::Screen;
use crate::settings::{self, Settings};
use crate::{exit, show, told, work};
use site_recovery::Result;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Does it, and shows what came of it.
pub(crate) async fn verb(global: &Global, asked: Asked) -> u8 {
    let mut global = global.clone();
    if let Some((danger, what)) = prompt::missing(&asked, &global) {
        if let Some(dry) = asked.dry()
            && std::io::IsTerminal::is_terminal(&std::io::stdin())
        {
            match done(&global, dry, &mut Screen::new()).await {
                Ok(plan) => {
                    let _ = std::io::stderr().write_all(show::text(&plan).as_bytes());
                }
                refused => return told(&global, &refused),
            }
        }
        match prompt::ask(danger, what, &global).await {
            Ok(Said::Yes(reason)) => global.reason = reason,
            Ok(Said::No) => {
                let _ = writeln!(std::io::stderr(), "nothing was done");
                return exit::FAILED;
            }
            Ok(Said::Nobody(why)) => {
                let _ = writeln!(std::io::stderr(), "{why}");
                return exit::USAGE;
            }
            Err(error) => return told(&global, &Err(error.into())),
        }
    }
    let end = done(&global, asked, &mut Screen::new()).await;
    told(&global, &end)
}

/// Does it.
///
/// # Errors
/// Why it was not done.
pub(crate) async fn done(global: &Global, asked: Asked, screen: &mut Screen) -> std::result::Result<Answer, Failed> {
    let settings = settings(global)?;
    let request = Request {
        operator: global.operator.clone().unwrap_or_else(|| settings.operator()),
        reason: global.reason.clone(),
        settings: settings.digest.clone(),
        asked: absolute(asked),
    };
    work::work(settings, &request, screen).await
}

/// The settings of this command line.
///
/// # Errors
/// Those of reading them.
pub(crate) fn settings(global: &Global) -> Result<Settings> {
    let here = PathBuf::from("site-recovery.toml");
    let usual = || if here.exists() { here.clone() } else { PathBuf::from("/etc/site-recovery/site-recovery.toml") };
    let file = global.config.clone().unwrap_or_else(usual);
    settings::read(&std::path::absolute(&file).unwrap_or(file))
}

/// Whoever does it may stand in another directory.
fn absolute(mut asked: Asked) -> Asked {
    if let Asked::Export(export) = &mut asked
        && let Some(path) = export.listen.as_mut().filter(|path| path.contains('/'))
        && let Ok(whole) = std::path::absolute(Path::new(path.as_str()))
    {
        *path = whole.to_string_lossy().into_owned();
    }
    asked
}
