//! One example of everything that is kept or travels, every field filled.

use serde::de::DeserializeOwned;
use site_recovery::audit::AuditRecord;
use site_recovery::state::{
    Direction, Divergence, DrillState, Kind, Location as Side, Operation, Phase, Resync, State, Trigger,
};
use site_recovery::*;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::time::Duration;

const NOW: Timestamp = Timestamp(1_795_478_400_000);

/// A unit in the middle of a failover, and one that nothing has happened to yet.
pub(crate) fn units() -> Vec<Unit> {
    let mut unit = Unit::new("web-00c0ffee".into(), false, vec![item()]);
    unit.run = Some(run());
    unit.finished = vec![JobRun { ended: Some(NOW), why: None, tasks: vec![], ..run() }].into();
    unit.runs = 2;
    unit.trail = (trail().len() as u64, trail().last().expect("not empty").hash.clone());
    let fresh = Item::new(machine(), epoch(1), Policy::default(), "out", "back");
    let boot_proofs = BTreeMap::from([(PointId(12), good_proof()), (PointId(13), bad_proof())]);
    let mut proves = Unit::new("db-00c0ffee".into(), false, vec![Item { boot_proofs, ..item() }]);
    let progress = Progress { boot_asked: Some(NOW), proof: Some(good_proof()), ..Progress::default() };
    let members = BTreeMap::from([(id(), Box::new(progress))]);
    proves.run = Some(JobRun { operation: Operation::VerifyBoot, request: Request::Plain, members, ..run() });
    let mut holds = Unit::new("app-00c0ffee".into(), false, vec![item()]);
    let request =
        FailoverRequest { hold_boot: true, ..FailoverRequest::planned(Direction::PrimaryToRecovery) };
    let first = run().tasks.remove(0);
    let tasks = vec![Task { step: Step::HoldBoot, mark: Mark::Started, ended: None, ..first }];
    holds.run = Some(JobRun { request: Request::Failover(request), why: None, tasks, ..run() });
    let mut lands = Unit::new("mail-00c0ffee".into(), false, vec![item()]);
    let landing = Settings { datastore: Some("LocalDS_0".into()), ..Settings::default() };
    let progress = Progress { landing: Some(landing), ..Progress::default() };
    let (operation, request) = (Operation::ReverseReplicate, Request::Reprotect(ReprotectRequest::default()));
    let members = BTreeMap::from([(id(), Box::new(progress))]);
    lands.run = Some(JobRun { operation, request, members, ..run() });
    vec![unit, Unit::new("shop".into(), true, vec![fresh]), proves, holds, lands]
}

pub(crate) fn trail() -> Vec<AuditRecord> {
    let mut trail: Vec<AuditRecord> = vec![];
    for event in events() {
        let record = AuditRecord {
            number: trail.len() as u64,
            at: NOW,
            who: "ana".into(),
            why: "UnplannedFailover: the site is on fire (ana)".into(),
            machine: id(),
            event,
            input: audit::sha256_hex(b"request"),
            epoch: epoch(4),
            previous: trail.last().map_or_else(String::new, |r| r.hash.clone()),
            hash: String::new(),
        };
        trail.push(record.sealed());
    }
    trail
}

pub(crate) fn manifest() -> Manifest {
    Manifest {
        machine: machine(),
        members: vec![id()],
        cut: "web-00c0ffee/cycle-1".into(),
        taken: NOW,
        consistency: Consistency::Application,
        cursor: Some(cursor()),
        sidecars: vec![sidecar()],
        control: control(),
    }
}

pub(crate) fn phase_records() -> Vec<PhaseRecord> {
    let run = Some(("run-2".into(), "Boot".into()));
    vec![
        PhaseRecord { written: NOW, run, prepared: Some(prepared()), control: control() },
        PhaseRecord { written: NOW, run: None, prepared: None, control: control() },
    ]
}

pub(crate) fn events() -> Vec<Event> {
    let [withdraw, fence, remove] = owed();
    let planned = Trigger::Begin(Operation::PlannedFailover);
    vec![
        Event::Moved(Trigger::Promoted(Side::Recovery)),
        Event::Began { trigger: planned, epoch: epoch(4) },
        Event::Claimed(epoch(5)),
        Event::Minted(Generation(3)),
        Event::Described(machine()),
        Event::Intended { trigger: Trigger::Intended, promotion: promotion(), unproven: vec![here()] },
        Event::Booted(booted()),
        Event::Judged(Verdict::Good),
        Event::Judged(Verdict::Bad { reason: "no web page".into() }),
        Event::SetAside { was: there(), kept: kept(), stands: false },
        Event::Opened { traced: true },
        Event::Seen(there()),
        Event::Removed(kept()),
        Event::SourceIntended { unproven: vec![there()] },
        Event::Proven(here()),
        Event::DrillBegan(drill()),
        Event::DrillMoved { armed: armed(), booted: Some(booted()) },
        Event::DrillGone,
        Event::Owes(withdraw),
        Event::Owes(fence),
        Event::Paid(remove),
        Event::Set { site: "cloud".into(), settings: full_settings() },
        Event::PolicySet(policy()),
        Event::Routed { out: "out-2".into(), back: "back-2".into() },
        Event::DrillBegan(Drill { proof: true, ..drill() }),
        Event::BootTried { point: PointId(12), proof: good_proof() },
        Event::BootTried { point: PointId(13), proof: bad_proof() },
        Event::BootForgotten(vec![PointId(11)]),
    ]
}

