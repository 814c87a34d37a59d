//! What a tree of processes costs.

use crate::Outcome;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const LOOK: Duration = Duration::from_millis(10);
/// Of `/proc/self/stat`, on every Linux there is.
const TICKS_A_SECOND: f64 = 100.0;

/// Of one tree, from start to end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    /// Seconds of processor time of all its processes.
    pub(crate) cpu: f64,
    /// Seconds.
    pub(crate) wall: f64,
    /// Bytes that its processes had in memory at once.
    pub(crate) memory: f64,
}

/// Starts trees and measures them, one at a time.
#[derive(Debug)]
pub(crate) struct Meter {
    hierarchy: Option<Hierarchy>,
    runs: AtomicU64,
}

#[derive(Debug, Clone, Copy)]
enum Hierarchy {
    V1,
    V2,
}

/// A tree under way. It is killed, by its first process, when this is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    pub(crate) started: Instant,
    place: Place,
    before: f64,
    looks: Arc<Looks>,
    looker: Option<JoinHandle<()>>,
}

#[derive(Debug, Clone)]
enum Place {
    Group(Hierarchy, PathBuf),
    /// No cgroup can be made: the children of this process, which have to be waited for.
    Children,
}

#[derive(Debug, Default)]
struct Looks {
    over: AtomicBool,
    most: Mutex<u64>,
}

impl Hierarchy {
    fn root(self) -> &'static Path {
        Path::new(match self {
            Hierarchy::V1 => "/sys/fs/cgroup/cpuacct",
            Hierarchy::V2 => "/sys/fs/cgroup",
        })
    }

    fn writable(self) -> bool {
        let files = match self {
            Hierarchy::V1 => "cpuacct.usage",
            Hierarchy::V2 => "cgroup.controllers",
        };
        let probe = self.root().join(format!("against-peers-{}", std::process::id()));
        self.root().join(files).exists() && fs::create_dir(&probe).is_ok() && fs::remove_dir(&probe).is_ok()
    }
}

impl Meter {
    pub(crate) fn new() -> Self {
        let hierarchy = [Hierarchy::V1, Hierarchy::V2].into_iter().find(|h| h.writable());
        Self { hierarchy, runs: AtomicU64::new(0) }
    }

