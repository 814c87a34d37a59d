//! Ours, each run in a process of its own: what this program does when it is started as `--child`.

use crate::Outcome;
use crate::bench::Bench;
use crate::churn::Churn;
use crate::client::connect;
use crate::images::{BLOCK, dirty_blocks};
use crate::meter::{Cost, Running};
use crate::site::{Image, Site, disk_id, machine_id, op};
use site_recovery::{
    Basis, Disk, HASH_BLOCK, Pool, ProcessServer, Replica, Run, Seed, Settings, Shipped, Source, SystemClock,
};
use site_recovery_nbd::{Address, Export, Server};
use site_recovery_points::Points;
use site_recovery_process_server::{Codec, Keyring, ProcessServer as Shipper};
use site_recovery_record::{KEY_BYTES, Key};
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const PIECE: u64 = 1 << 20;

/// Whether records are sealed with a key, AES-256-GCM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seal {
    No,
    Yes,
}

/// How a ship finds what to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// Nothing is there yet.
    Whole,
    /// Both sides are hashed.
    Scan,
    /// The source tells the blocks in which C differs from A.
    KnownChanges,
}

impl Bench {
    /// Ships an image into a store; the bytes that crossed, both ways.
    pub(crate) fn ship(
        &self,
        store: &Path,
        image: &Path,
        cut: &str,
        by: By,
        seal: Seal,
    ) -> Outcome<(Cost, u64)> {
        let words = [format!("{by:?}"), format!("{seal:?}")];
        let (cost, said) = self.child(&["ship", path(store), path(image), cut, &words[0], &words[1]])?;
        Ok((cost, said.trim().parse()?))
    }

    /// Goes on with a history of R, up to so many points after the first; milliseconds that each took.
    pub(crate) fn history(
        &self,
        store: &Path,
        r: &Path,
        churn: Churn,
        upto: usize,
    ) -> Outcome<(Cost, Vec<f64>)> {
        let (cost, said) = self.child(&["history", path(store), path(r), churn.name(), &upto.to_string()])?;
        let took = said.split_ascii_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        Ok((cost, took))
    }

    /// Drops the oldest point; the bytes that were written for that.
    pub(crate) fn expire(&self, store: &Path) -> Outcome<(Cost, u64)> {
        let (cost, said) = self.child(&["expire", path(store)])?;
        Ok((cost, said.trim().parse()?))
    }

    /// An error where the newest point is not the image, byte for byte.
    pub(crate) fn check(&self, store: &Path, image: &Path, seal: Seal) -> Outcome<()> {
        self.child(&["check", path(store), path(image), &format!("{seal:?}")]).map(|_| ())
    }

    /// Serves the oldest or the newest point at a socket, until it is dropped.
    pub(crate) fn serve(&self, store: &Path, socket: &Path, which: &str) -> Outcome<Running> {
        self.start_child(&["serve", path(store), path(socket), which])
    }

    pub(crate) fn child(&self, words: &[&str]) -> Outcome<(Cost, String)> {
        self.start_child(words)?.end().map_err(|e| format!("{e}: {}", words.join(" ")).into())
    }

    fn start_child(&self, words: &[&str]) -> Outcome<Running> {
        let args: Vec<String> = ["--child"].iter().chain(words).map(|word| (*word).to_owned()).collect();
        self.meter.start(&std::env::current_exe()?, &args, &[])
    }
}

/// Everything here was named by this program.
fn path(path: &Path) -> &str {
    path.to_str().expect("the target directory has a name in UTF-8")
}

pub(crate) fn child(words: &[String]) -> Outcome<()> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match words[..] {
            ["ship", store, image, cut, by, seal] => {
                ship(Path::new(store), Path::new(image), cut, by, seal).await
            }
            ["history", store, r, churn, upto] => {
                history(Path::new(store), Path::new(r), Churn::named(churn)?, upto.parse()?).await
            }
            ["expire", store] => expire(Path::new(store)).await,
            ["check", store, image, seal] => check(Path::new(store), Path::new(image), seal).await,
            ["serve", store, socket, which] => serve(Path::new(store), Path::new(socket), which).await,
            ["copy-dirty", socket, bitmap, file] => {
                copy_dirty(Path::new(socket), bitmap, Path::new(file)).await
            }
            _ => Err(format!("{words:?} is no run of a child").into()),
        }
    })
}

async fn ship(store: &Path, image: &Path, cut: &str, by: &str, seal: &str) -> Outcome<()> {
    let keys = keys(seal);
    let points: Arc<dyn Replica> = Arc::new(directory(store, &keys)?);
    let image = Arc::new(Image::open(image)?);
    let dirty = || dirty_blocks().into_iter().map(|start| (disk_id(), Run::new(start, BLOCK))).collect();
    let known = (by == format!("{:?}", By::KnownChanges)).then(dirty);
    let basis = if by == format!("{:?}", By::Scan) { Basis::Compare } else { Basis::Delta };
    let site = Site::new(&image, known);
    if by == format!("{:?}", By::Whole) {
        points.prepare(&op("prepare"), &site.machine(), &Seed::Fresh, &Settings::default()).await?;
    }
    let sent = send(&shipper(keys).await?, &points, site, cut, basis).await?;
    let hashes = if basis == Basis::Compare { image.size().div_ceil(HASH_BLOCK) * 16 } else { 0 };
    println!("{}", sent + hashes);
    Ok(())
}

