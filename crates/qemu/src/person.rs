//! What a person does to a machine of the site, past the roles.

use crate::QemuSite;
use site_recovery::Result;
use site_recovery_register::refused;

impl QemuSite {
    /// Starts a machine as a person would.
    ///
    /// # Errors
    /// `Refused` while a fence blocks the start, naming who put it there; `NotFound`; what QEMU complains about.
    pub async fn power_on(&self, name: &str) -> Result<()> {
        let name = name.to_owned();
        self.act("power on", move |site| {
            let home = site.home(&name)?;
            if let Some(fence) = home.fence_mark()? {
                let message = format!("{name} is blocked by {} ({}): {}", fence.by, fence.why, fence.lift);
                return Err(refused(message));
            }
            if site.process(&home)?.is_none() {
                site.must_be_off(&home)?;
                site.end_store(&home)?;
                site.launch(&home, None)?;
            }
            site.go(&home)
        })
        .await
    }

    /// The command line with which the library starts a machine, for whoever starts it in another way: as a unit of the
    /// system, say. The process waits for `cont` on its monitor.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for a description that breaks a rule.
    pub async fn command_line(&self, name: &str) -> Result<Vec<String>> {
        let name = name.to_owned();
        self.act("command line", move |site| {
            let known = site.known(site.home(&name)?)?;
            let place = site.place(&known.home)?;
            let mut all = vec![site.options.programs.system.display().to_string()];
            all.extend(site.arguments(&known, &place, None)?);
            Ok(all)
        })
        .await
    }
}
