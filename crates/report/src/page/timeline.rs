//! The picture: a row for each machine and each action, steps as bars with their names, outages hatched above them.

use super::text;
use crate::{ActionEnding, ActionPart, MemberPart, Report, StepPart, words};
use maud::{Markup, PreEscaped, html};
use site_recovery::{Mark, Timestamp};
use std::time::Duration;

/// Colours are the page's; where there is no page, those of light paper.
pub(super) const STYLE: &str = "
.tl text { font: 12px system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif; fill: var(--ink, #1d2329); unicode-bidi: isolate; }
.tl .small { font-size: 11px; fill: var(--soft, #59636e); }
.tl .grid { stroke: var(--line, #d5d9de); }
.tl .lane { stroke: var(--line, #d5d9de); stroke-width: 2; }
.tl .bar { fill: var(--bar, #5b7ea6); stroke: var(--ink, #1d2329); stroke-width: .6; }
.tl .inside { fill: var(--bar-ink, #fff); }
.tl .lead { stroke: var(--soft, #59636e); stroke-width: .7; }
.tl .undone { fill: none; stroke-dasharray: 4 3; }
.tl .failed { fill: none; stroke: var(--bad, #a8231f); stroke-width: 1.4; }
.tl .gap { fill: url(#hatch); stroke: var(--gap, #b3362f); stroke-width: .8; }
.tl .hatch { stroke: var(--gap, #b3362f); stroke-width: 1.4; }
.tl .moment { stroke: var(--gap, #b3362f); stroke-dasharray: 2 3; }
.tl .back { fill: var(--paper, #fdfdfc); }
";

const WIDTH: i64 = 1_000;
const LEFT: i64 = 150;
const RIGHT: i64 = 985;
const BAR: i64 = 20;
const GAP: i64 = 10;
const LABEL: i64 = 14;
/// Of a letter, on the wide side.
const LETTER: i64 = 7;

pub(super) fn timeline(report: &Report, alone: bool) -> Markup {
    let scale = Scale::of(report);
    let mut rows: Vec<Row<'_>> =
        report.members.iter().map(|m| Row::machine(m, &scale, report.made_at)).collect();
    rows.extend(report.actions.iter().map(|a| Row::action(a, &scale, report.made_at)));
    let mut top = 34;
    for row in &mut rows {
        row.top = top;
        top += row.height();
    }
    let name = format!("Timeline of {}", text::clipped(&words::title(report), 60));
    html! {
        svg xmlns="http://www.w3.org/2000/svg" class="tl" viewBox={ "0 0 " (WIDTH) " " (top + 6) } role="img" aria-label=(name) {
            @if alone { style { (PreEscaped(STYLE)) } rect class="back" width=(WIDTH) height=(top + 6) {} }
            defs {
                pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)" {
                    line class="hatch" x1="0" y1="0" x2="0" y2="6" {}
                }
            }
            (scale.ticks(top))
            @for row in &rows { (row.draw()) }
        }
    }
}

/// Moments as places.
struct Scale {
    from: Timestamp,
    zero: Timestamp,
    length: u64,
}

impl Scale {
    fn of(report: &Report) -> Self {
        let died = report.members.iter().filter_map(|m| m.died);
        let acted = report.actions.iter().filter_map(|a| a.started);
        let from = died.chain(acted).chain([report.started]).min().unwrap_or(report.started);
        let acted = report.actions.iter().filter_map(|a| a.ended);
        let open =
            report.ended.is_none() || report.actions.iter().any(|a| a.started.is_some() && a.ended.is_none());
        let stepped = report.members.iter().flat_map(|m| &m.steps).filter_map(|s| s.ended);
        let last = stepped.chain(acted).chain(report.ended).chain(open.then_some(report.made_at));
        let to = last.max().unwrap_or(report.made_at);
        Self { from, zero: report.started, length: to.0.saturating_sub(from.0).max(1) }
    }

    fn x(&self, at: Timestamp) -> i64 {
        let past = u128::from(at.0.saturating_sub(self.from.0).min(self.length));
        LEFT + (past * (RIGHT - LEFT) as u128 / u128::from(self.length)) as i64
    }

    fn ticks(&self, bottom: i64) -> Markup {
        const STEPS: [u64; 22] = [
            100,
            200,
            500,
            1_000,
            2_000,
            5_000,
            10_000,
            15_000,
            30_000,
            60_000,
            120_000,
            300_000,
            600_000,
            900_000,
            1_800_000,
            3_600_000,
            7_200_000,
            14_400_000,
            28_800_000,
            86_400_000,
            172_800_000,
            604_800_000,
        ];
        let step = STEPS.into_iter().find(|s| self.length / s <= 8).unwrap_or(self.length.div_ceil(8));
        let before = (self.zero.0 - self.from.0) / step;
        let first = self.zero.0 - before * step;
        let ticks = (0..=(self.from.0 + self.length - first) / step).map(|n| Timestamp(first + n * step));
        html! {
            @for at in ticks {
                line class="grid" x1=(self.x(at)) x2=(self.x(at)) y1="22" y2=(bottom) {}
                text class="small" x=(self.x(at)) y="15" text-anchor="middle" { (self.told(at)) }
            }
        }
    }

    fn told(&self, at: Timestamp) -> String {
        match (at.since(self.zero), self.zero.since(at)) {
            (Duration::ZERO, Duration::ZERO) => "asked".to_owned(),
            (Duration::ZERO, before) => format!("−{}", words::span(before)),
            (after, _) => format!("+{}", words::span(after)),
        }
    }
}

struct Bar {
    name: String,
    class: &'static str,
    from: i64,
    to: i64,
    /// Where the name stands under the bars; `None`: inside.
    level: Option<i64>,
}

struct Row<'a> {
    name: &'a str,
    top: i64,
    bars: Vec<Bar>,
    outage: Option<(i64, i64, String)>,
    died: Option<i64>,
}

impl<'a> Row<'a> {
    fn machine(member: &'a MemberPart, scale: &Scale, now: Timestamp) -> Self {
        let steps = &member.steps;
        let bar = |(at, step): (usize, &StepPart)| {
            // Of a step that was undone is known when the next one began, and when it was undone.
            let next = steps.get(at + 1).map(|s| s.started);
            let (class, sign, ended) = match step.mark {
                Mark::Done => ("bar", "", step.ended),
                Mark::Started => ("bar undone", " …", step.ended),
                Mark::Undone => ("bar undone", " ↩", next.or(step.ended)),
                Mark::Failed { .. } => ("bar failed", " ✗", step.ended),
            };
            let round = if step.round > 0 { format!(" {}", step.round + 1) } else { String::new() };
            Bar::new(
                format!("{}{round}{sign}", words::camel(&step.step)),
                class,
                scale,
                step.started,
                ended.unwrap_or(now),
            )
        };
        let outage = member.figures.outage.as_ref().map(|o| {
            let (from, to) = (scale.x(o.from), scale.x(o.to.unwrap_or(now)));
            (from, to, format!("nothing ran for {}{}", words::span(o.length(now)), words::outage_end(o)))
        });
        let died = member.died.map(|at| scale.x(at));
        Self {
            name: &member.called,
            top: 0,
            bars: labelled(steps.iter().enumerate().map(bar).collect()),
            outage,
            died,
        }
    }

    fn action(action: &'a ActionPart, scale: &Scale, now: Timestamp) -> Self {
        let (class, sign) = match action.ending {
            ActionEnding::Done => ("bar", ""),
            ActionEnding::Failed { .. } => ("bar failed", " ✗"),
            ActionEnding::Skipped { .. } => ("bar undone", " –"),
            ActionEnding::Open => ("bar undone", " …"),
        };
        let bar = action.started.map(|from| {
            let kind = text::clipped(&action.kind, 20);
            Bar::new(format!("{kind}{sign}"), class, scale, from, action.ended.unwrap_or(now))
        });
        Self {
            name: &action.name,
            top: 0,
            bars: labelled(bar.into_iter().collect()),
            outage: None,
            died: None,
        }
    }

    fn lane(&self) -> i64 {
        if self.outage.is_some() { LABEL + GAP + 4 } else { 4 }
    }

    fn height(&self) -> i64 {
        let levels = self.bars.iter().filter_map(|b| b.level).max().map_or(0, |l| l + 1);
        self.lane() + BAR + levels * LABEL + 18
    }

    fn draw(&self) -> Markup {
        let lane = self.top + self.lane();
        let shown: String = match self.name.char_indices().nth(20) {
            Some((at, _)) => format!("{}…", &self.name[..at]),
            None => self.name.to_owned(),
        };
        html! {
            g {
                text x="4" y=(lane + BAR - 6) { (shown) }
                line class="lane" x1=(LEFT) x2=(RIGHT) y1=(lane + BAR / 2) y2=(lane + BAR / 2) {}
                @if let Some((from, to, told)) = &self.outage {
                    rect class="gap" x=(from) y=(self.top + LABEL) width=((to - from).max(2)) height=(GAP) {}
                    text class="small" x=(label_at(*from, told)) y=(self.top + LABEL - 3) { (told) }
                }
                @if let Some(x) = self.died { line class="moment" x1=(x) x2=(x) y1=(self.top) y2=(lane + BAR) {} }
                @for bar in &self.bars { (bar.draw(lane)) }
            }
        }
    }
}

impl Bar {
    fn new(name: String, class: &'static str, scale: &Scale, from: Timestamp, to: Timestamp) -> Self {
        let (from, to) = (scale.x(from), scale.x(to));
        Self { name, class, from, to: to.max(from + 2), level: None }
    }

    fn draw(&self, lane: i64) -> Markup {
        let inside = if self.class == "bar" { "inside" } else { "" };
        html! {
            rect class=(self.class) x=(self.from) y=(lane) width=(self.to - self.from) height=(BAR) rx="2" {
                title { (self.name) }
            }
            @match self.level {
                None => { text class=(inside) x=(self.from + 5) y=(lane + BAR - 6) { (self.name) } }
                Some(level) => {
                    line class="lead" x1=(self.from + 1) x2=(self.from + 1) y1=(lane + BAR) y2=(lane + BAR + level * LABEL + 6) {}
                    text class="small" x=(label_at(self.from + 4, &self.name)) y=(lane + BAR + level * LABEL + 12) { (self.name) }
                }
            }
        }
    }
}

fn width(text: &str) -> i64 {
    text.chars().count() as i64 * LETTER
}

/// A label that would run out at the right ends there.
fn label_at(x: i64, text: &str) -> i64 {
    x.min(WIDTH - 4 - width(text)).max(4)
}

/// Names go into their bars where they fit, else under them, each to the highest line that is free there.
fn labelled(mut bars: Vec<Bar>) -> Vec<Bar> {
    let mut taken: Vec<i64> = vec![];
    for bar in bars.iter_mut().rev() {
        if bar.to - bar.from >= width(&bar.name) + 8 {
            continue;
        }
        // From the right, so that a lead never runs through a name.
        let from = label_at(bar.from + 4, &bar.name);
        let free = taken.iter().position(|left| from + width(&bar.name) < *left);
        let level = free.unwrap_or(taken.len());
        if level == taken.len() {
            taken.push(0);
        }
        taken[level] = from.min(bar.from);
        // A lead crosses all lines above its own.
        taken[..level].iter_mut().for_each(|left| *left = (*left).min(bar.from));
        bar.level = Some(level as i64);
    }
    bars
}
