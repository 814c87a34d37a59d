//! Any bytes of a store are what was written or are refused, and what was written is read again.

use crate::attached::Attached;
use crate::extent_map::{Held, Place};
use crate::layer::{self, BlockRef, LayerIndex, LayerWriter, Layered, TAIL};
use crate::ledger::{Carried, Garbage, Ledger, Noted, Open, Seeded, Timeline};
use crate::map::{LayerRef, due};
use crate::pack::{self, Frame};
use crate::sealed::Sealed;
use crate::segment::{self, Entry, SegmentId};
use allocation_counter::measure;
use bytes::Bytes;
use site_recovery::{ChangeSet, DiskId, Epoch, ErrorKind, Op, PointId, Run};
use site_recovery_record::checksum;
use site_recovery_testkit::fuzz::{Choices, SPELL, fixed, manifest, mutated, write_corpus};

/// What `parse` makes of these bytes, at the price of some times their length.
fn parsed<T>(bytes: &[u8], parse: impl FnOnce(&[u8]) -> T) -> T {
    let mut made = None;
    let cost = measure(|| made = Some(parse(bytes))).bytes_max;
    assert!(cost < 16_384 + 64 * bytes.len() as u64, "{cost} bytes of memory for {}", bytes.len());
    made.expect("it was called")
}

fn id(choices: &mut Choices<'_>) -> SegmentId {
    SegmentId { session: choices.byte().into(), batch: choices.byte().into() }
}

/// Runs that lie apart.
fn runs(choices: &mut Choices<'_>, most: usize) -> Vec<Run> {
    let mut at = choices.number() >> 2;
    let run = |_| {
        at += u64::from(choices.byte());
        let run = Run::new(at, 1 + u64::from(choices.byte()));
        at = run.end();
        run
    };
    (0..most).map(run).collect()
}

fn entries(choices: &mut Choices<'_>) -> Vec<Entry> {
    let runs = runs(choices, choices.0.len() / 6);
    let entry = |run| Entry {
        disk: DiskId::from(["root", "data", ""][choices.below(3)]),
        run,
        checksum: choices.number().into(),
        frame: (choices.below(3) > 0).then(|| (choices.number() >> 2, 1 + u32::from(choices.byte()))),
    };
    runs.into_iter().map(entry).collect()
}

const NUMBERED: &[u8] = &[7; 60];

#[test]
fn any_bytes_are_the_index_of_a_segment_or_none() {
    let right = segment::encode_index(&entries(&mut Choices(NUMBERED)));
    let property = |choices: &[u8]| {
        let _ = parsed(choices, segment::decode_header);
        for bytes in [choices, &mutated(&right, choices)] {
            let Some(entries) = parsed(bytes, segment::decode_index) else { continue };
            for Entry { run, frame, .. } in &entries {
                assert!(run.len > 0 && run.start.checked_add(run.len).is_some(), "{run:?}");
                assert!(frame.is_none_or(|(at, len)| at.checked_add(len.into()).is_some()), "{frame:?}");
            }
            assert_eq!(segment::decode_index(&segment::encode_index(&entries)), Some(entries));
        }
        let entries = entries(&mut Choices(choices));
        assert_eq!(segment::decode_index(&segment::encode_index(&entries)), Some(entries));
    };
    fixed(property);
    bolero::check!(name = "segment").with_test_time(SPELL).for_each(property);
}

fn pieces(choices: &mut Choices<'_>) -> Vec<(Run, Held)> {
    let runs = runs(choices, choices.0.len() / 4);
    let piece = |run: Run| {
        if choices.below(4) == 0 {
            return (run, Held::Zeros { session: choices.number() });
        }
        let before = run.start.min(choices.byte().into());
        let record = Run::new(run.start - before, before + run.len + u64::from(choices.byte()));
        let (offset, len) = (choices.number() >> 2, u32::from(choices.byte()));
        let (segment, checksum) = (id(choices), choices.number().into());
        (run, Held::Data(Place { segment, offset, len, run: record, checksum }))
    };
    runs.into_iter().map(piece).collect()
}

