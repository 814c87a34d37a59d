//! S1 and S2: the first copy of image A, from the server's disk to a durable point.

use crate::Outcome;
use crate::fleet::{Fleet, Records, Store};
use crate::hosts::{Disk, Ground};
use crate::images::{Images, SIZE_OF_A};
use crate::peers::{Cost, NBD, Peers, ZSTD};
use crate::programs::{need, shell};
use crate::report::{Report, median};
use crate::rounds::Round;
use std::path::Path;

/// Of the file system that the server's disk lies on.
const ROOM: u64 = 8 << 30;

/// S1: compressed and sealed.
pub(crate) async fn sealed(report: &Report, dir: &Path, pairs: usize) -> Outcome<()> {
    need(&["zstd", "socat", "sync"])?;
    let ways = [(Store::Apart, Some(0.65), Some(1.0)), (Store::Beside, None, None)];
    against(report, dir, pairs, "S1", Records::CompressedAndSealed, (ZSTD, "zstd -1, socat, zstd -d"), ways)
        .await
}

/// S2: as it is.
pub(crate) async fn plain(report: &Report, dir: &Path, pairs: usize) -> Outcome<()> {
    need(&["nbdkit", "nbdcopy", "sync"])?;
    let ways = [(Store::Apart, Some(1.0), None), (Store::Beside, None, None)];
    against(report, dir, pairs, "S2", Records::AsTheyAre, (NBD, "nbdcopy to nbdkit, TLS"), ways).await
}

type Way = (Store, Option<f64>, Option<f64>);

async fn against(
    report: &Report,
    dir: &Path,
    pairs: usize,
    goal: &str,
    records: Records,
    (script, peer): (&str, &str),
    ways: [Way; 2],
) -> Outcome<()> {
    let a = Images::new(dir.join("services"))?.a()?;
    for (store, cpu, wall) in ways {
        let ground = Ground::new(&format!("bench-{goal}"));
        let room = ground.store(ROOM);
        let image = room.dir().join("a.raw");
        shell("cp --sparse=always \"$A\" \"$B\"; sync \"$B\"", &[("A", &a), ("B", &image)])?;
        let disk = Disk::over(&ground, &image, SIZE_OF_A);
        let peers = Peers::on(&ground)?;
        let fleet = Fleet::start(&ground, &disk, store, records).await?;
        let mut all = vec![];
        for number in 0..pairs {
            let compared = (number + 1 == pairs).then_some(&*image);
            let peer = || -> Outcome<Cost> {
                let cost = peers.copy(script, &disk)?;
                peers.check(&disk)?;
                Ok(cost)
            };
            // Who begins changes with each pair.
            all.push(if number % 2 == 0 {
                let ours = fleet.first_copy(number, compared).await?;
                (ours, peer()?)
            } else {
                let theirs = peer()?;
                (fleet.first_copy(number, compared).await?, theirs)
            });
        }
        fleet.stop().await;
        let processes = if store == Store::Apart { "three processes" } else { "two, the store beside" };
        tell(report, goal, &format!("{processes}, against {peer}"), &all, (cpu, wall))?;
    }
    Ok(())
}

fn tell(
    report: &Report,
    goal: &str,
    what: &str,
    pairs: &[(Round, Cost)],
    (cpu, wall): (Option<f64>, Option<f64>),
) -> Outcome<()> {
    let of = |ours: fn(&Round) -> f64, peer: fn(&Cost) -> f64| -> Vec<_> {
        pairs.iter().map(|(round, cost)| (ours(round), peer(cost))).collect()
    };
    report.figures(goal, &format!("CPU s, {what}"), &of(|r| r.copy.all(), |c| c.cpu), cpu)?;
    report.figures(
        goal,
        &format!("CPU s with the scan, {what}"),
        &of(|r| r.copy.all() + r.scan.all(), |c| c.cpu),
        None,
    )?;
    report.figures(goal, &format!("wall s, {what}"), &of(|r| r.wall, |c| c.wall), wall)?;
    let part = |of: fn(&Round) -> f64| median(pairs.iter().map(|(round, _)| of(round)));
    println!(
        "       of these: agent {:.2} s, process server {:.2} s, store {:.2} s; the scan after it {:.2} s; {:.0} MiB of records",
        part(|r| r.copy.agent),
        part(|r| r.copy.ps),
        part(|r| r.copy.store),
        part(|r| r.scan.all()),
        part(|r| r.crossed as f64 / 1048576.0),
    );
    Ok(())
}