pub(crate) fn requests() -> Vec<Request> {
    let (out, back) = (Direction::PrimaryToRecovery, Direction::RecoveryToPrimary);
    let skip = Cutover::Unplanned { shutdown: Shutdown::Skip, on_unfenced: OnUnfenced::Unwind };
    let unplanned = FailoverRequest::unplanned(back, force());
    vec![
        Request::Plain,
        Request::Failover(FailoverRequest::planned(out)),
        Request::Failover(unplanned.clone().to(PointChoice::Custom(PointId(7)))),
        Request::Failover(FailoverRequest { cutover: skip, accept_unverified: true, ..unplanned }),
        Request::Change(PointChoice::LatestAppConsistent),
        Request::Drill(DrillRequest { network: Some("isolated".into()), ..DrillRequest::default() }),
        Request::Undo(UndoRequest { force: Some(force()), recovered_side_loses: true }),
        Request::Commit(CommitRequest {
            require_good: true,
            purge_now: true,
            force: Some(force()),
            other_side_loses: true,
        }),
        Request::Reprotect(ReprotectRequest {
            settings: Some(full_settings()),
            legs: Some(("out".into(), "back".into())),
            other_side_loses: true,
            compare: true,
            consolidate: true,
        }),
        Request::Disable(DisableRequest { delete_points: true, unblock: BTreeSet::from(["web".into()]) }),
        Request::Promote(PromoteRequest { force: force(), copy: CompleteCopy::Point(PointId(7)) }),
        Request::Forced(Some(force())),
        Request::Forced(None),
        Request::Change(PointChoice::LatestProven),
        Request::Failover(FailoverRequest { hold_boot: true, ..FailoverRequest::planned(out) }),
        Request::Drill(DrillRequest { hold_boot: true, ..DrillRequest::default() }),
    ]
}

pub(crate) fn settings() -> Vec<Settings> {
    let alternate = Settings {
        placement: Placement::AvailabilitySet("front".into()),
        location: Location::Alternate,
        ..Settings::default()
    };
    vec![Settings::default(), full_settings(), alternate]
}

pub(crate) fn policy() -> Policy {
    Policy {
        interval: Duration::from_secs(300),
        application_consistent: None,
        rpo_threshold: Duration::from_secs(900),
        retention: Retention::KeepAll { span: Duration::from_secs(7_200) },
        alarm: Some(AlarmRule::default()),
        verify_every: None,
    }
}

pub(crate) fn evidence() -> Vec<Evidence> {
    let guards = [
        StartGuard::Blocked { until: None },
        StartGuard::Blocked { until: Some(NOW) },
        StartGuard::Tells(Stamp(vec![1, 2, 255])),
        StartGuard::Free,
    ];
    let observed = guards.map(|guard| Observed { instance: here(), guard });
    let proof = |force| Evidence::Proof {
        op: "web-00c0ffee/run-2/Intend-0".into(),
        machine: id(),
        epoch: epoch(4),
        may_run: Some(there()),
        observed: observed.to_vec(),
        force,
        when: NOW,
        observer: "engine-a".into(),
    };
    vec![
        Evidence::Isolated { network: "isolated".into() },
        proof(None),
        proof(Some((vec![here()], "ana".into(), "the site is on fire".into()))),
    ]
}

/// The names of the variants of every enum inside all of these.
pub(crate) fn enums() -> Vec<(&'static str, Vec<String>)> {
    macro_rules! names {
        ($($enum:ty,)*) => { vec![$((stringify!($enum), variants::<$enum>()),)*] };
    }
    names![
        Event,
        Request,
        Trigger,
        Operation,
        Phase,
        Kind,
        Side,
        Direction,
        DrillState,
        Resync,
        Divergence,
        Step,
        Mark,
        Course,
        ErrorKind,
        Owed,
        Verdict,
        LossBasis,
        Consistency,
        Purpose,
        PointChoice,
        Cutover,
        Shutdown,
        OnUnfenced,
        StartGuard,
        Power,
        Evidence,
        Retention,
        Placement,
        Location,
        DiskRole,
        Firmware,
        OsFamily,
        Platform,
        Head,
        Seed,
        Changes,
        Fate,
        Fill,
        Form,
        Severity,
    ]
}

