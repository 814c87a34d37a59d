//! For parsers of bytes that come from outside or from storage: what a fuzz target is made of, beside `bolero` itself.
//!
//! A target is a property of some bytes, the *choices*. It parses them as they are, and as edits of encodings that are
//! right: few random bytes come past a checksum or a magic number, most edits of a right encoding do.
//!
//! ```ignore
//! #[test]
//! fn any_bytes_are_a_frame_or_an_error() {
//!     let property = |choices: &[u8]| {
//!         let _ = parse(choices);
//!         let _ = parse(&mutated(&right(), choices));
//!     };
//!     fixed(property);
//!     bolero::check!().with_test_time(SPELL).for_each(property);
//! }
//! ```

use crate::clock::SeededRandom;
use site_recovery::*;
use std::path::Path;
use std::time::Duration;

/// How long a target looks for something new in an ordinary test run, after the corpus and the fixed seeds. The variable
/// `BOLERO_RANDOM_TEST_TIME_MS` stands above it.
pub const SPELL: Duration = Duration::from_millis(400);

/// Seeds that are tried in every run.
const SEEDS: u64 = 300;
/// Edits of one encoding.
const MOST_EDITS: usize = 12;

/// Tries the same choices in every run. The environment variable `SEED` leaves one of them; a failure names it.
///
/// # Panics
/// When the property does.
pub fn fixed(property: impl Fn(&[u8])) {
    let seeds = match std::env::var("SEED").map(|seed| seed.parse::<u64>()) {
        Ok(Ok(seed)) => seed..=seed,
        _ => 0..=SEEDS,
    };
    for seed in seeds {
        let random = SeededRandom::new(seed);
        let choices = random.bytes(random.below(96) as usize);
        let _told = Told(seed);
        property(&choices);
    }
}

struct Told(u64);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("SEED={} fails again", self.0);
        }
    }
}

/// An encoding with some edits, as the choices say: bits flipped, numbers set to their limits, stretches cut out, doubled,
/// moved over others, the end cut off. Without choices, it is left as it is.
pub fn mutated(right: &[u8], choices: &[u8]) -> Vec<u8> {
    let (mut bytes, mut choices) = (right.to_vec(), Choices(choices));
    for _ in 0..MOST_EDITS {
        if choices.0.is_empty() {
            break;
        }
        let (what, at) = (choices.below(9), choices.below(bytes.len()));
        let short = |choices: &mut Choices<'_>, from: usize, left: usize| {
            from..from + (1 + choices.below(40)).min(left.saturating_sub(from))
        };
        match what {
            _ if at >= bytes.len() => bytes.push(choices.byte()),
            0 => bytes[at] ^= 1 << choices.below(8),
            1 => bytes[at] = choices.byte(),
            2 => bytes.insert(at, choices.byte()),
            3 => drop(bytes.drain(short(&mut choices, at, bytes.len()))),
            4 => {
                let again = bytes[short(&mut choices, at, bytes.len())].to_vec();
                bytes.splice(at..at, again);
            }
            5 => {
                let other = choices.below(bytes.len());
                let moved = bytes[short(&mut choices, other, bytes.len())].to_vec();
                let end = bytes.len().min(at + moved.len());
                bytes.splice(at..end, moved);
            }
            6 => bytes.truncate(at),
            // Lengths, counts and offsets.
            _ => {
                let number = choices.number().to_le_bytes();
                let width = [1, 2, 4, 8][choices.below(4)].min(bytes.len() - at);
                bytes[at..at + width].copy_from_slice(&number[..width]);
            }
        }
    }
    bytes
}

/// Bytes to decide by, from the front; zeros once there are none left.
#[derive(Debug)]
pub struct Choices<'a>(pub &'a [u8]);

impl Choices<'_> {
    /// Any byte.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// A number below `end`, of at most 65,536; 0 for 0.
    pub fn below(&mut self, end: usize) -> usize {
        let chosen = match end {
            0..=256 => self.byte().into(),
            _ => usize::from(u16::from_le_bytes([self.byte(), self.byte()])),
        };
        chosen.checked_rem(end).unwrap_or(0)
    }

    /// Any number; those near the limits come often.
    pub fn number(&mut self) -> u64 {
        let near = u64::from(self.byte());
        match self.byte() % 8 {
            0 => near,
            1 => u64::MAX - near,
            2 => u64::from(u32::MAX) + 8 - near,
            3 => (1 << 63) + near,
            4 => near << 12,
            5 => 1 << (near % 64),
            _ => u64::from_le_bytes(std::array::from_fn(|_| self.byte())),
        }
    }
}

/// Keeps right encodings as the corpus of a target in `crate_dir/sources`, from where `bolero` reads them.
///
/// # Panics
/// When they cannot be written.
pub fn write_corpus(crate_dir: &str, sources: &str, target: &str, encodings: &[Vec<u8>]) {
    let folder = Path::new(crate_dir).join(sources).join("__fuzz__").join(target).join("corpus");
    std::fs::create_dir_all(&folder).expect("the crate's folder can be written");
    for (number, bytes) in encodings.iter().enumerate() {
        std::fs::write(folder.join(format!("right-{number}")), bytes).expect("as above");
    }
}

/// A manifest in which every list has something.
pub fn manifest() -> Manifest {
    let (web, generation) = (MachineId::from("web"), Generation(3));
    let instance = Instance { machine: web.clone(), site: "here".into(), name: "web-01".into(), generation };
    let disk = |id: &str, size, role| DiskSpec { id: id.into(), size, role, included: true };
    let machine = Machine {
        instance,
        title: Some("웹/서버 1".into()),
        disks: vec![disk("root", 1 << 20, DiskRole::System), disk("data", 5 << 30, DiskRole::Data)],
        nics: vec![Nic {
            id: "eth0".into(),
            mac: Some("52:54:00:12:34:56".into()),
            network: Some("lan".into()),
            addresses: vec!["192.0.2.7/24".into()],
        }],
        cpus: 2,
        memory: 1 << 30,
        firmware: Firmware::Uefi { secure_boot: true },
        os: OsFamily::Linux,
        platform: Platform::Virtual,
        guest: GuestFacts::default(),
    };
    let epoch = Epoch { number: 4, owner: "engine".into() };
    let item = Item::new(machine.clone(), epoch, Policy::default(), "out", "back");
    Manifest {
        machine,
        members: vec![web.clone()],
        cut: "cut-7".into(),
        taken: Timestamp(1_700_000_000_000),
        consistency: Consistency::Crash,
        cursor: Some(Cursor { generation, token: vec![1, 2, 3] }),
        sidecars: vec![Sidecar { name: "uefi-vars".into(), bytes: vec![9; 20] }],
        control: Control { unit: "web".into(), members: vec![web], item },
    }
}

/// Records of any shape, as a parser must take them; what they hold means nothing.
pub fn records(choices: &mut Choices<'_>) -> Vec<Record> {
    let most = choices.0.len() / 8;
    let record = |_| {
        let run = Run::new(choices.number() >> 1, choices.number() >> 1);
        let bytes = vec![choices.byte(); choices.below(40)];
        let payload = match choices.below(3) {
            0 => Payload::Zero,
            1 => Payload::Plain(bytes.into()),
            _ => Payload::Sealed(bytes.into()),
        };
        let disk = DiskId::from(["root", "data", ""][choices.below(3)]);
        Record { disk, run, checksum: choices.number().into(), payload }
    };
    (0..most).map(record).collect()
}
