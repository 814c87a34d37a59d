//! A file read out of a point: the export is a file by `nbdfuse`, and its file system is mounted read-only, by the kernel.

use site_recovery::{Error, ErrorKind, Result};
use site_recovery_examples::failed;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

const FILE: &str = "letter.txt";
const MIB: &str = "8M";

/// Makes a file system with one file on a disk that exists. False where the machine has no tool for it.
///
/// # Errors
/// When there is one, and it fails.
pub(crate) async fn make_file_system(disk: &Path, letter: &str) -> Result<bool> {
    let files = disk.with_extension("files");
    std::fs::create_dir_all(&files).map_err(|e| failed("make", &files, e))?;
    std::fs::write(files.join(FILE), letter).map_err(|e| failed("write", &files, e))?;
    let args =
        ["-q", "-F", "-t", "ext4", "-d", &files.display().to_string(), &disk.display().to_string(), MIB];
    let made = run("mke2fs", &args).await;
    std::fs::remove_dir_all(&files).map_err(|e| failed("remove", &files, e))?;
    match made {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        made => made.map(|()| true),
    }
}

/// The letter, read out of a mounted export; none, and why, where this machine cannot mount one.
///
/// # Errors
/// When it is mounted and does not read, or cannot be taken away again.
pub(crate) async fn letter_in(dir: &Path, uri: &str) -> Result<std::result::Result<String, Error>> {
    let (as_file, mounted) = (dir.join("as-file"), dir.join("mounted"));
    for dir in [&as_file, &mounted] {
        std::fs::create_dir_all(dir).map_err(|e| failed("make", dir, e))?;
    }
    let disk = as_file.join("disk");
    let mut served = Command::new("nbdfuse");
    served.arg("-r").arg(&disk).arg(uri).stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let mut served = match served.spawn() {
        Ok(served) => served,
        Err(error) => return Ok(Err(failed("run", Path::new("nbdfuse"), error))),
    };
    let mount =
        ["-t", "ext4", "-o", "ro,noload,loop", &disk.display().to_string(), &mounted.display().to_string()];
    let read = match until_there(&disk, &mut served).await {
        Ok(()) => match run("mount", &mount).await {
            Ok(()) => {
                Ok(std::fs::read_to_string(mounted.join(FILE)).map_err(|e| failed("read", &mounted, e)))
            }
            Err(error) => Err(error),
        },
        Err(error) => Err(error),
    };
    if read.is_ok() {
        run("umount", &[&mounted.display().to_string()]).await?;
    }
    // What was never mounted is not unmounted either.
    let _ = run("fusermount3", &["-u", &as_file.display().to_string()]).await;
    let ended = tokio::time::timeout(Duration::from_secs(5), served.wait()).await;
    if ended.is_err() {
        served.kill().await.map_err(|e| failed("stop", Path::new("nbdfuse"), e))?;
    }
    match read {
        Ok(letter) => letter.map(Ok),
        Err(error) => Ok(Err(error)),
    }
}

async fn until_there(file: &Path, served: &mut tokio::process::Child) -> Result<()> {
    for _ in 0..500 {
        if file.exists() {
            return Ok(());
        }
        let ended = tokio::time::timeout(Duration::from_millis(20), served.wait()).await;
        if ended.is_ok() {
            return Err(Error::new(ErrorKind::Unsupported, "nbdfuse ended: there may be no FUSE here"));
        }
    }
    Err(Error::new(ErrorKind::Unavailable, "nbdfuse shows no file"))
}

async fn run(program: &str, args: &[&str]) -> Result<()> {
    let output = Command::new(program).args(args).stdin(Stdio::null()).kill_on_drop(true).output().await;
    let output = match output {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::new(ErrorKind::NotFound, format!("{program} is not here")));
        }
        output => output.map_err(|e| failed("run", Path::new(program), e))?,
    };
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Error::new(ErrorKind::Unsupported, format!("{program}: {}", said.trim())))
}
