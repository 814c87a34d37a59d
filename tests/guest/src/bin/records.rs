//! The guest's program: `records FILE [WORD]...` appends records to a file for ever, and says so on the console.
//!
//! `RESUME n` once, with the number of records that stood there; then `ACK n` for each record that is durable. It stops
//! with `CORRUPT` where what stood there is not what was written. Words:
//!
//! - `name=A-web`: the first letter goes into the records, the whole into what is sent;
//! - `delay=20`: milliseconds between two records;
//! - `second=/dev/vdb`: each record is made durable at the start of this disk, too, before it is written to the file;
//! - `ip=10.0.0.1`: answers and beacons by UDP, port 7000; `peer=10.0.0.2`: who hears of each durable record;
//! - `needs=10.0.0.3`: who has to answer before each record, and from whom the record knows how many are durable there. The
//!   program ends with `ABSENT 10.0.0.3` where nobody answers before the first one, and answers nobody until then.
//!
//! What is sent is text. `BEACON name n` goes to all of the /24 five times a second, and `DURABLE name n` to the peer after
//! each record, where n is how many records are durable. `PING text` is answered by `PONG text name n`.

#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "a guest has a clock of its own")]

// By its path, so that it builds without the library.
#[path = "../record.rs"]
#[allow(dead_code, unreachable_pub, reason = "the rest is for the host")]
mod record;

use record::Record;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const PORT: u16 = 7000;
/// Between two questions to who is needed, and how many of them before the first record.
const AGAIN: Duration = Duration::from_millis(200);
const ASKED: u64 = 25;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().expect("records FILE [WORD]...");
    let words = Words(arguments.collect());
    let name = words.get("name").unwrap_or("A").to_owned();
    let site = name.chars().next().expect("a name has letters");
    let delay =
        Duration::from_millis(words.get("delay").map_or(20, |ms| ms.parse().expect("delay is a number")));
    let second =
        words.get("second").map(|path| OpenOptions::new().write(true).open(path).expect("second opens"));

    let (mut file, records) = open(&path);
    println!("RESUME {}", records.len());
    let durable = Arc::new(AtomicU64::new(records.len() as u64));
    let known = Arc::new(AtomicU64::new(records.last().map_or(0, |r| r.cause)));
    let peer = words.get("peer").map(|ip| ip.parse().expect("peer is an address"));
    let needs: Option<Ipv4Addr> = words.get("needs").map(|ip| ip.parse().expect("needs is an address"));
    let (answered, answers) = channel();
    let net = words.get("ip").map(|ip| {
        let ip = ip.parse().expect("ip is an address");
        let serves_from = needs.map_or(0, |_| records.len() as u64 + 1);
        Net::start(ip, peer, name, durable.clone(), serves_from, known.clone(), answered)
    });

    let first = records.len() as u64;
    for number in first.. {
        if let Some(needed) = needs {
            let net = net.as_ref().expect("needs comes with ip");
            let tries = if number == first { ASKED } else { u64::MAX };
            let Some(count) = net.ask(needed, &answers, tries) else {
                println!("ABSENT {needed}");
                std::process::exit(1);
            };
            known.fetch_max(count, SeqCst);
        }
        let time = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64;
        let bytes = Record { number, time, site, cause: known.load(SeqCst) }.to_bytes();
        if let Some(disk) = &second {
            disk.write_all_at(&bytes, number * record::LEN as u64).expect("write to second");
            disk.sync_all().expect("sync of second");
        }
        file.write_all(&bytes).expect("write");
        file.sync_all().expect("sync");
        durable.store(number + 1, SeqCst);
        if let Some(net) = &net {
            net.tell_peer();
        }
        println!("ACK {number}");
        std::thread::sleep(delay);
    }
}

struct Words(Vec<String>);

impl Words {
    /// The last one counts.
    fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().rev().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }
}

/// The file, to be written at the end of its last whole record.
fn open(path: &str) -> (File, Vec<Record>) {
    let mut file = OpenOptions::new().read(true).append(true).create(true).open(path).expect("open");
    let mut log = vec![];
    file.read_to_end(&mut log).expect("read");
    let records = record::read(&log).unwrap_or_else(|fault| {
        println!("CORRUPT {fault}");
        std::process::exit(1);
    });
    file.set_len((records.len() * record::LEN) as u64).expect("cut");
    (file, records)
}

#[derive(Clone)]
struct Net {
    socket: Arc<UdpSocket>,
    name: String,
    peer: Option<Ipv4Addr>,
    durable: Arc<AtomicU64>,
    /// Nobody is answered before this many records are durable.
    serves_from: u64,
}

impl Net {
    fn start(
        ip: Ipv4Addr,
        peer: Option<Ipv4Addr>,
        name: String,
        durable: Arc<AtomicU64>,
        serves_from: u64,
        known: Arc<AtomicU64>,
        answered: Sender<(Ipv4Addr, String)>,
    ) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT)).expect("bind");
        socket.set_broadcast(true).expect("broadcast");
        let net = Self { socket: Arc::new(socket), name, peer, durable, serves_from };
        let [a, b, c, _] = ip.octets();
        let (listening, beaconing) = (net.clone(), net.clone());
        std::thread::spawn(move || listening.listen(&known, &answered));
        std::thread::spawn(move || {
            loop {
                beaconing.send("BEACON", Ipv4Addr::new(a, b, c, 255), PORT);
                std::thread::sleep(Duration::from_millis(200));
            }
        });
        net
    }

    fn tell_peer(&self) {
        if let Some(peer) = self.peer {
            self.send("DURABLE", peer, PORT);
        }
    }

    /// How many records are durable at who is needed; nothing where no answer came.
    fn ask(&self, needed: Ipv4Addr, answers: &Receiver<(Ipv4Addr, String)>, tries: u64) -> Option<u64> {
        // An answer to an earlier question says nothing of now.
        let answer = format!("PONG {} {} ", self.name, self.durable.load(SeqCst));
        for _ in 0..tries {
            self.send("PING", needed, PORT);
            while let Ok((from, text)) = answers.recv_timeout(AGAIN) {
                let told = text.strip_prefix(&answer).filter(|_| from == needed);
                if let Some(count) = told.and_then(|told| told.rsplit(' ').next()?.parse().ok()) {
                    return Some(count);
                }
            }
        }
        None
    }

    /// A network that is cut off is no reason to stop writing.
    fn send(&self, what: &str, to: Ipv4Addr, port: u16) {
        let text = format!("{what} {} {}", self.name, self.durable.load(SeqCst));
        let _ = self.socket.send_to(text.as_bytes(), (to, port));
    }

    fn listen(&self, known: &AtomicU64, answered: &Sender<(Ipv4Addr, String)>) {
        let mut bytes = [0; 1024];
        loop {
            let Ok((len, std::net::SocketAddr::V4(from))) = self.socket.recv_from(&mut bytes) else {
                continue;
            };
            let text = String::from_utf8_lossy(&bytes[..len]);
            if text.starts_with("PING ") {
                if self.durable.load(SeqCst) < self.serves_from {
                    continue;
                }
                self.send(&text.replacen("PING", "PONG", 1), *from.ip(), from.port());
            } else if text.starts_with("PONG ") {
                let _ = answered.send((*from.ip(), text.into_owned()));
            } else if text.starts_with("DURABLE ")
                && Some(*from.ip()) == self.peer
                && let Some(count) = text.split(' ').nth(2).and_then(|n| n.parse().ok())
            {
                known.fetch_max(count, SeqCst);
            }
        }
    }
}
