//! Random rounds: writes, captures, faults, restarts. Whatever is sealed is what was captured, in the order of the
//! captures. `PS_SEED=<n>` replays one seed.
#![allow(clippy::unwrap_used, reason = "tests")]

mod world;

use site_recovery::*;
use tempfile::TempDir;
use world::*;

#[tokio::test(flavor = "multi_thread")]
async fn prs1_whatever_happens_points_are_captures() {
    let seeds: Vec<u64> = match std::env::var("PS_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (1..=24).collect(),
    };
    let mut seen = Seen::default();
    for seed in &seeds {
        eprintln!("PS_SEED={seed}");
        run(*seed, &mut seen).await;
    }
    if seeds.len() > 1 {
        eprintln!("{seen:?}");
        let Seen { sealed, spooled, drained, broke, dropped, compared } = seen;
        assert!(
            [sealed, spooled, drained, broke, dropped, compared].iter().all(|n| *n > 0),
            "faults do happen"
        );
    }
}

#[derive(Debug, Default)]
struct Seen {
    sealed: u64,
    spooled: u64,
    drained: u64,
    broke: u64,
    dropped: u64,
    compared: u64,
}

async fn run(seed: u64, seen: &mut Seen) {
    let mut dice = Dice(seed);
    let dir = TempDir::new().unwrap();
    let sizes = [("a", MIB + 4096 * dice.below(9) + 512), ("b", 300 * KIB + 700), ("c", 64 * KIB)];
    let mut world = World::with_spool(&sizes, dir.path()).await;
    world.replica.takes(if dice.below(2) == 0 { Form::Plain } else { Form::Sealed });
    for round in 0..14 {
        scribble(&world, &sizes, &mut dice);
        world.site.forget_changes(dice.below(8) == 0);
        let cut = format!("cut-{round}");
        let capture = world.site.take(&cut);
        for attempt in 0..3 {
            let fault = if attempt == 2 { Fault::None } else { some_fault(&mut dice) };
            world.replica.fault(fault);
            if dice.below(10) == 0 {
                drop(world.server);
                world.server = spooling(dir.path()).await;
            }
            let basis = if dice.below(6) == 0 { Basis::Compare } else { Basis::Delta };
            if ship(&world, &cut, &capture, basis, seen).await || dice.below(3) == 0 {
                break;
            }
        }
        if dice.below(4) == 0 {
            world.replica.fault(some_fault(&mut dice));
            tokio::select! {
                drained = world.drain("drain") => seen.drained += drained.map_or(0, |points| points.len() as u64),
                () = world.replica.hangs.notified() => seen.dropped += 1,
            }
        }
    }
    world.replica.fault(Fault::None);
    world.site.forget_changes(false);
    let last = world.drain("last").await.unwrap();
    seen.drained += last.len() as u64;
    assert_eq!(world.lag().await.spooled, []);
    let points = world.replica.points(&machine_id()).await.unwrap();
    assert!(points.is_sorted_by(|a, b| a.taken < b.taken), "in the order of the captures");
    world.assert_points_are_captures();
}

/// Ships until the capture is somewhere or does not get there; whether it did.
async fn ship(world: &World, cut: &str, capture: &Capture, basis: Basis, seen: &mut Seen) -> bool {
    let shipped = tokio::select! {
        shipped = world.ship(cut, capture, basis) => shipped,
        () = world.replica.hangs.notified() => {
            seen.dropped += 1;
            return false;
        }
    };
    match shipped {
        Ok(Shipped::Sealed { .. }) => seen.sealed += 1,
        Ok(Shipped::Spooled { .. }) => seen.spooled += 1,
        Ok(Shipped::NeedsCompare { .. }) => {
            seen.compared += 1;
            return Box::pin(ship(world, cut, capture, Basis::Compare, seen)).await;
        }
        Err(e) => {
            let expected = [ErrorKind::Unavailable, ErrorKind::Corrupt].contains(&e.kind());
            assert!(expected, "{e}");
            seen.broke += 1;
            return false;
        }
    }
    true
}

fn some_fault(dice: &mut Dice) -> Fault {
    match dice.below(9) {
        0 => Fault::Away,
        1 => Fault::AwayAfter(dice.below(3)),
        2 => Fault::ReplyLostAfter(1 + dice.below(2)),
        3 => Fault::AwayAtSeal { done: dice.below(2) == 0 },
        4 => Fault::HangAfter(dice.below(3)),
        5 => Fault::BitFlip,
        _ => Fault::None,
    }
}

fn scribble(world: &World, sizes: &[(&str, u64)], dice: &mut Dice) {
    for _ in 0..dice.below(6) {
        let (disk, size) = sizes[dice.below(sizes.len() as u64) as usize];
        let len = 1 + dice.below(150 * KIB).min(size - 1);
        let start = dice.below(size - len + 1);
        let bytes = if dice.below(3) == 0 { vec![0; len as usize] } else { dice.bytes(len) };
        world.site.write(disk, start, &bytes);
    }
}
