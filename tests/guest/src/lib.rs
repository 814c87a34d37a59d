//! A live guest for tests and examples: it boots from its own disk and writes numbered records for as long as it lives, and
//! the host can tell from its console what it acknowledged, and from its disk what is there.
//!
//! `tests/guest/build` makes the [`image`]. What a [`Machine`] says of itself to its guest goes through SMBIOS, see
//! `root/sbin/init`. A guest says on its console, a line each:
//!
//! | Line | Meaning |
//! |---|---|
//! | `GUEST name words…` | it runs from its disk |
//! | `EFI no`, `EFI yes starts=n` | firmware; the variables count the starts |
//! | `SECUREBOOT on`, `off` | where there is EFI |
//! | `TPM no`, `TPM 2 resets=n` | the TPM counts its own starts |
//! | `NET ip mac` | the network is up |
//! | `AGENT port` | QEMU's guest agent runs |
//! | `BUTTON event` | the power button is watched |
//! | `RESUME n` | n records stood on the disk, all of them right |
//! | `CORRUPT …` | record … is not what was written; nothing more is |
//! | `ABSENT ip` | who is needed (`needs=ip`) did not answer before the first record; the guest ends |
//! | `ACK n` | record n is durable |
//! | `HOOK freeze`, `HOOK thaw` | the freeze hook was asked for, and called |
//! | `SHUTDOWN agent`, `button` | a shutdown has begun |
//! | `STOPPED` | all is written, and the file system needs no recovery |
#![forbid(unsafe_code)]

mod console;
mod disk;
mod lan;
mod machine;
pub mod record;

pub use console::Console;
pub use disk::{Inspected, inspect};
pub use lan::{Heard, Lan};
pub use machine::{Firmware, Machine, Qemu, Running};

use std::path::{Path, PathBuf};

/// The disk that `tests/guest/build` made: raw, 320 MiB. To be copied, or to lie under an overlay.
pub fn image() -> PathBuf {
    target().join("guest/disk.raw")
}

/// Whether the image and these programs are here. Says so where not, and fails where peers are required.
///
/// # Panics
/// Where something is absent and `SITE_RECOVERY_PEERS` is `required`.
pub fn peers(what: &str, programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let here = |program: &str| std::env::split_paths(&path).any(|dir| dir.join(program).is_file());
    let image = if image().is_file() { None } else { Some("the guest's image (tests/run --setup)") };
    let Some(absent) = image.or_else(|| programs.iter().copied().find(|p| !here(p))) else { return true };
    println!("SKIPPED {what}: {absent} is absent");
    assert!(std::env::var("SITE_RECOVERY_PEERS").as_deref() != Ok("required"), "{absent} is required");
    false
}

/// Where the test command leaves what it makes, whatever directory cargo builds in.
fn target() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target")
}
