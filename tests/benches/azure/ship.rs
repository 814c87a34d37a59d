//! A capture of a machine into page blobs, as a process server ships it.

use crate::Outcome;
use crate::account::{Account, unpaced};
use crate::noise::Noise;
use site_recovery::mock::MockSource;
use site_recovery::*;
use site_recovery_azure::PageBlobs;
use site_recovery_azure_blob::{Container, Limits};
use site_recovery_process_server::ProcessServer as Shipper;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) const CONTAINER: &str = "points";
/// What is compared at a time.
const PIECE: u64 = 4 << 20;

pub(crate) fn op(key: &str) -> Op {
    Op { key: key.into(), epoch: Epoch { number: 1, owner: "bench".into() } }
}

/// A machine with these disks.
pub(crate) fn machine(disks: &BTreeMap<DiskId, Arc<Noise>>) -> Machine {
    let instance = Instance {
        machine: "web".into(),
        site: "here".into(),
        name: "web".into(),
        generation: Generation(0),
    };
    let disks = disks.iter().enumerate().map(|(number, (id, disk))| DiskSpec {
        id: id.clone(),
        size: disk.size(),
        role: if number == 0 { DiskRole::System } else { DiskRole::Data },
        included: true,
    });
    Machine {
        instance,
        title: None,
        disks: disks.collect(),
        nics: vec![],
        cpus: 2,
        memory: 1 << 30,
        firmware: Firmware::Uefi { secure_boot: false },
        os: OsFamily::Linux,
        platform: Platform::Virtual,
        guest: GuestFacts::default(),
    }
}

pub(crate) async fn store(container: Container) -> Result<PageBlobs> {
    PageBlobs::open("page-blobs".into(), container, Arc::new(SystemClock)).await
}

/// Ships one capture. What differs from the one before is what the disks have anew.
pub(crate) async fn ship(disks: &BTreeMap<DiskId, Arc<Noise>>, cut: &str, points: &PageBlobs) -> Outcome<()> {
    let machine = machine(disks);
    let replica: Arc<dyn Replica> = Arc::new(points.clone());
    if replica.head(machine.id()).await? == Head::Empty {
        replica.prepare(&op("prepare"), &machine, &Seed::Fresh, &Settings::default()).await?;
    }
    let mut source = MockSource::new();
    source.expect_name().returning(|| "here".into());
    source.expect_capability().returning(Capability::default);
    let changes: ChangeSet =
        disks.iter().fold(ChangeSet::new(), |all, (id, disk)| all.union(&disk.changes(id)));
    source.expect_changes().returning(move |_, _, _| Ok(Changes::Known(changes.clone())));
    let handed: Disks =
        disks.iter().map(|(id, disk)| (id.clone(), Arc::clone(disk) as Arc<dyn Disk>)).collect();
    source.expect_disks().returning(move |_, _, _| Ok(handed.clone()));
    let source: Arc<dyn Source> = Arc::new(source);
    let cursor = Some(Cursor { generation: Generation(0), token: cut.as_bytes().to_vec() });
    let capture = Capture {
        cut: cut.into(),
        taken: Timestamp(0),
        consistency: Consistency::Crash,
        quiesce_failed: None,
        members: vec![Member { machine: machine.clone(), cursor, sidecars: vec![] }],
    };
    let item = Item::new(machine.clone(), op("item").epoch, Policy::default(), "out", "back");
    let control = Control { unit: "web".into(), members: vec![machine.id().clone()], item };
    let what = Shipment { capture, machine: machine.id().clone(), basis: Basis::Delta, control };
    let server = Shipper::builder("ps").build().await?;
    match server.ship(&op(&format!("ship {cut}")), &what, &source, &replica).await? {
        Shipped::Sealed { .. } => Ok(()),
        other => Err(format!("it was not sealed: {other:?}").into()),
    }
}

fn disks(name: &str) -> Outcome<BTreeMap<DiskId, Arc<Noise>>> {
    Ok(BTreeMap::from([("system".into(), Arc::new(Noise::named(name)?))]))
}

/// One capture of a machine of one disk: an account, the disk's name, the cut.
pub(crate) async fn child(words: &[String]) -> Outcome<()> {
    let (account, [disk, cut]) = Account::of(words)? else { return Err("a disk, and a cut".into()) };
    let points = store(account.container(CONTAINER, Limits::default())?).await?;
    ship(&disks(disk)?, cut, &points).await
}

/// An error where the newest point is not the disk, byte for byte.
pub(crate) async fn check(words: &[String]) -> Outcome<()> {
    let (account, [name]) = Account::of(words)? else { return Err("a disk".into()) };
    let (points, disks) = (store(account.container(CONTAINER, unpaced())?).await?, disks(name)?);
    let machine = machine(&disks);
    let newest = points.points(machine.id()).await?.last().ok_or("there is no point")?.id;
    let point = points.open(machine.id(), newest).await?;
    let (mut wanted, pool) = (vec![0; PIECE as usize], Pool::new(4 * PIECE as usize));
    for (id, disk) in &disks {
        let found = point.get(id).ok_or("the point lacks a disk")?;
        let extents = found.extents(Run::new(0, disk.size())).await?;
        let data: u64 = extents.iter().filter(|e| e.fill == Fill::Data).map(|e| e.run.len).sum();
        if found.size() != disk.size() || data != disk.data().iter().map(|run| run.len).sum::<u64>() {
            return Err(format!("{} bytes of {} are data", data, found.size()).into());
        }
        for run in disk.data().iter().flat_map(|run| run.pieces(PIECE)) {
            let wanted = &mut wanted[..run.len as usize];
            disk.expect(run, wanted);
            if found.read(run, &pool).await? != *wanted {
                return Err(format!("the point differs from the disk in {run:?}").into());
            }
        }
    }
    Ok(())
}
