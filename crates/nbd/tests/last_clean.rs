//! The newest clean point of many, found with few opens, each seen through an export.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use site_recovery::mock::MockRecoveryPointStore;
use site_recovery::*;
use site_recovery_nbd::{Address, Export, Health, RemoteDisk, Server, find_last_clean};
use std::sync::Arc;
use std::time::Duration;
use support::filled;

fn point(id: u64) -> Point {
    Point {
        id: PointId(id),
        cut: CutId(format!("cut {id}")),
        members: vec![MachineId::from("web")],
        taken: Timestamp(id * 300_000),
        consistency: Consistency::Crash,
        generation: Generation(1),
        pins: vec![],
        locked_until: None,
        verified: true,
        verified_boot: None,
    }
}

/// A store of `n` points numbered from 1 on; the disk of each is filled with a mark from point `infected` on.
fn store(n: u64, infected: u64) -> MockRecoveryPointStore {
    let mut store = MockRecoveryPointStore::new();
    store.expect_points().returning(move |_| Ok((1..=n).map(point).collect()));
    store.expect_open().returning(move |_, point| {
        let bytes = vec![u8::from(point.0 >= infected); 4096];
        Ok(Disks::from([("root".into(), Arc::new(filled(bytes)) as Arc<dyn Disk>)]))
    });
    store
}

async fn is_marked(disks: Disks) -> Result<Health> {
    let bytes = disks[&DiskId::from("root")].read(Run::new(0, 1), &Pool::new(4096)).await?;
    Ok(if bytes[0] == 0 { Health::Clean } else { Health::Infected })
}

#[tokio::test]
async fn of_288_points_at_most_9_are_opened_wherever_the_boundary_is() {
    for n in [1, 2, 3, 7, 8, 100, 288] {
        let most = (n as f64 + 1.0).log2().ceil() as usize;
        assert!(n != 288 || most == 9);
        for infected in 1..=n + 1 {
            let found = find_last_clean(&store(n, infected), &"web".into(), |_, disks| is_marked(disks))
                .await
                .unwrap();
            assert_eq!(found.clean.as_ref().map(|p| p.id.0), (infected > 1).then_some(infected - 1));
            assert_eq!(found.infected.as_ref().map(|p| p.id.0), (infected <= n).then_some(infected));
            assert!(found.checked.len() <= most, "{} of {n} points", found.checked.len());
            // Both sides of the boundary were looked at.
            for (side, health) in [(&found.clean, Health::Clean), (&found.infected, Health::Infected)] {
                assert!(side.as_ref().is_none_or(|p| found.checked.contains(&(p.id, health))));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_looks_through_an_export() {
    let (store, web) = (store(30, 18), MachineId::from("web"));
    let found = find_last_clean(&store, &web, async |point, disks| {
        let name = format!("web/root@{}", point.id);
        let export = Export::read_only(&name, Arc::clone(&disks[&DiskId::from("root")]));
        let server = Server::builder().export(export).listen(Address::loopback()).await?;
        let remote = RemoteDisk::builder(server.address().clone(), name).connect().await?;
        let health = is_marked(Disks::from([("root".into(), Arc::new(remote) as Arc<dyn Disk>)])).await;
        server.stop(Duration::from_secs(5)).await;
        health
    });
    assert_eq!(found.await.unwrap().clean.map(|p| p.id), Some(PointId(17)));
}

#[tokio::test]
async fn what_cannot_be_checked_is_an_error_with_its_point() {
    let (eight, web) = (store(8, 3), MachineId::from("web"));
    let failed = find_last_clean(&eight, &web, async |point, _| match point.id {
        PointId(3) => Err(Error::new(ErrorKind::Corrupt, "the scanner cannot read it")),
        id if id.0 > 3 => Ok(Health::Infected),
        _ => Ok(Health::Clean),
    });
    let error = failed.await.expect_err("point 3 is on the way");
    assert_eq!((error.kind(), error.fact("point")), (ErrorKind::Corrupt, Some("3")));
    let none = find_last_clean(&store(0, 1), &"web".into(), |_, disks| is_marked(disks)).await;
    assert_eq!(none.expect_err("no points").kind(), ErrorKind::NotFound);
}
