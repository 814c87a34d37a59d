//! Programs that run to their end, and waiting.

use site_recovery::{Clock, SystemClock};
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Seconds that a program may take, and that a test waits for anything.
const PATIENCE: u64 = 60;

/// Where programs are looked for: Debian keeps those of networks and file systems where only root looks.
pub fn path() -> OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    std::env::join_paths(dirs.collect::<Vec<PathBuf>>()).unwrap()
}

/// What a program says that ends well.
///
/// # Panics
/// Where it does not, with what it says then.
pub fn run<S: AsRef<OsStr>>(program: &str, arguments: &[S]) -> String {
    try_run(program, arguments).unwrap_or_else(|complaint| panic!("{complaint}"))
}

/// As [`run`], with what it complains about.
pub fn try_run<S: AsRef<OsStr>>(program: &str, arguments: &[S]) -> Result<String, String> {
    let mut command = Command::new("timeout");
    command.args(["-k", "5", &PATIENCE.to_string(), program]).args(arguments);
    let output = command.env("PATH", path()).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(said);
    }
    let arguments: Vec<_> = arguments.iter().map(|a| a.as_ref().to_string_lossy()).collect();
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program} {}: {}\n{said}{errors}", arguments.join(" "), output.status))
}

/// `ip`, with the words of `line`.
pub fn ip(line: &str) {
    run("ip", &line.split(' ').collect::<Vec<_>>());
}

/// Looks again and again, for a bounded time.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = SystemClock.now();
    while !holds() {
        assert!(SystemClock.now().since(began) < Duration::from_secs(PATIENCE), "it never came: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
