//! Images against a plain model.

use fake_blob::{Change, Image, SECTOR, vhd};
use proptest::prelude::*;
use std::ops::Range;

const SIZE: u64 = 3 * (64 << 10) + 1024;

#[derive(Clone, Debug)]
enum Act {
    Write(u64, u64, u8),
    Clear(u64, u64),
}

fn act() -> impl Strategy<Value = Act> {
    let sectors = SIZE / SECTOR;
    let run = (0..sectors).prop_flat_map(move |at| (Just(at), 1..=(sectors - at).min(200)));
    prop_oneof![
        (run.clone(), 1..=255_u8).prop_map(|((at, len), byte)| Act::Write(at, len, byte)),
        run.prop_map(|(at, len)| Act::Clear(at, len)),
    ]
}

/// Of each sector: its byte if it was written, and how often anything touched it while it mattered.
#[derive(Clone)]
struct Model(Vec<(Option<u8>, u32)>);

impl Model {
    fn apply(&mut self, image: &mut Image, act: &Act) {
        let (at, len, byte) = match *act {
            Act::Write(at, len, byte) => (at, len, Some(byte)),
            Act::Clear(at, len) => (at, len, None),
        };
        for sector in &mut self.0[at as usize..(at + len) as usize] {
            sector.0 = byte;
            sector.1 += 1;
        }
        match byte {
            Some(byte) => image.write(at * SECTOR, &vec![byte; (len * SECTOR) as usize]),
            None => image.clear(at * SECTOR, len * SECTOR),
        }
    }
}

fn covers(ranges: &[Range<u64>], sector: u64) -> bool {
    ranges.iter().any(|range| range.contains(&(sector * SECTOR)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn an_image_is_what_was_written(before in prop::collection::vec(act(), 0..8), after in prop::collection::vec(act(), 0..8)) {
        let mut image = Image::new(SIZE);
        let mut model = Model(vec![(None, 0); (SIZE / SECTOR) as usize]);
        before.iter().for_each(|act| model.apply(&mut image, act));
        let (base, old) = (image.clone(), model.clone());
        after.iter().for_each(|act| model.apply(&mut image, act));

        for (held, model) in [(&image, &model), (&base, &old)] {
            let bytes = held.read(0, SIZE);
            let ranges = held.ranges();
            prop_assert!(ranges.windows(2).all(|pair| pair[0].end < pair[1].start));
            for (i, (byte, _)) in model.0.iter().enumerate() {
                let at = i * SECTOR as usize;
                prop_assert!(bytes[at..at + SECTOR as usize].iter().all(|b| *b == byte.unwrap_or(0)));
                prop_assert_eq!(covers(&ranges, i as u64), byte.is_some());
            }
        }

        let changes = image.diff(&base);
        prop_assert!(changes.windows(2).all(|pair| pair[0].range().end <= pair[1].range().start));
        let pick = |written: bool| {
            let fits = |change: &&Change| matches!(change, Change::Written(_)) == written;
            changes.iter().filter(fits).map(|change| change.range().clone()).collect::<Vec<_>>()
        };
        let (written, cleared) = (pick(true), pick(false));
        for (i, (new, old)) in model.0.iter().zip(&old.0).enumerate() {
            let touched = new.1 != old.1;
            prop_assert_eq!(covers(&written, i as u64), touched && new.0.is_some());
            // A sector that was never written may be told as cleared, and needs not.
            if new.0.is_none() && old.0.is_some() {
                prop_assert!(covers(&cleared, i as u64));
            }
            if !touched {
                prop_assert!(!covers(&cleared, i as u64));
            }
        }
    }
}

#[test]
fn a_file_comes_and_goes_with_its_holes() {
    let folder = tempfile::tempdir().unwrap();
    let mut image = Image::new(8 << 20);
    image.write(512, &[3; 512]);
    image.write((8 << 20) - 512, &[4; 512]);
    let path = folder.path().join("disk");
    image.to_file(&path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!((bytes.len(), bytes[512], bytes[(8 << 20) - 1]), (8 << 20, 3, 4));
    let again = Image::from_file(&path).unwrap();
    assert_eq!(again.ranges(), [512..1024, (8 << 20) - 512..8 << 20]);
    assert_eq!(again.read(0, 8 << 20), bytes);
}

#[test]
fn a_footer_is_known_and_a_broken_one_is_not() {
    let disk = Image::new(64 << 20);
    let whole = disk.with_footer();
    assert_eq!(whole.size(), (64 << 20) + 512);
    assert_eq!(vhd::disk(&whole).unwrap().size(), 64 << 20);
    let with = |at: usize, byte: u8| {
        let mut footer = vhd::footer(64 << 20);
        footer[at] = byte;
        let mut image = whole.clone();
        image.write(64 << 20, &footer);
        vhd::disk(&image).unwrap_err()
    };
    assert_eq!(with(0, b'C'), vhd::NotVhd::Cookie);
    assert_eq!(with(100, 1), vhd::NotVhd::Checksum);
    let mut moved = Image::new((65 << 20) + 512);
    moved.write(65 << 20, &vhd::footer(64 << 20));
    assert_eq!(vhd::disk(&moved).unwrap_err(), vhd::NotVhd::Size);
    assert_eq!(vhd::disk(&Image::new(0)).unwrap_err(), vhd::NotVhd::Size);
}