async fn history(store: &Path, r: &Path, churn: Churn, upto: usize) -> Outcome<()> {
    let points: Arc<dyn Replica> = Arc::new(directory(store, &Keyring::new())?);
    let (image, server) = (Arc::new(Image::churned(r, churn)?), shipper(Keyring::new()).await?);
    let there = points.points(&machine_id()).await?.last().map(|newest| newest.cut.to_string());
    let next = match there {
        Some(cut) => cut.parse::<usize>()? + 1,
        None => {
            let site = Site::new(&image, None);
            points.prepare(&op("prepare"), &site.machine(), &Seed::Fresh, &Settings::default()).await?;
            send(&server, &points, site, "0", Basis::Delta).await?;
            1
        }
    };
    for point in 1..next {
        image.advance(point);
    }
    for point in next..=upto {
        image.advance(point);
        let changes = image.changes(point);
        let began = Instant::now();
        send(&server, &points, Site::new(&image, Some(changes)), &point.to_string(), Basis::Delta).await?;
        println!("{:.3}", began.elapsed().as_secs_f64() * 1e3);
    }
    Ok(())
}

async fn expire(store: &Path) -> Outcome<()> {
    let points = directory(store, &Keyring::new())?;
    let oldest = points.points(&machine_id()).await?.first().ok_or("there is no point")?.id;
    let before = written()?;
    let dropped = points.prune(&op(&format!("expire {oldest}")), &machine_id(), &[oldest]).await?;
    if dropped != [oldest] {
        return Err(format!("{oldest} was to be dropped, {dropped:?} were").into());
    }
    println!("{}", written()? - before);
    Ok(())
}

async fn check(store: &Path, image: &Path, seal: &str) -> Outcome<()> {
    let points = directory(store, &keys(seal))?;
    let newest = points.points(&machine_id()).await?.last().ok_or("there is no point")?.id;
    let (point, image) = (points.open(&machine_id(), newest).await?, Image::open(image)?);
    let (point, pool) = (&point[&disk_id()], Pool::new(4 * PIECE as usize));
    if point.size() != image.size() {
        return Err(format!("the point has {} bytes, the image {}", point.size(), image.size()).into());
    }
    for run in Run::new(0, image.size()).pieces(PIECE) {
        if point.read(run, &pool).await? != image.read(run, &pool).await? {
            return Err(format!("the point differs from the image in {run:?}").into());
        }
    }
    Ok(())
}

async fn serve(store: &Path, socket: &Path, which: &str) -> Outcome<()> {
    let points = directory(store, &Keyring::new())?;
    let all = points.points(&machine_id()).await?;
    let point = if which == "oldest" { all.first() } else { all.last() };
    let disks = points.open(&machine_id(), point.ok_or("there is no point")?.id).await?;
    let export = Export::read_only("", Arc::clone(&disks[&disk_id()]));
    let server = Server::builder().export(export).listen(Address::Unix(socket.to_owned())).await?;
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut vec![])).await??;
    server.stop(Duration::from_secs(1)).await;
    Ok(())
}

/// The peer's data path with the least that it could cost: the dirty blocks of a server's bitmap, straight into a file.
async fn copy_dirty(socket: &Path, bitmap: &str, file: &Path) -> Outcome<()> {
    let (disk, _) = connect(socket, "", Some(bitmap), Instant::now()).await?;
    let (changes, pool) = (disk.changed(bitmap, &disk_id()).await?, Pool::new(4 * PIECE as usize));
    let file = OpenOptions::new().write(true).open(file)?;
    let mut copied = 0;
    for run in changes.runs(&disk_id()).iter().flat_map(|run| run.pieces(PIECE)) {
        file.write_all_at(&disk.read(run, &pool).await?, run.start)?;
        copied += run.len;
    }
    file.sync_data()?;
    println!("{copied}");
    Ok(())
}

async fn send(
    server: &Shipper,
    points: &Arc<dyn Replica>,
    site: Site,
    cut: &str,
    basis: Basis,
) -> Outcome<u64> {
    let what = site.shipment(cut, basis);
    let source: Arc<dyn Source> = Arc::new(site);
    match server.ship(&op(&format!("ship {cut}")), &what, &source, points).await? {
        Shipped::Sealed { shipped, .. } => Ok(shipped),
        other => Err(format!("it was not sealed: {other:?}").into()),
    }
}

fn directory(store: &Path, keys: &Keyring) -> Outcome<Points> {
    Ok(Points::directory("points".into(), store, Arc::new(SystemClock))?.with_keys(keys.clone()))
}

async fn shipper(keys: Keyring) -> Outcome<Shipper> {
    Ok(Shipper::builder("ps").codec(Codec::Zstd).keys(keys).build().await?)
}

fn keys(seal: &str) -> Keyring {
    let sealed = seal == format!("{:?}", Seal::Yes);
    if sealed { Keyring::new().seal_with(Key::new([7; KEY_BYTES])) } else { Keyring::new() }
}

/// Bytes that this process had written to disks so far.
fn written() -> Outcome<u64> {
    let io = std::fs::read_to_string("/proc/self/io")?;
    let written = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    Ok(written.ok_or("/proc/self/io has no write_bytes")?.parse()?)
}
