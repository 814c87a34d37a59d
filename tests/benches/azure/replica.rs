//! A2 and A4: captures into page blobs by a process server in a process of its own; the fake counts requests, a relay bytes.

use crate::blobs::{Asked, Blobs, Bytes};
use crate::meter::{Cost, Meter};
use crate::relay::Relay;
use crate::report::{Limit, figure};
use crate::{MIB, Outcome};
use std::path::PathBuf;

const DISK: f64 = 1073741824.0;

/// What one run of ours took.
struct Took {
    cost: Cost,
    asked: Asked,
    /// Bytes that we sent, headers and TLS with them.
    sent: u64,
}

/// The fake, and the way to it.
struct Ground {
    blobs: Blobs,
    relay: Relay,
    meter: Meter,
    program: PathBuf,
}

impl Ground {
    async fn start() -> Outcome<Self> {
        let blobs = Blobs::start(Bytes::Kept)?;
        let relay = Relay::to(blobs.port).await?;
        Ok(Self { blobs, relay, meter: Meter::new(), program: std::env::current_exe()? })
    }

    async fn run(&mut self, what: &str, more: &[&str]) -> Outcome<Took> {
        let mut words: Vec<String> = ["--child", what].map(str::to_owned).to_vec();
        words.extend(self.blobs.account.behind(self.relay.port).words()?);
        words.extend(more.iter().map(|word| (*word).to_owned()));
        let running = self.meter.start(&self.program, &words, &[])?;
        // Elsewhere: the relay is a task of this runtime.
        let (cost, _) = tokio::task::spawn_blocking(move || running.end()).await??;
        Ok(Took { cost, asked: self.blobs.take()?, sent: self.relay.take().0 })
    }
}

/// A2: 1 GiB without zeros, and a hundredth of it written anew.
pub(crate) async fn of_copies() -> Outcome<()> {
    for (len, limit) in [("65536", Limit::AtMost(1.1)), ("4096", Limit::None)] {
        let mut ground = Ground::start().await?;
        let first = ground.run("ship", &["dense", "0"]).await?;
        requests("A2", "of a first copy of 1 GiB", &first);
        figure("A2", "CPU s of it, the process server's with it", first.cost.cpu, Limit::None);
        let disk = format!("dense/{len}");
        let delta = ground.run("ship", &[&disk, "1"]).await?;
        let what = format!("of a delta of 1 % in runs of {len} bytes");
        requests("A2", &what, &delta);
        figure("A2", &format!("MiB sent {what}"), delta.sent as f64 / MIB, Limit::None);
        let manifest = delta.asked.points.received;
        figure("A2", "KiB of it for the point's document", manifest as f64 / 1024.0, Limit::None);
        let part = (delta.sent - manifest) as f64 / DISK * 100.0;
        figure("A2", "% of the disk that was sent without that", part, limit);
        ground.run("check", &[&disk]).await?;
    }
    Ok(())
}

/// A4: 1 GiB in 1024 pieces on a disk of 4 TiB.
pub(crate) async fn of_a_sparse_disk() -> Outcome<()> {
    let mut ground = Ground::start().await?;
    let first = ground.run("ship", &["sparse", "0"]).await?;
    requests("A4", "of a first copy of 4 TiB with 1 GiB of data", &first);
    figure("A4", "most memory of it, MiB", first.cost.memory / MIB, Limit::AtMost(256.0));
    figure("A4", "CPU s of it", first.cost.cpu, Limit::None);
    figure("A4", "wall s of it", first.cost.wall, Limit::None);
    ground.run("check", &["sparse"]).await?;
    Ok(())
}

fn requests(goal: &str, what: &str, took: &Took) {
    let Asked { all, pages, clears, notes, .. } = took.asked;
    let other = all.requests - pages.requests - clears.requests - notes.requests;
    for (kind, count) in [
        ("requests, all", all.requests),
        ("writes of pages", pages.requests),
        ("clears of pages", clears.requests),
        ("notes", notes.requests),
        ("other requests", other),
    ] {
        figure(goal, &format!("{kind}, {what}"), count as f64, Limit::None);
    }
}
