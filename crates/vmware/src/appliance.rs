//! The machine in which this process runs: disks of others are attached to it, and are block devices here.

use crate::Inner;
use crate::carry_out::AGAIN;
use crate::describe::disk_name;
use async_trait::async_trait;
use site_recovery::{Error, ErrorKind, Result};
use site_recovery_register::{Told, not_found, refused};
use site_recovery_vim::{
    self as vim, ConfigSpec, Controller, ControllerKind, DatastorePath, DeviceChange, Devices, DiskMode,
    Fault, NewDisk, Snapshot,
};
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// What is added where controllers are full.
const MORE: ControllerKind = ControllerKind::ParaVirtual;

/// Where this process runs, and how it finds the disks that are attached there.
#[derive(Debug, Clone)]
pub struct Appliance {
    uuid: String,
    devices: Arc<dyn DeviceResolver>,
}

/// A disk that was attached to the appliance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachedDisk {
    /// The identifier of its backing, lower case, which its guest sees where `disk.EnableUUID` is set. All snapshots of one disk
    /// have the same.
    pub uuid: String,
    /// Which controller of its kind: 0 to 3.
    pub bus: u32,
    /// Where at the controller: the target of its SCSI address. No other state of the same disk has it at any controller.
    pub unit: u32,
    /// Its descriptor on the datastore.
    pub file: DatastorePath,
    /// In bytes.
    pub size: u64,
}

/// Finds the block device of a disk that was attached to this machine.
#[async_trait]
pub trait DeviceResolver: Debug + Send + Sync {
    /// Its path; `None` while it is not seen yet.
    ///
    /// # Errors
    /// `Conflict` where several look like it.
    async fn resolve(&self, disk: &AttachedDisk) -> Result<Option<PathBuf>>;
}

/// Devices of a Linux guest, by what `/sys/block` says: the identifier, and the place at the controller. The appliance needs
/// `disk.EnableUUID`.
#[derive(Debug, Clone)]
pub struct BlockDevices {
    sys: PathBuf,
    dev: PathBuf,
}

impl Default for BlockDevices {
    fn default() -> Self {
        Self { sys: "/sys/block".into(), dev: "/dev".into() }
    }
}

impl BlockDevices {
    /// Looks there instead of at `/sys/block` and `/dev`.
    pub fn below(sys: impl Into<PathBuf>, dev: impl Into<PathBuf>) -> Self {
        Self { sys: sys.into(), dev: dev.into() }
    }

    fn look(&self, disk: &AttachedDisk) -> Result<Option<PathBuf>> {
        let wanted: String = disk.uuid.chars().filter(char::is_ascii_hexdigit).collect();
        let mut found = vec![];
        for entry in std::fs::read_dir(&self.sys).told("list", &self.sys)? {
            let entry = entry.told("list", &self.sys)?;
            let said = |file: &str| std::fs::read_to_string(entry.path().join("device").join(file)).ok();
            let Some(wwid) = said("wwid") else { continue };
            let wwid = wwid.trim().to_ascii_lowercase();
            // All states of one disk have one identifier. The one that was attached is known by its place, which no other of them
            // has; it may be seen later than an older one.
            let is_the_disk = wwid.strip_prefix("naa.").or(wwid.strip_prefix("eui.")) == Some(&wanted);
            if is_the_disk && target(&entry.path()) == Some(disk.unit) {
                found.push(entry);
            }
        }
        match &found[..] {
            [] => Ok(None),
            [one] => Ok(Some(self.dev.join(one.file_name()))),
            several => {
                let names: Vec<_> =
                    several.iter().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
                let message =
                    format!("{} all look like {}: detach what is not used", names.join(", "), disk.file);
                Err(site_recovery_register::conflict(message))
            }
        }
    }
}

/// The target of `host:channel:target:lun`.
fn target(device: &Path) -> Option<u32> {
    let address = std::fs::read_link(device.join("device")).ok()?;
    address.file_name()?.to_str()?.split(':').nth(2)?.parse().ok()
}

