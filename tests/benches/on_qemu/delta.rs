//! Q2: a delta copied out of QEMU by known changes, by our client and by a program on libnbd, each in a process of its own.

use crate::Outcome;
use crate::host::{Host, Image, op, text, tool, write};
use crate::meter::{Cost, Meter};
use crate::report::{self, Limit};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use site_recovery::{Changes, Consistency, Disk, DiskId, Fate, Pool, Run, Source};
use site_recovery_nbd::{Address, RemoteDisk};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const DISK: u64 = 4 << 30;
/// What QEMU tracks.
const GRAIN: u64 = 64 << 10;
/// Grains that are written alone, and megabytes.
const ALONE: u64 = 2048;
const RUNS: u64 = 128;
/// As a process server reads.
const PIECE: u64 = 1 << 20;
const READS: usize = 16;
const POOL: usize = 128 << 20;
const MIB: f64 = 1048576.0;

/// Where a capture of a delta is read.
struct Export {
    socket: PathBuf,
    name: String,
    bitmap: String,
}

pub(crate) async fn against_libnbd(dir: &Path, pairs: usize) -> Outcome<()> {
    let host = Host::open(dir).await?;
    let peer = host.dir().join("copy_dirty");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/on_qemu/copy_dirty.c");
    tool("cc", &["-O2", "-o", text(&peer)?, source, "-lnbd"])
        .map_err(|e| format!("{e}: apt-get install gcc libnbd-dev"))?;

    let web = host.running("web", &[Image::Blank(DISK)], "").await?;
    let mut monitor = host.monitor("web")?;
    let first = op("first");
    let capture = host.site.capture(&first, std::slice::from_ref(&web), Consistency::Crash).await?;
    let since = capture.member(&web.machine)?.cursor.clone().ok_or("the capture has no cursor")?;
    host.site.release(&first, &capture, &web.machine, Fate::Sealed).await?;
    let mut places = Places(1);
    for n in 0..ALONE {
        write(&mut monitor, 0, places.next(DISK / GRAIN) * GRAIN, GRAIN, n as u8 | 1)?;
    }
    for n in 0..RUNS {
        write(&mut monitor, 0, places.next(DISK / PIECE) * PIECE, PIECE, n as u8 | 1)?;
    }
    let capture = host.site.capture(&op("second"), std::slice::from_ref(&web), Consistency::Crash).await?;
    let changes = match host.site.changes(&capture, &web.machine, &since).await? {
        Changes::Known(changes) => changes,
        Changes::Lost { reason } => return Err(reason.into()),
    };
    let expected: u64 = changes.runs(&DiskId("disk0".into())).iter().map(|run| run.len).sum();
    let nodes = monitor.call("query-named-block-nodes", json!({ "flat": true }))?;
    let exports = monitor.call("query-block-exports", Value::Null)?;
    let export = Export {
        socket: host.place()?.join("nbd"),
        name: exports[0]["id"].as_str().ok_or("nothing is exported")?.to_owned(),
        bitmap: older(&nodes).ok_or("no bitmap is there that ended with the capture")?,
    };

    let (meter, files) = (Meter::new(), ["ours.raw", "peer.raw"].map(|f| host.dir().join(f)));
    let mut costs = vec![];
    for number in 0..=pairs {
        for file in &files {
            File::create(file)?.set_len(DISK)?;
        }
        let ours = || run(&meter, &std::env::current_exe()?, &ours(&export, &files[0])?, expected);
        let theirs = || run(&meter, &peer, &peers(&export, &files[1])?, expected);
        let pair = if number % 2 == 0 {
            let first = ours()?;
            (first, theirs()?)
        } else {
            let first = theirs()?;
            (ours()?, first)
        };
        costs.push(pair);
    }
    tool("cmp", &[text(&files[0])?, text(&files[1])?])?;
    // The first pair warms what both read.
    let of = |part: fn(&Cost) -> f64| costs[1..].iter().map(|(a, b)| (part(a), part(b))).collect::<Vec<_>>();
    let what =
        format!("{:.0} MiB of changes into a file, against a program on libnbd", expected as f64 / MIB);
    report::pairs("Q2", &format!("CPU s, {what}"), &of(|c| c.cpu), Limit::AtMost(1.0));
    report::pairs("Q2", "wall s, the same", &of(|c| c.wall), Limit::None);
    report::pairs("Q2", "memory MiB, the same", &of(|c| c.memory / MIB), Limit::None);
    Ok(())
}

fn run(meter: &Meter, program: &Path, arguments: &[String], expected: u64) -> Outcome<Cost> {
    let (cost, said) = meter.run(program, arguments, &[])?;
    if said.trim().parse::<u64>()? == expected {
        return Ok(cost);
    }
    Err(format!("{} copied {} bytes of {expected}", program.display(), said.trim()).into())
}

fn ours(export: &Export, file: &Path) -> Outcome<Vec<String>> {
    let words = ["--child", "copy", text(&export.socket)?, &export.name, &export.bitmap, text(file)?];
    Ok(words.map(str::to_owned).to_vec())
}

fn peers(export: &Export, file: &Path) -> Outcome<Vec<String>> {
    let uri = Address::Unix(export.socket.clone()).uri(&export.name);
    Ok(vec![uri, export.bitmap.clone(), text(file)?.to_owned()])
}

/// The bitmap of the disk that records no more.
fn older(nodes: &Value) -> Option<String> {
    let node = nodes.as_array()?.iter().find(|n| n["node-name"] == "d0")?;
    let bitmap = node["dirty-bitmaps"].as_array()?.iter().find(|b| b["recording"] == false)?;
    Some(bitmap["name"].as_str()?.to_owned())
}

/// One run of ours, in a process of its own: a task of its runtime, as an engine's jobs are.
pub(crate) async fn child(words: &[String]) -> Outcome<()> {
    let [copy, socket, export, bitmap, file] = words else { return Err("a child copies".into()) };
    if copy != "copy" {
        return Err(format!("{copy} is nothing that a child does").into());
    }
    let [socket, export, bitmap, file] = [socket, export, bitmap, file].map(String::clone);
    tokio::spawn(async move { copied(&socket, &export, &bitmap, &file).await }).await?
}

async fn copied(socket: &str, export: &str, bitmap: &str, file: &str) -> Outcome<()> {
    let disk = RemoteDisk::builder(Address::Unix(socket.into()), export).connections(1);
    let disk = disk.bitmap(bitmap).connect().await?;
    let (id, pool) = (DiskId("disk0".into()), Pool::new(POOL));
    let changes = disk.changed(bitmap, &id).await?;
    let (disk, pool, file) = (&disk, &pool, &OpenOptions::new().write(true).open(file)?);
    let pieces: Vec<Run> = changes.runs(&id).iter().flat_map(|run| run.pieces(PIECE)).collect();
    let copied = stream::iter(pieces)
        .map(|piece| async move { disk.read(piece, pool).await.map(|bytes| (piece, bytes)) })
        .buffered(READS)
        .map_err(Into::into)
        .try_fold(0, |copied, (piece, bytes)| async move {
            file.write_all_at(&bytes, piece.start)?;
            Outcome::Ok(copied + piece.len)
        });
    let copied = copied.await?;
    file.sync_data()?;
    println!("{copied}");
    Ok(())
}

/// Places on a disk, the same in each run.
struct Places(u64);

impl Places {
    fn next(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % end
    }
}
