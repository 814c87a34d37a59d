//! dm-era as a means: its metadata read by the program that reads it, its device stood in for. A kernel with
//! dm-era is asked by `tests/live_physical`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod agent_support;

use agent_support::{peers, run};
use site_recovery::{Error, ErrorKind, Result};
use site_recovery_physical::freeze::{Installed, Programs};
use site_recovery_physical::tracking::era::Era;
use site_recovery_physical::tracking::{Hint, Means, Written};
use std::fmt::Write;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

const BLOCKS: u64 = 1000;

/// A device-mapper that has one era target, whose metadata is a file.
#[derive(Debug)]
struct Mapper {
    metadata: PathBuf,
    era: Mutex<u32>,
    said: Mutex<Vec<String>>,
    broken: Mutex<Option<&'static str>>,
}

impl Programs for Mapper {
    fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let line = format!("{program} {}", arguments.join(" "));
        self.said.lock().unwrap().push(line.clone());
        if self.broken.lock().unwrap().is_some_and(|word| line.contains(word)) {
            return Err(Error::new(ErrorKind::Unavailable, "broken"));
        }
        let era = *self.era.lock().unwrap();
        match (program, arguments) {
            ("dmsetup", ["table", "era"]) => {
                Ok(format!("0 {} era {} 8:16 128\n", BLOCKS * 128 - 8, self.metadata.display()))
            }
            ("dmsetup", ["status", "era"]) => Ok(format!("0 128000 era 8 33/2048 {era} -\n")),
            ("dmsetup", ["message", "era", "0", "checkpoint"]) => {
                *self.era.lock().unwrap() += 1;
                Ok(String::new())
            }
            ("dmsetup", ["message", "era", "0", _]) => Ok(String::new()),
            ("era_invalidate", ["--metadata-snapshot", "--written-since", since, metadata]) => {
                Installed.run("era_invalidate", &["--written-since", since, metadata])
            }
            other => panic!("{other:?} is not asked"),
        }
    }
}

/// Metadata in which some blocks have eras, as `era_restore` makes it.
fn metadata(dir: &Path, current: u32, eras: &[(u64, u32)], bits: (u32, &[u64])) -> PathBuf {
    let mut xml = format!(
        "<superblock uuid=\"\" block_size=\"128\" nr_blocks=\"{BLOCKS}\" current_era=\"{current}\">\n"
    );
    writeln!(xml, "<writeset era=\"{}\" nr_bits=\"{BLOCKS}\">", bits.0).unwrap();
    for block in 0..BLOCKS {
        writeln!(xml, "<bit block=\"{block}\" value=\"{}\"/>", bits.1.contains(&block)).unwrap();
    }
    xml.push_str("</writeset>\n<era_array>\n");
    for block in 0..BLOCKS {
        let era = eras.iter().find(|(b, _)| *b == block).map_or(0, |(_, era)| *era);
        writeln!(xml, "<era block=\"{block}\" era=\"{era}\"/>").unwrap();
    }
    xml.push_str("</era_array>\n</superblock>\n");
    let (text, made) = (dir.join("era.xml"), dir.join("era.bin"));
    fs::write(&text, xml).unwrap();
    File::create(&made).unwrap().set_len(4 << 20).unwrap();
    run("era_restore", &["-i", text.to_str().unwrap(), "-o", made.to_str().unwrap()]);
    made
}

fn told(hint: Hint) -> Vec<u64> {
    match hint {
        Hint::Blocks(set) => (0..set.of_disk()).filter(|b| set.has(*b)).collect(),
        Hint::Anything(why) => panic!("nothing is known: {why}"),
    }
}

#[test]
fn d4_blocks_of_all_eras_since_a_mark_are_told_and_doubt_reads_everything() {
    if !peers("dm-era's metadata", &["era_restore", "era_invalidate"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let metadata = metadata(dir.path(), 8, &[(1, 2), (2, 6), (7, 5)], (7, &[3, 4, 999]));
    let mapper = Arc::new(Mapper {
        metadata: metadata.clone(),
        era: Mutex::new(4),
        said: Mutex::default(),
        broken: Mutex::default(),
    });
    let mut era = Era::over("era", Arc::clone(&mapper) as _).unwrap();
    assert_eq!(era.size(), (BLOCKS * 128 - 8) * 512);
    let Written::Marked(mark) = era.cut() else { panic!("a mark") };
    assert!(mark.ends_with(" 5"), "{mark}");
    assert_eq!(told(era.since(&mark)), [2, 3, 4, 7, 999]);
    let said = mapper.said.lock().unwrap().split_off(0);
    let last = [
        "dmsetup message era 0 drop_metadata_snap".to_owned(),
        "dmsetup message era 0 take_metadata_snap".to_owned(),
        format!("era_invalidate --metadata-snapshot --written-since 5 {}", metadata.display()),
        "dmsetup message era 0 drop_metadata_snap".to_owned(),
    ];
    assert!(said.ends_with(&last), "{said:?}");
    // Another agent, later, in the same life of the server.
    *mapper.era.lock().unwrap() = 9;
    let mut again = Era::over("era", Arc::clone(&mapper) as _).unwrap();
    assert_eq!(told(again.since(&mark)), [2, 3, 4, 7, 999]);
    let later = mark.replace(" 5", " 7");
    assert_eq!(told(again.since(&later)), [3, 4, 999]);
    let anything = |hint: Hint| assert!(matches!(hint, Hint::Anything(_)), "{hint:?}");
    anything(again.since(&format!("another-boot{}", &mark[mark.rfind(' ').unwrap()..])));
    anything(again.since(&mark.replace(" 5", " 10")));
    anything(again.since("no mark"));
    for word in ["take_metadata_snap", "status"] {
        *mapper.broken.lock().unwrap() = Some(word);
        anything(again.since(&mark));
    }
    *mapper.broken.lock().unwrap() = Some("checkpoint");
    assert!(matches!(again.cut(), Written::Told(Hint::Anything(_))));
    *mapper.broken.lock().unwrap() = None;
    fs::write(&metadata, [0; 8192]).unwrap();
    anything(again.since(&mark));
    assert_eq!(mapper.said.lock().unwrap().last().unwrap(), &last[3], "a metadata snapshot is left");
}
