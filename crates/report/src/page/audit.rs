//! The audit records, one a line, with their hashes.

use super::text;
use crate::{ChainPart, Report, words};
use maud::{Markup, html};
use site_recovery::Event;
use site_recovery::audit::AuditRecord;

pub(super) fn audit(report: &Report) -> Markup {
    html! {
        section aria-labelledby="audit" {
            h2 id="audit" { "Audit records" }
            p {
                "Each record bears the SHA-256 of itself and of the record before. The JSON holds them whole; shown here is when, who, "
                "what, and the hash."
            }
            @for chain in &report.audit { (of_unit(chain)) }
        }
    }
}

fn of_unit(chain: &ChainPart) -> Markup {
    html! {
        h3 { (text::name(chain.unit.as_str())) " " (verified(chain)) }
        @if let Some(why) = &chain.broken { p class="reason" { (text::prose(why)) } }
        p {
            (chain.records.len()) " of " (chain.length) " records of its trail. "
            @if !chain.records.is_empty() { "First " code { (chain.first) } ", last " code { (chain.last) } ". " }
            @if !chain.head.is_empty() { "Head of the trail " code { (chain.head) } ". " }
            @if !chain.withheld.is_empty() {
                "Of the records " (numbers(&chain.withheld)) " the content of small files of the machine (firmware, TPM) is left out: "
                "without the trail nothing proves these records; their hashes are computed again from the trail alone."
            }
        }
        @if !chain.records.is_empty() {
            table class="records" {
                (text::columns(&["No.", "At", "Who", "What", "SHA-256"], &["No."]))
                tbody { @for record in &chain.records { (row(record)) } }
            }
        }
    }
}

fn verified(chain: &ChainPart) -> Markup {
    match chain.broken {
        None => text::badge("ok", "✓", "Whole trail verified"),
        Some(_) => text::badge("bad", "✗", "Trail did not verify"),
    }
}

fn row(record: &AuditRecord) -> Markup {
    html! {
        tr {
            td class="number" { (record.number) }
            td { (text::time(record.at)) }
            td { (text::name(&record.who)) }
            td { (what(&record.event)) }
            td { code { (record.hash) } }
        }
    }
}

fn numbers(all: &[u64]) -> String {
    all.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
}

/// The event by its name, with what is short of it.
fn what(event: &Event) -> String {
    match event {
        Event::Moved(trigger) => format!("Moved: {}", words::trigger(*trigger)),
        Event::Began { trigger, epoch } => {
            format!("Began: {}, epoch {}", words::trigger(*trigger), epoch.number)
        }
        Event::Minted(generation) => format!("Minted: generation {generation}"),
        Event::Intended { promotion, .. } => {
            format!("Intended: {}", words::instance(&promotion.armed.instance))
        }
        Event::BootTried { point, .. } => format!("Boot tried: point {point}"),
        other => {
            let whole = format!("{other:?}");
            let end = whole.find(|c: char| !c.is_alphanumeric()).unwrap_or(whole.len());
            words::camel(&Name(&whole[..end]))
        }
    }
}

struct Name<'a>(&'a str);

impl std::fmt::Debug for Name<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}
