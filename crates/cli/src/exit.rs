//! Exit codes, as docs/cli.md has them.

use crate::answer::{Answer, Ended, Failed, RunState};
use site_recovery::{ErrorKind, Severity};

pub(crate) const DONE: u8 = 0;
pub(crate) const FAILED: u8 = 1;
pub(crate) const USAGE: u8 = 2;
pub(crate) const REFUSED: u8 = 3;
pub(crate) const INVALID: u8 = 4;
pub(crate) const NOT_FOUND: u8 = 5;
pub(crate) const BUSY: u8 = 6;
pub(crate) const NEEDS_PERSON: u8 = 7;
pub(crate) const UNAVAILABLE: u8 = 8;
pub(crate) const DENIED: u8 = 9;
pub(crate) const OUT_OF_SPACE: u8 = 10;
pub(crate) const UNSUPPORTED: u8 = 11;
pub(crate) const CORRUPT: u8 = 12;
pub(crate) const CONFLICT: u8 = 13;
pub(crate) const INTERRUPTED: u8 = 130;

/// Of what was not done.
pub(crate) fn of_kind(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::Refused => REFUSED,
        ErrorKind::Invalid => INVALID,
        ErrorKind::NotFound => NOT_FOUND,
        ErrorKind::Busy => BUSY,
        ErrorKind::Unavailable => UNAVAILABLE,
        ErrorKind::Denied => DENIED,
        ErrorKind::OutOfSpace => OUT_OF_SPACE,
        ErrorKind::Unsupported => UNSUPPORTED,
        ErrorKind::Corrupt => CORRUPT,
        ErrorKind::Conflict | ErrorKind::StaleEpoch => CONFLICT,
        _ => FAILED,
    }
}

/// Of an end, whichever it is.
pub(crate) fn of(end: &Result<Answer, Failed>) -> u8 {
    match end {
        Err(failed) => of_kind(failed.kind),
        Ok(Answer::Job(job)) => match job.outcome {
            Ended::Done if job.members.iter().any(|m| m.boots == Some(false)) => FAILED,
            Ended::Done => DONE,
            Ended::Undone => FAILED,
            Ended::NeedsPerson => NEEDS_PERSON,
        },
        Ok(Answer::PlanRun(run)) => match run.state {
            RunState::Done | RunState::UnderWay => DONE,
            RunState::Waiting | RunState::Stopped => NEEDS_PERSON,
            RunState::Partly | RunState::Cancelled => FAILED,
        },
        Ok(Answer::Ready(pages)) if pages.iter().any(|page| !page.ready) => FAILED,
        Ok(Answer::Adopted(page)) if !page.questions.is_empty() => NEEDS_PERSON,
        Ok(Answer::Scrubbed(page)) if page.findings.iter().any(|f| f.severity > Severity::Info) => FAILED,
        Ok(_) => DONE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_codes_are_these() {
        let told: Vec<(u8, &str)> = vec![
            (DONE, "done"),
            (FAILED, "failed, or undone"),
            (USAGE, "the command line is not understood, or lacks `--yes` or `--reason`"),
            (REFUSED, "refused by the state; the allowed verbs are told"),
            (INVALID, "bad settings or input"),
            (NOT_FOUND, "there is no such thing"),
            (BUSY, "somebody else is at it"),
            (NEEDS_PERSON, "a person has to decide"),
            (UNAVAILABLE, "no answer from a site, a store or the holder of the vault"),
            (DENIED, "not permitted"),
            (OUT_OF_SPACE, "no room: the disk under the journal, a store or a site is full"),
            (UNSUPPORTED, "this cannot be done here, or was not built in"),
            (CORRUPT, "bytes are not what was written"),
            (CONFLICT, "it exists already, or another engine is in charge"),
            (INTERRUPTED, "left by a second Ctrl-C"),
        ];
        let page = include_str!("../../../docs/cli.md");
        let rows: Vec<(u8, &str)> = page
            .lines()
            .skip_while(|line| *line != "## Exit codes")
            .filter_map(|line| {
                let mut cells = line.strip_prefix("| ")?.strip_suffix(" |")?.splitn(2, " | ");
                Some((cells.next()?.parse().ok()?, cells.next()?))
            })
            .collect();
        assert_eq!(rows, told);
    }
}
