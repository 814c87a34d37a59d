//! The in-memory world keeps the contracts that tests rely on: a whole circle by hand, bytes compared at every step.

use site_recovery::{
    Append, Armed, Basis, BootPermit, Capture, ChangeSet, Consistency, Control, Cursor, Epoch, ErrorKind,
    Fate, Fenced, Generation, Head, Instance, Item, Journal, LandingSite, Leg, Machine, MachineId, Op, Point,
    PointId, Policy, Pool, Power, ProcessServer, Purpose, Recovery, RecoverySite, Replica, Result, Role, Run,
    Seed, Settings, Shipment, Shipped, Source, Start, StartGuard,
};
use site_recovery_testkit::journal::MemoryJournal;
use site_recovery_testkit::world::{BLOCK, Image, Pair, Site, World};
use std::time::Duration;

const KIB: u64 = 1024;

/// A pair with one enrolled machine, `web`, and the item that an engine would keep of it.
struct Circle {
    pair: Pair,
    item: Item,
    ops: u32,
}

impl Circle {
    async fn new(seed: u64) -> Self {
        println!("seed {seed}");
        let pair = World::new(seed).pair();
        let mut machine = pair.here.add_machine("web", &[("boot", 64 * KIB), ("data", 64 * KIB + 512)]);
        machine.instance.machine = "m-1".into();
        for disk in &mut machine.disks {
            disk.id = format!("m-1/{}", disk.id).as_str().into();
        }
        let epoch = Epoch { number: 1, owner: "engine".into() };
        let item = Item::new(machine, epoch, Policy::default(), "out", "back");
        let circle = Self { pair, item, ops: 0 };
        circle.pair.here.enrol(&circle.item.op("enrol"), &circle.item.machine).await.expect("enrols");
        circle
    }

    fn op(&mut self, what: &str) -> Op {
        self.ops += 1;
        self.item.op(format!("{what}-{}", self.ops))
    }

    fn id(&self) -> MachineId {
        self.item.id().clone()
    }

    /// The machine stands as this instance from now on.
    fn stands_as(&mut self, instance: &Instance) {
        if !self.item.instances.iter().any(|i| i.is(instance)) {
            self.item.instances.push(instance.clone());
        }
        self.item.machine.instance = instance.clone();
        self.item.lineage.live.push(instance.generation);
    }

    async fn capture(&self, leg: &Leg, op: &Op) -> Capture {
        let of = [self.item.active().clone()];
        leg.source.capture(op, &of, Consistency::Crash).await.expect("captures")
    }

    fn shipment(&self, capture: &Capture, basis: Basis) -> Shipment {
        let control = Control { unit: "web".into(), members: vec![self.id()], item: self.item.clone() };
        Shipment { capture: capture.clone(), machine: self.id(), basis, control }
    }

    async fn ship(&self, leg: &Leg, op: &Op, capture: &Capture, basis: Basis) -> Result<Shipped> {
        let what = self.shipment(capture, basis);
        leg.process_server.ship(op, &what, &leg.source, &leg.replica).await
    }

    /// One whole cycle; returns the point, and how many bytes were read as changed.
    async fn cycle(&mut self, leg: &Leg, basis: Basis) -> (Point, u64) {
        let op = self.op("cycle");
        let capture = self.capture(leg, &op).await;
        let shipped = self.ship(leg, &op, &capture, basis).await.expect("ships");
        let Shipped::Sealed { point, changed, .. } = shipped else { panic!("not sealed: {shipped:?}") };
        leg.source.release(&op, &capture, &self.id(), Fate::Sealed).await.expect("releases");
        (point, changed)
    }

    async fn permit(&mut self, may_run: Option<&Instance>) -> BootPermit {
        let op = self.op("prove");
        let sources = self.pair.sources();
        let fenced = Fenced::prove(&op, &self.item, may_run, &sources, Duration::ZERO).await;
        BootPermit::Fenced(fenced.expect("all others are off"))
    }

    async fn recovery(&self, leg: &Leg, point: PointId, generation: u64, purpose: Purpose) -> Recovery {
        let manifest = leg.replica.manifest(&self.id(), point).await.expect("was sealed");
        Recovery::of(manifest, point, Generation(generation), purpose, Settings::default())
    }

