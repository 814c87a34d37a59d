//! G4 and G5: a replica of A becomes one of C.

use crate::Outcome;
use crate::bench::{Bench, clear, copy_tree, warm};
use crate::chain::qemu_writes;
use crate::images::{BLOCK, dirty_blocks};
use crate::meter::Cost;
use crate::ours::{By, Seal};
use crate::programs::{is_here, need, shell};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

const RSYNC: &str = r#"rsync --inplace --no-whole-file --block-size=65536 --stats "$C" "$O"; sync -d "$O""#;
const BDSYNC: &str = r#"bdsync --blocksize=65536 --hash=md5 "bdsync --server" "$C" "$O" >"$D"; bdsync --patch="$O" <"$D"; sync -d "$O""#;
const BITMAP: &str = r#"qemu-nbd -r -t -f qcow2 -B b0 -k "$S" "$Q" & server=$!
    "$SELF" --child copy-dirty "$S" b0 "$O" || { kill $server; exit 1; }
    kill $server; wait $server 2>/dev/null || true"#;

/// G4: nobody knows what changed, both sides are read whole.
pub(crate) fn by_scan(bench: &Bench) -> Outcome<()> {
    need(&["rsync", "sync"])?;
    let (a, c, copy) = (bench.images.a()?, bench.images.c()?, bench.at("copy.raw"));
    let base = base_store(bench, &a, Seal::Yes)?;
    let peer = || {
        copy_of(&a, &copy)?;
        warm(&c)?;
        let (cost, said) = bench.meter.script(RSYNC, &[("C", &c), ("O", &copy)])?;
        Ok((cost, rsync_bytes(&said)?))
    };
    let pairs = bench.in_turn(bench.pairs(5), || ours(bench, &base, &c, By::Scan, Seal::Yes), peer)?;
    let costs: Vec<_> = pairs.iter().map(|(ours, peer)| (ours.0, peer.0)).collect();
    let bytes: Vec<_> = pairs.iter().map(|(ours, peer)| (ours.1, peer.1)).collect();
    bench.report.costs("G4", "A to C by scan, sealed, against rsync --inplace", &costs, Some(0.35), None)?;
    bench.report.bytes("G4", "that crossed, hashes included, against rsync", &bytes, Some(1.0))?;
    bench.check(&bench.at("store"), &c, Seal::Yes)?;
    if !is_here("bdsync") {
        let why = "bdsync is absent and no Debian package has it: build it from https://github.com/rolffokkens/bdsync";
        return bench.report.failed("G4", why);
    }
    let diff = bench.at("bdsync.diff");
    let peer = || {
        copy_of(&a, &copy)?;
        warm(&c)?;
        Ok(bench.meter.script(BDSYNC, &[("C", &c), ("O", &copy), ("D", &diff)])?.0)
    };
    let pairs = bench.in_turn(bench.pairs(3), || Ok(ours(bench, &base, &c, By::Scan, Seal::Yes)?.0), peer)?;
    bench.report.costs("G4", "A to C by scan, sealed, against bdsync md5", &pairs, Some(0.10), None)
}

/// G5: the source knows which blocks changed.
pub(crate) fn by_known_changes(bench: &Bench) -> Outcome<()> {
    need(&["qemu-img", "qemu-io", "qemu-nbd"])?;
    let (a, c, copy) = (bench.images.a()?, bench.images.c()?, bench.at("copy.raw"));
    let base = base_store(bench, &a, Seal::No)?;
    let (qcow2, socket) = (dirty_qcow2(bench, &a, &c)?, bench.at("bitmap.sock"));
    let program = std::env::current_exe()?;
    let vars = [("S", &*socket), ("Q", &*qcow2), ("O", &*copy), ("SELF", &*program)];
    copy_of(&a, &copy)?;
    let peer = || {
        clear(&socket)?;
        let (cost, said) = bench.meter.script(BITMAP, &vars)?;
        Ok((cost, said.trim().parse::<u64>()?))
    };
    let pairs = bench.in_turn(bench.pairs(9), || ours(bench, &base, &c, By::KnownChanges, Seal::No), peer)?;
    shell("cmp \"$C\" \"$O\"", &[("C", &c), ("O", &copy)])?;
    let costs: Vec<_> = pairs.iter().map(|(ours, peer)| (ours.0, peer.0)).collect();
    let bytes: Vec<_> = pairs.iter().map(|(ours, peer)| (ours.1, peer.1)).collect();
    let against = "A to C by known changes, against qemu-nbd's bitmap, written straight to a file";
    bench.report.costs("G5", against, &costs, None, Some(1.0))?;
    bench.report.bytes("G5", "that crossed, against qemu-nbd's bitmap", &bytes, Some(0.75))?;
    bench.check(&bench.at("store"), &c, Seal::No)
}

/// A store that holds A as its only point.
pub(crate) fn base_store(bench: &Bench, a: &Path, seal: Seal) -> Outcome<std::path::PathBuf> {
    let base = bench.fresh("base")?;
    bench.ship(&base, a, "first", By::Whole, seal)?;
    Ok(base)
}

/// Ships C on top of A; the bytes that crossed.
pub(crate) fn ours(bench: &Bench, base: &Path, c: &Path, by: By, seal: Seal) -> Outcome<(Cost, u64)> {
    let store = bench.fresh("store")?;
    copy_tree(base, &store)?;
    warm(c)?;
    bench.ship(&store, c, "second", by, seal)
}

fn copy_of(a: &Path, copy: &Path) -> Outcome<()> {
    clear(copy)?;
    shell("cp --sparse=always --reflink=never \"$A\" \"$O\"; sync -d \"$O\"", &[("A", a), ("O", copy)])?;
    warm(copy)
}

fn rsync_bytes(said: &str) -> Outcome<u64> {
    let of = |what: &str| -> Outcome<u64> {
        let number = said.lines().find_map(|line| line.strip_prefix(what)).ok_or("rsync says no totals")?;
        Ok(number.replace(',', "").trim().parse()?)
    };
    Ok(of("Total bytes sent:")? + of("Total bytes received:")?)
}

/// A as qcow2, in which a guest wrote what C has, while QEMU's bitmap took note.
fn dirty_qcow2(bench: &Bench, a: &Path, c: &Path) -> Outcome<std::path::PathBuf> {
    let qcow2 = bench.at("dirty.qcow2");
    let text = r#"qemu-img convert -f raw -O qcow2 "$A" "$Q"; qemu-img bitmap --add -g 64k "$Q" b0"#;
    shell(text, &[("A", a), ("Q", &qcow2)])?;
    let c = File::open(c)?;
    let block = |start| {
        let mut bytes = vec![0; BLOCK as usize];
        c.read_exact_at(&mut bytes, start).map(|()| (start, bytes))
    };
    let writes = dirty_blocks().into_iter().map(block).collect::<Result<Vec<_>, _>>()?;
    let commands = qemu_writes(&bench.fresh("writes")?, writes)?;
    shell("qemu-io -t writeback -f qcow2 \"$Q\" <\"$W\" >/dev/null; sync \"$Q\"", &[("Q", &qcow2), ("W", &commands)])?;
    Ok(qcow2)
}
