//! Any bytes of a client are served to their end or end in a named fault.

use super::*;
use crate::protocol::{OPTION_MAGIC, Request, command, option, put_text};
use allocation_counter::measure;
use bytes::Bytes;
use site_recovery::{Disk, Extent, Fill, Pool, Run};
use site_recovery_testkit::clock::ManualClock;
use site_recovery_testkit::fuzz::{SPELL, fixed, mutated, write_corpus};
use std::io::Cursor;

/// Zeros, but for its second half.
#[derive(Debug)]
struct Half;

const SIZE: u64 = 64 * 1024;

#[async_trait::async_trait]
impl Disk for Half {
    fn size(&self) -> u64 {
        SIZE
    }

    async fn extents(&self, range: Run) -> Result<Vec<Extent>> {
        let halves = [(0, Fill::Zero), (SIZE / 2, Fill::Data)];
        let extent =
            |(start, fill)| Some(Extent { run: Run::new(start, SIZE / 2).intersection(range)?, fill });
        Ok(halves.into_iter().filter_map(extent).collect())
    }

    async fn read(&self, run: Run, pool: &Pool) -> Result<Bytes> {
        let mut block = pool.take(run.len as usize).await?;
        block.fill(7);
        Ok(block.freeze())
    }
}

/// All that a client can say, in a way that is right.
fn conversation() -> [Vec<u8>; 2] {
    let option = |number: u32, data: &[u8]| {
        [&OPTION_MAGIC.to_be_bytes()[..], &number.to_be_bytes(), &(data.len() as u32).to_be_bytes(), data]
            .concat()
    };
    let request = |command, cookie, offset, len| Request { flags: 0, command, cookie, offset, len }.encode();
    let mut name = vec![];
    put_text(&mut name, "x");
    let mut context = [&name[..], &1_u32.to_be_bytes()].concat();
    put_text(&mut context, "base:allocation");
    let go = [&name[..], &1_u16.to_be_bytes(), &3_u16.to_be_bytes()].concat();
    let options = [
        3_u32.to_be_bytes().to_vec(),
        option(option::LIST, &[]),
        option(option::STRUCTURED_REPLY, &[]),
        option(option::LIST_META_CONTEXT, &[&name[..], &[0; 4]].concat()),
        option(option::SET_META_CONTEXT, &context),
        option(option::INFO, &go),
        option(option::GO, &go),
    ];
    let requests = [
        request(command::READ, 1, 0, SIZE as u32),
        request(command::BLOCK_STATUS, 2, 0, SIZE as u32),
        request(command::FLUSH, 3, 0, 0),
        request(command::READ, 4, SIZE - 100, 100),
        request(command::DISC, 5, 0, 0),
    ];
    [options.concat(), requests.concat()]
}

fn offer() -> (Arc<Offer>, watch::Sender<Phase>) {
    let (phase, is) = watch::channel(Phase::Serving);
    let offer = Offer {
        exports: vec![Arc::new(Export::read_only("x", Arc::new(Half)))],
        tls: None,
        limits: Limits { memory: 4 << 20, ..Limits::default() },
        clock: Arc::new(ManualClock::new()),
        spawner: Arc::new(TokioSpawner::current().expect("on a runtime")),
        places: Arc::new(Semaphore::new(2)),
        cut: AtomicUsize::new(0),
        phase: is,
    };
    (Arc::new(offer), phase)
}

fn serve(bytes: &[u8]) -> Result<(), Fault> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let peer = Box::new(tokio::io::join(Cursor::new(bytes.to_vec()), tokio::io::sink()));
    let mut outcome = Ok(());
    let cost = measure(|| {
        outcome = runtime.block_on(async {
            let (offer, _phase) = offer();
            converse(peer, offer).await
        });
    });
    let most = (8 << 20) + 64 * bytes.len() as u64;
    assert!(cost.bytes_max < most, "{} bytes of memory for {}", cost.bytes_max, bytes.len());
    outcome
}

#[test]
fn any_bytes_of_a_client_are_served_or_a_named_fault() {
    let [options, requests] = conversation();
    serve(&[&options[..], &requests].concat()).expect("nothing is wrong");
    let property = |choices: &[u8]| {
        let said = [&options[..], &mutated(&requests, choices)].concat();
        for bytes in [choices, &mutated(&options, choices), &said, &[&options[..], choices].concat()] {
            if let Err(fault) = serve(bytes) {
                assert!(matches!(fault, Fault::Broken(_) | Fault::Protocol(_)), "{fault}");
            }
        }
    };
    fixed(property);
    bolero::check!(name = "client").with_test_time(SPELL).for_each(property);
}

#[test]
#[ignore = "writes the corpus anew"]
fn corpus() {
    let [options, requests] = conversation();
    let whole = [options.clone(), [options, requests].concat()];
    write_corpus(env!("CARGO_MANIFEST_DIR"), "src/server", "client", &whole);
}