    /// Materialises a point at the other side of a leg and boots it in production.
    async fn fail_over(&mut self, leg: &Leg, point: PointId, generation: u64) -> Armed {
        let recovery = self.recovery(leg, point, generation, Purpose::Failover).await;
        let op = self.op("failover");
        let armed = leg.recovery_site.materialise(&op.part("make"), &recovery, &leg.replica).await;
        let armed = armed.expect("materialises");
        let permit = self.permit(Some(&armed.instance)).await;
        let booted =
            leg.recovery_site.boot(&op.part("boot"), &recovery, &armed, permit).await.expect("boots");
        assert!(booted.running);
        armed
    }
}

/// Reads a point whole, by the labels that the site's truth uses.
async fn image(replica: &dyn Replica, machine: &MachineId, point: PointId) -> Image {
    let pool = Pool::new(1 << 20);
    let mut image = Image::new();
    for (id, disk) in replica.open(machine, point).await.expect("opens") {
        let bytes = disk.read(Run::new(0, disk.size()), &pool).await.expect("reads");
        let label = id.as_str().rsplit('/').next().expect("has a label").to_owned();
        image.insert(label, bytes.to_vec());
    }
    image
}

#[tokio::test]
async fn the_circle_closes_with_equal_bytes() {
    let mut c = Circle::new(11).await;
    let (here, cloud) = (c.pair.here.clone(), c.pair.cloud.clone());
    let (out, back, id) = (c.pair.forward.clone(), c.pair.reverse.clone(), c.id());

    // Protect, two cycles: the second one moves only what was written.
    let op = c.op("prepare");
    let none = Settings::default();
    out.replica.prepare(&op, &c.item.machine, &Seed::Fresh, &none).await.expect("prepares");
    let (first, _) = c.cycle(&out, Basis::Delta).await;
    let at_first = here.bytes("web");
    here.write("web", "data", 64 * KIB, &[7; 512]);
    here.write("web", "boot", 4 * BLOCK + 9, b"grub");
    let (second, changed) = c.cycle(&out, Basis::Delta).await;
    assert_eq!(changed, BLOCK + 512);
    let at_second = here.bytes("web");
    assert_eq!(image(&c.pair.store, &id, first.id).await, at_first);
    assert_eq!(image(&c.pair.store, &id, second.id).await, at_second);

    // Failover to the older point.
    let armed = c.fail_over(&out, first.id, 1).await;
    assert_eq!((here.running(), cloud.running()), (vec![], vec!["web".to_owned()]));
    assert_eq!(cloud.bytes("web"), at_first);
    assert!(here.fenced("web").expect("is fenced").ran);
    c.stands_as(&armed.instance);
    cloud.write("web", "data", 0, &[1; 100]);
    cloud.scribble("web", 5);

    // Reprotect by delta onto the disks that are here.
    let landing = c.item.instances[0].clone();
    let differs = out.replica.changed(&id, Some(first.id), second.id).await.expect("known").expect("listed");
    let cursor = armed.cursor.clone().expect("the cloud tracks");
    let seed = Seed::Known { at: None, landing: Some(landing), cursor, differs };
    let op = c.op("reprepare");
    back.replica.prepare(&op, &c.item.machine, &seed, &none).await.expect("prepares");
    let (third, changed) = c.cycle(&back, Basis::Delta).await;
    assert!(changed <= 9 * BLOCK, "{changed} bytes is more than what differs");
    assert_eq!(here.bytes("web"), cloud.bytes("web"));
    let at_third = cloud.bytes("web");
    let zero = back.replica.points(&id).await.expect("lists").remove(0);
    assert_eq!((zero.id, zero.pins), (PointId(0), vec![site_recovery::role::POINT_ZERO.to_owned()]));
    assert_eq!(image(&c.pair.master_target, &id, PointId(0)).await, at_second);
    cloud.scribble("web", 9);
    let (fourth, _) = c.cycle(&back, Basis::Delta).await;
    let at_fourth = cloud.bytes("web");
    assert_eq!(image(&c.pair.master_target, &id, third.id).await, at_third);

    // Failback to the older reverse point: newer ones stay until it boots; then undo.
    let armed = c.fail_over(&back, third.id, 2).await;
    assert_eq!((here.running(), cloud.running()), (vec!["web".to_owned()], vec![]));
    assert_eq!(here.bytes("web"), at_third);
    let refused = back.replica.open(&id, fourth.id).await.expect_err("the machine runs on these disks");
    assert_eq!(refused.kind(), ErrorKind::Refused);
    here.write("web", "boot", 0, b"undone");
    let undone = here.bytes("web");
    let op = c.op("undo");
    let running = back.recovery_site.set_aside(&op, &armed.instance).await.expect_err("it runs");
    assert_eq!(running.kind(), ErrorKind::Refused);
    here.fence(&op.part("fence"), &armed.instance, Duration::ZERO).await.expect("fences");
    let kept = back.recovery_site.set_aside(&op, &armed.instance).await.expect("sets aside");
    assert_eq!(back.recovery_site.set_aside(&op, &armed.instance).await.expect("repeats"), kept);
    assert_eq!((here.bytes(&kept.name), here.bytes("web")), (undone, at_fourth.clone()));
    assert_eq!(image(&c.pair.master_target, &id, fourth.id).await, at_fourth);

    // The cloud machine goes on; the reverse leg goes on by delta.
    let active = c.item.active().clone();
    let permit = c.permit(Some(&active)).await;
    let op = c.op("unfence");
    let lifted = cloud.unfence(&op, &active, permit, Start::AsBefore).await.expect("lifts");
    assert!(lifted.running);
    cloud.scribble("web", 3);
    let (fifth, changed) = c.cycle(&back, Basis::Delta).await;
    assert!(changed <= 3 * BLOCK);

    // Failback, settle, and out again by delta onto the store.
    let at_fifth = cloud.bytes("web");
    let armed = c.fail_over(&back, fifth.id, 3).await;
    assert_eq!(here.bytes("web"), at_fifth);
    c.stands_as(&armed.instance);
    let op = c.op("settle");
    back.recovery_site.settle(&op, &armed).await.expect("settles");
    back.recovery_site.settle(&op, &armed).await.expect("repeats");
    assert_eq!(here.running(), ["web"]);
    assert_eq!(image(&c.pair.master_target, &id, PointId(0)).await, at_second);
    let differs = back.replica.changed(&id, None, fifth.id).await.expect("known").expect("listed");
    let cursor = armed.cursor.clone().expect("here tracks");
    let seed = Seed::Known { at: Some(second.id), landing: None, cursor, differs };
    let op = c.op("prepare-again");
    out.replica.prepare(&op, &c.item.machine, &seed, &none).await.expect("prepares");
    here.scribble("web", 4);
    let (sixth, changed) = c.cycle(&out, Basis::Delta).await;
    assert!(changed < 128 * KIB, "a full copy");
    assert_eq!(image(&c.pair.store, &id, sixth.id).await, here.bytes("web"));
    for site in [&here, &cloud] {
        for name in site.all() {
            assert!(site.starts(&name).values().all(|n| *n == 1), "{name} was started twice under one key");
        }
    }
}

