//! The plan: its groups, and what it did besides machines.

use super::text;
use crate::{ActionEnding, ActionPart, Left, LeftOut, Report, words};
use maud::{Markup, html};

pub(super) fn plan(report: &Report) -> Markup {
    let Some(plan) = &report.plan else { return html! {} };
    let (class, sign, word) = words::ending(&plan.outcome);
    html! {
        section aria-labelledby="plan" {
            h2 id="plan" { "Plan " (text::name(&plan.name)) }
            p {
                "Run " code { (text::name(&plan.run)) } ", " (text::time(plan.started)) " to " (text::time_or(plan.ended, "now")) ". "
                (text::badge(class, sign, word))
                @if let Some(why) = plan.outcome.why() { " " (text::prose(&why.message)) }
            }
            table {
                (text::columns(&["Group", "Before it", "Machines", "After it"], &[]))
                tbody {
                    @for group in &plan.groups {
                        tr {
                            th scope="row" { (text::name(&group.name)) }
                            td { (text::list(&group.before)) }
                            td { ul { @for m in &group.machines { li { (text::name(super::called(report, m))) } } } }
                            td { (text::list(&group.after)) }
                        }
                    }
                }
            }
            @if !plan.left_out.is_empty() { h3 { "Left out" } (left_out(report, &plan.left_out)) }
            @if !report.actions.is_empty() { h3 { "Actions" } (actions(&report.actions)) }
        }
    }
}

fn left_out(report: &Report, all: &[LeftOut]) -> Markup {
    html! {
        table {
            (text::columns(&["Member", "Machines", "Why it has no job"], &[]))
            tbody {
                @for left in all {
                    tr {
                        th scope="row" { (text::name(&left.name)) }
                        td { ul { @for m in &left.machines { li { (text::name(super::called(report, m))) } } } }
                        td {
                            @match &left.why {
                                Left::Refused { why } => { (text::badge("bad", "✗", "Could not begin")) " " (text::prose(&why.message)) }
                                Left::Skipped { reason } => { (text::badge("warn", "–", "Skipped")) " " (text::prose(reason)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn actions(actions: &[ActionPart]) -> Markup {
    html! {
        table {
            (text::columns(&["Action", "Began", "Ended", "Took", "Outcome"], &["Took"]))
            tbody {
                @for action in actions {
                    tr {
                        th scope="row" { (text::name(&action.name)) " (" (text::name(&action.kind)) ")" }
                        td { (text::time_or(action.started, "not begun")) }
                        td { (text::time_or(action.ended, "not ended")) }
                        td class="number" {
                            @if let (Some(from), Some(to)) = (action.started, action.ended) { (words::span(to.since(from))) }
                        }
                        td {
                            (ending(&action.ending))
                            @if let Some(who) = &action.who { ", by " (text::name(who)) }
                            (text::list(&action.notes))
                        }
                    }
                }
            }
        }
    }
}

fn ending(ending: &ActionEnding) -> Markup {
    match ending {
        ActionEnding::Done => text::badge("ok", "✓", "Done"),
        ActionEnding::Open => text::badge("warn", "…", "Open"),
        ActionEnding::Failed { error } => {
            html! { (text::badge("bad", "✗", "Failed")) " " (text::prose(error)) }
        }
        ActionEnding::Skipped { reason } => {
            html! { (text::badge("warn", "–", "Skipped")) " " (text::prose(reason)) }
        }
    }
}
