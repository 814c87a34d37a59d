//! An authority in a process of its own, killed while services join: whoever has a certificate is on record, and a token
//! that was not answered is answered after.

use crate::support::SOON;
use crate::world::*;
use site_recovery::*;
use site_recovery_transport::enrol::*;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// Tells the test program that it is the other process: the folder with the authority.
const FOLDER: &str = "SITE_RECOVERY_ENROL_FOLDER";
const ADDRESS: &str = "SITE_RECOVERY_ENROL_ADDRESS";

/// The other process: serves until its standard input ends, or it is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_other_process() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let authority = Authority::open(Path::new(&folder).join("authority"), Arc::new(SystemClock)).unwrap();
    let address = std::env::var(ADDRESS).unwrap().parse().unwrap();
    let server = EnrolmentServer::listen(authority, address, EnrolmentLimits::default()).await.unwrap();
    eprintln!("serving at {}", server.address());
    tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0])).await.unwrap().unwrap();
    server.stop().await;
}

struct Other(Child, String);

impl Other {
    fn start(folder: &Path, address: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "killed::the_other_process", "--nocapture"]);
        command.env(FOLDER, folder).env(ADDRESS, address);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(|line| line.ok());
        let at = lines.find_map(|line| line.strip_prefix("serving at ").map(str::to_owned));
        Self(child, at.expect("the other process serves"))
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
async fn c2_an_authority_that_is_killed_while_services_join_knows_all_that_have_a_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::open(folder.path().join("authority"), Arc::new(SystemClock)).unwrap();
    let mut other = Other::start(folder.path(), "127.0.0.1:0");
    let address = other.1.clone();
    let (mut lost, mut had) = (0, 0);
    for n in 0..16 {
        let service = agent(&format!("web-{n}"));
        let token = authority.mint(Invitation::new(service.clone(), &address)).await.unwrap();
        let at = || Credentials::at(folder.path().join(service.name()));
        let joining = {
            let (at, token) = (at(), token.clone());
            #[allow(clippy::disallowed_methods, reason = "a test's own peer")]
            tokio::spawn(async move { at.join(&token).await })
        };
        // Another moment each time: the handshake, the ledger, the answer, or all is done.
        let moment = std::future::pending::<()>();
        tokio::time::timeout(Duration::from_micros(1500 * n), moment).await.unwrap_err();
        drop(other);
        let outcome = tokio::time::timeout(SOON, joining).await.expect("in time").unwrap();
        other = Other::start(folder.path(), &address);
        let credentials = match outcome {
            Ok(credentials) => {
                had += 1;
                credentials
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
                lost += 1;
                at().join(&token).await.expect("the same token and key")
            }
        };
        assert_eq!(credentials.service(), service);
        credentials.refresh_revoked().await.expect("it is on record");
        credentials.renew().await.expect("it is on record");
        assert!(authority.revoke(&service).await.unwrap().contains(&credentials.serial()));
    }
    println!("{lost} replies were lost, {had} came");
    assert!(lost > 0, "some are killed in the middle");
}
