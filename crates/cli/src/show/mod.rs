//! Answers as a person reads them.

mod item;
mod job;
mod plan;
mod table;

pub(crate) use plan::word as state_of;

use crate::answer::{Answer, Failed};
use site_recovery::{Finding, Severity};
use std::fmt::Write;
use std::time::Duration;
use table::Table;

/// An answer, with a line end, where it has any line.
pub(crate) fn text(answer: &Answer) -> String {
    match answer {
        Answer::Items(lines) => item::list(lines),
        Answer::Shown(pages) => pages.iter().map(item::page).collect::<Vec<_>>().join("\n"),
        Answer::Points(lines) => item::points(lines),
        Answer::Plan(page) => job::plan(page),
        Answer::Job(page) => job::page(page),
        Answer::Jobs(lines) => job::jobs(lines),
        Answer::Audit(lines) => job::audit(lines),
        Answer::Ready(pages) => {
            let mut text = String::new();
            for page in pages {
                let word = if page.ready { "ready" } else { "NOT READY" };
                let _ = writeln!(text, "{}: {word}, until {}", page.machine, page.expires);
                text += &findings(&page.findings);
            }
            text
        }
        Answer::Adopted(page) => {
            let machines =
                if page.machines.is_empty() { "nothing".to_owned() } else { page.machines.join(", ") };
            format!("adopted: {machines}\n{}", findings(&page.questions))
        }
        Answer::Scrubbed(page) => {
            let word = if page.findings.is_empty() { "whole" } else { "DAMAGED" };
            format!("point {} of {} is {word}\n{}", page.point, page.machine, findings(&page.findings))
        }
        Answer::RecoveryPlans(lines) => plan::list(lines),
        Answer::RecoveryPlan(page) => plan::plan(page),
        Answer::PlanRun(page) => plan::run(page),
        Answer::Done(page) => {
            let items = if page.items.is_empty() { String::new() } else { item::list(&page.items) };
            format!("{}\n{items}", page.said)
        }
    }
}

/// Why it was not done, and what can be done instead.
pub(crate) fn failed(failed: &Failed) -> String {
    let mut text = format!("{}\n", failed.message);
    if !failed.allowed.is_empty() {
        let _ = writeln!(text, "allowed now: {}", failed.allowed.join(", "));
    }
    text
}

/// The worst first.
fn findings(findings: &[Finding]) -> String {
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    let mut table = Table::new();
    for Finding { code, severity, cause, remedy } in sorted {
        let word = match severity {
            Severity::Critical => "CRITICAL",
            Severity::Warning => "warning",
            Severity::Info => "info",
        };
        table.row(["".into(), word.into(), code.clone(), format!("{cause}; {remedy}")]);
    }
    table.text()
}

/// A length of time, in its largest unit that tells enough.
pub(crate) fn span(span: Duration) -> String {
    match span.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

pub(crate) fn seconds(seconds: f64) -> String {
    span(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
}

pub(crate) fn bytes(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_short() {
        let told = |s| span(Duration::from_secs(s));
        assert_eq!([told(0), told(119), told(120)], ["0 s", "119 s", "2 min"]);
        assert_eq!([told(7_199), told(7_200), told(172_800)], ["119 min", "2 h", "2 d"]);
        assert_eq!(seconds(f64::INFINITY), span(Duration::MAX));
    }
}
