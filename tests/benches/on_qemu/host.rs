//! A site of QEMU machines in a directory, and what is asked of a machine's QEMU beside the library.

use crate::Outcome;
use serde_json::{Value, json};
use site_recovery::{Epoch, Instance, MachineId, Op, Source};
use site_recovery_guest::Console;
use site_recovery_qemu::{Accelerator, Choice, QemuSite};
use site_recovery_qmp::{Limits, Monitor};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// Longer than a guest takes to boot, emulated, on a machine that is busy with other things.
pub(crate) const BOOT: Duration = Duration::from_secs(240);

/// Its processes end when it is dropped.
#[derive(Debug)]
pub(crate) struct Host {
    dir: TempDir,
    pub(crate) site: QemuSite,
}

/// What a disk begins with.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Image<'a> {
    CopyOf(&'a Path),
    Blank(u64),
}

impl Host {
    pub(crate) async fn open(dir: &Path) -> Outcome<Self> {
        let dir = tempfile::Builder::new().prefix("q").tempdir_in(dir)?;
        let site = QemuSite::builder("here".into(), dir.path().join("s"))
            .accelerator(Choice::Fixed(Accelerator::Tcg))
            .patience(Duration::from_secs(60));
        Ok(Self { site: site.open().await?, dir })
    }

    /// Makes a machine, starts and enrols it. The guest is told the words.
    pub(crate) async fn running(&self, name: &str, disks: &[Image<'_>], words: &str) -> Outcome<Instance> {
        fs::create_dir_all(self.path(name).join("disks"))?;
        let mut described = vec![];
        for (n, image) in disks.iter().enumerate() {
            let path = self.path(name).join(format!("disks/{n}.qcow2"));
            match image {
                Image::CopyOf(from) => {
                    tool("qemu-img", &["convert", "-O", "qcow2", text(from)?, text(&path)?])?
                }
                Image::Blank(size) => {
                    tool("qemu-img", &["create", "-q", "-f", "qcow2", text(&path)?, &size.to_string()])?
                }
            };
            described.push(json!({ "id": format!("disk{n}"), "file": format!("{n}.qcow2") }));
        }
        let description = json!({
            "disks": described, "machine": "pc", "memory": 256 << 20, "console": true, "os": "linux",
            "smbios": { "serial": format!("A-{name}"), "sku": words },
            "arguments": ["-qmp", format!("unix:{},server=on,wait=off", text(&self.outside(name))?)],
        });
        fs::write(self.path(name).join("machine.json"), description.to_string())?;
        self.site.power_on(name).await?;
        let found = self.site.discover().await?;
        let mut machine =
            found.into_iter().find(|m| m.instance.name == name).ok_or("the machine is not discovered")?;
        machine.instance.machine = MachineId(name.to_owned());
        self.site.enrol(&op("enrol"), &machine).await?;
        Ok(machine.instance)
    }

    /// A monitor beside that of the library.
    pub(crate) fn monitor(&self, name: &str) -> Outcome<Monitor> {
        let limits = Limits { greeting: BOOT, answer: BOOT, ..Limits::default() };
        Ok(Monitor::connect(&self.outside(name), limits)?)
    }

    pub(crate) fn console(&self, name: &str) -> Console {
        Console::new(self.path(name).join("console.log"))
    }

    /// A directory that goes with it.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where the sockets of its only machine stand.
    pub(crate) fn place(&self) -> Outcome<PathBuf> {
        let mut places = fs::read_dir(self.dir.path().join("s/.site-recovery/run"))?;
        Ok(places.next().ok_or("no machine has a place")??.path())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("s").join(name)
    }

    fn outside(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.qmp"))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for place in
            fs::read_dir(self.dir.path().join("s/.site-recovery/run")).into_iter().flatten().flatten()
        {
            for file in ["pid", "s-pid"].map(|f| place.path().join(f)) {
                let Ok(pid) = fs::read_to_string(&file).unwrap_or_default().trim().parse::<u32>() else {
                    continue;
                };
                let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                if String::from_utf8_lossy(&line).contains(&*file.to_string_lossy()) {
                    let _gone_already = tool("kill", &["-9", &pid.to_string()]);
                }
            }
        }
    }
}

/// Writes as the guest would, by the device of a disk.
pub(crate) fn write(monitor: &mut Monitor, disk: usize, start: u64, len: u64, byte: u8) -> Outcome<()> {
    let io = format!("write -q -P {byte} {start} {len}");
    let line = format!("qemu-io -d /machine/peripheral/v{disk}/virtio-backend \"{io}\"");
    match monitor.call("human-monitor-command", json!({ "command-line": line }))? {
        Value::String(said) if said.is_empty() => Ok(()),
        said => Err(format!("the guest's write failed: {said}").into()),
    }
}

/// Waits until the guest has acknowledged this many records.
pub(crate) fn wait_for_records(console: &Console, records: u64) -> Outcome<()> {
    let number = |line: &str| line.strip_prefix("ACK ")?.parse::<u64>().ok();
    console.wait_for(BOOT, |line| number(line).is_some_and(|n| n + 1 >= records))?;
    Ok(())
}

/// The image of the live guest.
pub(crate) fn guest() -> Outcome<PathBuf> {
    let image = site_recovery_guest::image();
    if image.is_file() {
        Ok(image)
    } else {
        Err("the guest's image is absent: tests/run --setup makes it".into())
    }
}

pub(crate) fn op(key: &str) -> Op {
    Op { key: key.into(), epoch: Epoch { number: 1, owner: "bench".into() } }
}

pub(crate) fn text(path: &Path) -> Outcome<&str> {
    path.to_str().ok_or_else(|| format!("{} is no UTF-8", path.display()).into())
}

/// Runs a program to its end.
pub(crate) fn tool(program: &str, arguments: &[&str]) -> Outcome<()> {
    let output = Command::new(program).args(arguments).output().map_err(|e| format!("{program}: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr)).into())
}
