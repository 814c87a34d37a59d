//! The site as a source.

use crate::capture::export;
use crate::description::Format;
use crate::home::Home;
use crate::image::must_be_raw;
use crate::layer::Layer;
use crate::mark::Mark;
use crate::tracking::{Link, Position, tag};
use crate::{QemuSite, Site};
use async_trait::async_trait;
use site_recovery::{
    BootPermit, Capture, ChangeSet, Changes, Consistency, Cursor, Disk, DiskId, Disks, Fate, Instance,
    Lifted, Machine, MachineId, Op, OpKey, Power, Purpose, Result, Source, Start,
};
use site_recovery_nbd::{Address, RemoteDisk};
use site_recovery_register::{durable, not_found};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

#[async_trait]
impl Source for QemuSite {
    async fn discover(&self) -> Result<Vec<Machine>> {
        self.act("discover", |site| {
            let describe = |home: Home| {
                let name = home.name.clone();
                let machine = site.home(&name).and_then(|home| site.known(home)).and_then(|known| {
                    let machine = known.machine(&site.name, None);
                    machine.validate()?;
                    let network = known.home.state()?.network;
                    Ok(in_network(machine, network))
                });
                machine.map_err(|e| e.with("machine", name))
            };
            site.homes()?.into_iter().map(describe).collect()
        })
        .await
    }

    async fn enrol(&self, op: &Op, machine: &Machine) -> Result<()> {
        let (op, machine) = (op.clone(), machine.clone());
        self.act("enrol", move |site| {
            machine.validate()?;
            let fits = |home: Home| {
                let known = site.known(home)?;
                let raw = known.disks.iter().filter(|d| d.format == Format::Raw);
                raw.map(|d| d.path.as_path()).try_for_each(must_be_raw)?;
                machine.must_fit(&known.machine(&site.name, None)).map(|()| known)
            };
            let fresh = fits(site.home_of(&machine.instance)?)?.mark_as(&machine, None)?;
            drop(fresh);
            let _turn = site.register.turn(&op, machine.id())?;
            let known = fits(site.home_of(&machine.instance)?)?;
            let fresh = known.mark_as(&machine, None)?;
            let mark = match &known.mark {
                Some(old) => Mark { disks: fresh.disks, nics: fresh.nics, ..old.clone() },
                None => fresh,
            };
            known.home.set_mark(&mark)
        })
        .await
    }

    async fn dismiss(&self, op: &Op, instance: &Instance) -> Result<()> {
        let (op, instance) = (op.clone(), instance.clone());
        self.act("dismiss", move |site| {
            let _turn = site.register.turn(&op, &instance.machine)?;
            let Some(home) = site.home_if_there(&instance)? else { return Ok(()) };
            site.sweep_captures(&home, &instance.machine, &[])?;
            site.drop_tracking(&home)?;
            durable::remove_file(&home.own("mark.json"))
        })
        .await
    }

    async fn capture(&self, op: &Op, of: &[Instance], want: Consistency) -> Result<Capture> {
        let (op, of) = (op.clone(), of.to_vec());
        self.act("capture", move |site| site.capture(&op, &of, want)).await
    }

    async fn changes(&self, capture: &Capture, machine: &MachineId, since: &Cursor) -> Result<Changes> {
        let (of, machine, since) = (capture.clone(), machine.clone(), since.clone());
        let wanted = self.act("changes", move |site| site.wanted(&of, &machine, &since)).await?;
        let wanted = match wanted {
            Ok(wanted) => wanted,
            Err(reason) => return Ok(Changes::Lost { reason }),
        };
        let mut all = ChangeSet::default();
        for one in wanted {
            all = all.union(&one.changed().await.map_err(|e| e.at(&self.0.name, "changes"))?);
        }
        Ok(Changes::Known(all))
    }

    async fn disks(&self, op: &Op, capture: &Capture, machine: &MachineId) -> Result<Disks> {
        let (op, capture, machine) = (op.clone(), capture.clone(), machine.clone());
        let exports = self.act("disks", move |site| {
            let _turn = site.register.turn(&op, &machine)?;
            site.exported(&capture, &machine)
        });
        let mut disks = Disks::new();
        for (id, socket, export) in exports.await? {
            // One thread of QEMU serves them all, and here nothing is far away.
            let disk = RemoteDisk::builder(Address::Unix(socket), export).connections(1).connect().await;
            disks.insert(id, Arc::new(disk.map_err(|e| e.at(&self.0.name, "disks"))?) as Arc<dyn Disk>);
        }
        Ok(disks)
    }

