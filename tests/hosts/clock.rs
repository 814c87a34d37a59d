//! A host whose wall clock is wrong. The kernel has one for all hosts, so it is the programs that are told another time, by a
//! library that is loaded before the C library; timers are not changed, as when a clock is set.

use super::tool::run;
use super::{Ground, Host};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// What the programs of a host are started with.
pub(super) struct Clock {
    library: PathBuf,
    ahead: PathBuf,
}

impl Clock {
    fn of(ground: &Ground, host: &str) -> Self {
        let library = ground.dir().join("clock.so");
        if !library.exists() {
            let source = Path::new(super::workspace()).join("tests/hosts/clock.c");
            run(
                "cc",
                &[
                    "-shared".as_ref(),
                    "-fPIC".as_ref(),
                    "-O1".as_ref(),
                    "-o".as_ref(),
                    library.as_os_str(),
                    source.as_os_str(),
                ],
            );
        }
        let ahead = ground.dir().join(format!("{host}-clock"));
        fs::write(&ahead, 0_i64.to_ne_bytes()).unwrap();
        Self { library, ahead }
    }

    pub(super) fn put_into(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library).env("CLOCK_AHEAD", &self.ahead);
    }
}

impl Host {
    /// Sets its wall clock: so far ahead of the right time from now on. Programs that were started before the first such call
    /// do not see it.
    pub fn clock_ahead(&self, by: Duration) {
        let clock = self.clock.get_or_init(|| Clock::of(&self.ground, self.name()));
        let file = fs::OpenOptions::new().write(true).open(&clock.ahead).unwrap();
        file.write_all_at(&(by.as_secs() as i64).to_ne_bytes(), 0).unwrap();
    }
}
