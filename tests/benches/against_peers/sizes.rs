//! G9: what 288 points take, ours and the peers'.

use crate::Outcome;
use crate::bench::{Bench, clear};
use crate::chain::{POINTS, external, ours};
use crate::churn::Churn;
use crate::dedup::Chunks;
use crate::programs::{need, shell};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;

/// Of small writes, whose chain would take 10 GiB; and what restic and borg are given, which need seconds for each.
const FEW_OF_QEMU: usize = 32;
const FEW_OF_CHUNKS: usize = 8;
const EXTENDED_L2: &str = "-o extended_l2=on,cluster_size=128k";

pub(crate) fn of_history(bench: &Bench) -> Outcome<()> {
    need(&["qemu-img", "qemu-io", "restic", "borg"])?;
    let (large, small) = (ours(bench, Churn::Large)?.grown, ours(bench, Churn::Small)?.grown);
    let qemu = |churn, points, options| -> Outcome<f64> {
        Ok(external(bench, churn, points, options)?.grown as f64 / points as f64)
    };
    let a_point = |what: &str, churn: &str, ours: u64, peer: f64, limit| {
        let pair = (ours as f64 / POINTS as f64 / 1048576.0, peer / 1048576.0);
        bench.report.figures("G9", &format!("MiB a point, {churn} writes, against {what}"), &[pair], limit)
    };
    a_point("qcow2, 288 points", "64-KiB", large, qemu(Churn::Large, POINTS, "")?, Some(0.45))?;
    a_point("qcow2, 32 points", "4-KiB", small, qemu(Churn::Small, FEW_OF_QEMU, "")?, Some(0.05))?;
    a_point(
        "qcow2 extended_l2, 32 points",
        "4-KiB",
        small,
        qemu(Churn::Small, FEW_OF_QEMU, EXTENDED_L2)?,
        Some(0.45),
    )?;
    for (churn, name, ours, limit) in
        [(Churn::Large, "64-KiB", large, 0.10), (Churn::Small, "4-KiB", small, 0.01)]
    {
        a_point("restic, 8 points", name, ours, chunks(bench, Chunks::Restic, churn)?, Some(limit))?;
        a_point("borg, 8 points", name, ours, chunks(bench, Chunks::Borg, churn)?, None)?;
    }
    for (name, churn, ours) in [("64-KiB", Churn::Large, large), ("4-KiB", Churn::Small, small)] {
        a_point("the bytes that were written", name, ours, churn.payload() as f64, None)?;
    }
    Ok(())
}

/// Bytes that a point adds to a repository.
fn chunks(bench: &Bench, chunks: Chunks, churn: Churn) -> Outcome<f64> {
    let (r, disk, dir) = (bench.images.r()?, bench.at("disk.raw"), bench.fresh("chunks")?);
    shell("cp --reflink=never \"$R\" \"$O\"", &[("R", &r), ("O", &disk)])?;
    chunks.init(&dir)?;
    chunks.keep(bench, &dir, &disk, "0")?;
    let (base, r, file) =
        (chunks.stored(&dir)?, File::open(&r)?, OpenOptions::new().write(true).open(&disk)?);
    let mut bytes = vec![0; churn.size() as usize];
    for point in 1..=FEW_OF_CHUNKS {
        for write in churn.writes(point) {
            r.read_exact_at(&mut bytes, write.from)?;
            file.write_all_at(&bytes, write.start)?;
        }
        chunks.keep(bench, &dir, &disk, &point.to_string())?;
    }
    let grown = chunks.stored(&dir)?.saturating_sub(base);
    clear(&dir)?;
    Ok(grown as f64 / FEW_OF_CHUNKS as f64)
}
