//! What a guest writes for as long as it lives: numbered lines of 64 bytes.
//!
//! Of the guest's program and of the host's checks alike, so nothing but `std` is used here.

/// Bytes of a record.
pub const LEN: usize = 64;
const SUMMED: usize = 54;

/// One line of a guest's log.
///
/// ```text
/// REC 0000000012 1764352000123 A 0000000009 ............ 5f3a9c01\n
///     number     time          site cause                sum
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// From 0, without gaps.
    pub number: u64,
    /// Milliseconds since 1970, by the guest's clock.
    pub time: u64,
    /// The first letter of the SMBIOS serial number of the machine that wrote it.
    pub site: char,
    /// How many records of the peer were known to be durable before this one was written.
    pub cause: u64,
}

impl Record {
    /// As it stands in the file.
    pub fn to_bytes(self) -> [u8; LEN] {
        let mut line = format!("REC {:010} {:013} {} {:010} ", self.number, self.time, self.site, self.cause);
        while line.len() < SUMMED {
            line.push('.');
        }
        let line = format!("{line} {:08x}\n", sum(line.as_bytes()));
        line.into_bytes().try_into().expect("all fields have their width")
    }

    /// Nothing for bytes that are not a whole record.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let line = std::str::from_utf8(bytes.get(..LEN)?).ok()?;
        let mut words = line.split(' ').skip(1);
        let mut next = || words.next();
        let number = next()?.parse().ok()?;
        let time = next()?.parse().ok()?;
        let site = next()?.chars().next()?;
        let cause = next()?.parse().ok()?;
        let record = Self { number, time, site, cause };
        (record.to_bytes() == bytes[..LEN]).then_some(record)
    }
}

/// The records of a log. The bytes of a record that was not written to its end do not count.
///
/// # Errors
/// The first record that is not whole, has another number than its place, or knows less of the peer than one before it.
pub fn read(log: &[u8]) -> Result<Vec<Record>, String> {
    let mut records = Vec::<Record>::new();
    for bytes in log.chunks_exact(LEN) {
        let at = records.len();
        let known = records.last().map_or(0, |r| r.cause);
        match Record::parse(bytes) {
            Some(record) if record.number == at as u64 && record.cause >= known => records.push(record),
            _ => {
                return Err(format!(
                    "record {at} of {}: {:?}",
                    log.len() / LEN,
                    String::from_utf8_lossy(bytes)
                ));
            }
        }
    }
    Ok(records)
}

/// The records that stand at the start of a disk, up to the first bytes that are none.
pub fn read_start(disk: &[u8]) -> Vec<Record> {
    let whole = disk
        .chunks_exact(LEN)
        .enumerate()
        .map_while(|(at, bytes)| Record::parse(bytes).filter(|record| record.number == at as u64));
    whole.collect()
}

/// FNV-1a.
fn sum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |sum, byte| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}
