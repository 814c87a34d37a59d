//! A snapshot's disks by a lease. What is in the stream is for the reader of its format.

use crate::sim::{BOTH, LONG, Sim, first};
use site_recovery_vim::Error;

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_of_a_running_machine_is_fetched_by_a_lease_which_ends() {
    for mode in BOTH {
        let Some(sim) = Sim::start(mode) else { return };
        let vim = sim.connect().await;
        let machine = first(&vim).await;
        sim.write(&machine.name, 70_000, 200_000).await;
        let task = vim.create_snapshot(&machine.moref, "dr", "", false).await.unwrap();
        let snapshot = task.object(LONG).await.unwrap();
        let devices = vim.snapshot_devices(&snapshot).await.unwrap();
        let lease = vim.export_snapshot(&snapshot, LONG).await.unwrap();
        let device = lease.device_of(&devices, &devices.disks[0]).expect("it is among them").clone();
        let mut download = lease.fetch(&device, 1 << 20).await.unwrap();
        let mut stream = vec![];
        while let Some(bytes) = download.chunk().await.unwrap() {
            stream.extend_from_slice(&bytes);
        }
        assert!(stream.starts_with(b"KDMV") && stream.len().is_multiple_of(512), "{} bytes", stream.len());
        lease.progress(100).await.unwrap();
        lease.complete().await.unwrap();

        // Its addresses end with it, and an abort ends it as well.
        let lease = vim.export_snapshot(&snapshot, LONG).await.unwrap();
        let gone = lease.fetch(&device, 1 << 20).await.unwrap_err();
        assert!(matches!(gone, Error::Status { status: 404, .. }), "{gone:?}");
        lease.abort().await.unwrap();
    }
}
