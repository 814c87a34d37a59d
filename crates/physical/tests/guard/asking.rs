use crate::records::*;
use site_recovery::state::Phase;
use site_recovery::{ErrorKind, SystemClock};
use site_recovery_physical::guard::{All, Ask, Guard, Leave};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

fn guard(dir: &Path, ask: Arc<dyn Ask>) -> Guard {
    let start = dir.join("boot_id");
    if !start.exists() {
        std::fs::write(&start, "first start\n").unwrap();
    }
    let guard = Guard::new(mark(&original()), ask, dir.join("state"), Arc::new(SystemClock));
    guard.asking(Duration::from_millis(1), Duration::from_millis(50)).starting_by(start)
}

fn dir() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn log(dir: &TempDir) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(dir.path().join("state/guard.log")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn s2_without_an_answer_it_stays_off_and_asks_again() {
    let dir = dir();
    let ask = FakeAnswers::of([
        Answer::Fails(ErrorKind::Unavailable),
        Answer::Never,
        Answer::Fails(ErrorKind::Corrupt),
        Answer::Fails(ErrorKind::Denied),
        says(&recovered(), Phase::Protected, 7),
    ]);
    assert_eq!(guard(dir.path(), ask).until_it_may(Some(20)).await.unwrap(), None);
    let said = log(&dir);
    assert_eq!(said.len(), 5, "each verdict once: {said:?}");
    assert!(
        said[4]["what"]["judged"]["StaysOff"]["why"].as_str().unwrap().contains("web-1-recovered"),
        "{said:?}"
    );

    let back = FakeAnswers::of([Answer::Never, says(&original(), Phase::Protected, 9)]);
    assert_eq!(guard(dir.path(), back).until_it_may(Some(20)).await.unwrap(), Some(Leave::Given));
}

#[tokio::test]
async fn o8_a_side_that_has_forgotten_is_not_believed() {
    let dir = dir();
    let look = async |answer: Answer| guard(dir.path(), FakeAnswers::of([answer])).look().await.unwrap();
    assert_eq!(look(Answer::Nothing).await, Some(Leave::Given), "before anything was failed over");
    assert_eq!(look(says(&recovered(), Phase::Protected, 8)).await, None);
    assert_eq!(look(Answer::Nothing).await, None, "it told of a failover before");
    assert_eq!(look(says(&original(), Phase::Protected, 7)).await, None, "an older record, from a backup");
    assert_eq!(look(says(&original(), Phase::Protected, 9)).await, Some(Leave::Given));
}

#[tokio::test]
async fn s1_every_witness_has_to_answer_and_the_newest_counts() {
    let old = || FakeAnswers::of([says(&original(), Phase::Protected, 3)]) as Arc<dyn Ask>;
    let new = || FakeAnswers::of([says(&recovered(), Phase::Protected, 4)]) as Arc<dyn Ask>;
    let dead = || FakeAnswers::of([Answer::Fails(ErrorKind::Unavailable)]) as Arc<dyn Ask>;
    let none = || FakeAnswers::of([Answer::Nothing]) as Arc<dyn Ask>;
    for (witnesses, leave) in [
        (vec![old(), none()], Some(Leave::Given)),
        (vec![old(), new()], None),
        (vec![new(), old()], None),
        (vec![old(), dead()], None),
        (vec![dead(), none()], None),
    ] {
        let said = format!("{witnesses:?}");
        let found = guard(dir().path(), Arc::new(All(witnesses))).look().await.unwrap();
        assert_eq!(found, leave, "{said}");
    }
}

#[tokio::test]
async fn c3_a_lift_has_a_name_and_a_reason_counts_for_one_start_and_is_written_down() {
    let dir = dir();
    let guard = guard(dir.path(), FakeAnswers::of([Answer::Fails(ErrorKind::Unavailable)]));
    for (operator, reason) in [("", "fire"), ("anna", " ")] {
        assert_eq!(guard.lift(operator, reason).unwrap_err().kind(), ErrorKind::Invalid);
    }
    assert_eq!(guard.look().await.unwrap(), None);
    guard.lift("anna", "the other side burnt down").unwrap();
    let lifted = Leave::Lifted { operator: "anna".into(), reason: "the other side burnt down".into() };
    assert_eq!(guard.look().await.unwrap(), Some(lifted.clone()));
    assert_eq!(guard.look().await.unwrap(), Some(lifted), "for as long as this start lasts");
    std::fs::write(dir.path().join("boot_id"), "second start\n").unwrap();
    assert_eq!(guard.look().await.unwrap(), None, "the next one is asked about again");
    let said: Vec<String> = log(&dir).iter().map(|l| l["what"].to_string()).collect();
    assert_eq!(said.len(), 4, "{said:?}");
    for (line, part) in said.iter().zip(["no answer", "lift_asked", "lifted", "no answer"]) {
        assert!(line.contains(part), "{part} in {line}");
    }
    assert!(said[1].contains("anna") && said[1].contains("burnt down"), "{said:?}");
}
