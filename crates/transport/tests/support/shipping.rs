//! A machine in memory, a process server, and a proxy that cuts connections.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "shared by several test programs; a test that cannot go on fails, and starts tasks where it likes"
)]

use site_recovery::*;
use site_recovery_testkit::world::{Site, World};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub const MIB: u64 = 1 << 20;

pub fn op(key: &str) -> Op {
    Op { key: key.into(), epoch: Epoch { number: 1, owner: "engine".into() } }
}

/// A machine that is shipped: full of bytes that do not compress.
pub struct Shipper {
    pub machine: Machine,
    site: Site,
    process_server: site_recovery_process_server::ProcessServer,
}

impl Shipper {
    pub async fn new(seed: u64, size: u64) -> Self {
        let site = World::new(seed).site("here");
        let machine = site.add_machine("web", &[("root", size)]);
        let mut rng = Rng::of(seed);
        let bytes: Vec<u8> = (0..size / 8).flat_map(|_| rng.bits().to_le_bytes()).collect();
        site.write("web", "root", 0, &bytes);
        site.enrol(&op("enrol"), &machine).await.unwrap();
        let process_server = site_recovery_process_server::ProcessServer::builder("ps");
        let process_server = process_server.pool(16 << 20).build().await.unwrap();
        Self { machine, site, process_server }
    }

    /// Captures once for each key, and ships what was captured.
    pub async fn ship(&self, key: &str, replica: &Arc<dyn Replica>) -> Result<Point> {
        let instance = self.machine.instance.clone();
        let capture = self.site.capture(&op(key), &[instance], Consistency::Crash).await?;
        let item = Item::new(self.machine.clone(), op(key).epoch, Policy::default(), "out", "back");
        let machine = self.machine.id().clone();
        let control = Control { unit: "web".into(), members: vec![machine.clone()], item };
        let what = Shipment { capture, machine, basis: Basis::Delta, control };
        let source: Arc<dyn Source> = Arc::new(self.site.clone());
        match ProcessServer::ship(&self.process_server, &op(key), &what, &source, replica).await? {
            Shipped::Sealed { point, .. } => Ok(point),
            other => panic!("not sealed: {other:?}"),
        }
    }

    pub async fn prepare(&self, replica: &Arc<dyn Replica>) {
        replica.prepare(&op("prepare"), &self.machine, &Seed::Fresh, &Settings::default()).await.unwrap();
    }

    /// The point holds what the machine holds.
    pub async fn assert_equal(&self, replica: &Arc<dyn Replica>, point: PointId) {
        let disks = replica.open(self.machine.id(), point).await.unwrap();
        let pool = Pool::new(4 << 20);
        let truth = &self.site.bytes("web")["root"];
        let disk = &disks[&DiskId::from("root")];
        assert_eq!(disk.size(), truth.len() as u64);
        for run in Run::new(0, disk.size()).pieces(MIB) {
            let bytes = disk.read(run, &pool).await.unwrap();
            assert!(bytes == truth[run.start as usize..run.end() as usize], "differs in {run:?}");
        }
    }

    pub fn scribble(&self, blocks: u32) {
        self.site.scribble("web", blocks);
    }
}

/// Passes bytes on, and cuts every connection for which there is a number, after so many bytes to the server.
pub struct Proxy {
    pub address: SocketAddr,
    pub up: Arc<AtomicU64>,
    pub cut: Arc<AtomicU64>,
    target: Arc<Mutex<SocketAddr>>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    pub async fn new(target: SocketAddr, cuts: Vec<u64>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (up, cut, target) =
            (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(target)));
        let cuts = Arc::new(Mutex::new(VecDeque::from(cuts)));
        let (counted, cutting, to) = (Arc::clone(&up), Arc::clone(&cut), Arc::clone(&target));
        let task = tokio::spawn(async move {
            let mut all = tokio::task::JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let to = *to.lock().unwrap();
                let Ok(server) = TcpStream::connect(to).await else { continue };
                let most = cuts.lock().unwrap().pop_front();
                let (counted, cutting) = (Arc::clone(&counted), Arc::clone(&cutting));
                all.spawn(async move {
                    if pass(client, server, most, &counted).await {
                        cutting.fetch_add(1, SeqCst);
                    }
                });
            }
        });
        Self { address, up, cut, target, task }
    }

    pub fn redirect(&self, target: SocketAddr) {
        *self.target.lock().unwrap() = target;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// True where it was cut here.
async fn pass(client: TcpStream, server: TcpStream, most: Option<u64>, counted: &AtomicU64) -> bool {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let up = async {
        let mut left = most.unwrap_or(u64::MAX);
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let room = left.min(buffer.len() as u64) as usize;
            if room == 0 {
                return true;
            }
            match from_client.read(&mut buffer[..room]).await {
                Ok(read) if read > 0 => {
                    counted.fetch_add(read as u64, SeqCst);
                    left -= read as u64;
                    if to_server.write_all(&buffer[..read]).await.is_err() {
                        return false;
                    }
                }
                _ => return false,
            }
        }
    };
    let down = async {
        let _ = tokio::io::copy(&mut from_server, &mut to_client).await;
        false
    };
    tokio::select! { cut = up => cut, cut = down => cut }
}

/// xorshift64*
pub struct Rng(u64);

impl Rng {
    pub fn of(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, most: u64) -> u64 {
        self.bits() % most
    }
}

/// One seed by `SEED`, or these.
pub fn seeds(most: u64) -> Vec<u64> {
    match std::env::var("SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (1..=most).collect(),
    }
}