    async fn release(&self, op: &Op, capture: &Capture, machine: &MachineId, fate: Fate) -> Result<()> {
        let (op, capture, machine) = (op.clone(), capture.clone(), machine.clone());
        self.act("release", move |site| {
            let member = capture.member(&machine)?;
            let _turn = site.register.turn(&op, &machine)?;
            let Some(home) = site.home_if_there(&member.machine.instance)? else { return Ok(()) };
            // First the export, which holds the bitmaps. A crash in between costs space, not the next delta.
            site.undo_capture(&home, &tag(&OpKey(capture.cut.0.clone()), &machine))?;
            match member.cursor.as_ref().and_then(Position::of) {
                Some((_, link)) if fate == Fate::Sealed => site.drop_bitmaps(&home, |l| l.place < link.place),
                _ => Ok(()),
            }
        })
        .await
    }

    async fn sweep(&self, op: &Op, instance: &Instance, keep: &[OpKey]) -> Result<Vec<OpKey>> {
        let (op, instance, keep) = (op.clone(), instance.clone(), keep.to_vec());
        self.act("sweep", move |site| {
            let _turn = site.register.turn(&op, &instance.machine)?;
            let Some(home) = site.home_if_there(&instance)? else { return Ok(vec![]) };
            site.sweep_captures(&home, &instance.machine, &keep)
        })
        .await
    }

    async fn consolidate(&self, op: &Op, instance: &Instance) -> Result<()> {
        let (op, instance) = (op.clone(), instance.clone());
        self.act("consolidate", move |site| {
            let _turn = site.register.turn(&op, &instance.machine)?;
            let home = site.home_of(&instance)?;
            site.must_be_off(&home)?;
            site.end_store(&home)?;
            let known = site.known(home)?;
            let qcow2 = known.disks.iter().filter(|d| d.format == Format::Qcow2);
            qcow2.map(|d| d.path.as_path()).try_for_each(|path| site.drop_snapshots(path))
        })
        .await
    }

    async fn power(&self, instance: &Instance) -> Result<Power> {
        let instance = instance.clone();
        self.act("power", move |site| site.power_of(&site.home_of(&instance)?)).await
    }

    async fn fence(&self, op: &Op, instance: &Instance, grace: Duration) -> Result<()> {
        let (op, instance) = (op.clone(), instance.clone());
        self.act("fence", move |site| {
            let _turn = site.register.turn(&op, &instance.machine)?;
            let home = site.home_of(&instance)?;
            site.halt(&op, &home, grace, "fenced")
        })
        .await
    }

    async fn unfence(
        &self,
        op: &Op,
        instance: &Instance,
        permit: BootPermit,
        start: Start,
    ) -> Result<Lifted> {
        let (op, instance) = (op.clone(), instance.clone());
        self.act("unfence", move |site| {
            permit.admits(&op, &instance, Purpose::Failover)?;
            let _turn = site.register.turn(&op, &instance.machine)?;
            let home = site.home_of(&instance)?;
            site.settle_request(&home)?;
            let ran_before = home.fence_mark()?.is_some_and(|f| f.ran_before);
            let running = if start == Start::Run || start == Start::AsBefore && ran_before {
                site.ignite(&op, &home, None)?
            } else {
                site.lift(&op, &home)?
            };
            Ok(Lifted { running })
        })
        .await
    }
}

/// The bitmaps of one disk that together say what changed.
struct Wanted {
    disk: DiskId,
    socket: PathBuf,
    export: String,
    bitmaps: Vec<String>,
}

impl Wanted {
    async fn changed(&self) -> Result<ChangeSet> {
        let address = Address::Unix(self.socket.clone());
        let mut disk = RemoteDisk::builder(address, &self.export).connections(1);
        for bitmap in &self.bitmaps {
            disk = disk.bitmap(bitmap);
        }
        let (disk, mut all) = (disk.connect().await?, ChangeSet::default());
        for bitmap in &self.bitmaps {
            all = all.union(&disk.changed(bitmap, &self.disk).await?);
        }
        Ok(all)
    }
}

