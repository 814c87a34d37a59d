//! Where captures keep what the guests overwrite.

use crate::Site;
use crate::home::Home;
use crate::place::short;
use crate::program::run;
use site_recovery::{Error, ErrorKind, Result};
use site_recovery_register::durable;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Least time for a shell to write an empty file.
const LEAST: Duration = Duration::from_secs(5);

impl Site {
    fn scratch_dir(&self, home: &Home) -> PathBuf {
        self.options.scratch.clone().unwrap_or_else(|| home.own("scratch"))
    }

    pub(crate) fn scratch(&self, home: &Home, tag: &str, n: usize) -> PathBuf {
        self.scratch_dir(home).join(format!("{tag}-{n}.raw"))
    }

    pub(crate) fn remove_scratch(&self, home: &Home, tag: &str) -> Result<()> {
        for path in durable::list(&self.scratch_dir(home))? {
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            if name.starts_with(&format!("{tag}-")) {
                durable::remove_file(&path)?;
            }
        }
        Ok(())
    }

    /// That the scratch takes writes. Where it hangs, QEMU waits for it in every change of its nodes, and the guest waits
    /// with it: then nothing may be changed.
    ///
    /// # Errors
    /// `Unavailable` where it hangs. A scratch that is full answers.
    pub(crate) fn scratch_must_answer(&self, home: &Home) -> Result<()> {
        let dir = self.scratch_dir(home);
        if !dir.exists() {
            return Ok(());
        }
        let probe = dir.join(format!(".probe-{}", short(&home.name)));
        // In a process of its own: this one could not end while it waits for a file system that hangs.
        let script = r#"(: >"$1") 2>/dev/null; rm -f "$1"; exit 0"#;
        let words = ["-c", script, "probe"].map(AsRef::as_ref).into_iter().chain([probe.as_os_str()]);
        let limit = self.options.scratch_patience.max(LEAST);
        run(Path::new("/bin/sh"), words, limit).map(drop).map_err(|e| {
            let message = format!(
                "the scratch in {} does not answer: nothing is changed, since the guest would wait for it; mend that \
                 file system, then ask again",
                dir.display()
            );
            Error::new(ErrorKind::Unavailable, message).caused_by(e)
        })
    }
}
