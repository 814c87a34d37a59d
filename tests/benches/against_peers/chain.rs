//! Histories of R, ours and QEMU's, with the same writes from point to point.

use crate::Outcome;
use crate::bench::{Bench, clear, stored};
use crate::churn::{Churn, Write};
use crate::images::SIZE_OF_R;
use crate::programs::shell;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A point every five minutes, for a day.
pub(crate) const POINTS: usize = 288;

/// A history, and what it took to store it.
#[derive(Debug)]
pub(crate) struct History {
    pub(crate) path: PathBuf,
    /// Bytes on disk beyond the first point.
    pub(crate) grown: u64,
}

/// Ours, with 288 points after the first.
pub(crate) fn ours(bench: &Bench, churn: Churn) -> Outcome<History> {
    once(bench, &format!("history-ours-{}", churn.name()), |dir| {
        let (r, store) = (bench.images.r()?, dir.join("store"));
        bench.history(&store, &r, churn, 0)?;
        let base = stored(&store)?;
        bench.history(&store, &r, churn, POINTS)?;
        Ok(stored(&store)?.saturating_sub(base))
    })
}

/// QEMU's: a file for each point, on top of the one before.
pub(crate) fn external(bench: &Bench, churn: Churn, points: usize, options: &str) -> Outcome<History> {
    let kind = if options.is_empty() { "plain" } else { "l2" };
    once(bench, &format!("history-external-{}-{kind}", churn.name()), |dir| {
        let r = bench.images.r()?;
        shell(
            &format!("qemu-img convert -f raw -O qcow2 {options} \"$R\" \"$D/p0.qcow2\""),
            &[("R", &r), ("D", dir)],
        )?;
        let (base, guest) = (stored(dir)?, Guest::new(bench, &r, churn)?);
        for point in 1..=points {
            shell(&create(point, options), &[("D", dir), ("W", &guest.commands(point)?)])?;
        }
        Ok(stored(dir)?.saturating_sub(base))
    })
}

/// QEMU's: one file with as many internal snapshots.
pub(crate) fn internal(bench: &Bench) -> Outcome<History> {
    once(bench, "history-internal", |dir| {
        let r = bench.images.r()?;
        shell("qemu-img convert -f raw -O qcow2 \"$R\" \"$D/p0.qcow2\"", &[("R", &r), ("D", dir)])?;
        let (base, guest) = (stored(dir)?, Guest::new(bench, &r, Churn::Large)?);
        for point in 1..=POINTS {
            let text = format!(
                "qemu-img snapshot -c s{point} \"$D/p0.qcow2\"; qemu-io -t writeback -f qcow2 \"$D/p0.qcow2\" <\"$W\" >/dev/null"
            );
            shell(&text, &[("D", dir), ("W", &guest.commands(point)?)])?;
        }
        Ok(stored(dir)?.saturating_sub(base))
    })
}

/// Makes a point of an external chain, and writes into it; the chain below is not opened.
pub(crate) fn create(point: usize, options: &str) -> String {
    let below = point - 1;
    let cluster = r#""driver":"qcow2","file":{"driver":"file","filename":"'"$D"'/"#;
    format!(
        r#"cd "$D"; qemu-img create -q -u -f qcow2 {options} -b p{below}.qcow2 -F qcow2 p{point}.qcow2 {SIZE_OF_R}
        qemu-io -t writeback 'json:{{{cluster}p{point}.qcow2"}},"backing":null}}' <"$W" >/dev/null"#
    )
}

/// Who writes what [`Churn`] says through qemu-io.
#[derive(Debug)]
pub(crate) struct Guest {
    dir: PathBuf,
    churn: Churn,
    r: File,
}

impl Guest {
    pub(crate) fn new(bench: &Bench, r: &Path, churn: Churn) -> Outcome<Self> {
        Ok(Self { dir: bench.fresh("writes")?, churn, r: File::open(r)? })
    }

    /// A file of commands that write what changes until this point, and then flush.
    pub(crate) fn commands(&self, point: usize) -> Outcome<PathBuf> {
        let write = |write: Write| {
            let mut bytes = vec![0; self.churn.size() as usize];
            self.r.read_exact_at(&mut bytes, write.from).map(|()| (write.start, bytes))
        };
        let writes = self.churn.writes(point).into_iter().map(write).collect::<Result<Vec<_>, _>>()?;
        qemu_writes(&self.dir, writes)
    }
}

/// A file of commands for qemu-io, and files with the bytes that they write.
pub(crate) fn qemu_writes(dir: &Path, writes: impl IntoIterator<Item = (u64, Vec<u8>)>) -> Outcome<PathBuf> {
    let (commands, mut text) = (dir.join("commands"), String::new());
    for (number, (start, bytes)) in writes.into_iter().enumerate() {
        let file = dir.join(number.to_string());
        fs::write(&file, &bytes)?;
        writeln!(text, "write -q -s {} {start} {}", file.display(), bytes.len())?;
    }
    fs::write(&commands, text + "flush\n")?;
    Ok(commands)
}

/// Makes a history where there is none of this name yet.
fn once(bench: &Bench, name: &str, make: impl FnOnce(&Path) -> Outcome<u64>) -> Outcome<History> {
    let (path, half) = (bench.at(name), bench.at("half-made"));
    if !path.exists() {
        clear(&half)?;
        fs::create_dir_all(&half)?;
        let began = std::time::Instant::now();
        let made = make(&half)?;
        fs::write(half.join("grown"), made.to_string())?;
        shell("sync", &[])?;
        fs::rename(&half, &path)?;
        println!("  made {name} in {:.0} s", began.elapsed().as_secs_f64());
    }
    let grown = fs::read_to_string(path.join("grown"))?.parse()?;
    Ok(History { path, grown })
}
