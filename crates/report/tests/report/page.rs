//! What holds for every page: it stands alone, it is well-formed, nothing in it is without its name.

use crate::runs;
use roxmltree::{Document, Node, ParsingOptions};
use site_recovery::Result;
use std::collections::BTreeSet;

/// Elements that the pages are made of: whatever loads, runs or submits something is not among them.
const ELEMENTS: &[&str] = &[
    "html",
    "head",
    "meta",
    "title",
    "style",
    "body",
    "main",
    "footer",
    "header",
    "section",
    "figure",
    "figcaption",
    "h1",
    "h2",
    "h3",
    "p",
    "ul",
    "li",
    "dl",
    "div",
    "dt",
    "dd",
    "table",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "span",
    "strong",
    "code",
    "time",
    "bdi",
    "svg",
    "defs",
    "pattern",
    "g",
    "line",
    "rect",
    "text",
];

const ATTRIBUTES: &[&str] = &[
    "lang",
    "charset",
    "name",
    "content",
    "id",
    "class",
    "scope",
    "datetime",
    "role",
    "aria-label",
    "aria-labelledby",
    "aria-hidden",
    "viewBox",
    "x",
    "y",
    "x1",
    "x2",
    "y1",
    "y2",
    "width",
    "height",
    "rx",
    "text-anchor",
    "patternUnits",
    "patternTransform",
];

pub(crate) fn parse(page: &str) -> Document<'_> {
    let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
    Document::parse_with_options(page, options).unwrap_or_else(|e| panic!("not well-formed: {e}"))
}

/// Checks a page; gives all of its text.
pub(crate) fn check(name: &str, page: &str) -> String {
    assert!(page.starts_with("<!DOCTYPE html>\n<html "), "{name}: a page of today's HTML");
    let document = parse(page);
    let elements = || document.descendants().filter(Node::is_element);
    let mut ids = BTreeSet::new();
    for element in elements() {
        let tag = element.tag_name().name();
        assert!(ELEMENTS.contains(&tag), "{name}: <{tag}>");
        for attribute in element.attributes() {
            let key = attribute.name();
            assert!(ATTRIBUTES.contains(&key), "{name}: <{tag} {key}>");
            assert!(
                key != "id" || ids.insert(attribute.value()),
                "{name}: the id {} twice",
                attribute.value()
            );
        }
    }
    for labelled in elements().filter_map(|e| e.attribute("aria-labelledby")) {
        assert!(ids.contains(labelled), "{name}: nothing has the id {labelled}");
    }
    let style: String = elements().filter(|e| e.has_tag_name("style")).filter_map(|e| e.text()).collect();
    assert!(!style.contains("@import"), "{name}: a style from elsewhere");
    for part in style.split("url(").skip(1) {
        assert!(part.starts_with('#'), "{name}: a resource from elsewhere");
    }
    let tables: Vec<Node<'_, '_>> = elements().filter(|e| e.has_tag_name("table")).collect();
    for table in tables {
        let rows: Vec<usize> = table
            .descendants()
            .filter(|n| n.has_tag_name("tr"))
            .map(|tr| tr.children().filter(Node::is_element).count())
            .collect();
        assert!(rows.windows(2).all(|w| w[0] == w[1]), "{name}: rows of {rows:?} cells");
    }
    document.descendants().filter(|n| n.is_text()).filter_map(|n| n.text()).collect()
}

#[tokio::test]
async fn every_page_stands_alone_and_is_well_formed() -> Result<()> {
    for (name, report) in runs::all().await? {
        let text = check(name, &report.to_html());
        assert!(text.contains(&report.digest), "{name}: page and JSON have to be matched");
        assert!(text.contains("prefers-color-scheme: dark") && text.contains("@media print"), "{name}");
    }
    Ok(())
}

#[tokio::test]
async fn every_step_stands_in_the_picture_and_in_the_table() -> Result<()> {
    for (name, report) in runs::all().await? {
        let page = report.to_html();
        let document = parse(&page);
        let bars =
            document.descendants().filter(|n| n.attribute("class").is_some_and(|c| c.starts_with("bar")));
        let acted = report.actions.iter().filter(|a| a.started.is_some()).count();
        let steps: usize = report.members.iter().map(|m| m.steps.len()).sum();
        assert_eq!(bars.count(), steps + acted, "{name}: bars");
        let gaps = document.descendants().filter(|n| n.attribute("class") == Some("gap")).count();
        assert_eq!(
            gaps,
            report.members.iter().filter(|m| m.figures.outage.is_some()).count(),
            "{name}: outages"
        );
        let heads = document
            .descendants()
            .filter(|n| n.has_tag_name("th") && n.attribute("scope") == Some("row"))
            .count();
        let groups = report.plan.as_ref().map_or(0, |p| p.groups.len() + p.left_out.len());
        assert_eq!(heads, steps + groups + report.actions.len(), "{name}: rows");
    }
    Ok(())
}

/// Names under the bars never lie over each other, nor over the end of the picture.
#[tokio::test]
async fn no_name_in_a_picture_covers_another() -> Result<()> {
    for (name, report) in runs::all().await? {
        let svg = report.timeline_svg();
        let document = Document::parse(&svg).unwrap_or_else(|e| panic!("{name}: {e}"));
        let number =
            |n: &Node<'_, '_>, key| n.attribute(key).and_then(|v| v.parse::<i64>().ok()).expect("a number");
        let text = |n: &Node<'_, '_>| n.text().unwrap_or_default().to_owned();
        let labels: Vec<_> = document
            .descendants()
            .filter(|n| n.has_tag_name("text") && n.attribute("text-anchor").is_none())
            .map(|n| (number(&n, "y"), number(&n, "x"), text(&n)))
            .collect();
        for (at, (y, x, told)) in labels.iter().enumerate() {
            let end = x + 6 * told.chars().count() as i64;
            assert!(*x >= 0 && end <= 1_000, "{name}: {told} runs out of the picture");
            for (other_y, other_x, other) in &labels[at + 1..] {
                let other_end = other_x + 6 * other.chars().count() as i64;
                assert!(y != other_y || end <= *other_x || other_end <= *x, "{name}: {told} covers {other}");
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn every_page_says_what_its_story_is_about() -> Result<()> {
    let stories = runs::all().await?;
    for (name, said) in [
        (
            "planned_failover",
            &["Planned failover of web", "Done", "without power from nine", "crash-consistent"][..],
        ),
        (
            "forced_failover",
            &["Unplanned failover of web", "Answers for what could not be proven", "Source died"],
        ),
        (
            "drill",
            &["Drill of web", "the drill of the first quarter", "in the isolated network", "cleaned up"],
        ),
        ("failback", &["Planned failback of web", "recovery to primary", "the hall has power again"]),
        ("undone", &["Planned failover of web", "Undone", "it was cancelled"]),
        (
            "refused",
            &["Planned failover of web", "Failed", "no quota is left", "ran nowhere when the job ended"],
        ),
        ("undo", &["Undo of the failover of web", "Done", "Start source"]),
        ("needs_operator", &["Needs a person", "somebody has to decide", "and goes on"]),
        (
            "plan",
            &["by the plan whole shop", "1 of 3 actions failed", "the mail server does not answer", "cleo"],
        ),
    ] {
        let (_, report) = stories.iter().find(|(story, _)| *story == name).expect("a story");
        let text = check(name, &report.to_html());
        for words in said {
            assert!(text.contains(words), "{name}: {words}");
        }
    }
    Ok(())
}
