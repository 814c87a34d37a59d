//! A1: a file into a page blob, by our client and by Microsoft's for Python, each in a process of its own.

use crate::account::{Account, unpaced};
use crate::azurite::Azurite;
use crate::blobs::{Blobs, Bytes};
use crate::meter::{Cost, Meter};
use crate::report::{self, Limit, median};
use crate::{MIB, Outcome};
use futures_util::{StreamExt, TryStreamExt, stream};
use site_recovery::{Pool, Run};
use site_recovery_azure_blob::{Container, PageBlob};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::NamedTempFile;
use xxhash_rust::xxh3::xxh3_64;

/// What both send with one request, and how many are under way.
const PIECE: u64 = 4 << 20;
const AT_ONCE: usize = 8;
const CONTAINER: &str = "uploads";
const BLOB: &str = "disk.vhd";

/// A server with one upload in it.
trait Server {
    fn account(&self) -> &Account;
    /// Whether what was uploaded is the file, and how many requests that took. The blob is gone afterwards.
    async fn judge(&mut self, file: &Path, container: &Container) -> Outcome<u64>;
}

pub(crate) async fn on_azurite(pairs: usize) -> Outcome<()> {
    let goals = Goals { on: "Azurite", size: 64 << 20, wall: 1.0 };
    measure(&mut Azurite::start()?, goals, pairs).await
}

pub(crate) async fn on_the_fake(pairs: usize) -> Outcome<()> {
    let goals = Goals { on: "the fake", size: 1 << 30, wall: 0.5 };
    measure(&mut Blobs::start(Bytes::Dropped)?, goals, pairs).await
}

#[derive(Debug, Clone, Copy)]
struct Goals {
    on: &'static str,
    size: u64,
    wall: f64,
}

async fn measure(server: &mut impl Server, goals: Goals, pairs: usize) -> Outcome<()> {
    let (python, script) = python()?;
    let meter = Meter::new();
    let file = noise(goals.size)?;
    let container = server.account().container(CONTAINER, unpaced())?;
    container.make().await?;
    let mut words = server.account().words()?;
    words.extend([CONTAINER, BLOB].map(str::to_owned));
    words.push(file.path().to_str().ok_or("a path in UTF-8")?.to_owned());
    words.push(AT_ONCE.to_string());
    let of_ours: Vec<String> =
        ["--child", "upload"].map(str::to_owned).into_iter().chain(words.clone()).collect();
    let of_python: Vec<String> = std::iter::once(script.clone()).chain(words).collect();
    let ours = std::env::current_exe()?;
    // Warms the server up, and the page cache; it made the container with requests of ours.
    for (program, words) in [(&ours, &of_ours), (&python, &of_python)] {
        meter.run(program, words, &[])?;
        server.judge(file.path(), &container).await?;
    }
    let mut costs = vec![];
    for pair in 0..pairs {
        let both = [(&ours, &of_ours), (&python, &of_python)];
        let mut found = vec![];
        for which in if pair % 2 == 0 { [0, 1] } else { [1, 0] } {
            let (program, words) = both[which];
            let (cost, _) = meter.run(program, words, &[])?;
            found.push((which, cost, server.judge(file.path(), &container).await?));
        }
        found.sort_by_key(|(which, ..)| *which);
        let [(_, one, by_one), (_, other, by_other)] = found[..] else { return Err("a pair".into()) };
        costs.push(((one, by_one), (other, by_other)));
    }
    let starts = (0..pairs).map(|_| Ok(meter.run(&python, std::slice::from_ref(&script), &[])?.0.cpu));
    let starts: Vec<f64> = starts.collect::<Outcome<_>>()?;
    let of = |part: fn(&Cost) -> f64| -> Vec<(f64, f64)> {
        costs.iter().map(|(ours, peer)| (part(&ours.0), part(&peer.0))).collect()
    };
    let what = format!("{} MiB into a page blob on {}", goals.size >> 20, goals.on);
    report::pairs("A1", &format!("CPU s, {what}"), &of(|cost| cost.cpu), Limit::AtMost(0.3));
    report::pairs("A1", &format!("wall s, {what}"), &of(|cost| cost.wall), Limit::AtMost(goals.wall));
    let requests: Vec<_> = costs.iter().map(|(ours, peer)| (ours.1 as f64, peer.1 as f64)).collect();
    report::pairs("A1", &format!("requests, {what}"), &requests, Limit::AtMost(1.0));
    report::pairs("A1", &format!("most memory, MiB, {what}"), &of(|cost| cost.memory / MIB), Limit::None);
    report::figure("A1", "CPU s of the peer's start alone", median(starts.into_iter()), Limit::None);
    Ok(())
}

