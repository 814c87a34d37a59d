//! The disk images that everybody copies. They are the same on the same machine, whoever makes them.
//!
//! - A: 4 GiB, ext4, about 1.6 GiB of programs and documents of this system, the rest holes.
//! - C: A with 655 of its 65536 blocks of 64 KiB (one in a hundred) written anew: half random, half a program.
//! - R: 1 GiB without a block of zeros: those of A that are none.

use crate::Outcome;
use crate::programs::{need, shell};
use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

pub(crate) const BLOCK: u64 = 64 << 10;
pub(crate) const SIZE_OF_A: u64 = 4 << 30;
pub(crate) const SIZE_OF_R: u64 = 1 << 30;
const FILES_IN_A: u64 = 1850 << 20;
const DIRTY: u64 = SIZE_OF_A / BLOCK / 100;

#[derive(Debug)]
pub(crate) struct Images {
    dir: PathBuf,
}

impl Images {
    pub(crate) fn new(dir: PathBuf) -> Outcome<Self> {
        fs::create_dir_all(&dir)?;
        Ok(Self { dir: dir.canonicalize()? })
    }

    pub(crate) fn a(&self) -> Outcome<PathBuf> {
        self.made("A.raw", |path| fill_a(path, &self.dir.join("tree")))
    }

    pub(crate) fn c(&self) -> Outcome<PathBuf> {
        let a = self.a()?;
        self.made("C.raw", |path| {
            shell("cp --sparse=always --reflink=never \"$A\" \"$C\"", &[("A", &a), ("C", path)])?;
            write_anew(path)
        })
    }

    pub(crate) fn r(&self) -> Outcome<PathBuf> {
        let a = self.a()?;
        self.made("R.raw", |path| fill_r(&a, path))
    }

    fn made(&self, name: &str, make: impl FnOnce(&Path) -> Outcome<()>) -> Outcome<PathBuf> {
        let (done, half) = (self.dir.join(name), self.dir.join(format!("{name}.half")));
        if !done.exists() {
            println!("  making {}", done.display());
            make(&half)?;
            File::open(&half)?.sync_all()?;
            fs::rename(&half, &done)?;
        }
        Ok(done)
    }
}

/// First bytes of the blocks in which C differs from A, sorted.
pub(crate) fn dirty_blocks() -> Vec<u64> {
    let (mut dice, mut blocks) = (Dice(42), std::collections::BTreeSet::new());
    while (blocks.len() as u64) < DIRTY {
        blocks.insert(dice.below(SIZE_OF_A / BLOCK) * BLOCK);
    }
    blocks.into_iter().collect()
}

fn fill_a(path: &Path, tree: &Path) -> Outcome<()> {
    need(&["mkfs.ext4"])?;
    crate::bench::clear(tree)?;
    let mut left = FILES_IN_A;
    for part in
        ["bin", "lib/x86_64-linux-gnu", "lib/aarch64-linux-gnu", "lib/python3", "lib/gcc", "share", "lib"]
    {
        gather(&Path::new("/usr").join(part), &tree.join(part), &mut left)?;
    }
    File::create(path)?.set_len(SIZE_OF_A)?;
    shell(
        "mkfs.ext4 -q -F -E lazy_itable_init=1 -d \"$TREE\" \"$A\"; rm -rf \"$TREE\"",
        &[("TREE", tree), ("A", path)],
    )?;
    Ok(())
}

/// Links the regular files of a directory, or copies them where that cannot be, while there is room.
fn gather(from: &Path, to: &Path, left: &mut u64) -> Outcome<()> {
    let Ok(entries) = fs::read_dir(from) else { return Ok(()) };
    let mut entries: Vec<_> = entries.collect::<Result<_, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    fs::create_dir_all(to)?;
    for entry in entries {
        let (there, target) = (entry.metadata()?, to.join(entry.file_name()));
        if there.is_dir() {
            gather(&entry.path(), &target, left)?;
        } else if there.is_file() && there.len() <= *left && !target.exists() {
            let linked = fs::hard_link(entry.path(), &target);
            if linked.is_ok() || fs::copy(entry.path(), &target).is_ok() {
                *left -= there.len().next_multiple_of(4096).min(*left);
            }
        }
    }
    Ok(())
}

fn write_anew(c: &Path) -> Outcome<()> {
    let (file, program, mut dice) = (OpenOptions::new().write(true).open(c)?, largest_program()?, Dice(43));
    for (number, start) in dirty_blocks().into_iter().enumerate() {
        let bytes = if number % 2 == 0 {
            dice.bytes(BLOCK as usize)
        } else {
            let from = dice.below(program.len() as u64 - BLOCK) as usize;
            program[from..from + BLOCK as usize].to_vec()
        };
        file.write_all_at(&bytes, start)?;
    }
    Ok(())
}

fn largest_program() -> Outcome<Vec<u8>> {
    let programs =
        fs::read_dir("/usr/bin")?.flatten().filter_map(|entry| Some((entry.metadata().ok()?, entry.path())));
    let largest = programs.filter(|(there, _)| there.is_file()).max_by_key(|(there, _)| there.len());
    Ok(fs::read(largest.ok_or("/usr/bin is empty")?.1)?)
}

fn fill_r(a: &Path, path: &Path) -> Outcome<()> {
    let (out, mut block, mut at) = (File::create(path)?, vec![0; BLOCK as usize], 0);
    while at < SIZE_OF_R {
        let mut from = File::open(a)?;
        while at < SIZE_OF_R && from.read_exact(&mut block).is_ok() {
            if block.iter().any(|byte| *byte != 0) {
                out.write_all_at(&block, at)?;
                at += BLOCK;
            }
        }
    }
    Ok(())
}

/// Splitmix64: the same numbers for the same seed, for ever.
#[derive(Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.roll() % end
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let words = (0..len.div_ceil(8)).flat_map(|_| self.roll().to_le_bytes());
        words.take(len).collect()
    }
}
