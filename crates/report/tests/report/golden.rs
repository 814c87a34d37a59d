//! The JSON, and what is frozen as files: reports of version 1 as they were once, one page, and the picture of the docs. What a
//! page and the figures have to be is asserted in `page` and `figures`; the files show what else has changed.

use crate::runs;
use site_recovery::{ErrorKind, Result};
use site_recovery_report::{Report, VERSION, verify};
use std::path::{Path, PathBuf};

/// Records of the failover.
const FAILOVER: usize = 6;

/// A form that was published is read for ever: these files are never written anew. Checked by hand: each figure by the times
/// beside it, who and what by the records.
#[test]
fn o9_reports_of_version_1_are_read_verified_and_written_back_as_they_were() -> Result<()> {
    for (name, records) in [("report-1-failover.json", FAILOVER), ("report-1-left-out.json", 0)] {
        let kept = std::fs::read_to_string(golden(name)).expect("a file of this checkout");
        let report = Report::from_json(&kept)?;
        assert_eq!(verify(&report)?.records, records, "{name}");
        assert!(report.to_json() == kept, "{name}: written back otherwise");
        crate::page::check(name, &report.to_html());
    }
    Ok(())
}

/// `UPDATE_GOLDEN=1 cargo test -p site-recovery-report` writes these two.
#[tokio::test]
async fn the_page_and_the_picture_of_a_plan_are_as_they_were() -> Result<()> {
    let (_, report) = runs::plan().await?;
    // A tag a line, so that a change can be read.
    frozen(&golden("plan.html"), &report.to_html().replace("><", ">\n<"));
    frozen(&golden("../../../../../docs/pictures/report_timeline.svg"), &report.timeline_svg());
    Ok(())
}

#[tokio::test]
async fn every_story_is_the_same_after_json() -> Result<()> {
    for (name, report) in runs::all().await? {
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

/// What would be passed over, or be taken for absent, is refused: a report that was read is the whole text.
#[tokio::test]
async fn c3_a_text_that_says_more_or_less_than_a_report_is_refused() -> Result<()> {
    let json: serde_json::Value =
        serde_json::from_str(&runs::forced().await?.1.to_json()).expect("plain data is JSON");
    assert!(Report::from_json(&json.to_string()).is_ok(), "however it is laid out");
    for place in ["", "/force", "/members/0", "/members/0/figures", "/audit/0", "/audit/0/records/1"] {
        let mut more = json.clone();
        let object = more.pointer_mut(place).and_then(|v| v.as_object_mut()).expect("a place");
        object.insert("approved_by".into(), "the board".into());
        let error = Report::from_json(&more.to_string()).expect_err(place);
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{place}: {error}");
    }
    let mut less = json;
    less.as_object_mut().and_then(|all| all.remove("plan")).expect("none, and told");
    assert_eq!(Report::from_json(&less.to_string()).expect_err("less").kind(), ErrorKind::Corrupt);
    Ok(())
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/report/golden").join(name)
}

fn frozen(path: &Path, made: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, made).expect("the checkout can be written");
    }
    let name = path.display();
    let kept =
        std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{name}: {e}; UPDATE_GOLDEN=1 writes it"));
    let line = kept.lines().zip(made.lines()).position(|(kept, made)| kept != made);
    assert!(
        kept == made,
        "{name} is another one now, from line {:?}; UPDATE_GOLDEN=1 writes it anew",
        line.map(|l| l + 1)
    );
}