#[async_trait]
impl DeviceResolver for BlockDevices {
    async fn resolve(&self, disk: &AttachedDisk) -> Result<Option<PathBuf>> {
        let (this, disk) = (self.clone(), disk.clone());
        site_recovery_register::blocking(move || this.look(&disk)).await
    }
}

impl Appliance {
    /// The machine with this instance UUID.
    pub fn new(instance_uuid: impl Into<String>, devices: Arc<dyn DeviceResolver>) -> Self {
        Self { uuid: instance_uuid.into().to_ascii_lowercase(), devices }
    }

    pub(crate) fn uuid(&self) -> &str {
        &self.uuid
    }
}

/// What is to be attached.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// As [`disk_name`] calls the disk.
    pub(crate) uuid: String,
    pub(crate) file: DatastorePath,
    pub(crate) size: u64,
}

impl Inner {
    /// The appliance as it stands now.
    ///
    /// # Errors
    /// `Unavailable` where it is gone: that says nothing of the machine that was asked for.
    pub(crate) async fn appliance_machine(&self) -> Result<vim::Machine> {
        self.find_appliance().await.map_err(|e| match e.kind() {
            ErrorKind::NotFound => {
                Error::new(ErrorKind::Unavailable, "the appliance is not there").caused_by(e)
            }
            _ => e,
        })
    }

    /// The same, where it is asked for itself.
    ///
    /// # Errors
    /// `NotFound`.
    pub(crate) async fn find_appliance(&self) -> Result<vim::Machine> {
        let Some(appliance) = &self.appliance else {
            let message = "this site has no appliance: tell it the machine in which this process runs";
            return Err(Error::new(ErrorKind::Unsupported, message));
        };
        let found = self.vim.find(&appliance.uuid).await?;
        let lacks = || not_found(format!("the appliance {} is no machine of this server", appliance.uuid));
        Ok(self.vim.machine(&found.ok_or_else(lacks)?).await?)
    }

    /// Attaches files to the appliance, in one act, and finds them here. What is attached already stays.
    pub(crate) async fn attach(
        &self,
        wanted: &[Wanted],
        mode: &DiskMode,
    ) -> Result<Vec<(AttachedDisk, PathBuf)>> {
        let attached = {
            let _slots = self.slots.lock().await;
            self.attached(wanted, mode).await?
        };
        let mut found = vec![];
        for disk in attached {
            let path = self.seen_here(&disk).await?;
            found.push((disk, path));
        }
        Ok(found)
    }

    async fn attached(&self, wanted: &[Wanted], mode: &DiskMode) -> Result<Vec<AttachedDisk>> {
        let add = |machine: &vim::Machine| {
            let missing: Vec<&Wanted> = wanted.iter().filter(|w| on(machine, &w.file).is_none()).collect();
            if missing.is_empty() { Ok(vec![]) } else { places(machine, &missing, mode) }
        };
        let machine = self.rewire(add).await?;
        wanted.iter().map(|w| attached(&machine, w, mode)).collect()
    }

    /// Changes the appliance until nothing is left to be changed, and says how it stands then.
    async fn rewire(
        &self,
        left: impl Fn(&vim::Machine) -> Result<Vec<DeviceChange>>,
    ) -> Result<vim::Machine> {
        for again in 0..=AGAIN {
            let machine = self.appliance_machine().await?;
            let devices = left(&machine)?;
            if devices.is_empty() {
                return Ok(machine);
            }
            let change_version = details(&machine)?.change_version.clone();
            let spec = ConfigSpec { change_version, devices, ..ConfigSpec::default() };
            match self.reconfigure(&machine.moref, &spec).await {
                // Looked at once more, whatever became of it.
                Ok(()) => {}
                Err(e) if again < AGAIN && (e.may_have_been_done() || is_of_another(&e)) => {
                    self.let_pass(again).await;
                }
                Err(e) => return Err(e.into()),
            }
        }
        Err(refused("the appliance does not keep what is attached to it or taken away from it"))
    }

    /// Refuses more disks than the appliance has places for.
    pub(crate) async fn must_take(&self, disks: usize) -> Result<()> {
        let room = room(&details(&self.appliance_machine().await?)?.devices);
        if room < disks { Err(no_place(disks)) } else { Ok(()) }
    }