#[tokio::test]
async fn o2_a_broken_line_resumes_and_another_op_takes_over_what_landed() {
    let mut c = Circle::new(12).await;
    let (out, back, id) = (c.pair.forward.clone(), c.pair.reverse.clone(), c.id());
    let none = Settings::default();
    let op = c.op("prepare");
    out.replica.prepare(&op, &c.item.machine, &Seed::Fresh, &none).await.expect("prepares");
    let op = c.op("broken");
    let capture = c.capture(&out, &op).await;
    c.pair.process_server.break_after(10);
    let broken = c.ship(&out, &op, &capture, Basis::Delta).await.expect_err("the line breaks");
    assert_eq!(broken.kind(), ErrorKind::Unavailable);
    let lag = c.pair.process_server.lag(&id).await.expect("tells").shipped;
    assert_eq!(lag, 10 * BLOCK);
    let shipped = c.ship(&out, &op, &capture, Basis::Delta).await.expect("resumes");
    let Shipped::Sealed { point, changed, .. } = shipped else { panic!("{shipped:?}") };
    assert!(changed <= 128 * KIB + 512 - 10 * BLOCK, "what had landed was sent again");
    assert_eq!(image(&c.pair.store, &id, point.id).await, c.pair.here.bytes("web"));
    let Shipped::Sealed { point: again, .. } =
        c.ship(&out, &op, &capture, Basis::Delta).await.expect("repeats")
    else {
        panic!("not sealed")
    };
    assert_eq!(again, point);

    // In place, a broken ingest leaves the sealed points whole, and the next one takes over.
    let armed = c.fail_over(&out, point.id, 1).await;
    c.stands_as(&armed.instance);
    let landing = Some(c.item.instances[0].clone());
    let op = c.op("reprepare");
    let seed = Seed::Unknown { landing };
    back.replica.prepare(&op, &c.item.machine, &seed, &none).await.expect("prepares");
    let (first, _) = c.cycle(&back, Basis::Compare).await;
    let at_first = c.pair.cloud.bytes("web");
    c.pair.cloud.scribble("web", 12);
    let op = c.op("broken");
    let capture = c.capture(&back, &op).await;
    c.pair.process_server.break_after(3);
    c.ship(&back, &op, &capture, Basis::Delta).await.expect_err("the line breaks");
    assert!(matches!(back.replica.head(&id).await.expect("answers"), Head::Unsettled { .. }));
    assert_eq!(image(&c.pair.master_target, &id, first.id).await, at_first);
    c.pair.cloud.scribble("web", 2);
    let (second, _) = c.cycle(&back, Basis::Delta).await;
    assert_eq!(image(&c.pair.master_target, &id, second.id).await, c.pair.cloud.bytes("web"));
    assert_eq!(image(&c.pair.master_target, &id, first.id).await, at_first);

    // A write of the broken session lands no more.
    let ingest =
        back.replica.begin(&op, &c.item.machine, &capture.cut, &ChangeSet::new()).await.expect("begins");
    let other = c.op("other");
    back.replica.begin(&other, &c.item.machine, &"other".into(), &ChangeSet::new()).await.expect("begins");
    let late = back.replica.write(&ingest, 0, vec![]).await.expect_err("the session has ended");
    assert_eq!(late.kind(), ErrorKind::Refused);
}

