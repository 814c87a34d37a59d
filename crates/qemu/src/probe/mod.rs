//! The boot probe: whether a guest gets through with an accelerator, in time.
//!
//! The guest is one boot sector (`sector.S`), started as the site's machines are. It asks the BIOS for the disk's extensions,
//! goes into long mode with paging, reads the processor's identity and writes its common registers, sleeps until each timer
//! (PIT, local APIC) has woken it 32 times, and executes 369 million plain instructions on 16 MiB of memory. The last of it
//! is what tells. A hypervisor that emulates a kernel's instructions one by one, as Linux' PVM does for a guest that is not
//! made for it, boots firmware in seconds and looks dead in a kernel's decompressor: Linux 6.1 was still setting up its
//! memory after fifteen minutes. At the 0.5 to 1.4 million instructions a second that were measured there, this guest takes
//! four minutes and more; QEMU's own emulation takes half a second.

mod sector;

use crate::accelerator::Accelerator;
use crate::deadline::within;
use crate::program::Programs;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use site_recovery::{Error, ErrorKind, Result};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// What the guest ends QEMU with, and nothing else does.
const PASSED: i32 = 99;
/// A BIOS boots no disk that is much smaller.
const DISK: u64 = 1 << 20;
/// How often the process is looked at.
const LOOK: Duration = Duration::from_millis(10);
/// How long the kernel may take to end a process that was killed.
const GRACE: Duration = Duration::from_secs(10);

/// Whether the guest gets through with this accelerator. The process is over when this returns.
///
/// # Errors
/// `Unavailable`, with the reason why not; `Unsupported` where the program is not there.
pub(crate) fn boots(programs: &Programs, accelerator: Accelerator, limit: Duration) -> Result<()> {
    let unavailable = |what: &str| Error::new(ErrorKind::Unavailable, what.to_owned());
    let disk = disk().map_err(|e| unavailable("the probe's disk cannot be made").caused_by(e))?;
    let mut line = programs.system_arguments.clone();
    line.extend(arguments(accelerator).map(str::to_owned));
    let mut command = Command::new(&programs.system);
    command.args(line).stdin(disk).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut qemu = command.spawn().map_err(|e| {
        let kind = match e.kind() {
            io::ErrorKind::NotFound => ErrorKind::Unsupported,
            _ => ErrorKind::Unavailable,
        };
        Error::new(kind, format!("{} cannot be run", programs.system.display())).caused_by(e)
    })?;
    bound(&qemu, limit);
    if !ended(&mut qemu, limit) {
        let _it_ends_right_now = qemu.kill();
        if !ended(&mut qemu, GRACE) {
            return Err(unavailable("the guest was killed and does not end: the kernel holds it"));
        }
        return Err(unavailable(&format!("the guest did not get through within {limit:?}")));
    }
    match qemu.wait() {
        Ok(status) if status.code() == Some(PASSED) => Ok(()),
        Ok(status) => {
            let said = complaint(&mut qemu);
            Err(unavailable(&format!("the guest ended with {status}: {said}")))
        }
        Err(e) => Err(unavailable("the guest cannot be waited for").caused_by(e)),
    }
}

/// The machine that a description gets which says nothing, with a way for its guest to end it.
fn arguments(accelerator: Accelerator) -> impl Iterator<Item = &'static str> {
    let line = [
        ["-accel", accelerator.name()],
        ["-machine", "q35"],
        ["-cpu", "max"],
        ["-m", "32"],
        ["-display", "none"],
        ["-device", "isa-debug-exit,iobase=0xf4,iosize=4"],
        ["-blockdev", "driver=file,node-name=disk,read-only=on,filename=/proc/self/fd/0"],
        ["-device", "virtio-blk-pci,drive=disk,bootindex=1"],
    ];
    let flags = ["-nodefaults", "-no-user-config", "-no-reboot"];
    line.into_iter().flatten().chain(flags)
}

/// The guest's disk, which has no name and so cannot be left behind.
fn disk() -> io::Result<File> {
    let disk = File::from(memfd_create("boot probe", MemfdFlags::CLOEXEC)?);
    disk.set_len(DISK)?;
    disk.write_all_at(&sector::CODE, 0)?;
    disk.write_all_at(&[0x55, 0xaa], 510)?;
    Ok(disk)
}

/// A guest that computes for ever ends also when this process is killed now.
fn bound(qemu: &Child, limit: Duration) {
    let Some(pid) = i32::try_from(qemu.id()).ok().and_then(Pid::from_raw) else { return };
    // Two threads, for as long as they may, and what is left of a second.
    let seconds = Some(limit.as_secs().saturating_mul(2).saturating_add(2));
    if let Err(error) = prlimit(Some(pid), Resource::Cpu, Rlimit { current: seconds, maximum: seconds }) {
        tracing::debug!(%error, "the boot probe runs without a limit of its own");
    }
}

fn ended(qemu: &mut Child, limit: Duration) -> bool {
    within(limit, LOOK, || qemu.try_wait().map(|status| status.is_some())).unwrap_or(false)
}

/// What it wrote last, of a process that is over.
fn complaint(qemu: &mut Child) -> String {
    let mut said = vec![];
    if let Some(from) = qemu.stderr.take() {
        let _as_far_as_it_goes = from.take(4096).read_to_end(&mut said);
    }
    String::from_utf8_lossy(&said).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// What stands in the crate is what the readable source says.
    #[test]
    fn the_sector_is_its_source() {
        let dir = tempfile::TempDir::new().unwrap();
        let [object, binary] = ["sector.o", "sector.bin"].map(|f| dir.path().join(f));
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/probe/sector.S");
        let mut assembler = Command::new("as");
        assembler.arg("--32").arg("-o").arg(&object).arg(source);
        let mut linker = Command::new("ld");
        linker.args(["-m", "elf_i386", "-Ttext", "0x7c00", "-e", "0x7c00", "--oformat", "binary", "-o"]);
        linker.arg(&binary).arg(&object);
        for program in [&mut assembler, &mut linker] {
            match program.status() {
                Ok(status) => assert!(status.success(), "{program:?}: {status}"),
                Err(_) => {
                    assert_ne!(std::env::var("SITE_RECOVERY_PEERS").as_deref(), Ok("required"));
                    println!("SKIPPED the probe's source: {:?} is absent", program.get_program());
                    return;
                }
            }
        }
        let mut ours = [0; 512];
        disk().unwrap().read_exact_at(&mut ours, 0).unwrap();
        assert_eq!(fs::read(binary).unwrap(), ours);
    }
}
