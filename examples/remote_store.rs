//! The store in a process of its own, as on the other site: the process server here ships to it over mutual TLS. The
//! store's process is killed between two cycles and started again; the next cycle finds it, and the points it had.
//!
//! ```text
//! cargo run --example remote_store --features transport
//!
//!  here/web ──> process server ──> RemoteStore ══ mutual TLS ══> Server ──> points/
//!  └──────────────── this process ───────────┘                 └─ the other one ─┘
//! ```

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use site_recovery::{DiskId, Error, ErrorKind, Leg, Pool, Replica, Result, Run, SystemClock, Vault};
use site_recovery_examples::{Stage, failed, protect};
use site_recovery_journal::SqliteJournal;
use site_recovery_points::Points;
use site_recovery_transport::{ClientTls, RemoteStore, Server, ServerTls};
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

const MIB: u64 = 1 << 20;

#[tokio::main]
async fn main() -> Result<()> {
    match std::env::args().collect::<Vec<_>>().as_slice() {
        [_, serve, dir, address] if serve == "serve" => {
            serve_points(Path::new(dir), address.parse().expect("an address")).await
        }
        _ => replicate().await,
    }
}

/// The other process: serves a directory of points until its input ends.
async fn serve_points(dir: &Path, address: SocketAddr) -> Result<()> {
    let read = |name: &str| std::fs::read(dir.join(name)).map_err(|e| failed("read", &dir.join(name), e));
    let tls = ServerTls::new(&read("server.pem")?, &read("server.key")?, &read("ca.pem")?)?;
    let points = Points::directory("points".into(), dir.join("points"), Arc::new(SystemClock))?;
    let server = Server::builder(tls).store(Arc::new(points)).listen(address).await?;
    println!("{}", server.address());
    // A byte, or the end of the process that started this one.
    let ended = tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0])).await;
    ended.expect("it does not panic").map_err(|e| failed("read", Path::new("standard input"), e))?;
    server.stop(Duration::from_secs(5)).await;
    Ok(())
}

/// This process: a machine, a process server, and a vault whose store is elsewhere.
async fn replicate() -> Result<()> {
    let dir = tempfile::tempdir().expect("the system's directory for such can be written");
    let there = dir.path().join("there");
    let tls = certificates(&there)?;
    let (server, address) = start(&there, "127.0.0.1:0").await?;
    println!("process {} serves {}/points at {address}", server.id().unwrap_or(0), there.display());

    let store = RemoteStore::builder(&address, "points".into(), tls).connect().await?;
    let store = Arc::new(store);
    let stage = Stage::open(dir.path()).await?;
    stage.add_machine("web", &[("root", 8 * MIB)]).await?;
    let (here, cloud) = (Arc::new(stage.here.clone()), Arc::new(stage.cloud.clone()));
    let process_server = stage.process_server.clone();
    let vault = Vault::builder()
        .out(Leg::out(here, process_server.clone(), store.clone(), cloud.clone()))
        .back(Leg::back(cloud, process_server, stage.master_target.clone()))
        .journal(Arc::new(SqliteJournal::open(stage.journal_file()).await?))
        .build()
        .await?;

    stage.write(&stage.here, "web", "root", MIB, "order 1").await?;
    let web = protect(&vault, "web").await?;
    println!("protected: {} point on the other side", web.points().await?.len());

    // Without a word, as a power cut would.
    let mut server = server;
    server.kill().await.map_err(|e| failed("kill", &there, e))?;
    let (server, _) = start(&there, &address).await?;
    println!("the store was killed, and is process {} now", server.id().unwrap_or(0));

    stage.write(&stage.here, "web", "root", MIB, "order 2").await?;
    vault.replicate_now(web.id()).await?;
    let points = web.points().await?;
    println!("{} points on the other side, the first one untouched", points.len());

    // Points are read from afar, too.
    for (point, order) in points.iter().zip(["order 1", "order 2"]) {
        let disks = store.open(web.id(), point.id).await?;
        let run = Run::new(MIB, order.len() as u64);
        let found = disks[&DiskId::from("root")].read(run, &Pool::new(4096)).await?;
        assert_eq!(found, order, "of point {}", point.id);
    }
    assert_eq!(points.len(), 2);
    stop(server).await?;
    println!("PROVEN: a store in another process keeps its points through a kill, and replication goes on");
    Ok(())
}

/// Starts this program as the other process, and waits until it serves.
async fn start(dir: &Path, address: &str) -> Result<(Child, String)> {
    let program = std::env::current_exe().map_err(|e| failed("find", dir, e))?;
    let mut command = Command::new(&program);
    command.arg("serve").arg(dir).arg(address).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.kill_on_drop(true).spawn().map_err(|e| failed("start", &program, e))?;
    let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    match lines.next_line().await {
        Ok(Some(address)) => Ok((child, address)),
        _ => Err(Error::new(ErrorKind::Unavailable, "the other process ended before it served")),
    }
}

async fn stop(mut server: Child) -> Result<()> {
    drop(server.stdin.take());
    let ended = tokio::time::timeout(Duration::from_secs(20), server.wait()).await;
    let in_time = ended.map_err(|e| Error::new(ErrorKind::Unavailable, "it does not stop").caused_by(e))?;
    assert!(in_time.map_err(|e| failed("wait for", Path::new("it"), e))?.success());
    Ok(())
}

/// An authority of our own; what the server needs goes into its directory, what the client needs is returned.
fn certificates(dir: &Path) -> Result<ClientTls> {
    std::fs::create_dir_all(dir).map_err(|e| failed("make", dir, e))?;
    let key = || KeyPair::generate().expect("there is randomness");
    let mut params = CertificateParams::new(vec![]).expect("no name is wrong");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, key()).expect("it signs itself");
    let issue = |name: &str| {
        let (params, key) = (CertificateParams::new(vec![name.to_owned()]).expect("a name"), key());
        (params.signed_by(&key, &ca).expect("it signs").pem(), key.serialize_pem())
    };
    let (server, client) = (issue("localhost"), issue("process-server"));
    for (name, pem) in [("server.pem", &server.0), ("server.key", &server.1), ("ca.pem", &ca.pem())] {
        // A key is for the eyes of its owner.
        let file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(dir.join(name));
        file.and_then(|mut file| file.write_all(pem.as_bytes()))
            .map_err(|e| failed("write", &dir.join(name), e))?;
    }
    ClientTls::new(client.0.as_bytes(), client.1.as_bytes(), ca.pem().as_bytes(), "localhost")
}