    /// Takes disks with these files away from the appliance. Their files stay.
    pub(crate) async fn detach(&self, files: &[DatastorePath]) -> Result<()> {
        if self.appliance.is_none() || files.is_empty() {
            return Ok(());
        }
        let _slots = self.slots.lock().await;
        let remove = |machine: &vim::Machine| {
            let disks = files.iter().filter_map(|file| on(machine, file));
            Ok(disks.map(|disk| DeviceChange::DetachDisk(disk.clone())).collect())
        };
        self.rewire(remove).await.map(drop)
    }

    /// Takes the disks of a capture away from the appliance.
    pub(crate) async fn let_go(&self, snapshot: &Snapshot) -> Result<()> {
        if self.appliance.is_none() {
            return Ok(());
        }
        let devices = match self.vim.snapshot_devices(&snapshot.moref).await {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            found => found?,
        };
        let files: Vec<_> = devices.disks.into_iter().filter_map(|disk| disk.backing.file).collect();
        self.detach(&files).await
    }

    async fn seen_here(&self, disk: &AttachedDisk) -> Result<PathBuf> {
        let appliance = self.appliance.as_ref().expect("it was attached there");
        let until = self.clock.now().after(self.patience.device);
        loop {
            if let Some(path) = appliance.devices.resolve(disk).await? {
                return Ok(path);
            }
            if self.clock.now() >= until {
                let message = format!(
                    "{} was attached to the appliance and is not seen here: set disk.EnableUUID on it, and check that this \
                     process runs in it",
                    disk.file
                );
                return Err(Error::new(ErrorKind::Unavailable, message));
            }
            self.clock.sleep(Duration::from_millis(200)).await;
        }
    }
}

fn is_of_another(error: &vim::Error) -> bool {
    matches!(
        error.fault(),
        Some(Fault::ConcurrentAccess | Fault::TaskInProgress | Fault::InvalidDeviceSpec { .. })
    )
}

fn details(machine: &vim::Machine) -> Result<&vim::Details> {
    machine.details.as_deref().ok_or_else(|| refused("the appliance tells nothing of its configuration"))
}

/// The appliance's disk of this file.
pub(crate) fn on<'a>(machine: &'a vim::Machine, file: &DatastorePath) -> Option<&'a vim::Disk> {
    let disks = machine.details.as_deref()?.devices.disks.iter();
    disks.into_iter().find(|disk| disk.backing.file.as_ref() == Some(file))
}

fn attached(machine: &vim::Machine, wanted: &Wanted, mode: &DiskMode) -> Result<AttachedDisk> {
    let disk = on(machine, &wanted.file).expect("looked for before");
    if disk.backing.mode != *mode {
        let message =
            format!("{} is attached to the appliance in another mode: detach it there", wanted.file);
        return Err(refused(message));
    }
    let controller = details(machine)?.devices.controller_of(disk);
    Ok(AttachedDisk {
        uuid: disk_name(disk),
        bus: controller.map(|c| c.bus).unwrap_or_default(),
        unit: disk.unit.unwrap_or_default(),
        file: wanted.file.clone(),
        size: wanted.size,
    })
}

/// Places at controllers that take disks while the machine runs.
type Places = Vec<(i32, u32)>;

/// Where new disks go: free units of such controllers, and of more of them where they are full; the keys of those that would have
/// to be added, with their buses.
fn free_places(devices: &Devices) -> (Places, Places) {
    let all: Vec<&Controller> = devices.controllers.iter().filter(|c| c.kind.is_scsi()).collect();
    let scsi = all.iter().filter(|c| !c.shared);
    let taken =
        |c: &Controller, unit| devices.disks.iter().any(|d| d.controller == c.key && d.unit == Some(unit));
    let free = scsi.flat_map(|c| c.kind.units().filter(|unit| !taken(c, *unit)).map(|unit| (c.key, unit)));
    let buses = (0..4).filter(|bus| all.iter().all(|c| c.bus != *bus));
    let more: Places = buses.map(|bus| (-1000 - i32::try_from(bus).unwrap_or_default(), bus)).collect();
    let added = more.iter().flat_map(|(key, _)| MORE.units().map(move |unit| (*key, unit)));
    (free.chain(added).collect(), more)
}