impl Server for Azurite {
    fn account(&self) -> &Account {
        &self.account
    }

    async fn judge(&mut self, file: &Path, container: &Container) -> Outcome<u64> {
        // Of what is not there: it only marks the log.
        container.document("mark").delete().await?;
        let requests = self.take()?;
        let (blob, file) = (container.pages(BLOB), File::open(file)?);
        let (mut found, mut wanted) = (vec![0; PIECE as usize], vec![0; PIECE as usize]);
        for run in Run::new(0, file.metadata()?.len()).pieces(PIECE) {
            let (found, wanted) = (&mut found[..run.len as usize], &mut wanted[..run.len as usize]);
            blob.read(None, run, found).await?;
            file.read_exact_at(wanted, run.start)?;
            if found != wanted {
                return Err(format!("other bytes were uploaded than the file has in {run:?}").into());
            }
        }
        blob.delete_all().await?;
        self.take()?;
        Ok(requests)
    }
}

impl Server for Blobs {
    fn account(&self) -> &Account {
        &self.account
    }

    async fn judge(&mut self, file: &Path, container: &Container) -> Outcome<u64> {
        let requests = self.take()?.all.requests;
        let mut found = self.dropped(CONTAINER, BLOB)?;
        found.sort_unstable();
        container.pages(BLOB).delete_all().await?;
        self.take()?;
        let (file, mut wanted) = (File::open(file)?, vec![]);
        for run in Run::new(0, file.metadata()?.len()).pieces(PIECE) {
            let mut bytes = vec![0; run.len as usize];
            file.read_exact_at(&mut bytes, run.start)?;
            wanted.push([run.start, run.len, xxh3_64(&bytes)]);
        }
        if found == wanted { Ok(requests) } else { Err("other bytes were uploaded than the file has".into()) }
    }
}

/// Python with the peer's packages, and the script. Not resolved: Python knows its packages by where it is started.
fn python() -> Outcome<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("../target/tools/azure-python/bin/python");
    if !python.is_file() {
        let why = "azure-storage-blob for Python is absent: tests/run --setup installs it";
        return Err(format!("{why} (as tests/benches/azure/requirements.txt has it)").into());
    }
    let script = root.join("benches/azure/upload.py");
    Ok((python, script.to_str().ok_or("a path in UTF-8")?.to_owned()))
}

/// A file of which no two pieces are alike.
fn noise(size: u64) -> Outcome<NamedTempFile> {
    let file = NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR"))?;
    let mut piece = vec![0; PIECE as usize];
    for run in Run::new(0, size).pieces(PIECE) {
        let piece = &mut piece[..run.len as usize];
        crate::noise::fill(run.start, 0, piece);
        file.as_file().write_all_at(piece, run.start)?;
    }
    Ok(file)
}

/// The upload by our client: an account, container, blob, file, and how many requests at once.
pub(crate) async fn child(words: &[String]) -> Outcome<()> {
    let (account, [container, blob, file, at_once]) = Account::of(words)? else {
        return Err("a container, a blob, a file, and how many at once".into());
    };
    let (blob, at_once) = (&account.container(container, unpaced())?.pages(blob), at_once.parse::<usize>()?);
    let file = &Arc::new(File::open(file)?);
    let size = file.metadata()?.len();
    blob.create(size, &BTreeMap::new()).await?;
    let pool = &Pool::new((at_once + 1) * PIECE as usize);
    let sent = Run::new(0, size).pieces(PIECE).map(|run| send(blob, file, run, pool));
    stream::iter(sent).buffer_unordered(at_once).try_collect().await
}

async fn send(blob: &PageBlob, file: &Arc<File>, run: Run, pool: &Pool) -> Outcome<()> {
    let mut block = pool.take(run.len as usize).await?;
    let file = Arc::clone(file);
    let read = tokio::task::spawn_blocking(move || file.read_exact_at(&mut block, run.start).map(|()| block));
    Ok(blob.write(run.start, read.await??.freeze(), 0).await?)
}
