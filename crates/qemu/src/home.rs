//! One machine's directory: its description, its images, and what we keep in its `.site-recovery/`.

use crate::description::{DescribedNic, Description, FILE, Format};
use crate::image::Image;
use crate::{OWN, Site};
use serde::{Deserialize, Serialize};
use site_recovery::{
    Armed, Cursor, DiskId, DiskRole, DiskSpec, Epoch, Error, Generation, GuestFacts, Instance, Machine,
    MachineId, Nic, NicId, OpKey, Platform, PointId, Result, RoleName, Timestamp,
};
use site_recovery_register::{Told, conflict, durable, not_found};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

/// Where the images stand while the machine may be started.
pub(crate) const DISKS: &str = "disks";
/// Where they stand while it may not.
pub(crate) const FENCED: &str = "fenced";

/// A directory that holds a machine, or what is left of one.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    pub(crate) name: String,
    pub(crate) dir: PathBuf,
}

/// Whose the machine is: the ids all round the circle, the generation, and who made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    pub(crate) machine: MachineId,
    /// The directory that it was written for: a directory that was copied by hand does not carry two marks.
    pub(crate) name: String,
    /// Where the directory is being moved.
    pub(crate) moving_to: Option<String>,
    pub(crate) generation: Generation,
    /// By the description's own ids.
    pub(crate) disks: BTreeMap<String, MarkedDisk>,
    pub(crate) nics: BTreeMap<String, NicId>,
    /// The key that made the directory; none where a person did.
    pub(crate) made: Option<Made>,
    /// How tracking for the way back was armed.
    pub(crate) armed: Option<ArmedBy>,
    pub(crate) settled: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MarkedDisk {
    pub(crate) id: DiskId,
    pub(crate) size: u64,
    /// Whether it is replicated.
    pub(crate) included: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Made {
    pub(crate) by: OpKey,
    pub(crate) how: How,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum How {
    Materialised,
    Attached,
    Parted,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ArmedBy {
    pub(crate) key: OpKey,
    pub(crate) cursor: Option<Cursor>,
    pub(crate) generation: Generation,
    pub(crate) point: PointId,
}

/// `fence.json`: who blocks the start, and how that ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FenceMark {
    pub(crate) by: OpKey,
    pub(crate) epoch: Epoch,
    pub(crate) when: Timestamp,
    pub(crate) ran_before: bool,
    /// Whether the guest was asked to shut down: it may still do so.
    pub(crate) asked: bool,
    pub(crate) why: String,
    pub(crate) lift: String,
}

impl Home {
    pub(crate) fn own(&self, file: &str) -> PathBuf {
        self.dir.join(OWN).join(file)
    }

    /// Where the images stand now.
    pub(crate) fn images(&self) -> PathBuf {
        let fenced = self.dir.join(FENCED);
        if fenced.is_dir() { fenced } else { self.dir.join(DISKS) }
    }

    /// Whether the images stand where no start finds them.
    pub(crate) fn is_fenced(&self) -> bool {
        self.dir.join(FENCED).is_dir()
    }

    /// Takes the images out of the way of every start: one rename, so that images that stand on each other move together.
    pub(crate) fn hide_images(&self) -> Result<()> {
        if self.is_fenced() { Ok(()) } else { durable::rename(&self.dir.join(DISKS), &self.dir.join(FENCED)) }
    }

    pub(crate) fn show_images(&self) -> Result<()> {
        if self.is_fenced() { durable::rename(&self.dir.join(FENCED), &self.dir.join(DISKS)) } else { Ok(()) }
    }

    /// The mark, where there is one.
    ///
    /// # Errors
    /// `Conflict` when it was written for another directory.
    pub(crate) fn mark(&self) -> Result<Option<Mark>> {
        let mark: Option<Mark> = durable::read(&self.own("mark.json"))?;
        if let Some(mark) = &mark
            && mark.name != self.name
            && mark.moving_to.as_ref() != Some(&self.name)
        {
            let message = format!(
                "directory {} carries the mark of {}: it was copied or renamed by hand; remove its {OWN}/, or \
                 rename it back",
                self.name, mark.name
            );
            return Err(conflict(message).with("machine", &mark.machine));
        }
        Ok(mark)
    }

    pub(crate) fn set_mark(&self, mark: &Mark) -> Result<()> {
        durable::write(&self.own("mark.json"), mark)
    }

    /// The mark of a machine that must have one.
    pub(crate) fn marked(&self) -> Result<Mark> {
        self.mark()?.ok_or_else(|| not_found(format!("{} carries no mark: enrol or attach it", self.name)))
    }

    pub(crate) fn fence_mark(&self) -> Result<Option<FenceMark>> {
        durable::read(&self.own("fence.json"))
    }

    pub(crate) fn description(&self) -> Result<Description> {
        Description::read(&self.dir)?.ok_or_else(|| {
            let rule = "a machine is described";
            Error::invalid(FILE, "missing", rule, "write it, or take the directory away")
                .with("file", self.dir.join(FILE).display())
        })
    }
}

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

    /// A mark for this machine: ids by the description's own ids where they are the same, by place where not.
    pub(crate) fn mark_as(&self, machine: &Machine, made: Option<Made>) -> Result<Mark> {
        let mut disks = BTreeMap::new();
        let found = self.machine(&machine.instance.site, None).disks;
        for held in &self.disks {
            let at = found.iter().position(|d| d.id == held.spec.id).unwrap_or(held.n);
            let by_id = machine.disks.iter().find(|d| d.id == held.spec.id || d.id.0 == held.local);
            let free = |d: &&DiskSpec| !self.disks.iter().any(|h| h.spec.id == d.id || h.local == d.id.0);
            let by_place = machine.disks.get(at).filter(free);
            let Some(spec) = by_id.or(by_place) else {
                let rule = "every disk of the machine is told";
                return Err(Error::invalid("machine.disks", "incomplete", rule, "discover it anew")
                    .with("disk", &held.local));
            };
            let (id, size, included) = (spec.id.clone(), held.spec.size, spec.included);
            disks.insert(held.local.clone(), MarkedDisk { id, size, included });
        }
        if let Some(gone) = machine.disks.iter().find(|d| !disks.values().any(|m| m.id == d.id)) {
            let rule = "the machine has this disk";
            return Err(Error::invalid("machine.disks", &gone.id, rule, "discover it anew"));
        }
        let nics = self.description.nics.iter().enumerate().filter_map(|(at, n)| {
            let same = machine.nics.iter().find(|m| m.id.0 == n.id);
            same.or(machine.nics.get(at)).map(|m| (n.id.clone(), m.id.clone()))
        });
        Ok(Mark {
            machine: machine.id().clone(),
            name: self.home.name.clone(),
            moving_to: None,
            generation: machine.instance.generation,
            disks,
            nics: nics.collect(),
            made,
            armed: None,
            settled: false,
        })
    }

    /// The mark with the sizes that the disks have now.
    pub(crate) fn with_sizes(&self, mut mark: Mark) -> Mark {
        for held in &self.disks {
            if let Some(marked) = mark.disks.get_mut(&held.local) {
                marked.size = held.spec.size;
            }
        }
        mark
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
            if image.format != held.format.name() {
                let rule = format!("it is described as {}", held.format.name());
                let remedy = "correct `format`: qcow2 or raw are served; convert any other with qemu-img";
                return Err(of(Error::invalid("disks.format", &image.format, &rule, remedy)));
            }
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
        let (description, mark) = (home.description()?, home.mark()?);
        let branched = home.is_branched()?;
        let mut disks = vec![];
        for (n, disk) in description.disks.iter().enumerate() {
            let base = home.images().join(&disk.file);
            let (path, format) = match branched {
                true => (crate::branch::above(&base), Format::Qcow2),
                false => (base, disk.format),
            };
            let there = fs::exists(&path).told("look at", &path)?;
            let image = if there { Some(self.image(&path)?) } else { None };
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

    /// The directory of this name.
    ///
    /// # Errors
    /// `NotFound` when nothing of it is there; `Invalid` for what can be no name.
    pub(crate) fn home(&self, name: &str) -> Result<Home> {
        let plain = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0', ',']);
        if !plain {
            let rule = "the name of a directory: no slash, no comma, no dot in front";
            return Err(Error::invalid("instance.name", format!("{name:?}"), rule, "check the name"));
        }
        let dir = self.root.join(name);
        match fs::metadata(&dir) {
            Ok(found) if found.is_dir() => Ok(Home { name: name.to_owned(), dir }),
            Ok(_) => Err(not_found(format!("{} is no directory", dir.display()))),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(not_found(format!(
                "neither machine nor disks named {name} are in {}",
                self.root.display()
            ))),
            Err(e) => Err(e).told("look at", &dir),
        }
    }

    /// The directory of an instance of this site that carries no other machine's mark.
    pub(crate) fn home_of(&self, instance: &Instance) -> Result<Home> {
        if instance.site != self.name {
            return Err(not_found(format!("{} stands at {}, not here", instance.name, instance.site)));
        }
        let home = self.home(&instance.name)?;
        match home.mark()? {
            Some(mark) if mark.machine != instance.machine => {
                let message = format!("{} carries the mark of {}", home.name, mark.machine);
                Err(conflict(message).with("asked", &instance.machine))
            }
            _ => Ok(home),
        }
    }

    /// As `home_of`, but a directory that is gone is no error.
    pub(crate) fn home_if_there(&self, instance: &Instance) -> Result<Option<Home>> {
        match self.home_of(instance) {
            Ok(home) => Ok(Some(home)),
            Err(e) if e.kind() == site_recovery::ErrorKind::NotFound && instance.site == self.name => {
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }

    /// Every directory that describes a machine or carries a mark.
    pub(crate) fn homes(&self) -> Result<Vec<Home>> {
        let mut homes = vec![];
        for dir in durable::list(&self.root)? {
            let name = dir.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            let home = Home { name, dir };
            let ours = home.dir.join(FILE).exists() || home.own("mark.json").exists();
            if home.name.starts_with('.') || !home.dir.is_dir() || !ours {
                continue;
            }
            homes.push(home);
        }
        Ok(homes)
    }

    pub(crate) fn instance(&self, home: &Home, mark: &Mark) -> Instance {
        Instance {
            machine: mark.machine.clone(),
            site: self.name.clone(),
            name: home.name.clone(),
            generation: mark.generation,
        }
    }

    pub(crate) fn armed(&self, home: &Home, mark: &Mark) -> Option<Armed> {
        let armed = mark.armed.as_ref()?;
        let instance = Instance { generation: armed.generation, ..self.instance(home, mark) };
        Some(Armed { instance, cursor: armed.cursor.clone(), point: armed.point })
    }
}

/// Any text as the name of a file: different for different texts.
pub(crate) fn plain(text: &str) -> String {
    OpKey::from(text).to_name()
}
