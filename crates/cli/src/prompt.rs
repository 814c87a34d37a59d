//! Asks before what cannot be taken back, and only where a person can answer.

use crate::args::{Asked, Danger, Global};
use crate::interrupts::Interrupts;
use site_recovery::Result;
use std::io::{IsTerminal, Write};

/// What the person said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// Go on, for this reason where one was needed.
    Yes(Option<String>),
    /// Do not.
    No,
    /// There is nobody to ask: what has to be given instead.
    Nobody(String),
}

/// Whether somebody has to be asked, or options are missing.
pub(crate) fn missing(asked: &Asked, global: &Global) -> Option<(Danger, &'static str)> {
    let (danger, what) = asked.danger()?;
    let reasoned = danger == Danger::Final || global.reason.is_some();
    (!global.yes || !reasoned).then_some((danger, what))
}

/// Asks.
///
/// # Errors
/// Where signals cannot be heard.
pub(crate) async fn ask(danger: Danger, what: &str, global: &Global) -> Result<Said> {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        let options = match danger {
            Danger::Final => "--yes",
            Danger::ByName => "--yes and --reason TEXT",
        };
        return Ok(Said::Nobody(format!("{what}; nobody can be asked here, so give {options}")));
    }
    let mut reason = global.reason.clone();
    if danger == Danger::ByName && reason.is_none() {
        let said = line(&format!("{what}.\nWhy is it right? ")).await?;
        match said.filter(|said| !said.is_empty()) {
            Some(said) => reason = Some(said),
            None => return Ok(Said::No),
        }
    }
    if !global.yes {
        let said = line(&format!("{what}.\nGo on? Type yes: ")).await?;
        if said.as_deref() != Some("yes") {
            return Ok(Said::No);
        }
    }
    Ok(Said::Yes(reason))
}

/// A line of the terminal; none at its end and after Ctrl-C.
async fn line(question: &str) -> Result<Option<String>> {
    // Before the question is seen, as a Ctrl-C may follow at once.
    let mut interrupts = Interrupts::heard()?;
    let mut error = std::io::stderr();
    let _ = write!(error, "{question}").and_then(|()| error.flush());
    let read = tokio::task::spawn_blocking(|| {
        let mut text = String::new();
        match std::io::stdin().read_line(&mut text) {
            Ok(count) if count > 0 => Some(text.trim().to_owned()),
            _ => None,
        }
    });
    tokio::select! {
        read = read => Ok(read.ok().flatten()),
        () = interrupts.next() => Ok(None),
    }
}