/// All names that serde knows of an enum, in order: it lists them when it meets an unknown one.
pub(crate) fn variants<T: DeserializeOwned + Debug>() -> Vec<String> {
    let error = serde_json::from_str::<T>(r#""?""#).expect_err("no variant has this name").to_string();
    let (_, expected) = error.split_once("expected").expect("serde lists what it knows");
    expected.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn run() -> JobRun {
    let task = |step, mark: Mark| Task {
        step,
        round: 1,
        started: NOW,
        ended: (mark != Mark::Started).then(|| NOW.after(Duration::from_millis(1500))),
        mark,
    };
    let why =
        Failure { kind: ErrorKind::Unavailable, temporary: true, message: "cloud does not answer".into() };
    let progress = Progress {
        ran: Some(true),
        observed: vec![observed()],
        fenced_at: Some(NOW),
        unproven: vec![kept()],
        shipped_last: true,
        point: Some(PointId(12)),
        recovery: Some(recovery()),
        made_by: Some("web-00c0ffee/run-2/Materialise-1".into()),
        armed: Some(armed()),
        booted: Some(booted()),
        verdict: Some(Verdict::Good),
        loss: Some(loss()),
        boot_asked: None,
        proof: None,
        landing: None,
        broken_off: false,
        known: true,
        ahead: false,
        shipped: 4096,
        changed: 8192,
        notes: vec!["not proven off: web".into()],
    };
    JobRun {
        id: "run-2".into(),
        operation: Operation::PlannedFailover,
        request: Request::Failover(FailoverRequest::planned(Direction::PrimaryToRecovery)),
        who: "ana".into(),
        started: NOW,
        ended: None,
        course: Course::Forward,
        why: Some(why.clone()),
        round: 1,
        tasks: vec![
            task(Step::Claim, Mark::Done),
            task(Step::Fence, Mark::Done),
            task(Step::ShipLast, Mark::Failed { why }),
            task(Step::Choose, Mark::Undone),
            task(Step::Materialise, Mark::Started),
        ],
        members: BTreeMap::from([(id(), Box::new(progress))]),
    }
}

fn control() -> Control {
    Control { unit: "web-00c0ffee".into(), members: vec![id()], item: item() }
}

fn item() -> Item {
    Item {
        revision: 41,
        state: State {
            phase: Phase::FailoverInitiated(Kind::Planned),
            direction: Direction::PrimaryToRecovery,
            drill: DrillState::WaitingForCompletion,
            resync: Resync::None,
            divergence: Divergence::OldSideAhead,
        },
        epoch: epoch(4),
        lineage: Lineage {
            live: vec![Generation(0), Generation(2)],
            dead: vec![Generation(1), Generation(3)],
        },
        machine: machine(),
        instances: vec![here(), there()],
        unproven: vec![there()],
        promotion: Some(Box::new(promotion())),
        kept: vec![kept()],
        drill: Some(Box::new(drill())),
        traced: false,
        excluded: BTreeSet::from(["swap".into()]),
        written_outside: true,
        owed: owed().to_vec(),
        boot_proofs: BTreeMap::new(),
        settings: BTreeMap::from([("cloud".into(), full_settings())]),
        policy: policy(),
        out: "out".into(),
        back: "back".into(),
    }
}

fn owed() -> [Owed; 3] {
    let site = || RoleName::from("cloud");
    [
        Owed::Withdraw {
            site: site(),
            made_by: "web-00c0ffee/run-1/Materialise-0".into(),
            recovery: recovery(),
        },
        Owed::Fence(there()),
        Owed::Remove { site: site(), instance: there(), seen: vec![observed()] },
    ]
}

fn promotion() -> Promotion {
    Promotion {
        armed: armed(),
        recovery: Some(recovery()),
        made_by: "web-00c0ffee/run-2/Materialise-1".into(),
        previous: here(),
        booted: Some(booted()),
        verdict: Some(Verdict::Good),
        loss: Some(loss()),
        observed: vec![observed()],
        committed: false,
    }
}

fn prepared() -> Prepared {
    Prepared { made_by: "web-00c0ffee/run-2/Materialise-0".into(), recovery: recovery() }
}

fn observed() -> Observed {
    Observed { instance: here(), guard: StartGuard::Blocked { until: None } }
}

fn drill() -> Drill {
    Drill {
        recovery: Recovery { purpose: Purpose::Drill, ..recovery() },
        made_by: "web-00c0ffee/run-1/DrillPrepare-0".into(),
        armed: Some(armed()),
        booted: Some(booted()),
        network: "isolated".into(),
        expires: NOW.after(Duration::from_secs(86_400)),
        proof: false,
    }
}

fn good_proof() -> BootProof {
    BootProof {
        taken: NOW,
        at: NOW.after(Duration::from_secs(60)),
        boot: Some(Duration::from_millis(41_500)),
        verdict: Verdict::Good,
        loss: loss(),
        lost_records: Some(37),
        notes: vec!["the agent answers".into()],
    }
}

fn bad_proof() -> BootProof {
    let verdict = Verdict::Bad { reason: "no answer within 600s".into() };
    BootProof { boot: None, verdict, lost_records: None, notes: vec![], ..good_proof() }
}

fn recovery() -> Recovery {
    Recovery {
        machine: machine(),
        sidecars: vec![sidecar()],
        point: PointId(12),
        taken: NOW,
        consistency: Consistency::Crash,
        generation: Generation(2),
        purpose: Purpose::Failover,
        settings: full_settings(),
    }
}

fn full_settings() -> Settings {
    let nic = NicSettings {
        excluded: false,
        primary: true,
        subnet: Some("front".into()),
        address: Some("10.0.0.4".parse().expect("an address")),
        test_subnet: Some("test".into()),
        test_address: Some("fd00::4".parse().expect("an address")),
    };
    let text = |text: &str| Some(text.to_owned());
    Settings {
        name: text("web-dr"),
        group: text("dr"),
        size: text("D2s_v5"),
        placement: Placement::Zone("1".into()),
        network: text("production"),
        test_network: text("isolated"),
        nics: BTreeMap::from([("nic-0".into(), nic)]),
        disks: BTreeMap::from([(
            "disk-0".into(),
            DiskSettings { name: text("os"), kind: text("Premium_LRS") },
        )]),
        datastore: text("fast"),
        retention_volume: text("log"),
        location: Location::Original,
        tags: BTreeMap::from([("cost".into(), "dr".into())]),
        licence: text("own"),
        site: BTreeMap::from([("boot_diagnostics".into(), "on".into())]),
    }
}

/// One that people call by its name, and one that they do not.
pub(crate) fn machines() -> Vec<Machine> {
    vec![machine(), Machine { title: Some("운영/웹 \"1\"".into()), ..machine() }]
}

fn machine() -> Machine {
    let disk = |id: &str, role, included| DiskSpec { id: id.into(), size: 1 << 30, role, included };
    Machine {
        instance: here(),
        title: None,
        disks: vec![disk("disk-0", DiskRole::System, true), disk("disk-1", DiskRole::Data, false)],
        nics: vec![Nic {
            id: "nic-0".into(),
            mac: Some("52:54:00:12:34:56".into()),
            network: Some("production".into()),
            addresses: vec!["192.0.2.7".into()],
        }],
        cpus: 2,
        memory: 4 << 30,
        firmware: Firmware::Uefi { secure_boot: true },
        os: OsFamily::Linux,
        platform: Platform::Physical,
        guest: GuestFacts {
            os_name: Some("Debian 13".into()),
            boot_drivers: Some(vec!["storvsc".into()]),
            dhcp: Some(true),
            agent: Some("1.2".into()),
            snapshots: Some(0),
        },
    }
}

fn here() -> Instance {
    Instance { machine: id(), site: "here".into(), name: "web".into(), generation: Generation(0) }
}

fn there() -> Instance {
    Instance { site: "cloud".into(), name: "web-dr".into(), generation: Generation(2), ..here() }
}

fn kept() -> Instance {
    Instance { name: "web-dr-before-undo".into(), ..there() }
}

fn armed() -> Armed {
    Armed { instance: there(), cursor: Some(cursor()), point: PointId(12) }
}

fn booted() -> Booted {
    Booted { reach: vec!["198.51.100.4".into()], running: true }
}

fn cursor() -> Cursor {
    Cursor { generation: Generation(2), token: vec![0, 1, 255] }
}

fn sidecar() -> Sidecar {
    Sidecar { name: "uefi-vars".into(), bytes: vec![7, 8] }
}

fn loss() -> DataLoss {
    DataLoss {
        at_most: Duration::from_millis(1_500),
        from: NOW,
        to: NOW.after(Duration::from_millis(1_500)),
        basis: LossBasis::AgeOfPoint,
    }
}

fn force() -> Force {
    Force::by("ana", "the site is on fire")
}

fn epoch(number: u64) -> Epoch {
    Epoch { number, owner: "engine-a".into() }
}

fn id() -> MachineId {
    "web-00c0ffee".into()
}
