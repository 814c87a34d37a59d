//! Who executes the guest's instructions.

use crate::probe::boots;
use crate::program::Programs;
use site_recovery::{Error, ErrorKind, Result};
use std::time::Duration;

/// An accelerator of QEMU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    /// Emulation: works everywhere, slowly.
    Tcg,
    /// The processor itself.
    Kvm,
}

impl Accelerator {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tcg => "tcg",
            Self::Kvm => "kvm",
        }
    }
}

/// How the accelerator is chosen.
///
/// A `/dev/kvm` that can be opened proves nothing: under a hypervisor that nests badly it is there, QEMU starts, firmware runs,
/// and a kernel takes minutes for what takes milliseconds elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// This one.
    Fixed(Accelerator),
    /// KVM, if a guest of our own gets through with it within this time; else emulation. Asked once, when the site is
    /// opened, which takes that long at most where KVM is not taken, and a second more; what was found is traced, and
    /// [`QemuSite::accelerator`](crate::QemuSite::accelerator) tells it.
    ///
    /// The guest takes half a second with emulation and less with KVM, so 10 s are ample on a busy host. It takes four
    /// minutes and more where a kernel's instructions are emulated one by one: a limit of minutes proves less than one of
    /// seconds. The guest is for x86-64 and needs SeaBIOS, which comes with QEMU.
    Probe(Duration),
}

impl Choice {
    /// # Errors
    /// `Unavailable` when the probe's guest gets through with neither, so that it proved nothing; `Unsupported` where the
    /// program is not there.
    pub(crate) fn made(self, programs: &Programs) -> Result<Accelerator> {
        let limit = match self {
            Self::Fixed(accelerator) => return Ok(accelerator),
            Self::Probe(limit) => limit,
        };
        let Err(with_kvm) = boots(programs, Accelerator::Kvm, limit) else {
            tracing::info!("KVM: the probe's guest got through with it");
            return Ok(Accelerator::Kvm);
        };
        match boots(programs, Accelerator::Tcg, limit) {
            Ok(()) => {
                tracing::warn!(
                    why = with_kvm.message(),
                    "emulation, which is slow: KVM did not pass the probe"
                );
                Ok(Accelerator::Tcg)
            }
            Err(e) if e.kind() == ErrorKind::Unsupported => Err(e),
            Err(e) => {
                let message = format!(
                    "the probe tells nothing: with KVM, {}; with emulation, {}; name the accelerator, or a longer limit",
                    with_kvm.message(),
                    e.message()
                );
                Err(Error::new(ErrorKind::Unavailable, message).caused_by(e))
            }
        }
    }
}
