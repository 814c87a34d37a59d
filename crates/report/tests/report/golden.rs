//! Pages and JSON of real runs, frozen as files beside this one. `UPDATE_GOLDEN=1 cargo test -p site-recovery-report` writes
//! them anew.

use crate::runs;
use site_recovery::{ErrorKind, Result};
use site_recovery_report::{Ending, OutageBasis, Report, VERSION, verify};
use std::path::PathBuf;
use std::time::Duration;

#[tokio::test]
async fn every_story_gives_the_page_and_the_json_that_it_gave() -> Result<()> {
    for (name, report) in runs::all().await? {
        frozen(&format!("{name}.html"), &report.to_html());
        frozen(&format!("{name}.json"), &report.to_json());
        frozen(&format!("{name}.svg"), &report.timeline_svg());
        if name == "plan" {
            frozen("../../../../../docs/pictures/report_timeline.svg", &report.timeline_svg());
        }
        let read = Report::from_json(&report.to_json())?;
        assert_eq!(read, report, "{name}: JSON gives the same report");
        assert_eq!(read.to_html(), report.to_html(), "{name}: and the same page");
    }
    Ok(())
}

#[tokio::test]
async fn c3_every_story_verifies_from_its_json() -> Result<()> {
    for (name, report) in runs::all().await? {
        let verified =
            verify(&Report::from_json(&report.to_json())?).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(verified.records >= 3 && verified.withheld == 0, "{name}: {verified:?}");
    }
    Ok(())
}

#[tokio::test]
async fn figures_are_those_of_the_run() -> Result<()> {
    let (ran, report) = runs::planned().await?;
    let web = &report.members[0];
    assert_eq!(report.outcome, Ending::Done);
    assert_eq!(
        report.loss.as_ref().map(|l| l.at_most),
        Some(Some(Duration::ZERO)),
        "a planned one loses nothing"
    );
    assert_eq!(web.figures.rpo, Some(Duration::ZERO), "its point was taken after the request");
    let end = |step: &str| {
        let task = ran.run.tasks.iter().rev().find(|t| format!("{:?}", t.step) == step);
        task.and_then(|t| t.ended).unwrap_or_else(|| panic!("{step} has ended"))
    };
    assert_eq!(web.figures.rto_boot, Some(end("Boot").since(ran.run.started)));
    assert_eq!(web.figures.rto_verdict, Some(end("Validate").since(ran.run.started)));
    let outage = web.figures.outage.as_ref().expect("it was stopped");
    let fence = ran.run.tasks.iter().find(|t| format!("{:?}", t.step) == "Fence").expect("it was fenced");
    assert_eq!(
        (outage.from, outage.to, outage.basis),
        (fence.started, Some(end("Boot")), OutageBasis::StepBegan)
    );
    assert!(
        outage.length(report.made_at) > Duration::from_secs(21),
        "preparing the guest alone takes that long"
    );

    let (ran, report) = runs::forced().await?;
    let web = &report.members[0];
    let died = web.died.expect("it was told");
    let point = web.point.as_ref().expect("a point was used");
    assert_eq!(web.figures.rpo, Some(died.since(point.taken)));
    assert!(web.figures.rpo > Some(Duration::from_secs(200)), "{:?}", web.figures.rpo);
    assert!(
        web.figures.rto_boot > Some(Duration::from_secs(75)),
        "counted from the death: {:?}",
        web.figures.rto_boot
    );
    assert_eq!(web.figures.outage.as_ref().map(|o| (o.from, o.basis)), Some((died, OutageBasis::Told)));
    assert_eq!(report.force.as_ref().map(|f| f.operator.as_str()), Some("ben"));
    assert_eq!(web.unproven.len(), 1, "nobody could prove the dead side off");
    let journalled =
        ran.items[0].promotion.as_ref().and_then(|p| p.loss.clone()).expect("a loss is journalled");
    assert_eq!(report.loss.as_ref().and_then(|l| l.at_most), Some(journalled.at_most));

    let (_, report) = runs::drill().await?;
    assert_eq!(report.members[0].figures.outage, None, "a drill stops nothing");
    assert!(report.members[0].stands.iter().any(|s| s.network.is_some() && s.booted == Some(true)));

    let (_, report) = runs::undone().await?;
    let web = &report.members[0];
    assert!(matches!(web.outcome, Ending::Undone { .. }));
    assert_eq!((&report.loss, web.figures.rpo), (&None, None), "what was undone loses nothing");
    let outage = web.figures.outage.as_ref().expect("it was stopped while it was held");
    assert!(outage.to.is_some() && outage.length(report.made_at) > Duration::from_secs(300), "{outage:?}");

    let (_, report) = runs::needs_operator().await?;
    assert!(matches!(report.outcome, Ending::NeedsOperator { .. }));
    assert_eq!(report.members[0].figures.outage.as_ref().map(|o| o.to), Some(None), "nothing runs yet");
    assert!(!report.members[0].waits.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_newer_version_is_refused_naming_both() -> Result<()> {
    let json = runs::drill().await?.1.to_json();
    let newer =
        json.replacen(&format!("\"version\": {VERSION}"), &format!("\"version\": {}", VERSION + 1), 1);
    assert_ne!(newer, json);
    let error = Report::from_json(&newer).expect_err("newer");
    let told = error.to_string();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(told.contains(&VERSION.to_string()) && told.contains(&(VERSION + 1).to_string()), "{told}");
    assert_eq!(Report::from_json("{}").expect_err("no report").kind(), ErrorKind::Corrupt);
    Ok(())
}

fn frozen(name: &str, made: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/report/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(&path, made).expect("the checkout can be written");
    }
    let kept =
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{name}: {e}; UPDATE_GOLDEN=1 writes it"));
    let line = kept.lines().zip(made.lines()).position(|(kept, made)| kept != made);
    assert!(
        kept == made,
        "{name} is another one now, from line {:?}; UPDATE_GOLDEN=1 writes it anew",
        line.map(|l| l + 1)
    );
}
