//! What a person does to a machine of the site, past the roles.

use crate::QemuSite;
use site_recovery::{Error, ErrorKind, Result};
use site_recovery_register::durable;

impl QemuSite {
    /// Starts a machine as a person would.
    ///
    /// # Errors
    /// `Refused` while a fence blocks the start, naming who put it there; `NotFound`; what QEMU complains about.
    pub async fn power_on(&self, name: &str) -> Result<()> {
        let name = name.to_owned();
        self.act("power on", move |site| {
            let home = site.home(&name)?;
            home.must_be_unfenced()?;
            if site.process(&home)?.is_none() {
                site.must_be_off(&home)?;
                site.end_store(&home)?;
                // A drill stays in the network that it was started in.
                site.launch(&home, home.state()?.network.as_deref())?;
            }
            site.go(&home)
        })
        .await
    }

    /// The command line with which the library starts a machine, for whoever starts it in another way: as a unit of the
    /// system, say. It goes into the background, and runs at once. Ask anew before each start: a machine that was in a
    /// drill's network stays in it.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for a description that breaks a rule; `Refused` while a fence blocks the start;
    /// `Unsupported` for a machine with a TPM, whose emulator has to be there first.
    pub async fn command_line(&self, name: &str) -> Result<Vec<String>> {
        let name = name.to_owned();
        self.act("command line", move |site| {
            let known = site.known(site.home(&name)?)?;
            known.home.must_be_unfenced()?;
            if known.description.tpm {
                let message =
                    format!("{name} has a TPM, whose emulator has to be started first: use power_on");
                return Err(Error::new(ErrorKind::Unsupported, message));
            }
            let place = site.place(&known.home)?;
            durable::make_dir(&place.dir)?;
            let network = known.home.state()?.network;
            let mut all = vec![site.options.programs.system.display().to_string()];
            all.extend(site.arguments(&known, &place, network.as_deref())?);
            Ok(all)
        })
        .await
    }
}
