//! Taking down, by name: at the end of a ground, and what a killed run left.

use super::tool::{try_run, until};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// What every name begins with; the id of the process follows.
pub(super) const PREFIX: &str = "srh-";
const NAMESPACES: &str = "/run/netns";

/// The directory of a ground. Not below the target directory, which people delete.
pub(super) fn dir(name: &str) -> PathBuf {
    std::env::temp_dir().join(name)
}

/// Held while names and nets are chosen, by one process of this machine at a time.
pub(super) fn lock_machine() -> File {
    let file = File::create(dir(&format!("{PREFIX}lock"))).unwrap();
    file.lock().unwrap();
    file
}

/// Takes down what processes left that are no more. One with the id of this process is of an older one, as this has none yet.
pub(super) fn sweep_once() {
    static SWEPT: OnceLock<()> = OnceLock::new();
    SWEPT.get_or_init(|| {
        let mut names: Vec<String> =
            [Path::new(NAMESPACES), Path::new("/sys/class/net"), &std::env::temp_dir()]
                .into_iter()
                .flat_map(entries)
                .filter_map(|entry| ground_of(&entry))
                .collect();
        names.sort();
        names.dedup();
        let own = Some(std::process::id());
        names.retain(|name| is_abandoned(name) || process_of(name) == own);
        names.iter().for_each(|name| take_down(name));
    });
}

/// `srh-12-0` of `srh-12-0-web`.
fn ground_of(entry: &str) -> Option<String> {
    let mut parts = entry.strip_prefix(PREFIX)?.split('-');
    let (process, number) = (parts.next()?.parse::<u32>().ok()?, parts.next()?.parse::<u32>().ok()?);
    Some(format!("{PREFIX}{process}-{number}"))
}

/// Whether the process of a name has ended.
pub(super) fn is_abandoned(name: &str) -> bool {
    process_of(name).is_some_and(|id| !is_running(id))
}

fn process_of(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok()
}

/// Whether there is such a process, and it has not ended.
pub fn is_running(id: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['Z', 'X']))
}

/// Takes down all of a ground, and says what would not go.
///
/// # Panics
/// Where something is left, unless the thread panics already.
pub(super) fn take_down(name: &str) {
    for namespace in namespaces(name) {
        take_down_namespace(name, &namespace);
    }
    let _gone_with_the_hub = try_run("ip", &["link", "delete", name]);
    complain_unless(&format!("the end of {name}"), || {
        thaw("self", name);
        mounts("self", name).iter().rev().for_each(|mount| {
            let _busy_for_now = try_run("umount", &[&mount.at]);
        });
        loops(name).iter().for_each(|device| {
            let _busy_for_now = try_run("losetup", &["-d", device]);
        });
        if mounts("self", name).is_empty() && loops(name).is_empty() {
            let _gone_already = fs::remove_dir_all(dir(name));
        }
        left(name).is_empty()
    });
}

/// Ends what runs in a network namespace of a ground, and the namespace.
pub(super) fn take_down_namespace(name: &str, namespace: &str) {
    kill(name, namespace, None);
    if let Err(complaint) = try_run("ip", &["netns", "delete", namespace]) {
        complain_unless(&complaint, || !Path::new(NAMESPACES).join(namespace).exists());
    }
}

/// Kills what runs in a network namespace of a ground, but `spared`, and waits for its end. File systems that are frozen are
/// thawed, as nothing that waits for one can be killed.
pub(super) fn kill(name: &str, namespace: &str, spared: Option<u32>) {
    complain_unless(&format!("the end of all processes in {namespace}"), || {
        let running = processes(namespace);
        for id in &running {
            thaw(&id.to_string(), name);
        }
        let killed = running.into_iter().filter(|id| Some(*id) != spared);
        killed.map(end).count() == 0
    });
}

fn end(id: u32) {
    if let Some(id) = i32::try_from(id).ok().and_then(Pid::from_raw) {
        let _ended_already = kill_process(id, Signal::KILL);
    }
}

fn thaw(process: &str, name: &str) {
    for mount in mounts(process, name).into_iter().filter(|mount| mount.device.starts_with("/dev/loop")) {
        let _not_frozen = try_run("nsenter", &["-t", process, "-m", "fsfreeze", "-u", &mount.at]);
    }
}

/// In a destructor a second panic would end the whole program.
fn complain_unless(what: &str, mut holds: impl FnMut() -> bool) {
    if !std::thread::panicking() {
        return until(what, holds);
    }
    // As many looks as `until` takes would be too long for a test that failed already.
    for _ in 0..100 {
        if holds() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    eprintln!("it never came: {what}");
}

/// What there is of a ground: namespaces and the processes in them, interfaces, mounts, loop devices, its directory.
pub fn left(name: &str) -> Vec<String> {
    let mut found = vec![];
    for namespace in namespaces(name) {
        found.extend(processes(&namespace).iter().map(|id| format!("process {id} in {namespace}")));
        found.push(format!("namespace {namespace}"));
    }
    let interfaces = entries(Path::new("/sys/class/net")).into_iter().filter(|entry| entry == name);
    found.extend(interfaces.map(|interface| format!("interface {interface}")));
    found.extend(mounts("self", name).iter().map(|mount| format!("mount {}", mount.at)));
    found.extend(loops(name).iter().map(|device| format!("loop device {device}")));
    found.extend(dir(name).exists().then(|| format!("directory {}", dir(name).display())));
    found
}

fn namespaces(name: &str) -> Vec<String> {
    let of_it = |entry: &String| ground_of(entry).as_deref() == Some(name);
    entries(Path::new(NAMESPACES)).into_iter().filter(of_it).collect()
}

fn processes(namespace: &str) -> Vec<u32> {
    let said = try_run("ip", &["netns", "pids", namespace]).unwrap_or_default();
    said.lines().filter_map(|line| line.trim().parse().ok()).filter(|id| is_running(*id)).collect()
}

struct Mounted {
    at: String,
    device: String,
}

/// Mounts below a ground's directory, as a process sees them, the first before those upon it.
fn mounts(process: &str, name: &str) -> Vec<Mounted> {
    let said = fs::read_to_string(format!("/proc/{process}/mountinfo")).unwrap_or_default();
    let mount = |line: &str| {
        let at = line.split(' ').nth(4)?.to_owned();
        let device = line.split(" - ").nth(1)?.split(' ').nth(1)?.to_owned();
        Path::new(&at).starts_with(dir(name)).then_some(Mounted { at, device })
    };
    said.lines().filter_map(mount).collect()
}

/// Loop devices whose file lies, or lay, in a ground's directory.
fn loops(name: &str) -> Vec<String> {
    let of_it = |device: &String| {
        let file = fs::read_to_string(format!("/sys/block/{device}/loop/backing_file"));
        file.is_ok_and(|file| Path::new(file.trim_end()).starts_with(dir(name)))
    };
    let devices = entries(Path::new("/sys/block")).into_iter().filter(of_it);
    devices.map(|device| format!("/dev/{device}")).collect()
}

pub(super) fn entries(of: &Path) -> Vec<String> {
    let entries = fs::read_dir(of).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
