//! Every reachable state against every trigger, and the document that is generated from the same function.

use site_recovery::state::{Divergence, Location, Operation, Phase, State, Trigger, next};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write;

fn reachable() -> BTreeMap<State, Vec<(Trigger, State)>> {
    let (mut all, mut queue) = (BTreeMap::new(), VecDeque::from([State::unprotected()]));
    while let Some(state) = queue.pop_front() {
        if all.contains_key(&state) {
            continue;
        }
        let moves: Vec<(Trigger, State)> =
            Trigger::all().into_iter().filter_map(|t| Some((t, next(&state, t).ok()?))).collect();
        queue.extend(moves.iter().map(|(_, to)| *to));
        all.insert(state, moves);
    }
    all
}

fn is_over(state: &State) -> bool {
    state.phase == Phase::MigrationCompleted
}

/// A phase that an operator, not a job, moves on.
fn is_settled(phase: Phase) -> bool {
    use Phase::*;
    !matches!(
        phase,
        EnablingProtection
            | InitialReplicationInProgress
            | FailoverInitiated(_)
            | FailoverCompleting(_)
            | ChangeRecoveryPointInitiated(_)
            | CancelFailoverInProgress(_)
            | UndoFailoverInProgress(_)
            | CommitFailoverInProgress
            | ReprotectInitiated
            | DisablingProtection
    )
}

#[test]
fn s5_no_state_is_a_dead_end() {
    let all = reachable();
    println!("{} reachable states, {} transitions", all.len(), all.values().map(Vec::len).sum::<usize>());
    for (state, moves) in &all {
        let allowed = state.allowed_operations();
        if is_over(state) {
            assert!(
                allowed.iter().all(|o| *o == Operation::TestFailoverCleanup),
                "{state}: over, and yet {allowed:?}"
            );
        } else if is_settled(state.phase) {
            assert!(!allowed.is_empty(), "{state}: nobody can do anything");
        } else {
            assert!(
                moves.iter().any(|(t, to)| !matches!(t, Trigger::Begin(_)) && to.phase != state.phase),
                "{state}"
            );
        }
    }
    // From everywhere, a working pair of sites leads back to a protected, undiverged item, or out of our care.
    let mut safe: BTreeSet<State> = all
        .keys()
        .filter(|s| is_over(s) || (s.phase == Phase::Protected && s.divergence == Divergence::None))
        .copied()
        .collect();
    loop {
        let more: Vec<State> = all
            .iter()
            .filter(|(s, moves)| !safe.contains(s) && moves.iter().any(|(_, to)| safe.contains(to)))
            .map(|(s, _)| *s)
            .collect();
        if more.is_empty() {
            break;
        }
        safe.extend(more);
    }
    let lost: Vec<&State> = all.keys().filter(|s| !safe.contains(s)).collect();
    assert!(lost.is_empty(), "no way back from {lost:?}");
}

#[test]
fn s1_authority_moves_only_through_a_recorded_intent() {
    for (state, moves) in reachable() {
        for (trigger, to) in moves {
            if state.active_location() == to.active_location() {
                continue;
            }
            let pivots = matches!(
                trigger,
                Trigger::Intended | Trigger::Promoted(_) | Trigger::Undone | Trigger::UndoneOwing
            );
            let leaves = matches!(to.phase, Phase::DisablingProtection | Phase::Unprotected)
                || matches!(
                    state.phase,
                    Phase::DisablingProtection | Phase::DisablingFailed | Phase::Unprotected
                );
            assert!(pivots || leaves, "{state} --{trigger:?}--> {to} moves authority without an intent");
        }
    }
}

#[test]
fn s2_a_diverged_item_neither_replicates_into_nor_fails_over_without_a_name() {
    for (state, moves) in reachable() {
        if state.phase != Phase::Protected || state.divergence != Divergence::Possible {
            continue;
        }
        for (trigger, _) in moves {
            let refused =
                [Operation::PlannedFailover, Operation::UnplannedFailover, Operation::PromoteTestFailover];
            assert!(!refused.iter().any(|o| trigger == Trigger::Begin(*o)), "{state} allows {trigger:?}");
        }
    }
}

#[test]
fn d7_a_commit_is_final() {
    for (state, moves) in reachable() {
        if !matches!(
            state.phase,
            Phase::CommitFailoverInProgress | Phase::CommitFailoverFailed | Phase::CommitFailoverCompleted
        ) {
            continue;
        }
        for (trigger, to) in moves {
            let back = matches!(to.phase, Phase::FailoverCompleted(_) | Phase::UndoFailoverInProgress(_));
            assert!(!back, "{state} --{trigger:?}--> {to}");
        }
    }
}

