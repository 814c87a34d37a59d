//! What a writer writes: numbered blocks, each byte of which follows from the disk and the number.
//!
//! A file is a ring of slots; token `n` stands in slot `n % slots`. Of the writer's program and of the checks alike, so
//! nothing but `std` is used here.

/// Bytes of a token.
pub const LEN: usize = 4096;
/// Tokens of a file.
pub const SLOTS: usize = 128;

/// The bytes of a token: its disk, its number, and what follows from them.
pub fn token(disk: u64, number: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(LEN);
    bytes.extend(b"TOKEN\0\0\0");
    bytes.extend(disk.to_le_bytes());
    bytes.extend(number.to_le_bytes());
    // Xorshift: never zero, so no part of a token looks like a hole.
    let mut word = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ disk.rotate_left(32) ^ 1 << 63 | 1;
    while bytes.len() < LEN {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        bytes.extend(word.to_le_bytes());
    }
    bytes
}

/// The number of a whole token of this disk.
pub fn parse(disk: u64, bytes: &[u8]) -> Option<u64> {
    let number = u64::from_le_bytes(bytes.get(16..24)?.try_into().ok()?);
    (bytes == token(disk, number)).then_some(number)
}

/// How many tokens were written, where those that the ring holds are the last ones without a gap. The slot after the newest
/// may hold anything, as a token may be on its way there.
///
/// # Errors
/// The slot that does not hold what it should.
pub fn count(disk: u64, ring: &[u8]) -> Result<u64, String> {
    if ring.len() > SLOTS * LEN {
        return Err(format!("disk {disk} has {} bytes, and the ring {}", ring.len(), SLOTS * LEN));
    }
    let slot = |at: usize| ring.get(at * LEN..(at + 1) * LEN);
    let count = (0..SLOTS).filter_map(|at| parse(disk, slot(at)?)).max().map_or(0, |newest| newest + 1);
    for at in 0..SLOTS as u64 {
        if at == count % SLOTS as u64 {
            continue;
        }
        // The newest of those before `count` that belong here.
        let expected = (at..count).step_by(SLOTS).last();
        let found = slot(at as usize);
        let right = match expected {
            Some(number) => found.is_some_and(|bytes| parse(disk, bytes) == Some(number)),
            None => found.is_none_or(|bytes| bytes.iter().all(|byte| *byte == 0)),
        };
        if !right {
            let found = found.and_then(|bytes| parse(disk, bytes));
            return Err(format!(
                "disk {disk}: {count} tokens, and slot {at} holds {found:?}, not {expected:?}"
            ));
        }
    }
    Ok(count)
}
