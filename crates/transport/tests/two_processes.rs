//! A store in a process of its own, killed in the middle of a copy and started again: nothing that it acknowledged is
//! lost, and the copy goes on.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use site_recovery::*;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use support::shipping::*;
use support::*;

const SIZE: u64 = 32 * MIB;
const CREDIT: u64 = 6 * MIB;
/// Tells the test program that it is the other process: the folder with certificates and points.
const FOLDER: &str = "SITE_RECOVERY_TRANSPORT_FOLDER";

/// The other process: serves until its standard input ends, or it is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_other_process() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let folder = Path::new(&folder);
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    let tls = site_recovery_transport::ServerTls::new(&read("cert"), &read("key"), &read("ca")).unwrap();
    let limits = site_recovery_transport::Limits { connection_bytes: CREDIT as usize, ..Default::default() };
    let server = site_recovery_transport::Server::builder(tls).store(points(&folder.join("points")));
    let server = server.limits(limits).listen(loopback()).await.unwrap();
    std::fs::write(folder.join("address.new"), server.address().to_string()).unwrap();
    std::fs::rename(folder.join("address.new"), folder.join("address")).unwrap();
    eprintln!("serving");
    tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0])).await.unwrap().unwrap();
    server.stop(SOON).await;
}

struct Other(Child, SocketAddr);

impl Other {
    fn start(folder: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "the_other_process", "--nocapture"]).env(FOLDER, folder);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let serving = lines.map_while(|line| line.ok()).any(|line| line == "serving");
        assert!(serving, "the other process ended");
        let address = std::fs::read_to_string(folder.join("address")).unwrap().parse().unwrap();
        Self(child, address)
    }
}

impl Drop for Other {
    /// SIGKILL.
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o2_d1_a_store_that_is_killed_in_the_middle_loses_nothing_and_the_copy_goes_on() {
    let (folder, ca) = (tempfile::tempdir().unwrap(), Authority::new());
    let identity = ca.issue("localhost");
    let files = [("cert", &identity.certificate), ("key", &identity.key), ("ca", &ca.pem())];
    files.iter().for_each(|(name, pem)| std::fs::write(folder.path().join(name), pem).unwrap());
    let client = client_tls(&ca.issue("process-server"), &ca, "localhost");

    let mut other = Some(Other::start(folder.path()));
    let proxy = Proxy::new(other.as_ref().unwrap().1, vec![]).await;
    let store =
        site_recovery_transport::RemoteStore::builder(proxy.address.to_string(), "store".into(), client);
    let replica: Arc<dyn Replica> = Arc::new(store.connect().await.unwrap());
    let shipper = Shipper::new(11, SIZE).await;
    shipper.prepare(&replica).await;

    // Two points: killed once in the first copy, and once more in it.
    let ship = shipper.ship("copy", &replica);
    let kills = async {
        for at in [8 * MIB, 22 * MIB] {
            while proxy.up.load(SeqCst) < at {
                tokio::time::timeout(Duration::from_millis(2), std::future::pending::<()>())
                    .await
                    .unwrap_err();
            }
            drop(other.take());
            let path = folder.path().to_owned();
            let started = tokio::task::spawn_blocking(move || Other::start(&path)).await.unwrap();
            proxy.redirect(started.1);
            other = Some(started);
        }
    };
    let (shipped, ()) =
        tokio::time::timeout(SOON * 2, async { tokio::join!(ship, kills) }).await.expect("in time");
    let first = shipped.unwrap();
    let sent = proxy.up.load(SeqCst);
    let most = SIZE + 2 * CREDIT + SIZE / 64 + MIB;
    assert!(sent <= most, "{sent} bytes sent for {SIZE} with two kills, at most {most}");
    shipper.assert_equal(&replica, first.id).await;

    // What was acknowledged is there for who comes after.
    drop(other.take());
    let again = Other::start(folder.path());
    proxy.redirect(again.1);
    assert_eq!(replica.points(shipper.machine.id()).await.unwrap(), std::slice::from_ref(&first));
    shipper.assert_equal(&replica, first.id).await;
}
