//! Hosts: network namespaces on the bridge of a hub, which the test process has a port of, too.

use super::clock::Clock;
use super::link::Member;
use super::process::Process;
use super::tool::{self, ip, run};
use super::{Store, sweep};
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

/// Keeps a host's namespaces for as long as it lives. Mounts on loop devices that other tests have just then are let go of,
/// which could not be detached otherwise.
const KEEPER: &str = r#"hostname "$1"
while read -r _ _ _ _ at rest; do
    case $rest in *" /dev/loop"*) case $at in "$2"*) ;; *) umount -l "$at" ;; esac ;; esac
done </proc/self/mountinfo
echo ready
exec sleep infinity"#;

/// What a test stands on: a network of its own, and a directory.
#[derive(Clone)]
pub struct Ground(pub(super) Arc<Base>);

pub(super) struct Base {
    pub name: String,
    pub dir: PathBuf,
    logs: PathBuf,
    /// The first three bytes of every address.
    net: [u8; 3],
    /// Who is on the network; the test process is the first.
    pub members: Mutex<Vec<Member>>,
    hosts: AtomicU32,
}

impl Ground {
    /// Sets it up. `label` names the directory of logs, so each test has its own.
    pub fn new(label: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let machine = sweep::lock_machine();
        sweep::sweep_once();
        let name =
            format!("{}{}-{}", sweep::PREFIX, std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let base = Base {
            dir: sweep::dir(&name),
            net: unused_net(),
            logs: super::target().join(label).join(&name),
            members: Mutex::default(),
            hosts: AtomicU32::new(2),
            name,
        };
        base.set_up();
        drop(machine);
        Self(Arc::new(base))
    }

    /// A host more. Its name is its host name, and must be short.
    pub fn host(&self, name: &str) -> Host {
        Host::set_up(self.clone(), name)
    }

    /// A file system for disks that can be cloned.
    pub fn store(&self, bytes: u64) -> Store {
        Store::new(self.clone(), bytes)
    }

    /// Its name, which all that it sets up begins with.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Where files of the test may lie. Goes with the ground.
    pub fn dir(&self) -> &Path {
        &self.0.dir
    }

    /// The address of the test process.
    pub fn ip(&self) -> Ipv4Addr {
        self.0.address(1)
    }

    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.0.logs.join(name)
    }
}

impl Base {
    fn set_up(&self) {
        fs::create_dir_all(&self.logs).unwrap();
        let of_label = self.logs.parent().unwrap();
        for old in sweep::entries(of_label).iter().filter(|name| sweep::is_abandoned(name)) {
            let _other_took_it = fs::remove_dir_all(of_label.join(old));
        }
        fs::create_dir(&self.dir).unwrap();
        // Shared, so that what is mounted and unmounted below it is so for each host.
        run("mount", &[OsStr::new("--bind"), self.dir.as_ref(), self.dir.as_ref()]);
        run("mount", &[OsStr::new("--make-shared"), self.dir.as_ref()]);
        let (name, hub, here) = (&self.name, self.hub(), self.address(1));
        ip(&format!("netns add {hub}"));
        ip(&format!("-n {hub} link add name hub type bridge stp_state 0 forward_delay 0 mcast_snooping 0"));
        ip(&format!("-n {hub} link set hub up"));
        ip(&format!("link add {name} type veth peer name p1 netns {hub}"));
        ip(&format!("-n {hub} link set p1 master hub up"));
        ip(&format!("address add {here}/24 dev {name}"));
        ip(&format!("link set {name} up"));
        self.members.lock().unwrap().push(Member { namespace: None, device: name.clone(), ip: here });
    }

    pub(super) fn hub(&self) -> String {
        format!("{}-hub", self.name)
    }

    fn address(&self, last: u8) -> Ipv4Addr {
        let [a, b, c] = self.net;
        Ipv4Addr::new(a, b, c, last)
    }
}

impl Drop for Base {
    fn drop(&mut self) {
        sweep::take_down(&self.name);
    }
}

/// A net of 256 addresses in 10.64/10 that no route or address of this machine lies in, or goes to: but for a route of a
/// large part of all addresses, which a smaller one goes before.
fn unused_net() -> [u8; 3] {
    let said = run("ip", &["-4", "-o", "route"]) + &run("ip", &["-4", "-o", "address"]);
    let used: Vec<(u32, u32)> =
        said.split_whitespace().filter_map(parse_net).filter(|net| net.1 >= 12).collect();
    let is_free = |net: &[u8; 3]| {
        let [a, b, c] = *net;
        let address = u32::from(Ipv4Addr::new(a, b, c, 0));
        used.iter().all(|(other, length)| (address ^ other) >> (32 - length.min(&24)) != 0)
    };
    let mut nets = (64..128).flat_map(|b| (0..=255).map(move |c| [10, b, c]));
    nets.find(is_free).expect("a net that is not in use")
}