#[tokio::test]
async fn pruned_points_leave_the_others_whole_and_held_points_stay() {
    for in_place in [false, true] {
        let mut c = Circle::new(13).await;
        let (out, back, id) = (c.pair.forward.clone(), c.pair.reverse.clone(), c.id());
        let none = Settings::default();
        let op = c.op("prepare");
        out.replica.prepare(&op, &c.item.machine, &Seed::Fresh, &none).await.expect("prepares");
        let (first, _) = c.cycle(&out, Basis::Delta).await;
        let (leg, site, name) = if in_place {
            let armed = c.fail_over(&out, first.id, 1).await;
            c.stands_as(&armed.instance);
            let seed = Seed::Unknown { landing: None };
            let op = c.op("reprepare");
            back.replica.prepare(&op, &c.item.machine, &seed, &none).await.expect("prepares");
            (back, c.pair.cloud.clone(), armed.instance.name)
        } else {
            (out, c.pair.here.clone(), "web".to_owned())
        };
        let mut points = vec![];
        for _ in 0..6 {
            site.scribble(&name, 4);
            let (point, _) = c.cycle(&leg, Basis::Delta).await;
            points.push((point.id, site.bytes(&name)));
        }
        let op = c.op("hold");
        leg.replica.pin(&op, &id, points[1].0, "a").await.expect("pins");
        leg.replica.pin(&op, &id, points[1].0, "b").await.expect("pins");
        leg.replica.unpin(&op, &id, points[1].0, "a").await.expect("unpins");
        let open = leg.replica.open(&id, points[3].0).await.expect("opens");
        let all: Vec<PointId> = points.iter().map(|(id, _)| *id).collect();
        let dropped = leg.replica.prune(&op, &id, &all).await.expect("prunes");
        assert_eq!(dropped, [all[0], all[2], all[4]]);
        drop(open);
        for (point, bytes) in [&points[1], &points[3], &points[5]] {
            assert_eq!(&image(leg.replica.as_ref(), &id, *point).await, bytes, "in place: {in_place}");
        }
        let changed = leg.replica.changed(&id, Some(all[1]), all[2]).await.expect("known").expect("listed");
        assert!(!changed.is_empty(), "the distance to a dropped point is still told");
    }
}