#[test]
fn a_refusal_says_what_to_do_instead() {
    let state = State { phase: Phase::CommitFailoverCompleted, ..State::unprotected() };
    let refusal = next(&state, Trigger::Begin(Operation::UndoFailover)).expect_err("final").to_string();
    assert!(refusal.contains("a commit is final") && refusal.contains("ReverseReplicate"), "{refusal}");
    assert_eq!(State::unprotected().active_location(), Location::Primary);
}

/// The document as the machine has it. `UPDATE_DOCS=1 cargo test -p site-recovery --test state_machine` writes it.
#[test]
fn the_document_is_the_machine() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/state-machine.md");
    let wanted = document();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &wanted).expect("docs can be written");
    }
    let found = std::fs::read_to_string(path).expect("docs/state-machine.md exists");
    assert!(
        found == wanted,
        "docs/state-machine.md is not what the state machine says; run with UPDATE_DOCS=1"
    );
}

fn document() -> String {
    let all = reachable();
    let mut doc = String::from(
        "# The state machine\n\n\
         Generated from `site_recovery::state::next`; `cargo test -p site-recovery --test state_machine` checks it.\n\n\
         A state is a phase, a direction, a drill, a resync and a divergence. Names follow Azure's published vocabulary;\n\
         `UndoFailover…` and `MigrationCompleted` are ours. `k` stands for Planned or Unplanned.\n\n",
    );
    writeln!(
        doc,
        "{} states are reachable, with {} transitions.\n",
        all.len(),
        all.values().map(Vec::len).sum::<usize>()
    )
    .expect("text");
    doc.push_str("## Phases\n\n```mermaid\nstateDiagram-v2\n");
    let mut edges: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for (state, moves) in &all {
        for (trigger, to) in moves {
            if state.phase != to.phase && *trigger != Trigger::Adopted {
                edges.entry((name(state.phase), name(to.phase))).or_default().insert(word(*trigger));
            }
        }
    }
    for ((from, to), triggers) in &edges {
        let triggers: Vec<&str> = triggers.iter().map(String::as_str).collect();
        writeln!(doc, "    {from} --> {to}: {}", triggers.join(", ")).expect("text");
    }
    doc.push_str(
        "```\n\n## What is allowed\n\n| phase | operations, over all of its reachable states |\n|---|---|\n",
    );
    let mut allowed: BTreeMap<Phase, (BTreeSet<Operation>, BTreeSet<Operation>)> = BTreeMap::new();
    for state in all.keys() {
        let now: BTreeSet<Operation> = state.allowed_operations().into_iter().collect();
        let entry = allowed.entry(state.phase).or_insert_with(|| (now.clone(), BTreeSet::new()));
        entry.0 = entry.0.intersection(&now).copied().collect();
        entry.1.extend(now);
    }
    for (phase, (always, ever)) in allowed {
        let cell: Vec<String> = ever
            .iter()
            .map(|o| if always.contains(o) { format!("{o:?}") } else { format!("*{o:?}*") })
            .collect();
        writeln!(
            doc,
            "| {} | {} |",
            name(phase),
            if cell.is_empty() { "none".into() } else { cell.join(", ") }
        )
        .expect("text");
    }
    doc.push_str("\nAn operation in *italics* depends on direction, drill, resync or divergence:\n\n");
    doc.push_str(
        "- a planned failover needs no resync due and no divergence; an unplanned one no divergence that is possible\n\
         - drills and boot proofs start on the way out only, one at a time; clean-up is allowed in every phase while there is one\n\
         - `CompleteMigration` is of the way out\n\
         - `PromoteOther` in `Protected` needs a possible divergence or a resync that is due\n",
    );
    doc.push_str("\n## When the journal is lost\n\n| phase | becomes |\n|---|---|\n");
    let mut settled: BTreeMap<String, String> = BTreeMap::new();
    for state in all.keys() {
        let to = next(state, Trigger::Adopted).expect("every state can be adopted");
        if to.phase != state.phase {
            settled.insert(name(state.phase), name(to.phase));
        }
    }
    for (from, to) in settled {
        writeln!(doc, "| {from} | {to} |").expect("text");
    }
    doc
}

fn name(phase: Phase) -> String {
    phase.to_string().replace("Unplanned", "k").replace("Planned", "k")
}

fn word(trigger: Trigger) -> String {
    match trigger {
        Trigger::Begin(operation) => format!("{operation:?}"),
        other => format!("{other:?}").to_lowercase(),
    }
}
