//! G7 and G8: the newest of 288 points over NBD, by one client, ours and QEMU's two kinds.

use crate::Outcome;
use crate::bench::{Bench, clear, warm};
use crate::chain::{POINTS, external, internal, ours};
use crate::churn::Churn;
use crate::client::{Served, read};
use crate::meter::Cost;
use crate::programs::{need, shell};
use std::path::{Path, PathBuf};

const READ: u64 = 256 << 20;

type Session = (Served, Cost);

struct Servers<'a> {
    bench: &'a Bench,
    store: PathBuf,
    external: PathBuf,
    internal: PathBuf,
    socket: PathBuf,
}

/// G7: from the start of the server to the first 4 KiB.
pub(crate) fn first_bytes(bench: &Bench) -> Outcome<()> {
    let servers = Servers::of(bench)?;
    servers.hold_the_same_bytes()?;
    let pairs = bench.pairs(9);
    let ms = |pairs: &[(Session, Session)]| -> Vec<(f64, f64)> {
        pairs.iter().map(|(ours, peer)| (ours.0.first_4k_ms, peer.0.first_4k_ms)).collect()
    };
    let of_external = bench.in_turn(pairs, || servers.newest(0), || servers.qemu(&servers.external, 0))?;
    bench.report.figures(
        "G7",
        "ms to the first 4 KiB, newest of 288, against an external chain",
        &ms(&of_external),
        Some(0.05),
    )?;
    let of_internal = bench.in_turn(pairs, || servers.newest(0), || servers.qemu(&servers.internal, 0))?;
    bench.report.figures(
        "G7",
        "ms to the first 4 KiB, newest of 288, against snapshots",
        &ms(&of_internal),
        Some(0.5),
    )?;
    let of_oldest = bench.in_turn(pairs, || servers.newest(0), || servers.oldest(0))?;
    bench.report.figures(
        "G7",
        "ms to the first 4 KiB, our newest against our oldest",
        &ms(&of_oldest),
        Some(1.5),
    )?;
    let cpu: Vec<_> = of_external.iter().map(|(ours, peer)| (ours.1.cpu, peer.1.cpu)).collect();
    bench.report.figures("G7", "CPU s of the server, newest of 288, against an external chain", &cpu, None)
}

/// G8: random reads, everything in the page cache.
pub(crate) fn random_reads(bench: &Bench) -> Outcome<()> {
    let servers = Servers::of(bench)?;
    let seconds = |pairs: &[(Session, Session)]| -> Vec<(f64, f64)> {
        let of = |session: &Session| READ as f64 / 1e6 / session.0.mb_a_second;
        pairs.iter().map(|(ours, peer)| (of(ours), of(peer))).collect()
    };
    let chain =
        bench.in_turn(bench.pairs(5), || servers.newest(READ), || servers.qemu(&servers.external, READ))?;
    bench.report.figures(
        "G8",
        "s to read 256 MiB at random, against an external chain",
        &seconds(&chain),
        Some(0.2),
    )?;
    let memory: Vec<_> =
        chain.iter().map(|(a, b)| (a.1.memory / 1048576.0, b.1.memory / 1048576.0)).collect();
    bench.report.figures("G8", "memory MiB of the server, against an external chain", &memory, Some(1.0))?;
    let cpu: Vec<_> = chain.iter().map(|(a, b)| (a.1.cpu, b.1.cpu)).collect();
    bench.report.figures("G8", "CPU s of the server, against an external chain", &cpu, None)?;
    let snapshots =
        bench.in_turn(bench.pairs(5), || servers.newest(READ), || servers.qemu(&servers.internal, READ))?;
    bench.report.figures(
        "G8",
        "s to read 256 MiB at random, against snapshots",
        &seconds(&snapshots),
        Some(1.0),
    )?;
    let cpu: Vec<_> = snapshots.iter().map(|(a, b)| (a.1.cpu, b.1.cpu)).collect();
    bench.report.figures("G8", "CPU s of the server, against snapshots", &cpu, None)
}

impl<'a> Servers<'a> {
    fn of(bench: &'a Bench) -> Outcome<Self> {
        need(&["qemu-img", "qemu-io", "qemu-nbd"])?;
        let store = ours(bench, Churn::Large)?.path.join("store");
        let external = external(bench, Churn::Large, POINTS, "")?.path.join(format!("p{POINTS}.qcow2"));
        let internal = internal(bench)?.path.join("p0.qcow2");
        for dir in [&store, &external, &internal].into_iter().filter_map(|path| path.parent()) {
            warm_all(dir)?;
        }
        Ok(Self { bench, store, external, internal, socket: bench.at("served.sock") })
    }

    fn newest(&self, bytes: u64) -> Outcome<Session> {
        self.ours("newest", bytes)
    }

    fn oldest(&self, bytes: u64) -> Outcome<Session> {
        self.ours("oldest", bytes)
    }

    fn ours(&self, which: &str, bytes: u64) -> Outcome<Session> {
        clear(&self.socket)?;
        let mut server = self.bench.serve(&self.store, &self.socket, which)?;
        let _open = server.stdin();
        let served = read(&self.socket, server.started, bytes)?;
        Ok((served, server.kill()?))
    }

    fn qemu(&self, image: &Path, bytes: u64) -> Outcome<Session> {
        clear(&self.socket)?;
        let words = ["-r", "-t", "-e", "8", "-f", "qcow2", "-k"].map(str::to_owned).into_iter();
        let paths = [&*self.socket, image].map(|path| path.display().to_string());
        let args: Vec<String> = words.chain(paths).collect();
        let server = self.bench.meter.start(Path::new("qemu-nbd"), &args, &[])?;
        let served = read(&self.socket, server.started, bytes)?;
        Ok((served, server.kill()?))
    }

    /// All three are the same disk, by `qemu-img compare`.
    fn hold_the_same_bytes(&self) -> Outcome<()> {
        clear(&self.socket)?;
        let mut server = self.bench.serve(&self.store, &self.socket, "newest")?;
        let _open = server.stdin();
        read(&self.socket, server.started, 0)?;
        let text = r#"qemu-img compare -f raw -F qcow2 "nbd+unix:///?socket=$S" "$E"
            qemu-img compare -f qcow2 -F qcow2 "$E" "$I""#;
        shell(text, &[("S", &self.socket), ("E", &self.external), ("I", &self.internal)])?;
        server.kill().map(|_| ())
    }
}

fn warm_all(dir: &Path) -> Outcome<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() { warm_all(&path)? } else { warm(&path)? }
    }
    Ok(())
}
