//! sushy-tools, OpenStack's emulator of a controller, with its own driver of a server that is not there. That takes up to 11
//! seconds for each switch.
#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses a part")]

use crate::trust::{Authority, Issued};
use site_recovery_physical::power::SecretRef;
use site_recovery_physical::power::redfish::{BootSource, Login, Settings, Trust};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

const PROGRAM: &str = "sushy-emulator";
const UUID: &str = "27946b59-9e44-4fa7-8e91-f3527a1ef094";
const PASSWORD: &str = "canary-of-the-controller";
/// The above, by bcrypt.
const HASHED: &str = "$2b$04$Xp1oYA8XSZII4uGnzegJb.Dx.FEKbaZPSFt.wCeB70yTvAcvADb3W";

/// An emulator with one server that is on; ended when it is dropped.
pub(crate) struct Sushy {
    pub(crate) dir: TempDir,
    child: Child,
    port: u16,
    pub(crate) issued: Issued,
}

/// Where sushy-tools stands. Says so where it does not, and fails where it has to.
fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let tools = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/sushy/bin");
    let found =
        std::env::split_paths(&path).chain([tools]).map(|dir| dir.join(PROGRAM)).find(|p| p.is_file());
    if found.is_none() {
        println!("SKIPPED Redfish on sushy-tools: {PROGRAM} is absent; tests/run --setup installs it");
        assert!(std::env::var("SITE_RECOVERY_PEERS").as_deref() != Ok("required"), "{PROGRAM} is required");
    }
    found
}

impl Sushy {
    pub(crate) fn start() -> Option<Self> {
        let program = program()?;
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let issued = authority.issue();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let put = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let (certificate, key) = (put("cert.pem", &issued.certificate), put("key.pem", &issued.key));
        let users = put("users", &format!("operator:{HASHED}\n"));
        put("ca.pem", &authority.pem());
        put("password", PASSWORD);
        let config = put(
            "config.py",
            &format!(
                "SUSHY_EMULATOR_AUTH_FILE = {users:?}\nSUSHY_EMULATOR_STATE_DIR = {:?}\n\
                 SUSHY_EMULATOR_FAKE_SYSTEMS = [{{'uuid': '{UUID}', 'name': 'web-1', 'power_state': 'On', \
                 'external_notifier': False, 'nics': []}}]\n",
                dir.path().display().to_string()
            ),
        );
        let child = Command::new(program)
            .args(["--fake", "-i", "127.0.0.1", "-p", &port.to_string(), "--config", &config])
            .args(["--ssl-certificate", &certificate, "--ssl-key", &key])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut started = Self { dir, child, port, issued };
        // It says where it runs, once it does; and is heard to its end, so that it never waits for us.
        let mut said = BufReader::new(started.child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let runs = said.by_ref().any(|line| line.contains("Running on"));
        assert!(runs, "sushy-emulator ended before it listened");
        std::thread::spawn(move || said.for_each(drop));
        Some(started)
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings {
            url: format!("https://127.0.0.1:{}/redfish/v1/Systems/{UUID}", self.port),
            trust: Trust::Ca(self.dir.path().join("ca.pem")),
            user: "operator".into(),
            password: SecretRef::File(self.dir.path().join("password")),
            login: Login::Basic,
            uuid: Some(UUID.to_uppercase()),
            hold: Some(BootSource::Pxe),
            tells: false,
            seconds: 10,
        }
    }
}

impl Drop for Sushy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
