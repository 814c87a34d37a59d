use super::super::case::{must, must_be, op};
use super::super::content::differing;
use super::super::timeline::{Timeline, cursor, set_of};
use super::{ReplicaFixture, with_points};
use site_recovery::{ErrorKind, Head, Run, Seed};

/// REP-1: `Fresh` makes the head `Empty`; on a timeline that has points it is `Conflict`, and the points stay.
pub async fn rep_1_fresh_is_empty_and_conflicts_with_points<F: ReplicaFixture>() {
    let rule = "REP-1";
    let mut world = F::new().await;
    let (machine, settings) = (world.machine("web"), world.settings());
    let head = must(rule, "head of an unknown machine", world.replica().head(machine.id()).await);
    assert_eq!(head, Head::Empty, "{rule}: head of an unknown machine");
    let mut line = Timeline::open(rule, &world.replica(), machine.clone(), &settings, F::dress).await;
    world.reopen().await;
    let replica = world.replica();
    let known = must(rule, "machines", replica.machines().await);
    assert_eq!(known, [machine.id().clone()], "{rule}: machines that have a timeline");
    assert_eq!(
        must(rule, "head", replica.head(machine.id()).await),
        Head::Empty,
        "{rule}: head of a new one"
    );
    line.cut(rule, &replica, 1).await;
    let again = replica.prepare(&op("prepare-again"), &machine, &Seed::Fresh, &settings).await;
    must_be(rule, "Fresh on a timeline that has points", ErrorKind::Conflict, again);
    line.opens(rule, &replica, 0).await;
}

/// REP-2: `Known` keeps the seed's cursor, and tells what is given and the way from `at` to the working copy.
pub async fn rep_2_known_tells_the_distance<F: ReplicaFixture>() {
    let rule = "REP-2";
    let (mut world, line) = with_points::<F>(rule, 3).await;
    let disk = &line.machine.disks[0].id;
    let differs = set_of(disk, Run::new(4096, 8192));
    let seed =
        Seed::Known { at: Some(line.id(0)), landing: None, cursor: cursor(77), differs: differs.clone() };
    let op = op("prepare-known");
    must(rule, "prepare", world.replica().prepare(&op, &line.machine, &seed, &world.settings()).await);
    world.reopen().await;
    let way = differing(&line.machine, &line.sealed[0].1, &line.sealed[2].1);
    let found = line.unsettled(rule, &world.replica(), &differs.union(&way)).await;
    assert_eq!(found, Some(cursor(77)), "{rule}: the seed's cursor");
    line.opens(rule, &world.replica(), 0).await;
}

/// REP-2: `Unknown` leaves no cursor, and no point is lost by it.
pub async fn rep_2_unknown_leaves_no_cursor<F: ReplicaFixture>() {
    let rule = "REP-2";
    let (mut world, line) = with_points::<F>(rule, 1).await;
    let (op, seed) = (op("prepare-unknown"), Seed::Unknown { landing: None });
    must(rule, "prepare", world.replica().prepare(&op, &line.machine, &seed, &world.settings()).await);
    world.reopen().await;
    let found = line.unsettled(rule, &world.replica(), &Default::default()).await;
    assert_eq!(found, None, "{rule}: the distance is unknown, and a cursor is told");
    line.opens(rule, &world.replica(), 0).await;
}
