//! One machine's directory: its description, and what we keep in its `.site-recovery/`.

use crate::description::{Description, FILE};
use crate::{OWN, Site};
use serde::{Deserialize, Serialize};
use site_recovery::{
    Armed, Cursor, DiskId, DiskSpec, Epoch, Error, ErrorKind, Generation, GuestFacts, Instance, Machine,
    MachineId, Nic, NicId, OpKey, Platform, PointId, Result, RoleName, Sidecar, Timestamp,
};
use site_recovery_register::durable;
use site_recovery_register::{Told, conflict, not_found};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Most bytes of one sidecar.
const MOST_SIDECAR: u64 = 1 << 20;

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
    pub(crate) cursor: Cursor,
    pub(crate) point: PointId,
}

/// `fence.json`: who blocks the start, and how that ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FenceMark {
    pub(crate) by: OpKey,
    pub(crate) epoch: Epoch,
    pub(crate) when: Timestamp,
    pub(crate) ran_before: bool,
    pub(crate) why: String,
    pub(crate) lift: String,
}

impl Home {
    pub(crate) fn own(&self, file: &str) -> PathBuf {
        self.dir.join(OWN).join(file)
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

/// A machine that could be described: description, mark and disks together.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) home: Home,
    pub(crate) description: Description,
    pub(crate) mark: Option<Mark>,
    pub(crate) disks: Vec<Held>,
}

/// A disk and the file that holds it.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) spec: DiskSpec,
    /// Its id in the description.
    pub(crate) local: String,
    pub(crate) path: PathBuf,
}

impl Known {
    /// # Errors
    /// `Invalid` for a description that breaks a rule, a disk that is missing, empty, or smaller than it was.
    pub(crate) fn read(home: Home) -> Result<Self> {
        let known = Self::read_as_is(home)?;
        for held in &known.disks {
            let of = |e: Error| e.with("disk", &held.local).with("machine", &known.home.name);
            let file = held.path.display();
            if held.spec.size == 0 {
                let rule = "the file is there and has bytes";
                return Err(of(Error::invalid("disks.file", file, rule, "make it, with its size")));
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

    /// As [`read`](Known::read), with disks that may be missing (of size 0) or too small.
    pub(crate) fn read_as_is(home: Home) -> Result<Self> {
        let (description, mark) = (home.description()?, home.mark()?);
        let mut disks = vec![];
        for disk in &description.disks {
            let path = home.dir.join(&disk.file);
            let marked = mark.as_ref().and_then(|m| m.disks.get(&disk.id));
            let spec = DiskSpec {
                id: marked.map_or_else(|| DiskId(disk.id.clone()), |m| m.id.clone()),
                size: file_size(&path)?,
                role: disk.role,
                // A disk that came after the mark waits until somebody enrols it.
                included: if mark.is_some() { marked.is_some_and(|m| m.included) } else { disk.included },
            };
            disks.push(Held { spec, local: disk.id.clone(), path });
        }
        disks.sort_by_key(|d| d.spec.role != site_recovery::DiskRole::System);
        Ok(Self { home, description, mark, disks })
    }

    pub(crate) fn disk(&self, id: &DiskId) -> Result<&Held> {
        let found = self.disks.iter().find(|d| &d.spec.id == id);
        found.ok_or_else(|| not_found(format!("{} has no disk {id}", self.home.name)))
    }

    pub(crate) fn generation(&self, label: &Instance) -> Generation {
        self.mark.as_ref().map_or(label.generation, |m| m.generation)
    }

    /// The machine under the ids of its mark, or else under `label`.
    pub(crate) fn machine(&self, site: &RoleName, label: Option<&Instance>) -> Machine {
        let d = &self.description;
        let (machine, generation) = match (&self.mark, label) {
            (Some(mark), _) => (mark.machine.clone(), mark.generation),
            (None, Some(label)) => (label.machine.clone(), label.generation),
            (None, None) => (MachineId(self.home.name.clone()), Generation(0)),
        };
        let nic = |n: &crate::description::DescribedNic| Nic {
            id: self
                .mark
                .as_ref()
                .and_then(|m| m.nics.get(&n.id).cloned())
                .unwrap_or_else(|| NicId(n.id.clone())),
            mac: n.mac.clone(),
            network: n.network.clone(),
            addresses: n.addresses.clone(),
        };
        Machine {
            instance: Instance { machine, site: site.clone(), name: self.home.name.clone(), generation },
            title: None,
            disks: self.disks.iter().map(|d| d.spec.clone()).collect(),
            nics: d.nics.iter().map(nic).collect(),
            cpus: d.cpus,
            memory: d.memory,
            firmware: d.firmware,
            os: d.os,
            platform: Platform::Virtual,
            guest: GuestFacts::default(),
        }
    }

    /// A mark for this machine: ids by the description's own ids where they are the same, by place where not.
    pub(crate) fn mark_as(&self, machine: &Machine, made: Option<Made>) -> Result<Mark> {
        let mut disks = BTreeMap::new();
        for (at, held) in self.disks.iter().enumerate() {
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

    pub(crate) fn sidecars(&self) -> Result<Vec<Sidecar>> {
        let read = |s: &crate::description::DescribedSidecar| {
            let path = self.home.dir.join(&s.file);
            let bytes = fs::read(&path).told("read", &path)?;
            if bytes.len() as u64 > MOST_SIDECAR {
                let rule = format!("at most {MOST_SIDECAR} bytes");
                let remedy = "keep it on a disk";
                return Err(Error::invalid("sidecars.file", path.display(), &rule, remedy));
            }
            Ok(Sidecar { name: s.name.clone(), bytes })
        };
        self.description.sidecars.iter().map(read).collect()
    }
}

impl Site {
    /// The directory of this name.
    ///
    /// # Errors
    /// `NotFound` when nothing of it is there; `Invalid` for what can be no name.
    pub(crate) fn home(&self, name: &str) -> Result<Home> {
        let plain = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0']);
        if !plain {
            let rule = "the name of a directory: no slash, no dot in front";
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
        let instance = Instance { generation: armed.cursor.generation, ..self.instance(home, mark) };
        Some(Armed { instance, cursor: Some(armed.cursor.clone()), point: armed.point })
    }
}

/// Bytes of a file; 0 where it is missing.
pub(crate) fn file_size(path: &Path) -> Result<u64> {
    match fs::metadata(path) {
        Ok(found) if found.is_file() => Ok(found.len()),
        Ok(_) => {
            let error = Error::new(ErrorKind::Invalid, format!("{} is no plain file", path.display()));
            Err(error.with("field", "disks.file"))
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(e) => Err(e).told("look at", path),
    }
}

/// Any text as the name of a file: different for different texts.
pub(crate) fn plain(text: &str) -> String {
    OpKey::from(text).to_name()
}
