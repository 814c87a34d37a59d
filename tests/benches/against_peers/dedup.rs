//! G6: the second run into a store that keeps history, against the programs that keep chunks.

use crate::Outcome;
use crate::bench::{Bench, clear, copy_tree, stored, warm};
use crate::delta::{base_store, ours};
use crate::meter::Cost;
use crate::ours::{By, Seal};
use crate::programs::{need, shell};
use std::path::{Path, PathBuf};

/// A program that keeps chunks, in a directory with all that it keeps, caches included.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Chunks {
    Restic,
    Borg,
}

impl Chunks {
    fn program(self) -> &'static str {
        match self {
            Chunks::Restic => "restic",
            Chunks::Borg => "borg",
        }
    }

    /// Makes an empty repository in a directory.
    pub(crate) fn init(self, dir: &Path) -> Outcome<()> {
        need(&[self.program()])?;
        let text = match self {
            Chunks::Restic => "RESTIC_PASSWORD=x restic -q --cache-dir \"$D/cache\" init -r \"$D/repo\"",
            Chunks::Borg => {
                "BORG_BASE_DIR=$D/cache BORG_PASSPHRASE=x borg init -e repokey-blake2 \"$D/repo\" 2>/dev/null"
            }
        };
        shell(text, &[("D", dir)])?;
        Ok(())
    }

    /// Keeps an image.
    pub(crate) fn keep(self, bench: &Bench, dir: &Path, image: &Path, name: &str) -> Outcome<Cost> {
        let text = match self {
            Chunks::Restic => {
                "RESTIC_PASSWORD=x restic -q --cache-dir \"$D/cache\" -r \"$D/repo\" backup \"$I\""
            }
            Chunks::Borg => {
                "export BORG_RELOCATED_REPO_ACCESS_IS_OK=yes
                BORG_BASE_DIR=$D/cache BORG_PASSPHRASE=x borg create -C lz4 \"$D/repo::$N\" \"$I\""
            }
        };
        Ok(bench.meter.script(text, &[("D", dir), ("I", image), ("N", Path::new(name))])?.0)
    }

    /// Bytes of the repository.
    pub(crate) fn stored(self, dir: &Path) -> Outcome<u64> {
        stored(&dir.join("repo"))
    }
}

pub(crate) fn into_history(bench: &Bench) -> Outcome<()> {
    need(&["restic", "borg"])?;
    let (a, c, disk) = (bench.images.a()?, bench.images.c()?, bench.at("disk.raw"));
    image_at(&a, &disk)?;
    let repositories =
        [Chunks::Restic, Chunks::Borg].map(|chunks| (chunks, bench.at(&format!("{chunks:?}-base"))));
    for (chunks, base) in &repositories {
        clear(base)?;
        std::fs::create_dir_all(base)?;
        chunks.init(base)?;
        chunks.keep(bench, base, &disk, "a")?;
    }
    image_at(&c, &disk)?;
    let base = base_store(bench, &a, Seal::Yes)?;
    let grown =
        |before: &Path, after: &Path| -> Outcome<u64> { Ok(stored(after)?.saturating_sub(stored(before)?)) };
    for (chunks, repository) in repositories {
        let ours = |by| {
            let (cost, _) = ours(bench, &base, &c, by, Seal::Yes)?;
            Ok((cost, grown(&base, &bench.at("store"))?))
        };
        let mut known = vec![];
        let ours = || {
            known.push(ours(By::KnownChanges)?);
            ours(By::Scan)
        };
        let peer = || second_run(bench, chunks, &repository, &disk);
        let pairs = bench.in_turn(bench.pairs(3), ours, peer)?;
        let costs: Vec<_> = pairs.iter().map(|(ours, peer)| (ours.0, peer.0)).collect();
        let bytes: Vec<_> = pairs.iter().map(|(ours, peer)| (ours.1, peer.1)).collect();
        let known: Vec<_> =
            known.into_iter().zip(&costs).map(|((ours, _), (_, peer))| (ours, *peer)).collect();
        let (program, limit) = (chunks.program(), if matches!(chunks, Chunks::Restic) { 0.30 } else { 0.10 });
        bench.report.costs(
            "G6",
            &format!("A to C by scan, sealed, against {program}"),
            &costs,
            Some(0.15),
            None,
        )?;
        bench.report.bytes("G6", &format!("added to the store, against {program}"), &bytes, Some(limit))?;
        bench.report.costs(
            "G6",
            &format!("A to C by known changes, against {program}"),
            &known,
            None,
            None,
        )?;
    }
    bench.check(&bench.at("store"), &c, Seal::Yes)
}

fn second_run(bench: &Bench, chunks: Chunks, base: &Path, disk: &Path) -> Outcome<(Cost, u64)> {
    // Both programs keep the path of the repository in their caches.
    let (here, aside) = (base.to_owned(), PathBuf::from(format!("{}-aside", base.display())));
    clear(&aside)?;
    std::fs::rename(&here, &aside)?;
    copy_tree(&aside, &here)?;
    warm(disk)?;
    let cost = chunks.keep(bench, &here, disk, "c")?;
    let grown = chunks.stored(&here)?.saturating_sub(chunks.stored(&aside)?);
    clear(&here)?;
    std::fs::rename(&aside, &here)?;
    Ok((cost, grown))
}

fn image_at(from: &Path, disk: &Path) -> Outcome<()> {
    clear(disk)?;
    shell("cp --sparse=always --reflink=never \"$A\" \"$O\"; sync -d \"$O\"", &[("A", from), ("O", disk)])?;
    Ok(())
}
