//! What this program does when it is started as `--child`: one run of ours.

use crate::Outcome;
use crate::churn::Churn;
use crate::client::{LONGEST_START, connect};
use crate::images::{BLOCK, dirty_blocks};
use crate::ours::{By, Seal};
use crate::site::{Image, Site, disk_id, machine_id, op};
use site_recovery::{
    Basis, Disk, HASH_BLOCK, Pool, ProcessServer, Replica, Run, Seed, Settings, Shipped, Source, SystemClock,
};
use site_recovery_nbd::{Address, Export, Server};
use site_recovery_points::Points;
use site_recovery_process_server::{Codec, Keyring, ProcessServer as Shipper};
use site_recovery_record::{KEY_BYTES, Key};
use site_recovery_transport::{ClientTls, RemoteStore, Server as Keeper, ServerTls};
use std::fs::{self, OpenOptions};
use std::io::Read;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const PIECE: u64 = 1 << 20;
const BYTES_OF_A_HASH: u64 = 16;

pub(crate) fn run(words: &[String]) -> Outcome<()> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match words[..] {
            ["ship", store, image, cut, by, codec, seal] => {
                ship(Path::new(store), Path::new(image), cut, by, codec, seal).await
            }
            ["receive", store, port, tls, seal] => {
                receive(Path::new(store), port.parse()?, Path::new(tls), seal).await
            }
            ["send", port, tls, image, codec, seal] => {
                send(port.parse()?, Path::new(tls), Path::new(image), codec, seal).await
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

async fn ship(store: &Path, image: &Path, cut: &str, by: &str, codec: &str, seal: &str) -> Outcome<()> {
    let points: Arc<dyn Replica> = Arc::new(directory(store, &keys(seal))?);
    let image = Arc::new(Image::open(image)?);
    let is = |kind: By| by == format!("{kind:?}");
    let dirty = || dirty_blocks().into_iter().map(|start| (disk_id(), Run::new(start, BLOCK))).collect();
    let site = Site::new(&image, is(By::KnownChanges).then(dirty));
    if is(By::Whole) {
        points.prepare(&op("prepare"), &site.machine(), &Seed::Fresh, &Settings::default()).await?;
    }
    let basis = if is(By::Scan) { Basis::Compare } else { Basis::Delta };
    let hashes = if is(By::Scan) { image.size().div_ceil(HASH_BLOCK) * BYTES_OF_A_HASH } else { 0 };
    let sent = deliver(&shipper(codec, keys(seal)).await?, &points, site, cut, basis).await?;
    println!("{}", sent + hashes);
    Ok(())
}

/// Keeps points for whoever comes over the network, until it is killed.
async fn receive(store: &Path, port: u16, identities: &Path, seal: &str) -> Outcome<()> {
    let points = Arc::new(directory(store, &keys(seal))?);
    let file = |name: &str| fs::read(identities.join(name));
    let tls = ServerTls::new(&file("server-cert.pem")?, &file("server-key.pem")?, &file("ca-cert.pem")?)?;
    let _server = Keeper::builder(tls).store(points).listen(SocketAddr::from(([127, 0, 0, 1], port))).await?;
    std::future::pending().await
}

async fn send(port: u16, identities: &Path, image: &Path, codec: &str, seal: &str) -> Outcome<()> {
    let file = |name: &str| fs::read(identities.join(name));
    let tls = ClientTls::new(
        &file("client-cert.pem")?,
        &file("client-key.pem")?,
        &file("ca-cert.pem")?,
        "localhost",
    )?;
    let server = shipper(codec, keys(seal)).await?;
    let began = Instant::now();
    // The other side has just been started: there is nothing to wait on but to try again.
    let points: Arc<dyn Replica> = loop {
        let store = RemoteStore::builder(format!("127.0.0.1:{port}"), "points".into(), tls.clone());
        match store.connect().await {
            Ok(store) => break Arc::new(store),
            Err(error) if began.elapsed() > LONGEST_START => return Err(error.into()),
            Err(_) => tokio::time::sleep(Duration::from_micros(200)).await,
        }
    };
    let site = Site::new(&Arc::new(Image::open(image)?), None);
    points.prepare(&op("prepare"), &site.machine(), &Seed::Fresh, &Settings::default()).await?;
    println!("{}", deliver(&server, &points, site, "first", Basis::Delta).await?);
    Ok(())
}

async fn history(store: &Path, r: &Path, churn: Churn, upto: usize) -> Outcome<()> {
    let points: Arc<dyn Replica> = Arc::new(directory(store, &Keyring::new())?);
    let (image, server) = (Arc::new(Image::churned(r, churn)?), shipper("Zstd", Keyring::new()).await?);
    let there = points.points(&machine_id()).await?.last().map(|newest| newest.cut.to_string());
    let next = match there {
        Some(cut) => cut.parse::<usize>()? + 1,
        None => {
            let site = Site::new(&image, None);
            points.prepare(&op("prepare"), &site.machine(), &Seed::Fresh, &Settings::default()).await?;
            deliver(&server, &points, site, "0", Basis::Delta).await?;
            1
        }
    };
    (1..next).for_each(|point| image.advance(point));
    for point in next..=upto {
        image.advance(point);
        let changes = image.changes(point);
        let began = Instant::now();
        deliver(&server, &points, Site::new(&image, Some(changes)), &point.to_string(), Basis::Delta).await?;
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
    let (disk, pool) = connect(socket, Some(bitmap), Instant::now()).await?;
    let changes = disk.changed(bitmap, &disk_id()).await?;
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

/// Ships one capture; the bytes of records that crossed.
async fn deliver(
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

async fn shipper(codec: &str, keys: Keyring) -> Outcome<Shipper> {
    let codec: Codec =
        serde_json::from_value(codec.into()).map_err(|_| format!("the codec {codec} is not built yet"))?;
    Ok(Shipper::builder("ps").codec(codec).keys(keys).build().await?)
}

fn keys(seal: &str) -> Keyring {
    let sealed = seal == format!("{:?}", Seal::Yes);
    if sealed { Keyring::new().seal_with(Key::new([7; KEY_BYTES])) } else { Keyring::new() }
}

/// Bytes that this process had written to disks so far.
fn written() -> Outcome<u64> {
    let io = fs::read_to_string("/proc/self/io")?;
    let written = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    Ok(written.ok_or("/proc/self/io has no write_bytes")?.parse()?)
}