/// How many disks more it takes while it runs.
pub(crate) fn room(devices: &Devices) -> usize {
    free_places(devices).0.len()
}

fn no_place(wanted: usize) -> Error {
    let message = format!("the appliance has no place for {wanted} more disks");
    Error::new(ErrorKind::OutOfSpace, message)
}

fn places(machine: &vim::Machine, wanted: &[&Wanted], mode: &DiskMode) -> Result<Vec<DeviceChange>> {
    let devices = &details(machine)?.devices;
    let (mut free, more) = free_places(devices);
    let mut places = vec![];
    for one in wanted {
        let states: Vec<u32> = devices
            .disks
            .iter()
            .filter(|disk| disk_name(disk) == one.uuid)
            .filter_map(|disk| disk.unit)
            .collect();
        let place = free.iter().position(|(_, unit)| !states.contains(unit));
        places.push(free.remove(place.ok_or_else(|| no_place(wanted.len()))?));
    }
    let needed = more.iter().filter(|(key, _)| places.iter().any(|(controller, _)| controller == key));
    let mut changes: Vec<DeviceChange> =
        needed.map(|(key, bus)| DeviceChange::AddController { key: *key, kind: MORE, bus: *bus }).collect();
    for (n, (wanted, (controller, unit))) in wanted.iter().zip(&places).enumerate() {
        changes.push(DeviceChange::AddDisk {
            key: -2000 - i32::try_from(n).unwrap_or_default(),
            controller: *controller,
            unit: *unit,
            mode: mode.clone(),
            disk: NewDisk::Existing { file: wanted.file.clone(), capacity: Some(wanted.size) },
        });
    }
    Ok(changes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::readiness::tests::{controller, disk, machine};

    /// Where they would go: the buses of controllers that are added, and how many disks each controller takes.
    fn planned(controllers: Vec<Controller>, disks: usize) -> (Vec<u32>, Vec<i32>) {
        let mut appliance = machine("appliance");
        let details = appliance.details.as_mut().expect("whole");
        details.devices.controllers = controllers;
        details.devices.disks = vec![disk(2000, 1000, 0)];
        let wanted = Wanted {
            uuid: "6000c29".into(),
            file: "[one] web/web.vmdk".parse().expect("a path"),
            size: 1 << 20,
        };
        let wanted = vec![&wanted; disks];
        let (mut buses, mut at) = (vec![], vec![]);
        for change in places(&appliance, &wanted, &DiskMode::Persistent).expect("there is room") {
            match change {
                DeviceChange::AddController { bus, .. } => buses.push(bus),
                DeviceChange::AddDisk { controller, unit, .. } => {
                    assert!((controller, unit) != (1000, 0) && unit != 7, "{controller}:{unit} is taken");
                    at.push(controller);
                }
                other => panic!("{other:?}"),
            }
        }
        at.sort_unstable();
        at.dedup();
        (buses, at)
    }

    #[test]
    fn a_controller_is_added_only_where_the_others_are_full_and_at_a_bus_that_is_free() {
        let own = |bus| controller(1000 + i32::try_from(bus).expect("few"), ControllerKind::ParaVirtual, bus);
        assert_eq!(planned(vec![own(0)], 14), (vec![], vec![1000]));
        assert_eq!(planned(vec![own(0)], 15).0, [1]);
        let shared = Controller { shared: true, ..own(1) };
        assert_eq!(planned(vec![own(0), shared.clone()], 15).0, [2], "the bus of a shared one is taken");
        let ide = controller(200, ControllerKind::Ide, 0);
        assert_eq!(planned(vec![ide], 1).0, [0]);
        assert_eq!(
            planned(vec![own(0), shared], 14),
            (vec![], vec![1000]),
            "nothing of ours hangs at a shared one"
        );
    }
}
