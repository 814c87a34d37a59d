//! `ordered-writer MILLISECONDS FILE [FILE]...` writes tokens into rings for ever: token n is durable in one file before it is
//! written to the next one, and in the last one before token n + 1 is written to the first. Each is a disk, from 0.
//!
//! It says `ACK n` when token n is durable in all of them.
#![forbid(unsafe_code)]

#[path = "tokens.rs"]
#[allow(dead_code, unreachable_pub, missing_docs, reason = "the rest is for the checks")]
mod tokens;

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let pause = arguments.next().and_then(|ms| ms.parse().ok()).expect("MILLISECONDS FILE [FILE]...");
    let files: Vec<File> = arguments.map(|path| open(Path::new(&path))).collect();
    for number in 0.. {
        for (disk, file) in (0..).zip(&files) {
            let at = number % tokens::SLOTS as u64 * tokens::LEN as u64;
            file.write_all_at(&tokens::token(disk, number), at).expect("write");
            file.sync_all().expect("sync");
        }
        println!("ACK {number}");
        std::thread::sleep(Duration::from_millis(pause));
    }
}

/// A new file, which is there after a loss of power.
fn open(path: &Path) -> File {
    let file = OpenOptions::new().write(true).create_new(true).open(path).expect("open");
    file.set_len((tokens::SLOTS * tokens::LEN) as u64).expect("set the length");
    file.sync_all().expect("sync");
    let dir = path.parent().expect("a path of a file");
    File::open(dir).and_then(|dir| dir.sync_all()).expect("sync of the directory");
    file
}
