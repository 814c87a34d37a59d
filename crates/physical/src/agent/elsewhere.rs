//! Whether an agent's directory woke up on another server: for the boot guard, whose own mark comes with the same bytes.

use super::Settings;
use super::mark::Mark;
use crate::inventory::Inventory;
use site_recovery::Result;

/// Why the agent's mark speaks of another server than `hardware`'s; `None`: it may be the same one.
///
/// It takes both: another board, *and* none of the disks that the mark names. So a server whose board was exchanged stays who
/// it was, and so does one whose disks were. What cannot be read or compared (a board without an id, no disk of the hardware,
/// no mark) is no proof: `None`. Loop devices are no hardware, and do not count.
///
/// Blocks.
///
/// # Errors
/// `Corrupt`, `Unsupported` for the mark; those of reading the hardware. None of them says that it is another server.
pub fn elsewhere(settings: &Settings, hardware: &Inventory) -> Result<Option<String>> {
    let Some(mark) = Mark::read(&settings.state.join("mark.json"))? else { return Ok(None) };
    let (Some(mine), Some(board)) = (&mark.board, settings.board_id()) else { return Ok(None) };
    if *mine == board {
        return Ok(None);
    }
    let is_hardware = |id: &&str| !id.starts_with("loop:");
    let named: Vec<&str> = mark.disks.keys().map(String::as_str).filter(is_hardware).collect();
    let disks = hardware.disks()?;
    let found: Vec<&str> = disks.iter().map(|d| d.id.as_str()).filter(is_hardware).collect();
    if named.is_empty() || found.is_empty() || found.iter().any(|id| named.contains(id)) {
        return Ok(None);
    }
    let (machine, gone, here) = (&mark.machine, named.join(", "), found.join(", "));
    Ok(Some(format!(
        "the mark of {machine} is of board {mine} with the disks {gone}; this is board {board} with {here}"
    )))
}
