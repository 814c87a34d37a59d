//! File systems of a test's own: one that is soon full, and one that can be made to hang. Both need root.

use crate::support::{run, skip, text_of};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted file system; dropped, it is gone.
#[derive(Debug)]
pub(crate) struct Mounted(PathBuf);

/// A file system whose writers hang; dropped, they go on.
#[derive(Debug)]
pub(crate) struct Hanging(PathBuf);

impl Mounted {
    /// So many KiB of memory.
    pub(crate) fn small(at: &Path, kib: u64) -> Option<Self> {
        Self::mount(at, &["-t", "tmpfs", "-o", &format!("size={kib}k"), "small"])
    }

    /// A file system of its own, in a file beside it.
    pub(crate) fn apart(at: &Path) -> Option<Self> {
        let file = at.with_extension("ext4");
        fs::File::create(&file).and_then(|f| f.set_len(16 << 20)).unwrap();
        if Command::new("mke2fs").args(["-q", "-t", "ext4", text_of(&file)]).status().is_err() {
            skip("a scratch that hangs", "mke2fs is absent");
            return None;
        }
        Self::mount(at, &["-o", "loop", text_of(&file)])
    }

    fn mount(at: &Path, what: &[&str]) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let mounted = Command::new("mount").args(what).arg(at).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(at.to_owned())),
            Ok(output) => {
                skip("a scratch of its own", String::from_utf8_lossy(&output.stderr).trim());
                None
            }
            Err(e) => {
                skip("a scratch of its own", &e.to_string());
                None
            }
        }
    }

    /// From now on whoever writes to it waits, the kernel says so, until the guard is dropped.
    pub(crate) fn hang(&self) -> Hanging {
        run("fsfreeze", &["-f", text_of(&self.0)]);
        Hanging(self.0.clone())
    }

    pub(crate) fn files(&self) -> usize {
        fs::read_dir(&self.0).unwrap().filter(|e| e.as_ref().unwrap().file_name() != "lost+found").count()
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        run("fsfreeze", &["-u", text_of(&self.0)]);
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: whoever still has a file there may end later than we do.
        let _unmounted = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