/// Of `10.1.2.0/24` or `10.1.2.3`: the address, and how many bits of it count.
fn parse_net(word: &str) -> Option<(u32, u32)> {
    let (address, length) = word.split_once('/').unwrap_or((word, "32"));
    Some((address.parse::<Ipv4Addr>().ok()?.into(), length.parse().ok()?))
}

/// A host: what runs in it has its network, its host name and its mounts. All of it is killed with it.
pub struct Host {
    keeper: Child,
    name: String,
    pub(super) namespace: String,
    pub(super) ground: Ground,
    pub(super) member: Member,
    /// The namespace of the bridge, and its port there.
    pub(super) hub: String,
    pub(super) port: String,
    started: AtomicU32,
    pub(super) clock: OnceLock<Clock>,
}

impl Host {
    fn set_up(ground: Ground, name: &str) -> Self {
        let base = &ground.0;
        let number = base.hosts.fetch_add(1, Ordering::Relaxed);
        let (namespace, port) = (format!("{}-{name}", base.name), format!("p{number}"));
        let (hub, address) = (base.hub(), base.address(u8::try_from(number).expect("few hosts")));
        ip(&format!("netns add {namespace}"));
        ip(&format!("-n {hub} link add name {port} type veth peer name eth0 netns {namespace}"));
        ip(&format!("-n {hub} link set {port} master hub up"));
        ip(&format!("-n {namespace} address add {address}/24 dev eth0"));
        ip(&format!("-n {namespace} link set eth0 up"));
        ip(&format!("-n {namespace} link set lo up"));
        let member = Member { namespace: Some(namespace.clone()), device: "eth0".into(), ip: address };
        base.members.lock().unwrap().push(member.clone());

        let mut command = Command::new("ip");
        command.args(["netns", "exec", &namespace, "unshare", "--uts", "sh", "-c", KEEPER, "sh", name]);
        // Those of other grounds come and go by themselves.
        command.arg(sweep::dir(sweep::PREFIX)).env("PATH", tool::path());
        let mut keeper = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(keeper.stdout.take().unwrap()).lines().map_while(Result::ok).next();
        let (name, started) = (name.to_owned(), AtomicU32::new(0));
        let clock = OnceLock::new();
        let host = Self { keeper, name, namespace, ground, member, hub, port, started, clock };
        assert_eq!(said.as_deref(), Some("ready"), "the keeper of {} ended", host.name);
        host
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn ip(&self) -> Ipv4Addr {
        self.member.ip
    }

    /// A program in this host, with `/` as its working directory. Its process is the program's own, to be stopped and
    /// killed by its id.
    pub fn command<S: AsRef<OsStr>>(&self, program: impl AsRef<OsStr>, arguments: &[S]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.keeper.id().to_string(), "-m", "-n", "-u", "--"]).arg(program);
        command.args(arguments).env("PATH", tool::path()).stdin(Stdio::null());
        if let Some(clock) = self.clock.get() {
            clock.put_into(&mut command);
        }
        command
    }

    /// Starts a [`command`](Self::command), whose output goes to a file of this name and a number.
    pub fn start(&self, command: Command, name: &str) -> Process {
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        Process::start(command, &self.ground.log(&format!("{}-{number}-{name}.log", self.name)))
    }

    /// Starts a program, whose output goes to a file of its name.
    pub fn start_program<S: AsRef<OsStr>>(&self, program: impl AsRef<OsStr>, arguments: &[S]) -> Process {
        let name = Path::new(program.as_ref()).file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.start(self.command(program, arguments), &name)
    }

    /// What a program says that ends well here.
    ///
    /// # Panics
    /// Where it does not.
    pub fn run<S: AsRef<OsStr>>(&self, program: &str, arguments: &[S]) -> String {
        self.try_run(program, arguments).unwrap_or_else(|complaint| panic!("{complaint}"))
    }

    /// As [`run`](Self::run), with what it complains about.
    pub fn try_run<S: AsRef<OsStr>>(&self, program: &str, arguments: &[S]) -> Result<String, String> {
        let keeper = self.keeper.id().to_string();
        let mut words = ["-t", &keeper, "-m", "-n", "-u", "--", program].map(OsStr::new).to_vec();
        words.extend(arguments.iter().map(AsRef::as_ref));
        tool::try_run("nsenter", &words)
    }

    /// A path in this host, as the test process reaches it.
    pub fn outside(&self, path: &Path) -> PathBuf {
        let below = path.strip_prefix("/").expect("paths in a host begin at its root");
        Path::new("/proc").join(self.keeper.id().to_string()).join("root").join(below)
    }

    /// Ends every program in it at once, as a loss of power does. What they wrote and did not sync is not lost by this: the
    /// kernel lives on.
    pub fn kill_all(&self) {
        sweep::kill(&self.ground.0.name, &self.namespace, Some(self.keeper.id()));
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.ground.0.members.lock().unwrap().retain(|member| member != &self.member);
        sweep::take_down_namespace(&self.ground.0.name, &self.namespace);
        let _ended = self.keeper.kill();
        let _reaped = self.keeper.wait();
    }
}