    pub(crate) fn how(&self) -> &'static str {
        match self.hierarchy {
            Some(Hierarchy::V1) => "of a cgroup of its own for each run (v1 cpuacct), daemons included",
            Some(Hierarchy::V2) => "of a cgroup of its own for each run (v2 cpu.stat), daemons included",
            None => {
                "rusage of the children that were waited for, by ticks of 10 ms, as no cgroup can be made here"
            }
        }
    }

    /// Starts a program in a group of its own.
    pub(crate) fn start(&self, program: &Path, args: &[String], vars: &[(&str, &Path)]) -> Outcome<Running> {
        let number = self.runs.fetch_add(1, Ordering::Relaxed);
        let place = match self.hierarchy {
            None => Place::Children,
            Some(hierarchy) => {
                let group = hierarchy.root().join(format!("against-peers-{}-{number}", std::process::id()));
                fs::create_dir(&group)?;
                Place::Group(hierarchy, group)
            }
        };
        // The shell enters the group and becomes the program.
        let mut command = Command::new("sh");
        match &place {
            Place::Group(_, group) => {
                command.args(["-c", r#"echo $$ >"$0/cgroup.procs" && exec "$@""#]).arg(group)
            }
            Place::Children => command.args(["-c", r#"exec "$@""#, "sh"]),
        };
        command.arg(program).args(args).envs(vars.iter().copied());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let before = place.cpu()?;
        let started = Instant::now();
        let child = command.spawn()?;
        let (looks, id, at) = (Arc::new(Looks::default()), child.id(), place.clone());
        let shared = Arc::clone(&looks);
        let looker = std::thread::spawn(move || {
            while !shared.over.load(Ordering::Relaxed) {
                shared.look(&at, id);
                std::thread::sleep(LOOK);
            }
        });
        Ok(Running { child, started, place, before, looks, looker: Some(looker) })
    }

    /// Runs a program to its end, and returns what it said.
    pub(crate) fn run(
        &self,
        program: &Path,
        args: &[String],
        vars: &[(&str, &Path)],
    ) -> Outcome<(Cost, String)> {
        self.start(program, args, vars)?.end()
    }

    /// Runs a shell script to its end; it stops at the first command that fails.
    pub(crate) fn script(&self, text: &str, vars: &[(&str, &Path)]) -> Outcome<(Cost, String)> {
        let args = ["-euc".to_owned(), text.to_owned()];
        self.run(Path::new("sh"), &args, vars).map_err(|e| format!("{e}: {text}").into())
    }
}

impl Running {
    /// Its standard input; a server of ours serves until that is closed.
    pub(crate) fn stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// Waits for the end.
    pub(crate) fn end(mut self) -> Outcome<(Cost, String)> {
        drop(self.stdin());
        let mut said = String::new();
        if let Some(mut out) = self.child.stdout.take() {
            std::io::Read::read_to_string(&mut out, &mut said)?;
        }
        let status = self.child.wait()?;
        let cost = self.cost()?;
        if status.success() { Ok((cost, said)) } else { Err(format!("it ended with {status}").into()) }
    }

    /// Kills its first process, and says what it cost until now.
    pub(crate) fn kill(mut self) -> Outcome<Cost> {
        self.looks.look(&self.place, self.child.id());
        self.child.kill()?;
        self.child.wait()?;
        self.cost()
    }

    fn cost(&mut self) -> Outcome<Cost> {
        let wall = self.started.elapsed().as_secs_f64();
        self.rest();
        let memory = *self.looks.most.lock().map_err(|_| "a look panicked")? as f64;
        Ok(Cost { cpu: self.place.cpu()? - self.before, wall, memory })
    }

    fn rest(&mut self) {
        self.looks.over.store(true, Ordering::Relaxed);
        if let Some(looker) = self.looker.take() {
            let _ = looker.join();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.rest();
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Place::Group(_, group) = &self.place {
            let _ = fs::remove_dir(group);
        }
    }
}

impl Looks {
    fn look(&self, place: &Place, first: u32) {
        let now: u64 = place.processes(first).into_iter().filter_map(peak).sum();
        if let Ok(mut most) = self.most.lock() {
            *most = now.max(*most);
        }
    }
}

impl Place {
    fn cpu(&self) -> Outcome<f64> {
        match self {
            Place::Group(Hierarchy::V1, group) => {
                Ok(fs::read_to_string(group.join("cpuacct.usage"))?.trim().parse::<f64>()? / 1e9)
            }
            Place::Group(Hierarchy::V2, group) => {
                let stat = fs::read_to_string(group.join("cpu.stat"))?;
                let usage = stat.lines().find_map(|line| line.strip_prefix("usage_usec "));
                Ok(usage.ok_or("cpu.stat has no usage_usec")?.parse::<f64>()? / 1e6)
            }
            Place::Children => {
                let stat = fs::read_to_string("/proc/self/stat")?;
                let after_name = stat.rsplit_once(") ").ok_or("/proc/self/stat has no name")?.1;
                let waited_for = after_name.split(' ').skip(13).take(2).filter_map(|n| n.parse::<f64>().ok());
                Ok(waited_for.sum::<f64>() / TICKS_A_SECOND)
            }
        }
    }

    fn processes(&self, first: u32) -> Vec<u32> {
        match self {
            Place::Group(_, group) => numbers(&group.join("cgroup.procs")),
            Place::Children => {
                let mut all = vec![first];
                let mut next = 0;
                while let Some(id) = all.get(next) {
                    all.extend(numbers(Path::new(&format!("/proc/{id}/task/{id}/children"))));
                    next += 1;
                }
                all
            }
        }
    }
}

fn numbers(file: &Path) -> Vec<u32> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.split_ascii_whitespace().filter_map(|n| n.parse().ok()).collect()
}

/// The most that a process had in memory so far, in bytes.
fn peak(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let fields: BTreeMap<&str, &str> = status.lines().filter_map(|line| line.split_once(':')).collect();
    let kib = fields.get("VmHWM")?.trim().strip_suffix(" kB")?;
    Some(kib.parse::<u64>().ok()? * 1024)
}
