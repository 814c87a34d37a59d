//! Change tracking by hash tables: one hash per 64 KiB of each disk, as of an instant. What changed between two instants
//! is where their tables differ, so nothing that writes to a disk has to tell us.
//!
//! A table is a directory `tracking/<id>/` with one file of hashes per disk and `table.json`, written last, which has
//! their digests. A cursor names a table and the digest of its `table.json`.

use crate::home::plain;
use crate::home::{Held, Home};
use serde::{Deserialize, Serialize};
use site_recovery::{
    ChangeSet, Changes, Cursor, DiskId, Fill, Generation, HASH_BLOCK, Hash, MachineId, OpKey, Result, Run,
};
use site_recovery_register::Told;
use site_recovery_register::durable;
use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

/// The hash of a block that reads as zeros; no other block has it, but for one chance in 2^128.
const ZEROS: Hash = 0;

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Table {
    machine: MachineId,
    generation: Generation,
    disks: Vec<TableDisk>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct TableDisk {
    id: DiskId,
    size: u64,
    digest: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Token {
    table: String,
    digest: String,
}

/// Makes the table of disks as they stand in their files, durably, and the cursor that names it. What is written to a
/// disk meanwhile is told as a change afterwards.
pub(crate) fn record(
    home: &Home,
    id: &str,
    machine: &MachineId,
    generation: Generation,
    disks: &[Held],
) -> Result<Cursor> {
    let dir = table_dir(home, id);
    durable::remove_tree(&dir)?;
    durable::make_dir(&dir)?;
    let mut table = Table { machine: machine.clone(), generation, disks: vec![] };
    for held in disks.iter().filter(|d| d.spec.included) {
        let digest = hash_file(&held.path, &dir.join(hashes_of(&held.spec.id)))?;
        table.disks.push(TableDisk { id: held.spec.id.clone(), size: held.spec.size, digest });
    }
    durable::write(&dir.join("table.json"), &table)?;
    let text = fs::read(dir.join("table.json")).told("read", &dir)?;
    let token = Token { table: id.to_owned(), digest: hex(xxh3_128(&text)) };
    Ok(Cursor { generation, token: serde_json::to_vec(&token).expect("plain data") })
}

/// A name for a new table of this key.
pub(crate) fn new_id(home: &Home, key: &OpKey) -> String {
    let mut ids = (0_u64..).map(|n| plain(&format!("{key}/{n}")));
    ids.find(|id| !table_dir(home, id).exists()).expect("there is always another number")
}

/// Whether the table is there, whole.
pub(crate) fn exists(home: &Home, id: &str) -> bool {
    table_dir(home, id).join("table.json").exists()
}

/// The table that a cursor of ours names.
pub(crate) fn table_of(cursor: &Cursor) -> Option<String> {
    serde_json::from_slice::<Token>(&cursor.token).ok().map(|t| t.table)
}

/// What differs between two instants, or why that cannot be told.
pub(crate) fn compare(home: &Home, machine: &MachineId, since: &Cursor, until: &Cursor) -> Changes {
    let tables = if since.generation == until.generation {
        open(home, machine, since).and_then(|a| open(home, machine, until).map(|b| (a, b)))
    } else {
        Err(format!("the cursor is of generation {}, the machine of {}", since.generation, until.generation))
    };
    match tables.and_then(|(a, b)| differences(home, &a, &b)) {
        Ok(set) => Changes::Known(set),
        Err(reason) => Changes::Lost { reason },
    }
}

type Named = (String, Table);

fn open(home: &Home, machine: &MachineId, cursor: &Cursor) -> std::result::Result<Named, String> {
    let token: Token =
        serde_json::from_slice(&cursor.token).map_err(|_| "the cursor is not of this site".to_owned())?;
    if plain(&token.table) != token.table {
        return Err("the cursor is not of this site".into());
    }
    let path = table_dir(home, &token.table).join("table.json");
    let text = fs::read(path).map_err(|_| format!("table {} is gone", token.table))?;
    if hex(xxh3_128(&text)) != token.digest {
        return Err(format!("table {} is not the one that the cursor names", token.table));
    }
    let table: Table =
        serde_json::from_slice(&text).map_err(|e| format!("table {} is damaged: {e}", token.table))?;
    if table.machine != *machine || table.generation != cursor.generation {
        return Err(format!("table {} is of another machine or generation", token.table));
    }
    Ok((token.table, table))
}

fn differences(home: &Home, old: &Named, new: &Named) -> std::result::Result<ChangeSet, String> {
    let ((old_id, old), (new_id, new)) = (old, new);
    let shape = |t: &Table| t.disks.iter().map(|d| (d.id.clone(), d.size)).collect::<Vec<_>>();
    if shape(old) != shape(new) {
        return Err("a disk was added, removed or resized since".into());
    }
    let mut set = ChangeSet::new();
    if old_id == new_id {
        return Ok(set);
    }
    for (a, b) in old.disks.iter().zip(&new.disks) {
        let mut then = Hashes::open(home, old_id, a)?;
        let mut now = Hashes::open(home, new_id, b)?;
        for run in Run::new(0, b.size).pieces(HASH_BLOCK) {
            if then.next()? != now.next()? {
                set.add(&b.id, run);
            }
        }
        then.finish()?;
        now.finish()?;
    }
    Ok(set)
}

/// Removes all tables but these.
pub(crate) fn keep_only(home: &Home, ids: &[&str]) -> Result<()> {
    for dir in durable::list(&home.own("tracking"))? {
        let name = dir.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        if dir.is_dir() && !ids.contains(&name.as_str()) {
            durable::remove_tree(&dir)?;
        }
    }
    Ok(())
}

/// The hashes of one disk, read in order, with the digest of all of them checked at the end.
struct Hashes {
    file: BufReader<File>,
    digest: Xxh3,
    expect: String,
    name: String,
}

impl Hashes {
    fn open(home: &Home, id: &str, disk: &TableDisk) -> std::result::Result<Self, String> {
        let path = table_dir(home, id).join(hashes_of(&disk.id));
        let name = path.display().to_string();
        let file = File::open(path).map_err(|e| format!("{name}: {e}"))?;
        Ok(Self { file: BufReader::new(file), digest: Xxh3::new(), expect: disk.digest.clone(), name })
    }

    fn next(&mut self) -> std::result::Result<Hash, String> {
        let mut bytes = [0; 16];
        self.file.read_exact(&mut bytes).map_err(|e| format!("{}: {e}", self.name))?;
        self.digest.update(&bytes);
        Ok(Hash::from_le_bytes(bytes))
    }

    fn finish(self) -> std::result::Result<(), String> {
        let same = hex(self.digest.digest128()) == self.expect;
        same.then_some(()).ok_or_else(|| format!("{} is damaged", self.name))
    }
}

fn hash_file(disk: &Path, to: &Path) -> Result<String> {
    let file = File::open(disk).told("open", disk)?;
    let size = file.metadata().told("look at", disk)?.len();
    let out = File::create(to).told("make", to)?;
    let mut out = BufWriter::with_capacity(1 << 20, out);
    let mut digest = Xxh3::new();
    let mut put = |hash: Hash| {
        digest.update(&hash.to_le_bytes());
        out.write_all(&hash.to_le_bytes()).told("write", to)
    };
    each_hash(&file, size, disk, &mut put)?;
    let out = out.into_inner().map_err(std::io::IntoInnerError::into_error).told("write", to)?;
    out.sync_all().told("sync", to)?;
    Ok(hex(digest.digest128()))
}

/// Hashes block by block, in order, without reading holes.
fn each_hash(file: &File, size: u64, path: &Path, put: &mut dyn FnMut(Hash) -> Result<()>) -> Result<()> {
    let extents = site_recovery_sparse::extents(file, Run::new(0, size), size).told("map", path)?;
    let mut data = extents.into_iter().filter(|e| e.fill == Fill::Data).map(|e| e.run).peekable();
    let mut buffer = vec![0; HASH_BLOCK as usize];
    for block in Run::new(0, size).pieces(HASH_BLOCK) {
        while data.next_if(|d| d.end() <= block.start).is_some() {}
        if data.peek().is_none_or(|d| d.start >= block.end()) {
            put(ZEROS)?;
            continue;
        }
        let bytes = &mut buffer[..block.len as usize];
        file.read_exact_at(bytes, block.start).told("read", path)?;
        put(hash(bytes))?;
    }
    Ok(())
}

pub(crate) fn hash(block: &[u8]) -> Hash {
    if block.iter().all(|b| *b == 0) { ZEROS } else { xxh3_128(block) }
}

pub(crate) fn hex(digest: u128) -> String {
    format!("{digest:032x}")
}

fn table_dir(home: &Home, id: &str) -> PathBuf {
    home.own("tracking").join(id)
}

fn hashes_of(disk: &DiskId) -> String {
    format!("{}.hashes", plain(disk.as_str()))
}