/// Of one disk.
type Pieces = (DiskId, Vec<(Run, Held)>);

fn layered(disks: &[Pieces]) -> Layered {
    let mut writer = LayerWriter::new();
    for (disk, pieces) in disks {
        pieces.iter().for_each(|(run, held)| writer.push(disk, *run, *held));
    }
    writer.finish()
}

/// The pieces of a layer; none where it is none.
fn read(bytes: &[u8]) -> Option<Vec<Pieces>> {
    let tail = &bytes[bytes.len().checked_sub(TAIL as usize)?..];
    let (at, len, sum) = layer::decode_tail(tail, bytes.len() as u64)?;
    let index = layer::decode_index(&bytes[at as usize..][..len as usize], sum, at)?;
    let of_disk = |disk: &DiskId| {
        let blocks = &index.blocks[index.blocks_of(disk)];
        let pieces = blocks
            .iter()
            .map(|block| layer::decode_block(&bytes[block.at as usize..][..block.len as usize], block));
        Some((disk.clone(), pieces.collect::<Option<Vec<_>>>()?.concat()))
    };
    index.disks().map(of_disk).collect()
}

fn example() -> Layered {
    let pieces = |from| pieces(&mut Choices(&(from..=255).cycle().take(4000).collect::<Vec<u8>>()));
    layered(&[("data".into(), pieces(3)), ("root".into(), pieces(90))])
}

#[test]
fn any_pieces_are_a_layer_and_any_bytes_are_one_or_none() {
    let right = example().bytes;
    let property = |choices: &[u8]| {
        let disks = [("d".into(), pieces(&mut Choices(choices)))].into_iter().filter(|(_, p)| !p.is_empty());
        let disks: Vec<_> = disks.collect();
        let made = layered(&disks);
        let again = read(&made.bytes).expect("a layer");
        let data = |disks: &[Pieces]| -> Vec<_> {
            disks.iter().flat_map(|(_, p)| p).filter(|(_, held)| held.place().is_some()).copied().collect()
        };
        let len = |disks: &[Pieces]| disks.iter().flat_map(|(_, p)| p).map(|(run, _)| run.len).sum::<u64>();
        assert_eq!((data(&again), len(&again)), (data(&disks), len(&disks)));
        assert_eq!(layered(&again).bytes, made.bytes);
        for bytes in [choices, &mutated(&right, choices)] {
            let _ = parsed(bytes, read);
        }
    };
    fixed(property);
    bolero::check!(name = "layer").with_test_time(SPELL).for_each(property);
}

/// The same behind the checksums.
#[test]
fn any_index_and_any_block_of_a_layer_are_sound_or_none() {
    let right = example().bytes;
    let (at, len, sum) =
        layer::decode_tail(&right[right.len() - TAIL as usize..], right.len() as u64).expect("a tail");
    let index = right[at as usize..][..len as usize].to_vec();
    let known = layer::decode_index(&index, sum, at).expect("an index");
    let property = |choices: &[u8]| {
        for bytes in [choices, &mutated(&index, choices)] {
            if let Some(index) = parsed(bytes, |bytes| layer::decode_index(bytes, checksum(bytes), at)) {
                is_sound(&index, at);
            }
        }
        let known = &known.blocks[Choices(choices).below(known.blocks.len())];
        let edited = mutated(&right[known.at as usize..][..known.len as usize], choices);
        for bytes in [choices, &edited] {
            // The end of its span is found out, as somebody would write it who knows the format.
            let mut block = BlockRef { len: bytes.len() as u32, checksum: checksum(bytes), ..known.clone() };
            for len in (0..u64::from(u16::MAX)).step_by(4099).chain([known.span.len]) {
                block.span.len = len;
                let Some(pieces) = parsed(bytes, |bytes| layer::decode_block(bytes, &block)) else {
                    continue;
                };
                are_sound(&pieces);
                let again = layered(&[("d".into(), pieces)]);
                assert!(read(&again.bytes).is_some(), "what was read can be written");
            }
        }
    };
    fixed(property);
    bolero::check!(name = "layer_index").with_test_time(SPELL).for_each(property);
}

