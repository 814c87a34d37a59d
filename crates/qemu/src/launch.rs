//! Brings a machine's process into being, prepared and stopped before its first instruction.

use crate::Site;
use crate::command_line::{Launch, text};
use crate::description::Description;
use crate::freeze::HELD;
use crate::home::Home;
use crate::known::Known;
use crate::pause::PAUSED;
use crate::place::Place;
use crate::process::{Process, detach};
use site_recovery::{Error, ErrorKind, Result};
use site_recovery_register::{durable, refused};
use std::collections::BTreeMap;

impl Site {
    /// Starts the process. In a `network`, the machine is in that one and in no other.
    ///
    /// # Errors
    /// `Refused` while the machine is fenced.
    pub(crate) fn launch(&self, home: &Home, network: Option<&str>) -> Result<()> {
        let known = self.known(home.clone())?;
        let _alone = home.starts()?;
        home.must_be_shown()?;
        let place = self.place(home)?;
        if Self::needs_point(&known) && !self.serves(&place) {
            let message = format!("the point that {} stands on is not served here: tend it first", home.name);
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        durable::make_dir(&place.dir)?;
        for stale in [place.monitor(), place.agent(), place.exports(), place.pid()] {
            durable::remove_file(&stale)?;
        }
        // What held the process before this one holds this one no more.
        for note in [PAUSED, HELD] {
            durable::remove_file(&home.own(note))?;
        }
        let mut arguments = self.arguments(&known, &place, network)?;
        if known.description.tpm {
            self.start_tpm(home, &place)?;
        }
        arguments.push("-S".into());
        detach(&self.options.launcher, &self.options.programs.system, &arguments)
            .map_err(|e| e.with("machine", &home.name))?;
        match self.process(home)? {
            Some(_) => Ok(()),
            None => Err(Error::new(ErrorKind::Unavailable, format!("QEMU of {} ended at once", home.name))),
        }
    }

    /// The whole command line, without the program.
    pub(crate) fn arguments(
        &self,
        known: &Known,
        place: &Place,
        network: Option<&str>,
    ) -> Result<Vec<String>> {
        let d = &known.description;
        let firmware = match self.firmware(&d.machine, d.firmware)? {
            None => None,
            Some(code) => {
                let variables = self.provide_variables(&known.home, &code)?;
                Some((code, variables))
            }
        };
        let launch = Launch {
            known,
            place,
            stacks: &self.stacks(known)?,
            accelerator: self.accelerator,
            firmware,
            networks: &self.backends(d, network)?,
        };
        let mut all = self.options.programs.system_arguments.clone();
        all.extend(launch.arguments()?);
        all.push("-daemonize".into());
        Ok(all)
    }

    /// What each attached NIC is attached to.
    ///
    /// # Errors
    /// `Invalid` for a network that the site does not have; `Refused` for a drill's that is not apart.
    pub(crate) fn backends(&self, d: &Description, only: Option<&str>) -> Result<BTreeMap<String, String>> {
        let mut all = BTreeMap::new();
        for nic in &d.nics {
            let Some(name) = only.or(nic.network.as_deref()) else { continue };
            let Some(network) = self.options.networks.get(name) else {
                let known: Vec<&str> = self.options.networks.keys().map(String::as_str).collect();
                let rule = format!("a network of this site: {}", known.join(", "));
                return Err(Error::invalid("nics.network", name, &rule, "name one, or tell the site of it"));
            };
            if only.is_some() && !network.isolated {
                return Err(refused(format!("the network {name} is not told to be apart from production")));
            }
            all.insert(nic.id.clone(), network.backend.clone());
        }
        Ok(all)
    }

    /// Starts the TPM's emulator. It ends with the machine.
    fn start_tpm(&self, home: &Home, place: &Place) -> Result<()> {
        let state = home.dir.join(crate::sidecars::TPM);
        durable::make_dir(&state)?;
        let pid = place.dir.join("tpm-pid");
        if let Some(left) = Process::of(&pid)? {
            left.kill(self.options.patience)?;
        }
        durable::remove_file(&place.tpm())?;
        let line = [
            "socket".to_owned(),
            "--tpm2".into(),
            "--tpmstate".into(),
            format!("dir={}", text(&state)?),
            "--ctrl".into(),
            format!("type=unixio,path={}", text(&place.tpm())?),
            "--pid".into(),
            format!("file={}", text(&pid)?),
            "--flags".into(),
            "startup-clear".into(),
            "--terminate".into(),
            "--daemon".into(),
        ];
        detach(&self.options.launcher, &self.options.programs.swtpm, &line)
    }
}
