//! What each service is told in its file of settings, and by which roles it is known.

use crate::ground::Loop;
use crate::programs::{AGENT, MASTER_TARGET, PROCESS_SERVER, Program};
use crate::{CLOUD, PROCESSING, SERVER, SITE};
use site_recovery::Result;
use site_recovery_examples::failed;
use site_recovery_transport::enrol::{RoleKind, ServedRole, Service, ServiceKind};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

/// Where the programs are, and where their files may lie.
#[derive(Debug)]
pub(crate) struct Services<'a> {
    pub(crate) programs: PathBuf,
    pub(crate) dir: &'a Path,
}

impl Services<'_> {
    /// Reads the server's disk, and writes it in the rescue system. It would run on the server.
    ///
    /// # Errors
    /// Of all three: when no address is free, or the settings cannot be written.
    pub(crate) fn agent(&self, disk: &Loop) -> Result<Program> {
        // What a loop device is known by.
        let (id, device) = (format!("loop:{}", disk.file.display()), &disk.device);
        // It leaves its rescue system by its own end; elsewhere by `systemctl reboot`.
        let table = format!(
            "[server]\nsite = \"{SITE}\"\nname = \"{SERVER}\"\nonly = [{device:?}]\n\n\
             [receive]\nname = \"{SERVER}\"\nslots = [{{ id = {id:?}, path = {device:?} }}]\n\
             leave = {{ run = [\"/bin/sh\", \"-c\", \"kill $PPID\"] }}\n"
        );
        let name = format!("{SITE}/{SERVER}");
        let roles =
            [RoleKind::Source, RoleKind::LandingSite].map(|kind| ServedRole::new(kind, name.as_str()));
        self.service(AGENT, Service::new(ServiceKind::Agent, SERVER)?, &roles, 2, &table)
    }

    /// Moves the bytes, both ways. It would run beside the server; so on the way back it reads a source that is far.
    ///
    /// # Errors
    /// As [`agent`](Self::agent).
    pub(crate) fn process_server(&self) -> Result<Program> {
        let spool = self.dir.join("spool");
        let table = format!(
            "[process_server]\nname = \"{PROCESSING}\"\nspool = {spool:?}\nspool_bytes = 1073741824\n\n\
             [[far_source]]\nname = \"{CLOUD}\"\nbecause = \"test\"\n"
        );
        let role = ServedRole::new(RoleKind::ProcessServer, PROCESSING);
        let service = Service::new(ServiceKind::ProcessServer, PROCESSING)?;
        self.service(PROCESS_SERVER, service, &[role], 3, &table)
    }

    /// Lands machines on the way back: on the bare disks of servers, in their rescue systems, as their keeper says.
    ///
    /// # Errors
    /// As [`agent`](Self::agent).
    pub(crate) fn master_target(&self, retention: &Path) -> Result<Program> {
        std::fs::create_dir_all(retention).map_err(|e| failed("make", retention, e))?;
        let table = format!(
            "[master_target]\nname = \"{SITE}\"\nretention = {retention:?}\n\n\
             [landing.servers]\nsite = \"{SITE}\"\n"
        );
        let role = ServedRole::new(RoleKind::MasterTarget, SITE);
        self.service(MASTER_TARGET, Service::new(ServiceKind::MasterTarget, "mt-1")?, &[role], 4, &table)
    }

    fn service(
        &self,
        program: &str,
        service: Service,
        roles: &[ServedRole],
        host: u8,
        table: &str,
    ) -> Result<Program> {
        let (address, name) = (free_address(host)?, service.name());
        let state = self.dir.join(name);
        let settings = self.dir.join(format!("{name}.toml"));
        let text = format!(
            "[service]\nstate = {state:?}\nlisten = \"{address}\"\naddress = \"{address}\"\nsite = \"{SITE}\"\n\n{table}"
        );
        std::fs::write(&settings, text).map_err(|e| failed("write", &settings, e))?;
        Ok(Program { binary: self.programs.join(program), settings, service, roles: roles.to_vec(), address })
    }
}

/// An address of this machine that nobody listens at. Each host has one of its own.
///
/// # Errors
/// Where there is none.
pub(crate) fn free_address(host: u8) -> Result<SocketAddr> {
    let wanted = SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), 0));
    let found = TcpListener::bind(wanted).and_then(|listener| listener.local_addr());
    found.map_err(|e| failed("listen at", Path::new(&wanted.to_string()), e))
}