fn is_sound(index: &LayerIndex, end: u64) {
    for block in &index.blocks {
        assert!(block.at.checked_add(block.len.into()).is_some_and(|behind| behind <= end), "{block:?}");
        assert!(block.span.start.checked_add(block.span.len).is_some(), "{block:?}");
    }
    for disk in index.disks() {
        let _ =
            index.blocks[index.blocks_of(disk)].len() + index.blocks_in(disk, Run::new(0, u64::MAX)).len();
    }
}

fn are_sound(pieces: &[(Run, Held)]) {
    assert!(pieces.iter().all(|(run, _)| run.len > 0 && run.start.checked_add(run.len).is_some()));
    assert!(pieces.is_sorted_by(|(last, _), (next, _)| last.end() <= next.start));
    for (run, place) in pieces.iter().filter_map(|(run, held)| Some((run, held.place()?))) {
        assert!(place.offset.checked_add(place.len.into()).is_some(), "{place:?}");
        assert!(place.run.start <= run.start && run.end() <= place.run.end(), "{run:?} of {place:?}");
    }
}

#[test]
fn any_bytes_are_the_index_of_a_pack_or_none() {
    let mut choices = Choices(NUMBERED);
    let frames: Vec<Frame> = (0..5).map(|at| (id(&mut choices), at, 9)).collect();
    let right = pack::encode(&frames)[20..].to_vec();
    let property = |choices: &[u8]| {
        for bytes in [choices, &mutated(&right, choices), &choices[..choices.len() / 28 * 28]] {
            let Some(index) = parsed(bytes, |bytes| pack::decode(bytes, checksum(bytes))) else { continue };
            let encoded = pack::encode(index.frames());
            assert_eq!(&encoded[20..], bytes);
            for (segment, offset, len) in index.frames() {
                let at = index.find(*segment, *offset).expect("it is in it");
                assert!(at >= encoded.len() as u64 && at.checked_add((*len).into()).is_some());
            }
        }
        assert_eq!(pack::decode(choices, checksum(choices) ^ 1), None);
    };
    fixed(property);
    bolero::check!(name = "pack").with_test_time(SPELL).for_each(property);
}

pub(crate) fn ledger() -> Ledger {
    let op = Op { key: "copy/1".into(), epoch: Epoch { number: 4, owner: "engine".into() } };
    let manifest = manifest();
    let mut ledger = Ledger::new("web".into()).admit(&op).expect("the first");
    let set: ChangeSet =
        [("root".into(), Run::new(0, 4096)), ("root".into(), Run::new(9000, 1))].into_iter().collect();
    let mut timeline = Timeline::new(&manifest.machine, PointId(1));
    let there = Noted::There(Attached::new(3, "seed", b"set"));
    timeline.seed = Some(Seeded { cursor: manifest.cursor.clone(), touched: there });
    timeline.damaged = [SegmentId { session: 1, batch: 2 }].into();
    timeline.due = [PointId(2)].into();
    let (cut, landed) = (manifest.cut.clone(), Some(vec![(0, 3), (5, 5)]));
    timeline.carried = vec![Carried { session: 1, op: op.clone(), cut: cut.clone(), landed }];
    timeline.open = Some(Open { session: 2, op, cut, plan: Noted::Here(set) });
    ledger.timeline = Some(timeline);
    ledger.garbage = vec![
        Garbage::Segment(SegmentId { session: 1, batch: 0 }),
        Garbage::Timeline { session: 1, ledger: 2 },
        Garbage::Attached(Attached::new(2, "leaf", b"leaf")),
    ];
    ledger.remember_done("0".repeat(32), &[PointId(1), PointId(2)]);
    ledger
}

