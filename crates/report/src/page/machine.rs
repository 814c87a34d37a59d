//! One machine: what was lost, from which point, its steps, where it stands.

use super::head::fact;
use super::text;
use crate::{MemberPart, PointPart, StandsPart, StepPart, words};
use maud::{Markup, html};
use site_recovery::{Mark, Timestamp, Verdict};

pub(super) fn machine(member: &MemberPart, at: usize, now: Timestamp) -> Markup {
    let (class, sign, word) = words::ending(&member.outcome);
    let id = format!("machine-{}", at + 1);
    html! {
        section aria-labelledby=(id) {
            h2 id=(id) { (text::name(&member.called)) " " (text::badge(class, sign, word)) }
            dl class="facts" {
                (fact("Known as", html! { code { (text::name(member.machine.as_str())) } }))
                (fact("Job", html! {
                    (words::operation(member.operation, member.direction)) ", " code { (text::name(member.job.as_str())) }
                }))
                (measured(member, now))
                (fact("Point", html! { @match &member.point { Some(point) => (of_point(point)), None => "none" } }))
                @if let Some(verdict) = &member.verdict { (fact("Verdict", of_verdict(verdict))) }
                @if !member.unproven.is_empty() { (fact("Not proven off", text::list(&member.unproven))) }
                @if !member.reach.is_empty() { (fact("Reached, when it was booted, at", text::list(&member.reach))) }
                (fact("Bytes", html! {
                    (words::bytes(member.changed)) " had changed, " (words::bytes(member.shipped)) " were sent"
                }))
                @for stands in &member.stands {
                    (fact(if stands.network.is_some() { "Its drill" } else { "Stands now" }, standing(stands)))
                }
            }
            @if let Some(why) = member.outcome.why() { p class="reason" { (text::prose(&why.message)) } }
            (steps(&member.steps))
            @if !member.notes.is_empty() { h3 { "Notes" } (text::list(&member.notes)) }
        }
    }
}

fn measured(member: &MemberPart, now: Timestamp) -> Markup {
    let (figures, since) = (&member.figures, words::reference(member));
    html! {
        @if let Some(died) = member.died { (fact("Source died", html! { (text::time(died)) ", as was told" })) }
        @if let Some(loss) = &member.loss {
            (fact("Data loss, at most", html! {
                strong { (text::span_or(loss.at_most, "unbounded")) } ": " (words::loss_basis(loss.basis))
                " (" (text::time(loss.from)) " to " (text::time(loss.to)) ")"
            }))
        }
        @if let Some(rpo) = figures.rpo { (fact("Age of the point (RPO)", html! { (words::span(rpo)) " at " (since) })) }
        @if let Some(rto) = figures.rto_boot { (fact("Until it ran (RTO)", html! { (words::span(rto)) " from " (since) })) }
        @if let Some(rto) = figures.rto_verdict { (fact("Until the verdict (RTO)", html! { (words::span(rto)) " from " (since) })) }
        @if let Some(outage) = &figures.outage {
            (fact("Nothing ran for", html! {
                (words::span(outage.length(now))) (words::outage_end(outage))
                " (" (words::outage_basis(outage.basis)) ")"
            }))
        }
    }
}

fn of_point(point: &PointPart) -> Markup {
    html! {
        "number " (point.id) ", taken " (text::time(point.taken)) ", " (words::consistency(point.consistency)) "; "
        @match &point.proof {
            None => "not tried to boot before",
            Some(proof) => {
                @match &proof.verdict {
                    Verdict::Good => { "proven to boot at " (text::time(proof.at)) }
                    Verdict::Bad { reason } => { "found at " (text::time(proof.at)) " not to boot: " (text::prose(reason)) }
                }
                @if let Some(boot) = proof.boot { ", in " (words::span(boot)) }
                @if let Some(lost) = proof.lost_records { ", " (lost) " records of the guest lacking" }
                (text::list(&proof.notes))
            }
        }
    }
}

fn of_verdict(verdict: &Verdict) -> Markup {
    match verdict {
        Verdict::Good => text::badge("ok", "✓", "Good"),
        Verdict::Bad { reason } => html! { (text::badge("bad", "✗", "Bad")) " " (text::prose(reason)) },
    }
}

fn standing(stands: &StandsPart) -> Markup {
    html! {
        (text::name(&stands.name)) " at " (text::name(&stands.site))
        @match stands.booted {
            Some(true) => ", ran when it was booted",
            Some(false) => ", not booted",
            None => "",
        }
        @if let Some(network) = &stands.network { ", in the isolated network " (text::name(network)) }
        @if let Some(expires) = stands.expires { ", until " (text::time(expires)) }
        @if !stands.reach.is_empty() { "; reached at" (text::list(&stands.reach)) }
    }
}

fn steps(steps: &[StepPart]) -> Markup {
    html! {
        @if steps.is_empty() { p { "No step was begun." } } @else {
            table class="steps" {
                (text::columns(&["Step", "Began", "Ended", "Took", "Outcome"], &["Took"]))
                tbody {
                    @for step in steps {
                        tr {
                            th scope="row" { (words::camel(&step.step)) @if step.round > 0 { ", round " (step.round + 1) } }
                            td { (text::time(step.started)) }
                            td { @if step.mark == Mark::Undone { "undone " } (text::time_or(step.ended, "not yet")) }
                            td class="number" {
                                @if let (Some(ended), false) = (step.ended, step.mark == Mark::Undone) {
                                    (words::span(ended.since(step.started)))
                                }
                            }
                            td { (of_mark(&step.mark)) }
                        }
                    }
                }
            }
        }
    }
}

fn of_mark(mark: &Mark) -> Markup {
    match mark {
        Mark::Started => text::badge("warn", "…", "Begun"),
        Mark::Done => text::badge("ok", "✓", "Done"),
        Mark::Undone => text::badge("warn", "↩", "Undone"),
        Mark::Failed { why } => html! { (text::badge("bad", "✗", "Failed")) " " (text::prose(&why.message)) },
    }
}
