//! What stands at the top: who, what, why, how it ended, what it cost, what is left to do.

use super::text;
use crate::{ActionEnding, Left, LeftOut, Report, words};
use maud::{Markup, html};

pub(super) fn head(report: &Report) -> Markup {
    let (class, sign, word) = words::ending(&report.outcome);
    let failed = report.actions.iter().filter(|a| matches!(a.ending, ActionEnding::Failed { .. })).count();
    html! {
        header {
            p class="kind" { "Report for audit" }
            h1 {
                (text::name(&words::title(report))) " " (text::badge(class, sign, word))
                @if failed > 0 {
                    " " (text::badge("bad", "✗", &format!("{failed} of {} actions failed", report.actions.len())))
                }
            }
            @if let Some(why) = report.outcome.why() { p class="reason" { (text::prose(&why.message)) } }
            dl class="facts" {
                (fact("Asked for by", text::name(&report.who)))
                (fact("Why", html! { @match &report.why { Some(why) => (text::prose(why)), None => "not told" } }))
                @if let Some(force) = &report.force {
                    (fact("Answers for what could not be proven", html! {
                        (text::name(&force.operator)) ": " (text::prose(&force.reason))
                    }))
                }
                @if let Some(direction) = report.direction { (fact("Replicated", html! { (words::direction(direction)) })) }
                (fact("Began", text::time(report.started)))
                (fact("Ended", text::time_or(report.ended, "not yet")))
                @if let Some(ended) = report.ended { (fact("Took", html! { (words::span(ended.since(report.started))) })) }
                (fact("Report made", html! { (text::time(report.made_at)) " by " (text::name(&report.site)) }))
            }
        }
    }
}

pub(super) fn fact(what: &str, is: Markup) -> Markup {
    html! { div { dt { (what) } dd { (is) } } }
}

/// The worst of all machines, in large.
pub(super) fn figures(report: &Report) -> Markup {
    let all = || report.members.iter().map(|m| &m.figures);
    let loss = report.loss.as_ref().map(|loss| text::span_or(loss.at_most, "unbounded"));
    let outage = all().filter_map(|f| f.outage.as_ref()).max_by_key(|o| (o.length(report.made_at), !o.over));
    let cards = [
        ("Data loss, at most", loss),
        ("Age of the point (RPO)", all().filter_map(|f| f.rpo).max().map(words::span)),
        ("Until it ran (RTO)", all().filter_map(|f| f.rto_boot).max().map(words::span)),
        ("Until the verdict (RTO)", all().filter_map(|f| f.rto_verdict).max().map(words::span)),
        ("Nothing ran for", outage.map(|o| words::span(o.length(report.made_at)) + words::outage_end(o))),
    ];
    let known: Vec<_> = cards.into_iter().filter_map(|(what, figure)| Some((what, figure?))).collect();
    html! {
        @if !known.is_empty() {
            section aria-labelledby="figures" {
                h2 id="figures" { "Figures" @if report.members.len() > 1 { ", the worst of all machines" } }
                dl class="cards" { @for (what, figure) in known { div { dt { (what) } dd { (figure) } } } }
            }
        }
    }
}

pub(super) fn to_do(report: &Report) -> Markup {
    let refused = |left: &&LeftOut| matches!(left.why, Left::Refused { .. });
    let refused = || report.plan.iter().flat_map(|plan| &plan.left_out).filter(refused);
    let waits = || report.members.iter().filter(|m| !m.waits.is_empty());
    let waited = waits().next().is_some() || refused().next().is_some();
    let owed = || report.members.iter().filter(|m| !m.owed.is_empty());
    html! {
        section aria-labelledby="left" {
            h2 id="left" { "What is left to do" }
            @if !waited && owed().next().is_none() { p { "Nothing." } }
            @if waited {
                h3 { "Waits for a person" }
                ul {
                    @for left in refused() { (of(&left.name, "its job could not begin, and nothing was done with it")) }
                    @for m in waits() { @for what in &m.waits { (of(&m.called, what)) } }
                }
            }
            @if owed().next().is_some() {
                h3 { "Owed, and done by the engine when it can be" }
                ul { @for m in owed() { @for what in &m.owed { (of(&m.called, what)) } } }
            }
        }
    }
}

fn of(called: &str, what: &str) -> Markup {
    html! { li { strong { (text::name(called)) } ": " (text::prose(what)) } }
}
