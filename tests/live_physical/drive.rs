//! What is plugged into a server: an archive with the agent, its libraries, its settings, and a token.

use crate::hardware::{DISK, HOST, PORT};
use crate::program::{Binary, build};
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The agent as a test's cargo built it.
const AGENT: Binary = Binary { package: "site-recovery-physical", name: "site-recovery-agent" };

/// An agent that is installed on a server.
pub struct Installed<'a> {
    pub site: &'a str,
    pub name: &'a str,
    /// Where the vault reaches it.
    pub port: u16,
    pub token: &'a str,
}

impl Installed<'_> {
    fn settings(&self, capture: &str) -> String {
        format!(
            "[service]\nstate = \"/var/lib/site-recovery\"\nlisten = \"0.0.0.0:{PORT}\"\n\
             address = \"127.0.0.1:{}\"\nsite = \"{site}\"\n\n\
             [server]\nsite = \"{site}\"\nname = \"{}\"\nonly = [\"/dev/vda\"]\n\n{capture}",
            self.port,
            self.name,
            site = self.site,
        )
    }

    /// For the installed system.
    pub fn write(&self, to: &Path) {
        let capture = format!(
            "[capture]\nfreeze_seconds = 20\n\n[capture.device_mapper]\nscratch = \"/dev/vdc\"\nroom_bytes = {}\n\
             stacks = [{{ disk = \"{DISK}\", origin = \"data\", era = \"era\" }}]\n",
            48 << 20,
        );
        let install = "site-recovery-agent --config /etc/site-recovery/agent.toml join \
                       --token-file /etc/site-recovery/token && rm /etc/site-recovery/token\n";
        self.archive(to, &self.settings(&capture), &[("etc/site-recovery/install", install)]);
    }

    /// For the rescue system, which is told which disk it may write.
    pub fn write_rescue(&self, to: &Path) {
        let receive = format!(
            "[receive]\nname = \"{}\"\nslots = [{{ id = \"{DISK}\", path = \"/dev/vda\" }}]\n\
             leave = {{ run = [\"/bin/reboot\", \"-f\"], seconds = 60 }}\n\
             installed = {{ device = \"/dev/vda2\", state = \"/var/lib/site-recovery\" }}\n",
            self.name,
        );
        let rescue = "#!/bin/sh\nagent() { site-recovery-agent --config /etc/site-recovery/agent.toml --receive \"$@\"; }\n\
                      agent join --token-file /etc/site-recovery/token || exit 1\n\
                      agent run >/agent.log 2>&1 &\n\
                      tries=0\n\
                      until grep -q serving /agent.log || ! kill -0 $! 2>/dev/null || [ $tries = 300 ]; do\n\
                      sleep 0.1; tries=$((tries + 1))\ndone\n\
                      kill -0 $! && echo RESCUE SERVES\nwait $!\ncode=$?\ncat /agent.log\nexit $code\n";
        self.archive(to, &self.settings(&receive), &[("rescue", rescue)]);
    }

    fn archive(&self, to: &Path, settings: &str, scripts: &[(&str, &str)]) {
        let tree = tempfile::tempdir().unwrap();
        let place = |path: &str| {
            let path = tree.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            path
        };
        let program = build(&[AGENT]).remove(0);
        run(Command::new("strip").arg("-o").arg(place("bin/site-recovery-agent")).arg(&program));
        for library in libraries(&program) {
            let name = library.file_name().unwrap().to_str().unwrap();
            fs::copy(&library, place(&format!("lib/x86_64-linux-gnu/{name}"))).unwrap();
        }
        fs::write(place("etc/site-recovery/agent.toml"), settings).unwrap();
        let token = place("etc/site-recovery/token");
        fs::write(&token, self.token).unwrap();
        fs::set_permissions(token, fs::Permissions::from_mode(0o600)).unwrap();
        for (path, script) in scripts {
            fs::write(place(path), script).unwrap();
            fs::set_permissions(place(path), fs::Permissions::from_mode(0o755)).unwrap();
        }
        let mut tar = Command::new("tar");
        tar.args(["--format=ustar", "--owner=0", "--group=0", "-C"]).arg(tree.path()).arg("-cf").arg(to);
        // What is there, so that the directories of the system keep what they are.
        let entries = fs::read_dir(tree.path()).unwrap().map(|e| e.unwrap().file_name());
        run(tar.args(entries));
    }
}

/// Where the guest finds what listens here.
pub fn as_the_guest_sees(address: SocketAddr) -> String {
    format!("{HOST}:{}", address.port())
}

/// The shared libraries of a program, but for the loader, which the guest has.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let told = Command::new("ldd").arg(program).output().unwrap();
    let text = String::from_utf8(told.stdout).unwrap();
    let paths = text.lines().filter_map(|line| line.split_once(" => ")?.1.split_whitespace().next());
    paths.filter(|path| path.starts_with('/')).map(PathBuf::from).collect()
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
