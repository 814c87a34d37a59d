//! Control groups: the processor time of a process, or of a tree, from one moment to another.

use crate::Outcome;
use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

/// A control group. Removed when dropped, by when its processes are to have ended.
pub(crate) struct Group {
    path: PathBuf,
    usage: Usage,
}

#[derive(Clone, Copy)]
enum Usage {
    V1,
    V2,
}

impl Group {
    pub(crate) fn new() -> Outcome<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("sr-bench-{}-{number}", std::process::id());
        let roots = [
            ("/sys/fs/cgroup/cpuacct", "cpuacct.usage", Usage::V1),
            ("/sys/fs/cgroup", "cgroup.procs", Usage::V2),
        ];
        for (root, file, usage) in roots {
            let root = PathBuf::from(root);
            let path = root.join(&name);
            if root.join(file).exists() && fs::create_dir(&path).is_ok() {
                return Ok(Self { path, usage });
            }
        }
        Err("no control group can be made here: processor time of each service cannot be told".into())
    }

    /// The command, in this group: a shell enters it and becomes the program.
    pub(crate) fn command(&self, command: &Command) -> Command {
        let mut inside = Command::new("sh");
        inside.args(["-c", r#"echo $$ >"$0/cgroup.procs" && exec "$@""#]).arg(&self.path);
        inside.arg(command.get_program()).args(command.get_args());
        let set = |(name, value): (&OsStr, Option<&OsStr>)| Some((name.to_owned(), value?.to_owned()));
        inside.envs(command.get_envs().filter_map(set));
        inside.stdin(std::process::Stdio::null());
        inside
    }

    /// Seconds that all who were ever in it took so far.
    pub(crate) fn cpu(&self) -> Outcome<f64> {
        match self.usage {
            Usage::V1 => {
                Ok(fs::read_to_string(self.path.join("cpuacct.usage"))?.trim().parse::<f64>()? / 1e9)
            }
            Usage::V2 => {
                let stat = fs::read_to_string(self.path.join("cpu.stat"))?;
                let usage = stat.lines().find_map(|line| line.strip_prefix("usage_usec "));
                Ok(usage.ok_or("cpu.stat has no usage_usec")?.parse::<f64>()? / 1e6)
            }
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Its last process may be on its way out.
        for _ in 0..100 {
            if fs::remove_dir(&self.path).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}
