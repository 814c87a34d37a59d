//! G3: a compressed replica with checksums, from image A.

use crate::Outcome;
use crate::bench::{Bench, clear, stored, warm};
use crate::ours::{By, Seal};
use crate::programs::need;

const PEER: &str =
    r#"qemu-img convert -c -o compression_type=zstd -W -m 16 -f raw -O qcow2 "$A" "$O"; sync -d "$O""#;

pub(crate) fn compressed(bench: &Bench) -> Outcome<()> {
    need(&["qemu-img", "sync"])?;
    let (a, store, qcow2) = (bench.images.a()?, bench.at("store"), bench.at("copy.qcow2"));
    warm(&a)?;
    let ours = || {
        clear(&store)?;
        let (cost, _) = bench.ship(&store, &a, "first", By::Whole, Seal::No)?;
        Ok((cost, stored(&store)?))
    };
    let peer = || {
        clear(&qcow2)?;
        let (cost, _) = bench.meter.script(PEER, &[("A", &a), ("O", &qcow2)])?;
        Ok((cost, stored(&qcow2)?))
    };
    let pairs = bench.in_turn(bench.pairs(5), ours, peer)?;
    let costs: Vec<_> = pairs.iter().map(|(ours, peer)| (ours.0, peer.0)).collect();
    let sizes: Vec<_> = pairs.iter().map(|(ours, peer)| (ours.1, peer.1)).collect();
    bench.report.costs(
        "G3",
        "compressed replica of A against qemu-img convert -c zstd",
        &costs,
        Some(0.5),
        None,
    )?;
    bench.report.bytes("G3", "stored, against qemu-img convert -c zstd", &sizes, Some(1.1))?;
    bench.check(&store, &a, Seal::No)
}
