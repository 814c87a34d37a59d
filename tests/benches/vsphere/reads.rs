//! V2: ranges of a disk over datastore HTTPS, by our client and by one process of curl that keeps its connections. Both drop
//! what they read; whether it is right is looked at once, apart.

use crate::meter::{Cost, Meter};
use crate::report::{self, Limit};
use crate::site::{PASSWORD, Site, USER, connect};
use crate::{MIB, Outcome};
use futures_util::{StreamExt, TryStreamExt, stream};
use site_recovery_vim::{DatastoreFile, DatastorePath};
use std::fmt::Write;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

const DISK: u64 = 1 << 30;
const DATACENTER: &str = "DC0";
const DATASTORE: &str = "LocalDS_0";

/// Reads of one kind: how long each is, how many there are, and how many at once.
#[derive(Debug, Clone, Copy)]
struct Reads {
    what: &'static str,
    len: u64,
    count: u64,
    at_once: usize,
    in_order: bool,
}

const ALL: [Reads; 4] = [
    Reads { what: "1 MiB each, in order, 8 at once", len: 1 << 20, count: 1024, at_once: 8, in_order: true },
    Reads {
        what: "1 MiB each, in order, one at a time",
        len: 1 << 20,
        count: 1024,
        at_once: 1,
        in_order: true,
    },
    Reads {
        what: "64 KiB each, anywhere, 8 at once",
        len: 64 << 10,
        count: 4096,
        at_once: 8,
        in_order: false,
    },
    Reads {
        what: "64 KiB each, anywhere, one at a time",
        len: 64 << 10,
        count: 4096,
        at_once: 1,
        in_order: false,
    },
];

impl Reads {
    fn starts(self) -> impl Iterator<Item = u64> {
        (0..self.count).scan(1_u64, move |seed, n| {
            *seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            Some(if self.in_order { n * self.len } else { (*seed >> 33) % (DISK / self.len) * self.len })
        })
    }

    fn total(self) -> u64 {
        self.len * self.count
    }
}

pub(crate) async fn against_curl(pairs: usize) -> Outcome<()> {
    let site = Site::start(2)?;
    let disks = site.machine("web", &[DISK])?;
    let local = disks.first().ok_or("the machine has a disk")?;
    let flat = local.strip_prefix(site.datastore(DATASTORE)?)?.to_str().ok_or("a path in UTF-8")?.to_owned();
    fill(local)?;
    let (meter, ours, curl) = (Meter::new(), std::env::current_exe()?, PathBuf::from("curl"));
    for (number, reads) in ALL.into_iter().enumerate() {
        let config = curl_config(&site, &flat, reads)?;
        let words: Vec<String> =
            ["--child", "read"].map(str::to_owned).into_iter().chain(site.words()?).collect();
        let ours_words =
            |check: &str| [&words[..], &[flat.clone(), number.to_string(), check.into()]].concat();
        // Is it right, and does everything lie in the page cache?
        run(&meter, &ours, &ours_words(local.to_str().ok_or("a path in UTF-8")?), reads)?;
        let mut costs = vec![];
        for pair in 0..pairs {
            let one = || run(&meter, &ours, &ours_words(""), reads);
            let other = || run(&meter, &curl, &config, reads);
            costs.push(if pair % 2 == 0 {
                let first = one()?;
                (first, other()?)
            } else {
                let first = other()?;
                (one()?, first)
            });
        }
        let of = |part: fn(&Cost) -> f64| costs.iter().map(|(a, b)| (part(a), part(b))).collect::<Vec<_>>();
        let rate = |cost: &Cost| reads.total() as f64 / MIB / cost.wall;
        let rates: Vec<(f64, f64)> = costs.iter().map(|(a, b)| (rate(a), rate(b))).collect();
        report::pairs(
            "V2",
            &format!("MiB/s, ranges of {}, against curl", reads.what),
            &rates,
            Limit::AtLeast(0.9),
        );
        report::pairs("V2", "CPU s, the same", &of(|c| c.cpu), Limit::None);
        report::pairs("V2", "most memory, MiB, the same", &of(|c| c.memory / MIB), Limit::None);
    }
    Ok(())
}

