//! Tables that are made, and pages that are written beside them before they go into them.

use super::line::{Files, Tracked};
use super::scan::{Found, Hint, Still};
use super::table::{HASHES, Page, Table, damaged};
use site_recovery::Result;
use site_recovery_register::Told;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;

/// The first table of a disk. What it sums to.
pub(super) fn begin_table(files: &Files, disk: &Tracked, still: &Still<'_>) -> Result<u64> {
    let table = Table::create(&files.table_path(&disk.id), &disk.id, disk.size)?;
    let anything = Hint::Anything("the line begins".into());
    let found = still.compare(&table, 0, &anything, &mut |n, page| table.set_page(n, page).map(drop))?;
    table.sync()?;
    Ok(found.sum)
}

/// Compares with a table, and leaves beside it the pages that are to be written into it.
pub(super) fn renew(
    files: &Files,
    disk: &Tracked,
    still: &Still<'_>,
    sum: u64,
    hint: &Hint,
) -> Result<Found> {
    let table = files.table(disk)?;
    let path = files.pages_path(&disk.id);
    let mut out = BufWriter::with_capacity(256 << 10, File::create(&path).told("make", &path)?);
    let found = still.compare(&table, sum, hint, &mut |number, page| {
        out.write_all(&number.to_le_bytes()).told("write", &path)?;
        page.0.iter().try_for_each(|h| out.write_all(&h.to_le_bytes())).told("write", &path)
    })?;
    let out = out.into_inner().map_err(std::io::IntoInnerError::into_error).told("write", &path)?;
    out.sync_all().told("sync", &path)?;
    Ok(found)
}

/// Reads what [`renew`] left.
pub(super) fn each_page(path: &Path, told: &mut dyn FnMut(u64, &Page) -> Result<()>) -> Result<()> {
    let file = File::open(path).map_err(|e| damaged(path, "is gone").caused_by(e))?;
    let mut file = BufReader::with_capacity(256 << 10, file);
    let mut number = [0; 8];
    let mut hashes = vec![0; HASHES as usize * 16];
    loop {
        match file.read_exact(&mut number) {
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
            read => read.told("read", path)?,
        }
        file.read_exact(&mut hashes).map_err(|e| damaged(path, "is cut short").caused_by(e))?;
        let mut page = Page::empty();
        for (to, from) in page.0.iter_mut().zip(hashes.as_chunks::<16>().0) {
            *to = u128::from_le_bytes(*from);
        }
        told(u64::from_le_bytes(number), &page)?;
    }
}
