use super::super::case::{must, must_be, must_fail, op, skip};
use super::{Enrolled, SourceFixture, described, discovered, enrol};
use site_recovery::{Consistency, DiskId, ErrorKind, Machine};

/// SRC-1: a machine that cannot be described is an error that names it; what is told is valid.
pub async fn src_01_nothing_is_left_out_in_silence<F: SourceFixture>() {
    let rule = "SRC-1";
    let world = F::new().await;
    for name in world.machines() {
        must(rule, "validate what is told", discovered(rule, &world, &name).await.validate());
    }
    let [_, name] = world.machines();
    if !world.spoil(&name).await {
        return skip(rule, &world.source().name(), "the fixture cannot spoil a machine");
    }
    let error = must_fail(rule, "discover with a machine past description", world.source().discover().await);
    assert!(error.to_string().contains(&name), "{rule}: the error does not name {name}: {error}");
}

/// SRC-2: an enrolled machine is told with the ids of its mark, also by an adapter that starts anew.
pub async fn src_02_an_enrolled_machine_is_told_with_its_ids<F: SourceFixture>() {
    let rule = "SRC-2";
    let Enrolled { mut world, machine, .. } = Enrolled::<F>::new(rule).await;
    for time in ["at once", "after a restart"] {
        let told = discovered(rule, &world, &machine.instance.name).await;
        assert_eq!(told.id(), machine.id(), "{rule}: the machine's id, {time}");
        let ids = |disks: &[site_recovery::DiskSpec]| -> Vec<(DiskId, u64)> {
            disks.iter().map(|d| (d.id.clone(), d.size)).collect()
        };
        assert_eq!(ids(&told.disks), ids(&machine.disks), "{rule}: ids of the disks, {time}");
        world.reopen().await;
    }
}

/// SRC-2: a mark is told as long as it stands: another machine's id cannot be written over it.
pub async fn src_02_a_mark_is_not_written_over<F: SourceFixture>() {
    let rule = "SRC-2";
    let world = F::new().await;
    let machine = enrol(rule, &world, 0).await;
    let mut other = described(rule, &world, 0).await;
    other.instance.machine = "suite-another".into();
    let enrolled = world.source().enrol(&op("enrol-another"), &other).await;
    must_be(rule, "enrol over another machine's mark", ErrorKind::Conflict, enrolled);
    let told = must(rule, "discover", world.source().discover().await);
    let ids: Vec<_> = told.iter().map(|m| m.id().clone()).collect();
    assert!(ids.contains(machine.id()), "{rule}: {} is no longer told: {ids:?}", machine.id());
}

/// SRC-2: a disk that `enrol` was told to leave out is told so, also by an adapter that starts anew, and not captured.
pub async fn src_02_captures_hold_the_included_disks_alone<F: SourceFixture>() {
    let rule = "SRC-2";
    let mut world = F::new().await;
    let mut machine = described(rule, &world, 0).await;
    let last = machine.disks.len() - 1;
    machine.disks[last].included = false;
    must(rule, "enrol without one disk", world.source().enrol(&op("enrol"), &machine).await);
    world.reopen().await;
    let told = discovered(rule, &world, &machine.instance.name).await;
    let included = |machine: &Machine| -> Vec<DiskId> { machine.included().map(|d| d.id.clone()).collect() };
    assert_eq!(included(&told), included(&machine), "{rule}: the disks that are told as included");
    let of = [machine.instance.clone()];
    let capture = world.source().capture(&op("capture"), &of, Consistency::Crash).await;
    let capture = must(rule, "capture", capture);
    let member = capture.member(machine.id()).expect("the member is in the capture");
    assert_eq!(included(&member.machine), included(&machine), "{rule}: the included disks of the capture");
    let disks = must(rule, "disks", world.source().disks(&op("read"), &capture, machine.id()).await);
    let captured: Vec<DiskId> = disks.into_keys().collect();
    let mut expected = included(&machine);
    expected.sort();
    assert_eq!(captured, expected, "{rule}: the disks of the capture");
}
