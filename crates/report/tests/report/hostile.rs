//! Names and texts of others do nothing to a page: they are shown, and nothing else. Nothing that is secret is shown.

use crate::{page, runs};
use site_recovery::{Finding, Instance, Owed, Result, Severity, Sidecar};
use site_recovery_report::{
    Ending, FindingPart, FindingSource, Left, LeftOut, Report, verify, verify_against,
};

fn hostile() -> Vec<(&'static str, String)> {
    vec![
        ("a script", "<script>alert(1)</script>".into()),
        (
            "an end of what stands around it",
            "</bdi></td></table></style></svg><img src=x onerror=alert(1)>".into(),
        ),
        ("quotes", r#""onload="alert(1)" '&amp;&lt;&#x3c;"#.into()),
        ("marks that turn the direction", "web\u{202e}moc.elpmaxe\u{2066}\u{200f}\u{61c}x".into()),
        ("a script that is written from the right", "שרת الخادم".into()),
        (
            "control characters",
            "a\u{0}b\u{1b}[31mc\u{7f}d\u{85}e\r\n\tf\u{fffe}\u{ffff}\u{fdd0}\u{1fffe}".into(),
        ),
        ("what cannot be seen", "web\u{200b}\u{feff}\u{2060}x".into()),
        ("CDATA and comments", "]]><!-- --><![CDATA[ x".into()),
        ("ten thousand letters", "웹".repeat(10_000)),
        ("nothing", String::new()),
    ]
}

/// A report of real runs in which everything that somebody else has named is `text`.
fn named(mut report: Report, text: &str) -> Report {
    let all = || vec![text.to_owned(), text.to_owned()];
    report.site = text.into();
    report.who = text.into();
    report.why = Some(text.into());
    report.force = Some(site_recovery::Force::by(text, text));
    let finding = Finding::new(text, Severity::Critical, text, text);
    let machine = report.members[0].machine.clone();
    report.findings.push(FindingPart { machine, source: FindingSource::Health, finding });
    for member in &mut report.members {
        member.called = text.into();
        member.who = text.into();
        (member.notes, member.owed, member.waits, member.reach, member.unproven) =
            (all(), all(), all(), all(), all());
        member.verdict = Some(site_recovery::Verdict::Bad { reason: text.into() });
        for stands in &mut member.stands {
            (stands.site, stands.name, stands.reach, stands.network) =
                (text.into(), text.into(), all(), Some(text.into()));
        }
        for (at, step) in member.steps.iter_mut().enumerate().filter(|(at, _)| at % 2 == 0) {
            let kind = site_recovery::ErrorKind::Refused;
            let why = site_recovery::Failure { kind, temporary: at == 0, message: text.into() };
            step.mark = site_recovery::Mark::Failed { why };
        }
    }
    for action in &mut report.actions {
        (action.name, action.kind, action.group) = (text.into(), text.into(), Some(text.into()));
        (action.who, action.notes) = (Some(text.into()), all());
    }
    if let Some(plan) = &mut report.plan {
        (plan.name, plan.run) = (text.into(), text.into());
        for group in &mut plan.groups {
            (group.name, group.before, group.after) = (text.into(), all(), all());
            group.machines.push(text.into());
        }
        plan.outcome = Ending::Failed { why: runs::failure(text) };
        let left = |why| LeftOut { name: text.into(), machines: vec![text.into()], why };
        plan.left_out.push(left(Left::Refused { why: runs::failure(text) }));
        plan.left_out.push(left(Left::Skipped { reason: text.into() }));
    }
    for chain in &mut report.audit {
        chain.unit = text.into();
        chain.broken = Some(text.into());
        chain.records.iter_mut().for_each(|r| r.who = text.into());
    }
    report
}

#[tokio::test]
async fn hostile_names_are_shown_and_do_nothing() -> Result<()> {
    let (_, calm) = runs::plan().await?;
    // A name that is short enough stands in its bar and needs no line to it.
    let counts = |n: &roxmltree::Node<'_, '_>| n.is_element() && !n.has_tag_name("line");
    let elements = |page: &str| page::parse(page).descendants().filter(counts).count();
    let expected = elements(&named(calm.clone(), "web").to_html());
    for (what, text) in hostile() {
        let report = named(calm.clone(), &text);
        let made = report.to_html();
        let shown = page::check(what, &made);
        assert_eq!(elements(&made), expected, "{what}: it became markup");
        let hidden = |c: char| {
            c.is_control() && c != '\n' && c != '\t'
                || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        };
        assert!(!made.contains(hidden), "{what}: something hides");
        let visible =
            text.chars().all(|c| !hidden(c) && !c.is_control() && !matches!(c, '\u{feff}' | '\u{2060}'))
                && text.len() < 100;
        assert!(!visible || shown.contains(&text), "{what}: it is shown as it is");
        assert_eq!(Report::from_json(&report.to_json())?, report, "{what}: whole in the JSON");
        roxmltree::Document::parse(&report.timeline_svg()).unwrap_or_else(|e| panic!("{what}: {e}"));
    }
    Ok(())
}

#[tokio::test]
async fn what_is_very_long_is_cut_on_the_page_and_says_so() -> Result<()> {
    let (_, calm) = runs::drill().await?;
    let short = calm.to_html().len();
    let report = named(calm, &"웹".repeat(10_000));
    let page = report.to_html();
    assert!(page.contains("10000 characters, whole in the JSON"), "it says so");
    assert!(!page.contains(&"웹".repeat(2_001)), "nothing is longer than a long text");
    assert!(page.len() < short + 400_000, "{} bytes", page.len());
    Ok(())
}

#[tokio::test]
async fn c1_no_secret_leaves_with_a_report() -> Result<()> {
    const CANARY: &[u8] = b"canary-of-a-tpm";
    let (mut ran, _) = runs::planned().await?;
    // A machine with a TPM: its state travels in points, and so into the record of the intent and into the run.
    let sidecar = || Sidecar { name: "tpm".into(), bytes: CANARY.to_vec() };
    let mut previous = String::new();
    for record in &mut ran.trail {
        if let site_recovery::Event::Intended { promotion, .. } = &mut record.event {
            promotion.recovery.as_mut().expect("from a point").sidecars.push(sidecar());
        }
        record.previous = previous;
        *record = record.clone().sealed();
        previous = record.hash.clone();
    }
    for progress in ran.run.members.values_mut() {
        progress.recovery.as_mut().expect("from a point").sidecars.push(sidecar());
    }
    let item = &mut ran.items[0];
    let recovery = item.promotion.as_ref().and_then(|p| p.recovery.clone()).expect("from a point");
    let recovery = site_recovery::Recovery { sidecars: vec![sidecar()], ..recovery };
    let Instance { site, .. } = item.active().clone();
    item.owed.push(Owed::Withdraw { site, made_by: "key".into(), recovery });

    let report = Report::of_job("cloud", ran.run.ended.expect("it has ended"), ran.job()).build()?;
    let told = [report.to_html(), report.to_json(), report.timeline_svg(), format!("{report:?}")];
    let as_json = serde_json::to_string(CANARY).expect("bytes").trim_matches(['[', ']']).to_owned();
    for text in &told {
        let flat: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        assert!(!flat.contains("canary-of-a-tpm") && !flat.contains(&as_json), "a secret is told");
    }
    assert!(told[1].contains("\"tpm\""), "that there was one is told");
    assert!(
        told[0].contains("without the trail nothing proves these records"),
        "what that leaves open is told"
    );

    let verified = verify(&report)?;
    assert_eq!(verified.withheld, 1, "the record of the intent");
    let against = verify_against(&report, &ran.unit, &ran.trail)?;
    assert_eq!((against.withheld, against.records), (0, verified.records + 1), "the trail proves it");
    Ok(())
}
