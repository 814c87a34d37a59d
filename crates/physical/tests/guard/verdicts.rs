use crate::records::*;
use site_recovery::state::{Kind, Phase, Trigger};
use site_recovery::*;
use site_recovery_physical::guard::{Verdict, verdict};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Is {
    In,
    Waiting,
    Out,
}
use Is::{In, Out, Waiting};

fn is(of: &Instance, record: Option<&PhaseRecord>) -> Is {
    match verdict(&mark(of), record) {
        Verdict::TakesPart => In,
        Verdict::NotNow { .. } => Waiting,
        Verdict::StaysOff { .. } => Out,
    }
}

/// What is expected of the instance that has write authority: while something was promoted and not replicated back, and
/// while nothing was.
fn expected(phase: Phase) -> (Is, Is) {
    use Phase::*;
    match phase {
        FailoverInitiated(_) | ChangeRecoveryPointInitiated(_) => (Waiting, Waiting),
        UndoFailoverInProgress(_) | UndoFailoverFailed(_) => (Waiting, In),
        _ => (In, In),
    }
}

#[test]
fn s1_in_every_phase_whoever_lacks_write_authority_stays_off() {
    for phase in Phase::all() {
        for promoted in [true, false] {
            let of_recovered = record(item(&recovered(), phase, promoted));
            assert_eq!(
                is(&original(), Some(&of_recovered)),
                Out,
                "{phase:?}: the original, failed over from"
            );
            let of_original = record(item(&original(), phase, promoted));
            assert_eq!(
                is(&recovered(), Some(&of_original)),
                Out,
                "{phase:?}: the recovered one, failed back from"
            );
            let elsewhere = Instance { site: "hall-2".into(), ..original() };
            assert_eq!(is(&elsewhere, Some(&of_original)), Out, "{phase:?}: a namesake at another site");
        }
    }
}

#[test]
fn s1_in_every_phase_whoever_has_write_authority_is_in_unless_it_is_being_fenced() {
    for phase in Phase::all() {
        let (promoted, quiet) = expected(phase);
        assert_eq!(
            is(&original(), Some(&record(item(&original(), phase, true)))),
            promoted,
            "{phase:?}, promoted"
        );
        assert_eq!(is(&original(), Some(&record(item(&original(), phase, false)))), quiet, "{phase:?}");
    }
    assert_eq!(Phase::all().len(), 14 + 2 * 9, "a new phase has to be thought of");
}

#[test]
fn s3_older_disks_of_the_same_server_stay_off() {
    let third = instance("hall-1", "web-1", 2);
    for phase in Phase::all() {
        let landed = record(item(&third, phase, true));
        assert_eq!(is(&original(), Some(&landed)), Out, "{phase:?}: disks from before the way back");
        let older = record(item(&original(), phase, false));
        assert_eq!(is(&third, Some(&older)), Out, "{phase:?}: the record is older than the disks");
    }
}

#[test]
fn s1_without_a_record_the_original_is_in_and_a_promoted_one_waits() {
    assert_eq!(is(&original(), None), In);
    assert_eq!(is(&recovered(), None), Waiting);
    let mut other = item(&original(), Phase::Protected, false);
    other.machine.instance.machine = "m-db".into();
    assert_eq!(is(&original(), Some(&record(other))), Waiting, "an answer about another machine");
}

/// Through a failover and its undo, as the engine writes it down.
#[test]
fn s1_write_authority_moves_with_the_intent_and_never_is_with_both() {
    let mut item = item(&original(), Phase::Protected, false);
    let unplanned = Trigger::Begin(Operation::UnplannedFailover);
    let epoch = item.epoch.raised(&"engine".into());
    let both = |item: &Item, old: Is, new: Is, when: &str| {
        let record = record(item.clone());
        assert_eq!((is(&original(), Some(&record)), is(&recovered(), Some(&record))), (old, new), "{when}");
    };
    both(&item, In, Out, "protected");
    item = apply(&item, &Event::Began { trigger: unplanned, epoch }).unwrap();
    both(&item, Waiting, Out, "being fenced");
    let promotion = promotion(&recovered());
    let intended = Event::Intended { trigger: Trigger::Intended, promotion, unproven: vec![original()] };
    item = apply(&item, &intended).unwrap();
    assert_eq!(item.state.phase, Phase::FailoverCompleting(Kind::Unplanned));
    both(&item, Out, In, "before the boot, though nobody could fence the original");
    item = apply(&item, &Event::Moved(Trigger::Booted)).unwrap();
    both(&item, Out, In, "booted");
    let epoch = item.epoch.raised(&"engine".into());
    let undo = Trigger::Begin(Operation::UndoFailover);
    item = apply(&item, &Event::Began { trigger: undo, epoch }).unwrap();
    both(&item, Out, Waiting, "what is taken back is being fenced");
    item = apply(&item, &Event::SourceIntended { unproven: vec![] }).unwrap();
    both(&item, In, Out, "before the original starts");
    item = apply(&item, &Event::Moved(Trigger::Undone)).unwrap();
    both(&item, In, Out, "undone");
}
