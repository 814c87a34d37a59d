//! The report as a page: well-formed as XML and valid as HTML.

mod audit;
mod head;
mod machine;
mod plan;
mod text;
mod timeline;

use crate::Report;
use maud::{Markup, PreEscaped, html};
use site_recovery::MachineId;

const STYLE: &str = include_str!("style.css");

/// Void elements are written by hand, since XML wants them closed.
const META: &str = concat!(
    r#"<meta charset="utf-8"/>"#,
    r#"<meta name="viewport" content="width=device-width, initial-scale=1"/>"#,
    r#"<meta name="color-scheme" content="light dark"/>"#,
    r#"<meta name="robots" content="noindex"/>"#,
);

pub(crate) fn page(report: &Report) -> String {
    let page = html! {
        html xmlns="http://www.w3.org/1999/xhtml" lang="en" {
            head {
                (PreEscaped(META))
                title { (text::clipped(&crate::words::title(report), text::LINE)) }
                style { (PreEscaped(STYLE)) (PreEscaped(timeline::STYLE)) }
            }
            body {
                main {
                    (head::head(report))
                    (head::figures(report))
                    (head::to_do(report))
                    (drawing(report))
                    (plan::plan(report))
                    @for (at, member) in report.members.iter().enumerate() { (machine::machine(member, at, report.made_at)) }
                    (findings(report))
                    (audit::audit(report))
                }
                footer {
                    p {
                        "Digest of this report " code { (report.digest) } ". The JSON with the same digest has all of it "
                        "whole; " code { "site_recovery_report::verify" } " computes its hashes again and compares its tables with "
                        "its records."
                    }
                }
            }
        }
    };
    text::visible(&format!("<!DOCTYPE html>\n{}\n", page.into_string()))
}

pub(crate) fn timeline_alone(report: &Report) -> String {
    let drawn = timeline::timeline(report, true).into_string();
    text::visible(&format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{drawn}\n"))
}

fn drawing(report: &Report) -> Markup {
    html! {
        section aria-labelledby="timeline" {
            h2 id="timeline" { "Timeline" }
            figure {
                (timeline::timeline(report, false))
                figcaption {
                    "Steps from begin to end, by the time after the request. Hatched above them: the machine ran nowhere. "
                    "Dashed, and ↩: undone. Empty, and ✗: failed. Spaces between steps are time in which nothing was done."
                }
            }
        }
    }
}

fn findings(report: &Report) -> Markup {
    html! {
        section aria-labelledby="findings" {
            h2 id="findings" { "Findings" }
            @if report.findings.is_empty() {
                p { "None were told when this report was made." }
            } @else {
                table {
                    (text::columns(&["Severity", "Machine", "Check", "Cause", "Remedy"], &[]))
                    tbody {
                        @for found in &report.findings {
                            tr {
                                td { (text::severity(found.finding.severity)) }
                                td { (text::name(called(report, &found.machine))) }
                                td { (crate::words::camel(&found.source)) " " code { (text::clipped(&found.finding.code, text::LINE)) } }
                                td { (text::prose(&found.finding.cause)) }
                                td { (text::prose(&found.finding.remedy)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// What people call a machine: in its job, or, where it has none, in the plan that left it out.
fn called<'a>(report: &'a Report, machine: &'a MachineId) -> &'a str {
    let known = report.members.iter().find(|m| m.machine == *machine).map(|m| &m.called);
    let alone = |left: &&crate::LeftOut| left.machines.as_slice() == std::slice::from_ref(machine);
    let left_out = || report.plan.iter().flat_map(|plan| &plan.left_out).find(alone).map(|left| &left.name);
    known.or_else(left_out).map_or(machine.as_str(), String::as_str)
}