#[test]
fn any_bytes_are_a_ledger_or_a_named_error() {
    let right = ledger().encode().expect("JSON");
    assert_eq!(Ledger::decode(7, &right).expect("readable"), ledger());
    let property = |choices: &[u8]| {
        let json = mutated(&right[17..], choices);
        let summed = [format!("{:016x}\n", checksum(&json)).as_bytes(), &json].concat();
        for bytes in [choices, &mutated(&right, choices), &summed] {
            match parsed(bytes, |bytes| Ledger::decode(7, bytes)) {
                Ok(ledger) => {
                    let again = ledger.encode().expect("JSON");
                    assert_eq!(Ledger::decode(7, &again).expect("readable"), ledger);
                }
                Err(error) => {
                    assert!([ErrorKind::Corrupt, ErrorKind::Unsupported].contains(&error.kind()), "{error}");
                }
            }
        }
    };
    fixed(property);
    bolero::check!(name = "ledger").with_test_time(SPELL).for_each(property);
}

fn point() -> Vec<u8> {
    let object = Attached::new(5, "layer", b"layer");
    let layer = |pieces| LayerRef { object: object.clone(), at: 0, len: 9000, pieces, points: 8, newest: 5 };
    Sealed::encode(&manifest(), Some(example()), vec![layer(70), layer(2000)]).expect("JSON")
}

#[test]
fn any_bytes_are_a_point_or_none() {
    let (right, object) = (point(), Attached::new(7, "point", b"any"));
    let decode = |bytes: &[u8]| Sealed::decode(&Bytes::copy_from_slice(bytes), &object);
    assert_eq!(decode(&right).expect("a point").manifest, manifest());
    let property = |choices: &[u8]| {
        for bytes in [choices, &mutated(&right[..2500.min(right.len())], choices), &mutated(&right, choices)]
        {
            let Some(point) = parsed(bytes, decode) else { continue };
            assert!(point.layers.iter().all(|layer| layer.at.checked_add(layer.len).is_some()));
            assert!(due(&point.layers) <= point.layers.len());
        }
    };
    fixed(property);
    bolero::check!(name = "point").with_test_time(SPELL).for_each(property);
}

#[test]
fn any_text_names_an_object_or_none() {
    let right = Attached::new(77, "leaf", b"bytes");
    let property = |choices: &[u8]| {
        for text in [choices, &mutated(right.as_str().as_bytes(), choices)] {
            let text = String::from_utf8_lossy(text);
            let Some(name) = Attached::named(&text) else { continue };
            assert_eq!((name.as_str(), name.number()), (&*text, text[..20].parse().expect("a number")));
            let json = serde_json::to_string(&name).expect("JSON");
            assert_eq!(serde_json::from_str::<Attached>(&json).expect("a name"), name);
            let _ = (name.is_page(), name.describes(choices));
        }
        let number = Choices(choices).number();
        let name = Attached::new(number, "leaf", choices);
        assert_eq!(Attached::named(name.as_str()).as_ref(), Some(&name));
        assert!(name.describes(choices) && name.is_page() && name.number() == number);
    };
    fixed(property);
    bolero::check!(name = "name").with_test_time(SPELL).for_each(property);
}

#[test]
#[ignore = "writes the corpus anew"]
fn corpus() {
    let write = |target, bytes| write_corpus(env!("CARGO_MANIFEST_DIR"), "src", target, &[bytes]);
    let layer = example().bytes;
    let (at, len, _) =
        layer::decode_tail(&layer[layer.len() - TAIL as usize..], layer.len() as u64).expect("a tail");
    write("segment", segment::encode_index(&entries(&mut Choices(NUMBERED))));
    write("layer_index", layer[at as usize..][..len as usize].to_vec());
    write("layer", layer);
    write("pack", pack::encode(&[(SegmentId { session: 1, batch: 0 }, 20, 9)])[20..].to_vec());
    write("ledger", ledger().encode().expect("JSON").to_vec());
    write("point", point());
    write("name", Attached::new(77, "leaf", b"bytes").as_str().as_bytes().to_vec());
}
