//! What an initramfs holds: cpio archives one after the other, the last ones packed.

use site_recovery::{Error, ErrorKind, Result};
use site_recovery_register::Told;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

/// The most that an archive may unpack to.
const LARGEST: u64 = 4 << 30;
/// The longest name and the most names that are believed.
const LONGEST_NAME: u64 = 4096;
const MOST_NAMES: usize = 1_000_000;
/// How a packed archive begins, and who unpacks it.
const PACKED: [(&[u8], &str); 7] = [
    (&[0x1f, 0x8b], "gzip"),
    (&[0x28, 0xb5, 0x2f, 0xfd], "zstd"),
    (&[0xfd, b'7', b'z', b'X', b'Z', 0], "xz"),
    (&[0x02, 0x21, 0x4c, 0x18], "lz4"),
    (&[0x5d, 0, 0], "xz"), // LZMA's own format
    (b"BZh", "bzip2"),
    (&[0x89, b'L', b'Z', b'O'], "lzop"),
];

/// The names in an initramfs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    names: BTreeSet<String>,
}

impl Archive {
    /// Reads the names in an initramfs, of which no byte is kept. What is packed is unpacked by the program for it, as it is
    /// on every system that makes such archives.
    ///
    /// # Errors
    /// `Unsupported` where that program is absent or the format is none that Linux boots from; `Corrupt` for an archive that
    /// ends too early or is none; those of the file system.
    pub fn read(path: &Path) -> Result<Self> {
        let mut names = BTreeSet::new();
        let mut file = BufReader::new(File::open(path).told("read", path)?);
        loop {
            let at = next_part(&mut file).told("read", path)?;
            let head = file.fill_buf().told("read", path)?;
            if head.is_empty() {
                break;
            }
            if head.starts_with(b"07070") {
                cpio(&mut file, &mut names).map_err(|e| damaged(path, e))?;
                continue;
            }
            let unpacks = PACKED.iter().find(|(magic, _)| head.starts_with(magic));
            let Some((_, program)) = unpacks else {
                let message = format!("{} is packed in a way that Linux does not boot from", path.display());
                return Err(Error::new(ErrorKind::Unsupported, message).with("at", at));
            };
            // What is packed comes last, and goes to the end.
            unpack(path, at, program, &mut names)?;
            break;
        }
        Ok(Self { names })
    }

    /// Whether it holds a kernel module, by its name or by its file's.
    pub fn has_module(&self, name: &str) -> bool {
        self.modules().any(|m| m == in_kernel(name))
    }

    /// All kernel modules, as the kernel calls them.
    pub fn modules(&self) -> impl Iterator<Item = String> {
        self.names.iter().filter_map(|n| module(n))
    }

    /// All names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }
}

/// The kernel's name of the module in a file: `lib/modules/6.1.0/kernel/drivers/hv/hv_vmbus.ko.zst`.
pub(crate) fn module(path: &str) -> Option<String> {
    let file = path.rsplit('/').next()?;
    let (name, rest) = file.split_once(".ko")?;
    matches!(rest, "" | ".xz" | ".zst" | ".gz").then(|| in_kernel(name))
}

/// In names of modules `-` and `_` are the same.
pub(crate) fn in_kernel(name: &str) -> String {
    name.replace('-', "_")
}

fn damaged(path: &Path, e: io::Error) -> Error {
    let message = format!("{} cannot be read as an initramfs: make it again", path.display());
    Error::new(ErrorKind::Corrupt, message).caused_by(e)
}

/// Skips the zeros between parts; tells where the next one begins.
fn next_part(file: &mut BufReader<File>) -> io::Result<u64> {
    loop {
        let head = file.fill_buf()?;
        let zeros = head.iter().take_while(|b| **b == 0).count();
        if zeros == 0 {
            return file.stream_position();
        }
        file.consume(zeros);
    }
}

/// Reads one archive in the "newc" format (cpio(5)) up to its trailer, all of which lies at multiples of four bytes.
fn cpio(from: &mut impl Read, names: &mut BTreeSet<String>) -> io::Result<()> {
    loop {
        let mut head = [0; 110];
        from.read_exact(&mut head)?;
        if !head.starts_with(b"070701") && !head.starts_with(b"070702") {
            return Err(io::Error::other("no header of an archive where one must be"));
        }
        // After the magic thirteen numbers of eight digits: the seventh is the size, the twelfth the name's length.
        let number = |n: usize| {
            let digits = std::str::from_utf8(&head[6 + 8 * n..14 + 8 * n]).ok();
            let number = digits.and_then(|d| u64::from_str_radix(d, 16).ok());
            number.ok_or_else(|| io::Error::other("a number that is none"))
        };
        let (size, length) = (number(6)?, number(11)?);
        if length == 0 || length > LONGEST_NAME || names.len() >= MOST_NAMES {
            return Err(io::Error::other("a name that is too long, or too many names"));
        }
        let mut name = vec![0; length as usize];
        from.read_exact(&mut name)?;
        skip(from, (4 - (110 + length) % 4) % 4)?;
        let name = String::from_utf8_lossy(&name[..name.len() - 1]).into_owned();
        if name == "TRAILER!!!" {
            return Ok(());
        }
        skip(from, size + (4 - size % 4) % 4)?;
        names.insert(name);
    }
}

fn skip(from: &mut impl Read, bytes: u64) -> io::Result<()> {
    match io::copy(&mut from.by_ref().take(bytes), &mut io::sink())? {
        n if n == bytes => Ok(()),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn unpack(path: &Path, at: u64, program: &str, names: &mut BTreeSet<String>) -> Result<()> {
    let mut packed = File::open(path).told("read", path)?;
    packed.seek(SeekFrom::Start(at)).told("read", path)?;
    let started = Command::new(program)
        .arg("-dc")
        .stdin(packed)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| {
            let message = format!("{} is packed with {program}, which cannot be run here", path.display());
            Error::new(ErrorKind::Unsupported, message).caused_by(e)
        })?;
    let mut running = Running(started);
    let output: ChildStdout = running.0.stdout.take().expect("it is piped");
    let mut output = BufReader::new(output.take(LARGEST));
    let mut found = 0;
    loop {
        // Between archives, and behind the last one, there are zeros.
        let zeros = {
            let head = output.fill_buf().told("read", path)?;
            if head.is_empty() {
                break;
            }
            head.iter().take_while(|b| **b == 0).count()
        };
        if zeros > 0 {
            output.consume(zeros);
            continue;
        }
        cpio(&mut output, names).map_err(|e| damaged(path, e))?;
        found += 1;
    }
    let ended = running.0.wait().told("unpack", path)?;
    // A part of its own that is not packed may follow, at which unpacking complains: what was read ended well.
    if found == 0 {
        return Err(damaged(path, io::Error::other(format!("{program} ended with {ended}"))));
    }
    Ok(())
}

/// Ends a program that is no longer read from.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