impl Site {
    /// Which bitmaps say what changed since a cursor, or why none do.
    fn wanted(
        &self,
        capture: &Capture,
        machine: &MachineId,
        since: &Cursor,
    ) -> Result<std::result::Result<Vec<Wanted>, String>> {
        let member = capture.member(machine)?;
        let lost = |why: &str| Ok(Err(why.to_owned()));
        let Some(until) = &member.cursor else { return lost("the capture carries no cursor") };
        let (Some((until_at, until_link)), Some((from, link))) = (Position::of(until), Position::of(since))
        else {
            return lost("the cursor is none of this site");
        };
        if since.generation != until.generation || link.generation != until_link.generation {
            return lost("the cursor is of another generation");
        }
        if from.machine != *machine {
            return lost("the cursor is of another machine");
        }
        if from.sizes != until_at.sizes {
            return lost("a disk was added, taken out, or has another size");
        }
        let home = self.home_of(&member.machine.instance)?;
        let tag = tag(&OpKey(capture.cut.0.clone()), machine);
        let Some(taken) = self.taken(&home, &tag)? else {
            return Err(not_found(format!("the capture of {} was released or swept", home.name)));
        };
        if from.bitmap == until_at.bitmap {
            return Ok(Ok(vec![]));
        }
        let at = taken.older.iter().position(|b| *b == from.bitmap);
        let Some(at) = at else {
            return lost(
                "the bitmap of the cursor is gone or was not kept whole: the machine or its host stopped hard",
            );
        };
        let bitmaps = taken.older[at..].to_vec();
        let places =
            bitmaps.iter().chain([&until_at.bitmap]).map(|b| b.parse::<Link>().ok().map(|l| l.place));
        if places.zip(link.place..).any(|(found, wanted)| found != Some(wanted)) {
            return lost("a bitmap between the cursor and the capture is gone");
        }
        let exported = self.exported(capture, machine)?.into_iter();
        let wanted = |(disk, socket, export)| Wanted { disk, socket, export, bitmaps: bitmaps.clone() };
        Ok(Ok(exported.map(wanted).collect()))
    }

    /// Where the disks of a member are read.
    fn exported(&self, capture: &Capture, machine: &MachineId) -> Result<Vec<(DiskId, PathBuf, String)>> {
        let member = capture.member(machine)?;
        let home = self.home_of(&member.machine.instance)?;
        let tag = tag(&OpKey(capture.cut.0.clone()), machine);
        let taken = self.taken(&home, &tag)?.filter(|t| !t.released);
        let Some(taken) = taken else {
            return Err(not_found(format!("the capture of {} was released or swept", home.name)));
        };
        if !self.is_served(&home, &tag, &taken)? {
            return Err(not_found(format!("the capture of {} ended with its process", home.name)));
        }
        let place = self.place(&home)?;
        let socket = if taken.live { place.exports() } else { place.storage_exports() };
        let known = self.known(home)?;
        let of = |held: &crate::known::Held| (held.spec.id.clone(), socket.clone(), export(&tag, held.n));
        let taken_disk = |held: &&crate::known::Held| taken.below.contains_key(&held.n);
        Ok(known.disks.iter().filter(taken_disk).map(of).collect())
    }

    fn drop_tracking(&self, home: &Home) -> Result<()> {
        self.drop_bitmaps(home, |_| true)?;
        self.end_idle_store(home)
    }

    fn drop_bitmaps(&self, home: &Home, goes: impl Fn(&crate::tracking::Link) -> bool) -> Result<()> {
        let known = self.known_as_is(home.clone())?;
        let layer = match self.live(home)? {
            Some(layer) => Some(layer),
            None => self.stored(home)?,
        };
        let Some(mut layer): Option<Layer> = layer else {
            return self.drop_bitmaps_at_rest(&known, goes);
        };
        for held in &known.disks {
            let top = layer.top(held.n)?;
            // The oldest first, up to one in use: what is left is a whole chain.
            for link in layer.links(&top)?.iter().filter(|l| goes(l)) {
                if !layer.drop_bitmap(&top, &link.to_string())? {
                    break;
                }
            }
        }
        Ok(())
    }

    fn drop_bitmaps_at_rest(
        &self,
        known: &crate::known::Known,
        goes: impl Fn(&crate::tracking::Link) -> bool,
    ) -> Result<()> {
        for held in known.disks.iter().filter(|d| d.format == Format::Qcow2 && d.image.is_some()) {
            for link in self.image_links(&held.path)?.iter().filter(|l| goes(l)) {
                self.remove_image_bitmap(&held.path, &link.to_string())?;
            }
        }
        Ok(())
    }

    /// Removes every capture of the machine but those of `keep`, and lets a guest go on that one of them may have left held.
    pub(crate) fn sweep_captures(
        &self,
        home: &Home,
        machine: &MachineId,
        keep: &[OpKey],
    ) -> Result<Vec<OpKey>> {
        // An agent that hangs in a hook of its guest's holds up nothing else.
        let went_on = self.let_go_on(home);
        let kept: Vec<String> = keep.iter().map(|k| tag(k, machine)).collect();
        let mut gone = vec![];
        let left: Vec<String> = self.tags(home)?.into_iter().filter(|t| !kept.contains(t)).collect();
        self.end_exports(home, &left)?;
        for found in left {
            let key = self.taken(home, &found)?.map(|t| t.key);
            self.undo_capture(home, &found)?;
            gone.extend(key);
        }
        went_on.map(|()| gone)
    }
}

/// A machine that was started in one network is in no other.
fn in_network(machine: Machine, network: Option<String>) -> Machine {
    let Some(network) = network else { return machine };
    let nics = machine.nics.into_iter();
    let nics = nics.map(|n| site_recovery::Nic { network: Some(network.clone()), ..n }).collect();
    Machine { nics, ..machine }
}
