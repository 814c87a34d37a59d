//! Q3: what a machine reads of its point before it has written its first record.

use crate::Outcome;
use crate::host::{Host, guest, op, text, tool, wait_for_records};
use crate::report::{Limit, figure, median};
use async_trait::async_trait;
use bytes::Bytes;
use rustix::fs::{SeekFrom, seek};
use site_recovery::mock::MockRecoveryPointStore;
use site_recovery::*;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

const MIB: f64 = 1048576.0;
const LARGE: u64 = 20 << 30;
const SECTOR: u64 = 512;
/// Of the partition table: its second entry.
const ENTRY: u64 = 446 + 16;

pub(crate) async fn before_the_first_record(dir: &Path, times: usize) -> Outcome<()> {
    let kept = tempfile::Builder::new().prefix("q").tempdir_in(dir)?;
    let large = kept.path().join("large.raw");
    grow(&guest()?, &large)?;
    for (image, named) in [(guest()?, "320 MiB"), (large, "20 GiB")] {
        let (mut read, mut span) = (vec![], vec![]);
        for _ in 0..times {
            let (bytes, seconds) = recover(dir, &image).await?;
            read.push(bytes as f64 / MIB);
            span.push(seconds);
        }
        let what = format!("MiB read of a point of {named} before the first record, median of {times}");
        figure("Q3", &what, median(read.into_iter()), Limit::AtMost(48.0));
        figure("Q3", "s from `materialise` to that record", median(span.into_iter()), Limit::None);
    }
    Ok(())
}

/// The guest's image with a root partition and a file system of nearly 20 GiB.
fn grow(image: &Path, to: &Path) -> Outcome<()> {
    tool("cp", &["--sparse=always", text(image)?, text(to)?])?;
    let disk = OpenOptions::new().read(true).write(true).open(to)?;
    disk.set_len(LARGE)?;
    // The second entry of the partition table: its first sector, then how many there are.
    let mut first = [0; 4];
    disk.read_exact_at(&mut first, ENTRY + 8)?;
    let start = u64::from(u32::from_le_bytes(first));
    let sectors = u32::try_from(LARGE / SECTOR - start)?;
    disk.write_all_at(&sectors.to_le_bytes(), ENTRY + 12)?;
    let script = format!(
        "PATH=$PATH:/usr/sbin:/sbin; fs='{}?offset={}'; e2fsck -fy \"$fs\" || [ $? = 1 ]; resize2fs \"$fs\" {}k",
        text(to)?,
        start * SECTOR,
        u64::from(sectors) / 2
    );
    tool("sh", &["-euc", &script])?;
    // resize2fs cuts a file at the length of the file system, wherever that begins.
    Ok(disk.set_len(LARGE)?)
}

/// Bytes that were read of the point, and seconds.
async fn recover(dir: &Path, image: &Path) -> Outcome<(u64, f64)> {
    let (host, size) = (Host::open(dir).await?, image.metadata()?.len());
    let read = Arc::new(AtomicU64::new(0));
    let (file, counter, id) = (Arc::new(File::open(image)?), Arc::clone(&read), DiskId("root".into()));
    let mut store = MockRecoveryPointStore::new();
    let kept = id.clone();
    store.expect_open().returning(move |_, _| {
        let point = Point { file: Arc::clone(&file), size, read: Arc::clone(&counter) };
        Ok(Disks::from([(kept.clone(), Arc::new(point) as Arc<dyn Disk>)]))
    });
    let store: Arc<dyn Replica> = Arc::new(store);
    let what = recovery(id, size);

    let began = Instant::now();
    let key = op("materialise");
    let armed = host.site.materialise(&key, &what, &store).await?;
    let permit = BootPermit::Isolated { network: site_recovery_qemu::ISOLATED.into() };
    host.site.boot(&op("boot"), &what, &armed, permit).await?;
    wait_for_records(&host.console(&armed.instance.name), 1)?;
    Ok((read.load(Ordering::Relaxed), began.elapsed().as_secs_f64()))
}

fn recovery(disk: DiskId, size: u64) -> Recovery {
    let site = [("serial", "B-web"), ("console", "on")];
    let instance = Instance {
        machine: "web".into(),
        site: "there".into(),
        name: "web".into(),
        generation: Generation(0),
    };
    Recovery {
        machine: Machine {
            instance,
            title: None,
            disks: vec![DiskSpec { id: disk, size, role: DiskRole::System, included: true }],
            nics: vec![],
            cpus: 1,
            memory: 256 << 20,
            firmware: Firmware::Bios,
            os: OsFamily::Linux,
            platform: Platform::Virtual,
            guest: GuestFacts::default(),
        },
        sidecars: vec![],
        point: PointId(1),
        taken: Timestamp(0),
        consistency: Consistency::Crash,
        generation: Generation(1),
        purpose: Purpose::Drill,
        settings: Settings {
            site: site.map(|(k, v)| (k.to_owned(), v.into())).into(),
            ..Settings::default()
        },
    }
}

/// The image as a point, and every byte counted that is read.
#[derive(Debug)]
struct Point {
    file: Arc<File>,
    size: u64,
    read: Arc<AtomicU64>,
}

#[async_trait]
impl Disk for Point {
    fn size(&self) -> u64 {
        self.size
    }

    async fn extents(&self, range: Run) -> Result<Vec<Extent>> {
        let end = range.end().min(self.size);
        let (mut extents, mut at) = (vec![], range.start);
        while at < end {
            let data = seek(&*self.file, SeekFrom::Data(at)).unwrap_or(end).min(end);
            if at < data {
                extents.push(Extent { run: Run::new(at, data - at), fill: Fill::Zero });
            }
            at = data;
            if at < end {
                let hole = seek(&*self.file, SeekFrom::Hole(at)).unwrap_or(end).min(end);
                extents.push(Extent { run: Run::new(at, hole - at), fill: Fill::Data });
                at = hole;
            }
        }
        Ok(extents)
    }

    async fn read(&self, run: Run, pool: &Pool) -> Result<Bytes> {
        let mut block = pool.take(run.len as usize).await?;
        self.read.fetch_add(run.len, Ordering::Relaxed);
        let filled = self.file.read_exact_at(&mut block, run.start);
        filled.map_err(|e| Error::new(ErrorKind::Unavailable, "the image cannot be read").caused_by(e))?;
        Ok(block.freeze())
    }
}
