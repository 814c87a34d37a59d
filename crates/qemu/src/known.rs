//! A machine as it is found: its description, its mark and its images, read and checked together.

use crate::Site;
use crate::description::{DescribedNic, Description, Format};
use crate::home::Home;
use crate::identity;
use crate::image::Image;
use crate::mark::Mark;
use site_recovery::{
    DiskId, DiskRole, DiskSpec, Error, Generation, GuestFacts, Instance, Machine, MachineId, Nic, NicId,
    Platform, Result, RoleName,
};
use site_recovery_register::{Told, not_found};
use std::fs;
use std::path::PathBuf;

/// A machine that could be described: description, mark and images together.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) home: Home,
    pub(crate) description: Description,
    pub(crate) mark: Option<Mark>,
    /// In the order of the description.
    pub(crate) disks: Vec<Held>,
}

/// A disk and its image.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) spec: DiskSpec,
    /// Its id in the description.
    pub(crate) local: String,
    /// Its place in the description: the number in its nodes' names.
    pub(crate) n: usize,
    pub(crate) format: Format,
    pub(crate) path: PathBuf,
    /// None where the file is missing.
    pub(crate) image: Option<Image>,
}

impl Known {
    pub(crate) fn disk(&self, id: &DiskId) -> Result<&Held> {
        let found = self.disks.iter().find(|d| &d.spec.id == id);
        found.ok_or_else(|| not_found(format!("{} has no disk {id}", self.home.name)))
    }

    pub(crate) fn included(&self) -> impl Iterator<Item = &Held> {
        self.disks.iter().filter(|d| d.spec.included)
    }

    pub(crate) fn generation(&self, label: &Instance) -> Generation {
        self.mark.as_ref().map_or(label.generation, |m| m.generation)
    }

    /// The machine under the ids of its mark, or else under `label`. System disks come first.
    pub(crate) fn machine(&self, site: &RoleName, label: Option<&Instance>) -> Machine {
        let d = &self.description;
        let (machine, generation) = match (&self.mark, label) {
            (Some(mark), _) => (mark.machine.clone(), mark.generation),
            (None, Some(label)) => (label.machine.clone(), label.generation),
            (None, None) => (MachineId(self.home.name.clone()), Generation(0)),
        };
        let id = |n: &DescribedNic| self.mark.as_ref().and_then(|m| m.nics.get(&n.id).cloned());
        let nic = |n: &DescribedNic| Nic {
            id: id(n).unwrap_or_else(|| NicId(n.id.clone())),
            mac: n.mac.clone(),
            network: n.network.clone(),
            addresses: n.addresses.clone(),
        };
        let mut disks: Vec<DiskSpec> = self.disks.iter().map(|d| d.spec.clone()).collect();
        disks.sort_by_key(|d| d.role != DiskRole::System);
        let snapshots = self.disks.iter().filter_map(|d| d.image.as_ref()).map(|i| i.snapshots).max();
        Machine {
            instance: Instance { machine, site: site.clone(), name: self.home.name.clone(), generation },
            title: None,
            disks,
            nics: d.nics.iter().map(nic).collect(),
            cpus: d.cpus,
            memory: d.memory,
            firmware: d.firmware.into(),
            os: d.os.into(),
            platform: Platform::Virtual,
            guest: GuestFacts { snapshots, ..GuestFacts::default() },
        }
    }
}

impl Site {
    /// Reads a machine's directory and its images.
    ///
    /// # Errors
    /// `Invalid` for a description that breaks a rule, an image that is missing, of another format, one that keeps no
    /// bitmaps, that stands on a missing one, or smaller than it was.
    pub(crate) fn known(&self, home: Home) -> Result<Known> {
        let known = self.known_as_is(home)?;
        for held in &known.disks {
            let of = |e: Error| e.with("disk", &held.local).with("machine", &known.home.name);
            let file = held.path.display();
            let Some(image) = &held.image else {
                let rule = "the image is there";
                let remedy = "make it with qemu-img, or correct the description";
                return Err(of(Error::invalid("disks.file", file, rule, remedy)));
            };
            if held.format == Format::Qcow2 && !image.keeps_bitmaps {
                let rule = "a qcow2 image of version 3, which keeps dirty bitmaps";
                let remedy = "qemu-img amend -f qcow2 -o compat=1.1, while the machine is off";
                return Err(of(Error::invalid("disks.file", file, rule, remedy)));
            }
            if !held.stands_on_point()
                && let Some(missing) = self.missing_below(image).map_err(of)?
            {
                let value = format!("{file}, which stands on {}", missing.display());
                let rule = "everything that an image stands on is there";
                let remedy = "bring that file back, or name another one with qemu-img rebase -u";
                return Err(of(Error::invalid("disks.file", value, rule, remedy)));
            }
            let before = known.mark.as_ref().and_then(|m| m.disks.get(&held.local)).map_or(0, |m| m.size);
            if held.spec.size < before {
                let value = format!("{file} of {} bytes", held.spec.size);
                let rule = format!("a disk never shrinks, and it had {before} bytes");
                let remedy = "make it as large again, or dismiss and enrol the machine";
                return Err(of(Error::invalid("disks.file", value, &rule, remedy)));
            }
        }
        Ok(known)
    }

    /// As [`known`](Site::known), with images that may be missing (of size 0) or too small.
    pub(crate) fn known_as_is(&self, home: Home) -> Result<Known> {
        home.must_be_clear()?;
        let (mut description, mark) = (home.description()?, home.mark()?);
        identity::complete(&mut description, &self.name, &home.name);
        let branched = home.is_branched()?;
        let mut disks = vec![];
        for (n, disk) in description.disks.iter().enumerate() {
            let base = home.images().join(&disk.file);
            let (path, format) = match branched {
                true => (crate::branch::above(&base), Format::Qcow2),
                false => (base, disk.format),
            };
            let there = fs::exists(&path).told("look at", &path)?;
            let image = if there { Some(self.image(&path, format)?) } else { None };
            let marked = mark.as_ref().and_then(|m| m.disks.get(&disk.id));
            let spec = DiskSpec {
                id: marked.map_or_else(|| DiskId(disk.id.clone()), |m| m.id.clone()),
                size: image.as_ref().map_or(0, |i| i.size),
                role: description.role(n),
                // A disk that came after the mark waits until somebody enrols it.
                included: if mark.is_some() { marked.is_some_and(|m| m.included) } else { disk.included },
            };
            disks.push(Held { spec, local: disk.id.clone(), n, format, path, image });
        }
        Ok(Known { home, description, mark, disks })
    }
}