fn run(meter: &Meter, program: &Path, words: &[String], reads: Reads) -> Outcome<Cost> {
    let (cost, said) = meter.run(program, words, &[])?;
    let bytes = said.split_ascii_whitespace().map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    if bytes == reads.total() {
        return Ok(cost);
    }
    Err(format!("{} read {bytes} bytes of {}", program.display(), reads.total()).into())
}

/// Bytes that no two blocks have in common.
fn fill(local: &Path) -> Outcome<()> {
    let (file, mut seed) = (File::options().write(true).open(local)?, 1_u64);
    let mut block = vec![0; 1 << 20];
    for at in 0..DISK >> 20 {
        for word in block.chunks_exact_mut(8) {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            word.copy_from_slice(&seed.to_le_bytes());
        }
        file.write_all_at(&block, at << 20)?;
    }
    Ok(())
}

/// One process of curl that reads all ranges: their addresses stand in a file.
fn curl_config(site: &Site, flat: &str, reads: Reads) -> Outcome<Vec<String>> {
    let [url, ..] = site.words()?;
    let base = url.trim_end_matches("/sdk");
    let mut config = String::new();
    for (number, start) in reads.starts().enumerate() {
        if number > 0 {
            config.push_str("next\n");
        }
        // Options of a transfer end with it.
        write!(
            config,
            "url = \"{base}/folder/{flat}?dcPath={DATACENTER}&dsName={DATASTORE}\"\nrange = {start}-{}\n\
             output = /dev/null\nuser = {USER}:{PASSWORD}\ncacert = {}\nhttp1.1\nfail\nno-progress-meter\nwrite-out = \"%{{size_download}}\\n\"\n",
            start + reads.len - 1,
            site.certificate().display(),
        )?;
    }
    let file = site.dir().join("curl");
    fs::write(&file, config)?;
    let mut words = vec!["--disable".to_owned(), "--no-progress-meter".into()];
    if reads.at_once > 1 {
        words.extend(["--parallel".into(), "--parallel-max".into(), reads.at_once.to_string()]);
    }
    words.extend(["--config".into(), file.to_str().ok_or("a path in UTF-8")?.into()]);
    Ok(words)
}

/// Reads by our client: the site, the file, which reads, and a local file to compare with, or nothing.
pub(crate) async fn child(words: &[String]) -> Outcome<()> {
    let (vim, rest) = connect(words).await?;
    let [flat, number, local] = rest else {
        return Err("a file, which reads, and whether to compare".into());
    };
    let reads = *ALL.get(number.parse::<usize>()?).ok_or("there are no such reads")?;
    let file = &vim.file(DATACENTER, DatastorePath::new(DATASTORE, flat)?);
    let local = if local.is_empty() { None } else { Some(File::open(local)?) };
    let local = local.as_ref();
    // A buffer for each read that is under way, as a pool has.
    let buffers = &Mutex::new(vec![vec![0; reads.len as usize]; reads.at_once]);
    let read = stream::iter(reads.starts())
        .map(|start| async move {
            let mut buffer = lock(buffers)?.pop().ok_or("more reads than buffers")?;
            file.read(start, &mut buffer).await?;
            compare(local, start, &buffer, file)?;
            lock(buffers)?.push(buffer);
            Outcome::Ok(reads.len)
        })
        .buffer_unordered(reads.at_once)
        .try_fold(0, |sum, len| async move { Ok(sum + len) });
    println!("{}", read.await?);
    vim.log_out().await?;
    Ok(())
}

fn lock<T>(of: &Mutex<T>) -> Outcome<MutexGuard<'_, T>> {
    of.lock().map_err(|_| "a read panicked".into())
}

fn compare(local: Option<&File>, start: u64, buffer: &[u8], file: &DatastoreFile) -> Outcome<()> {
    let Some(local) = local else { return Ok(()) };
    let mut wanted = vec![0; buffer.len()];
    local.read_exact_at(&mut wanted, start)?;
    if wanted == buffer { Ok(()) } else { Err(format!("{} differs at {start}", file.path()).into()) }
}
