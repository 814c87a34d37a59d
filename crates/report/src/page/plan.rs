//! The plan: its groups, and what it did besides machines.

use super::text;
use crate::{ActionEnding, ActionPart, Report, words};
use maud::{Markup, html};

pub(super) fn plan(report: &Report) -> Markup {
    let Some(plan) = &report.plan else { return html! {} };
    html! {
        section aria-labelledby="plan" {
            h2 id="plan" { "Plan " (text::name(&plan.name)) }
            p { "Run " code { (text::name(&plan.run)) } ", " (text::time(plan.started)) " to " (text::time_or(plan.ended, "now")) "." }
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
            @if !report.actions.is_empty() { h3 { "Actions" } (actions(&report.actions)) }
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
