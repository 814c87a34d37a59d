//! Writes an adapter: a folder of machines with qcow2 images (`host.rs`, by the crate `imago`) becomes a `Source`
//! (`source.rs`, `disk.rs`) that passes the conformance suite (`conformance.rs`); then one of the machines is protected.
//!
//! `cargo run --example write_an_adapter`; `cargo test --example write_an_adapter` runs the suite.
#![forbid(unsafe_code)]

mod disk;
mod host;
mod source;

#[cfg(test)]
mod conformance;

use crate::host::Host;
use crate::source::HostSite;
use site_recovery::{
    DiskRole, DiskSpec, Firmware, GuestFacts, Instance, Leg, Machine, OsFamily, Platform, Pool,
    ProtectRequest, Replica, Result, Run, SystemClock, Vault,
};
use site_recovery_examples::Stage;
use site_recovery_journal::SqliteJournal;
use std::sync::Arc;

#[tokio::main]
async fn main() -> Result<()> {
    let dir = tempfile::tempdir().expect("a directory");
    let host = Host::open(dir.path().join("host"))?;
    host.add(machine("web", &[1 << 20, 256 * 1024])).await?;
    host.write("web", 0, 64 * 1024, &[7; 8192]).await?;
    host.write("web", 1, 0, b"hello, other side").await?;

    // The adapter takes the place of the site that the machines come from; all else is as in the other examples.
    let site = HostSite { name: "host".into(), host: host.clone(), clock: Arc::new(SystemClock) };
    let stage = Stage::open(dir.path()).await?;
    let cloud = Arc::new(stage.cloud.clone());
    let server = stage.process_server.clone();
    let vault = Vault::builder()
        .out(Leg::out(Arc::new(site), server.clone(), stage.points.clone(), cloud.clone()))
        .back(Leg::back(cloud, server, stage.master_target.clone()))
        .journal(Arc::new(SqliteJournal::in_memory().await?))
        .build()
        .await?;
    let web = vault.protect(ProtectRequest::machine("web")).await?;
    web.until_done().await?;

    let points = web.points().await?;
    let disks = stage.points.open(web.id(), points[0].id).await?;
    let pool = Pool::new(4 << 20);
    for (at, disk) in web.item()?.machine.disks.iter().enumerate() {
        let sealed = disks[&disk.id].read(Run::new(0, disk.size), &pool).await?;
        assert!(sealed == host.content("web", at).await?, "disk {} differs", disk.id);
        println!("point {}: {} bytes of disk {} are those on the host", points[0].id, sealed.len(), disk.id);
    }
    assert!(host.is_running("web").await?, "it goes on while it is protected");
    Ok(())
}

/// A machine with disks of these sizes, as its platform describes it.
fn machine(name: &str, disks: &[u64]) -> Machine {
    let role = |at| if at == 0 { DiskRole::System } else { DiskRole::Data };
    let disk = |(at, size): (usize, &u64)| DiskSpec {
        id: format!("disk-{at}").into(),
        size: *size,
        role: role(at),
        included: true,
    };
    Machine {
        instance: Instance {
            machine: name.into(),
            site: "host".into(),
            name: name.into(),
            generation: Default::default(),
        },
        title: None,
        disks: disks.iter().enumerate().map(disk).collect(),
        nics: vec![],
        cpus: 1,
        memory: 1 << 30,
        firmware: Firmware::Bios,
        os: OsFamily::Other,
        platform: Platform::Virtual,
        guest: GuestFacts::default(),
    }
}