#[tokio::test]
async fn a_spool_keeps_captures_while_the_store_is_away() {
    let mut c = Circle::new(14).await;
    let (out, id) = (c.pair.forward.clone(), c.id());
    let op = c.op("prepare");
    out.replica.prepare(&op, &c.item.machine, &Seed::Fresh, &Settings::default()).await.expect("prepares");
    c.cycle(&out, Basis::Delta).await;
    c.pair.process_server.spool(true);
    c.pair.store.set_down(true);
    let mut cuts = vec![];
    for _ in 0..2 {
        c.pair.here.scribble("web", 3);
        let op = c.op("cycle");
        let capture = c.capture(&out, &op).await;
        let shipped = c.ship(&out, &op, &capture, Basis::Delta).await.expect("spools");
        assert!(matches!(shipped, Shipped::Spooled { .. }));
        out.source.release(&op, &capture, &id, Fate::Spooled).await.expect("releases");
        cuts.push((capture.cut, c.pair.here.bytes("web")));
    }
    let spooled = out.process_server.lag(&id).await.expect("tells").spooled;
    assert_eq!(spooled, cuts.iter().map(|(cut, _)| cut.clone()).collect::<Vec<_>>());
    c.pair.store.set_down(false);
    let op = c.op("drain");
    let points = out.process_server.drain(&op, &id, &out.replica).await.expect("drains");
    for (point, (cut, bytes)) in points.iter().zip(&cuts) {
        assert_eq!((&point.cut, image(&c.pair.store, &id, point.id).await), (cut, bytes.clone()));
    }
    c.pair.here.scribble("web", 1);
    let (last, changed) = c.cycle(&out, Basis::Delta).await;
    assert!(changed <= BLOCK);
    assert_eq!(image(&c.pair.store, &id, last.id).await, c.pair.here.bytes("web"));
}

#[tokio::test]
async fn withdrawn_disks_stand_as_before_and_a_late_materialise_makes_nothing() {
    let mut c = Circle::new(15).await;
    let (out, back, id) = (c.pair.forward.clone(), c.pair.reverse.clone(), c.id());
    let none = Settings::default();
    let op = c.op("prepare");
    out.replica.prepare(&op, &c.item.machine, &Seed::Fresh, &none).await.expect("prepares");
    let (first, _) = c.cycle(&out, Basis::Delta).await;
    let recovery = c.recovery(&out, first.id, 1, Purpose::Failover).await;
    let (op, made) = (c.op("withdraw"), c.op("make"));
    out.recovery_site.materialise(&made, &recovery, &out.replica).await.expect("materialises");
    out.recovery_site.withdraw(&op, &made.key, &recovery).await.expect("withdraws");
    let late = out.recovery_site.materialise(&made, &recovery, &out.replica).await.expect_err("is late");
    assert_eq!((late.kind(), c.pair.cloud.all()), (ErrorKind::Refused, vec![]));

    let armed = c.fail_over(&out, first.id, 2).await;
    c.stands_as(&armed.instance);
    let seed = Seed::Unknown { landing: Some(c.item.instances[0].clone()) };
    let op = c.op("reprepare");
    back.replica.prepare(&op, &c.item.machine, &seed, &none).await.expect("prepares");
    let (older, _) = c.cycle(&back, Basis::Compare).await;
    c.pair.cloud.scribble("web", 6);
    let (newer, _) = c.cycle(&back, Basis::Delta).await;
    let before = c.pair.here.bytes("web");
    let recovery = c.recovery(&back, older.id, 3, Purpose::Failover).await;
    let (op, made) = (c.op("withdraw"), c.op("make"));
    back.recovery_site.materialise(&made, &recovery, &back.replica).await.expect("materialises");
    assert_ne!(c.pair.here.bytes("web"), before);
    assert_eq!(image(&c.pair.master_target, &id, newer.id).await, before);
    back.recovery_site.withdraw(&op, &made.key, &recovery).await.expect("withdraws");
    assert_eq!((c.pair.here.bytes("web"), c.pair.here.all()), (before, vec!["web".to_owned()]));
    let late = back.recovery_site.materialise(&made, &recovery, &back.replica).await.expect_err("is late");
    assert_eq!(late.kind(), ErrorKind::Refused);
    c.pair.cloud.scribble("web", 2);
    let (last, changed) = c.cycle(&back, Basis::Delta).await;
    assert!(changed <= 2 * BLOCK);
    assert_eq!(image(&c.pair.master_target, &id, last.id).await, c.pair.cloud.bytes("web"));
}

#[tokio::test]
async fn s2_fences_are_read_back_and_outsiders_show() {
    let mut c = Circle::new(16).await;
    let here = c.pair.here.clone();
    let instance = c.item.active().clone();
    let op = c.op("fence");
    here.fence(&op, &instance, Duration::ZERO).await.expect("fences");
    let blocked = Power::Off { start: StartGuard::Blocked { until: None } };
    assert_eq!(here.power(&instance).await.expect("answers"), blocked);
    assert!(!here.start_outside("web"), "a block keeps outsiders off");
    here.tells(true);
    let before = here.power(&instance).await.expect("answers");
    assert!(matches!(before, Power::Off { start: StartGuard::Tells(_) }));
    assert!(here.start_outside("web"));
    assert_eq!(here.power(&instance).await.expect("answers"), Power::On);
    let again = c.op("fence");
    here.fence(&again, &instance, Duration::ZERO).await.expect("fences");
    assert_ne!(here.power(&instance).await.expect("answers"), before, "the start shows for ever");
    assert_eq!(here.fenced("web").expect("is fenced").by, op, "the first mark stands");

    let other = Instance { name: "other".into(), ..instance.clone() };
    let wrong = c.permit(Some(&other)).await;
    let op = c.op("unfence");
    let refused = here.unfence(&op, &instance, wrong, Start::AsBefore).await.expect_err("not its permit");
    assert_eq!(refused.kind(), ErrorKind::Refused);
    let permit = c.permit(Some(&instance)).await;
    assert!(here.unfence(&op, &instance, permit, Start::AsBefore).await.expect("lifts").running);
    here.stop_outside("web");
    let permit = c.permit(Some(&instance)).await;
    let lifted = here.unfence(&op, &instance, permit, Start::AsBefore).await.expect("repeats");
    assert!(!lifted.running, "a repeat reports what is, and starts nothing again");

    here.set_down(true);
    assert_eq!(here.power(&instance).await.expect_err("is down").kind(), ErrorKind::Unavailable);
    here.set_down(false);
    here.destroy_outside("web");
    assert_eq!(here.power(&instance).await.expect_err("is gone").kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn d4_a_doubtful_cursor_is_lost() {
    let mut c = Circle::new(17).await;
    let (here, id) = (c.pair.here.clone(), c.id());
    let out = c.pair.forward.clone();
    let op = c.op("one");
    let one = c.capture(&out, &op).await;
    let since = one.members[0].cursor.clone().expect("tracks");
    here.write("web", "data", 3 * BLOCK + 1, b"x");
    let op = c.op("two");
    let two = c.capture(&out, &op).await;
    let lost = |cursor: Cursor| {
        let (here, two, id) = (here.clone(), two.clone(), id.clone());
        async move {
            let changes = here.changes(&two, &id, &cursor).await.expect("answers");
            matches!(changes, site_recovery::Changes::Lost { .. })
        }
    };
    assert!(!lost(since.clone()).await);
    assert!(lost(Cursor { generation: Generation(9), ..since.clone() }).await);
    here.grow("web", "data", 80 * KIB);
    assert!(lost(since).await);
    let newest = c.op("three");
    let cursor = c.capture(&out, &newest).await.members[0].cursor.clone().expect("tracks");
    assert!(!lost(cursor.clone()).await);
    here.forget_tracking();
    assert!(lost(cursor).await);
}

#[tokio::test]
async fn s1_a_stale_epoch_changes_nothing_anywhere() {
    let mut c = Circle::new(18).await;
    let (pair, id) = (c.pair.clone(), c.id());
    let stale = c.op("stale");
    c.item.epoch = c.item.epoch.raised(&"other".into());
    let claim = c.op("claim");
    let roles: [&dyn Role; 4] = [&pair.here, &pair.store, &pair.master_target, &pair.process_server];
    for role in roles {
        role.claim(&claim, &id).await.expect("claims");
        let refused = role.claim(&stale, &id).await.expect_err("is stale");
        assert_eq!((refused.kind(), refused.role().cloned()), (ErrorKind::StaleEpoch, Some(role.name())));
    }
    let instance = c.item.active().clone();
    let refused = pair.here.fence(&stale, &instance, Duration::ZERO).await.expect_err("is stale");
    assert_eq!((refused.kind(), pair.here.running()), (ErrorKind::StaleEpoch, vec!["web".to_owned()]));
}

#[tokio::test]
async fn landing_handles_end_and_foreign_machines_stay() {
    let mut c = Circle::new(19).await;
    let here: Site = c.pair.here.clone();
    let (machine, none): (Machine, _) = (c.item.machine.clone(), Settings::default());
    let instance = machine.instance.clone();
    let op = c.op("attach");
    let runs = here.attach(&op, &machine, Some(instance.clone()), &none).await.expect_err("it runs");
    assert_eq!(runs.kind(), ErrorKind::Refused);
    here.stop_outside("web");
    let landing = here.attach(&op, &machine, Some(instance.clone()), &none).await.expect("attaches");
    let disk = here.disk(&landing, &machine.disks[1].id).await.expect("hands out");
    disk.write(BLOCK, vec![9; 512].into()).await.expect("writes");
    assert_eq!(here.bytes("web")["data"][BLOCK as usize], 9);
    assert!(disk.write(64 * KIB, vec![9; 513].into()).await.is_err(), "past the end");
    here.detach(&op, &landing).await.expect("detaches");
    assert_eq!(disk.write(0, vec![1].into()).await.expect_err("has ended").kind(), ErrorKind::Refused);
    assert_eq!(
        LandingSite::remove(&here, &op, &landing).await.expect_err("not ours").kind(),
        ErrorKind::Refused
    );
    assert_eq!(here.destroy(&op, &landing).await.expect_err("not ours").kind(), ErrorKind::Refused);
    assert_eq!(here.all(), ["web"]);
}

#[tokio::test]
async fn jrn_the_memory_journal_is_atomic_and_tells_damage() {
    let journal = MemoryJournal::new();
    let append = |subject: &str, expect, entry: &str| Append {
        subject: subject.to_owned(),
        expect,
        entry: entry.as_bytes().to_vec(),
    };
    journal.append(&[append("a", 0, "one"), append("b", 0, "uno")]).await.expect("appends");
    let other = journal.reopen().expect("opens");
    other.append(&[append("a", 1, "two")]).await.expect("appends");
    let late = [append("b", 1, "due"), append("a", 1, "another")];
    assert_eq!(journal.append(&late).await.expect_err("stale").kind(), ErrorKind::StaleEpoch);
    assert_eq!(journal.load("b").await.expect("loads"), (1, vec![b"uno".to_vec()]));
    journal.fold("a", 2, b"both".to_vec()).await.expect("folds");
    journal.append(&[append("a", 2, "three")]).await.expect("appends");
    assert_eq!(journal.load("a").await.expect("loads"), (3, vec![b"both".to_vec(), b"three".to_vec()]));
    assert_eq!(journal.load("unknown").await.expect("loads"), (0, vec![]));
    journal.damage("a", 1, |bytes| bytes.truncate(2));
    let corrupt = journal.load("a").await.expect_err("damaged");
    assert_eq!((corrupt.kind(), corrupt.fact("entry")), (ErrorKind::Corrupt, Some("2")));
    journal.set_version(2);
    assert_eq!(journal.reopen().expect_err("newer").kind(), ErrorKind::Unsupported);
}

#[tokio::test]
async fn rep_2_a_timeline_goes_on_from_an_older_point_by_delta() {
    let mut c = Circle::new(20).await;
    let (out, id, none) = (c.pair.forward.clone(), c.id(), Settings::default());
    let op = c.op("prepare");
    out.replica.prepare(&op, &c.item.machine, &Seed::Fresh, &none).await.expect("prepares");
    let (first, _) = c.cycle(&out, Basis::Delta).await;
    c.pair.here.scribble("web", 6);
    c.cycle(&out, Basis::Delta).await;
    let armed = c.fail_over(&out, first.id, 1).await;
    c.stands_as(&armed.instance);
    c.pair.cloud.scribble("web", 2);

    // The cloud machine is the older point and two blocks; the store's working copy is the newer point.
    let again = Leg { source: c.pair.reverse.source.clone(), ..out.clone() };
    let cursor = armed.cursor.expect("the cloud tracks");
    let seed = Seed::Known { at: Some(first.id), landing: None, cursor, differs: ChangeSet::new() };
    let op = c.op("prepare");
    again.replica.prepare(&op, &c.item.machine, &seed, &none).await.expect("prepares");
    let (third, changed) = c.cycle(&again, Basis::Delta).await;
    assert!(changed <= 8 * BLOCK);
    assert_eq!(image(&c.pair.store, &id, third.id).await, c.pair.cloud.bytes("web"));
}
