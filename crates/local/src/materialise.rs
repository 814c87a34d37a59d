//! Brings the disks of a point into being: streamed into files beside the site's machines, armed, then put in place.

use crate::home::{Home, How, Known, Made};
use crate::making::Begun;
use crate::rules::{self, recovered};
use crate::{LocalSite, copies};
use bytes::Bytes;
use site_recovery::{
    Armed, Disk, DiskSpec, Disks, ErrorKind, Fill, Finding, Instance, Op, Pool, Recovery, Replica, Result,
    Run,
};
use site_recovery_register::durable;
use site_recovery_register::{Told, conflict};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Bytes read at a time.
const PIECE: u64 = 1 << 20;
/// Bytes written under one look at the register.
const BATCH: u64 = 8 << 20;
/// How much of a disk is mapped at a time.
const WINDOW: u64 = 1 << 30;

impl LocalSite {
    pub(crate) async fn materialise_streamed(
        &self,
        op: &Op,
        what: &Recovery,
        from: &Arc<dyn Replica>,
    ) -> Result<Armed> {
        let draft = match self.begin_streamed(op, what).await? {
            Begun::New(draft) => draft,
            Begun::Already(home, instance) => return self.armed_before(home, instance).await,
        };
        let disks = from.open(what.machine.id(), what.point).await?;
        must_match(&what.machine.disks, &disks).map_err(|e| e.at(&self.0.name, "materialise"))?;
        self.must_fit(&disks).await?;
        let description = rules::describe(&what.machine, &what.settings, &what.sidecars);
        for described in &description.disks {
            let disk = &disks[&described.id.as_str().into()];
            self.stream(op, what, &draft, &described.file, disk).await?;
        }
        let (op, what) = (op.clone(), what.clone());
        self.act("materialise", move |site| {
            let _turn = site.register.turn(&op, what.machine.id())?;
            site.still_making(&op.key, &draft)?;
            for described in &description.disks {
                let path = draft.dir.join(&described.file);
                File::open(&path).and_then(|f| f.sync_all()).told("sync", &path)?;
            }
            rules::write_sidecars(&draft.dir, &what.sidecars)?;
            durable::write(&draft.dir.join(crate::description::FILE), &description)?;
            let instance = Instance {
                machine: what.machine.id().clone(),
                site: site.name.clone(),
                name: draft.name.clone(),
                generation: what.generation,
            };
            let machine = recovered(&what, instance);
            let made = Made { by: op.key.clone(), how: How::Materialised };
            let known = Known::read(draft.clone())?;
            let mut mark = known.mark_as(&machine, Some(made))?;
            let armed = site.arm_tracking(&op.key, &known, machine.id(), what.generation, what.point)?;
            mark.armed = Some(armed);
            let home = site.finish_making(&op, &draft, &description, &mark, "prepared, never booted")?;
            let armed = site.armed(&home, &mark);
            Ok(armed.expect("it was armed just now"))
        })
        .await
    }

    async fn begin_streamed(&self, op: &Op, what: &Recovery) -> Result<Begun> {
        let (op, what) = (op.clone(), what.clone());
        self.act("materialise", move |site| {
            Finding::refuse_critical(
                &site.check_settings(&what.machine, &what.settings),
                ErrorKind::Invalid,
            )?;
            let name = what.settings.name_for(&what.machine, what.purpose);
            let _turn = site.register.turn(&op, what.machine.id())?;
            site.begin_making(&op, what.machine.id(), &name)
        })
        .await
    }

    async fn armed_before(&self, home: Home, instance: Instance) -> Result<Armed> {
        self.act("materialise", move |site| {
            let mark = home.marked()?;
            let armed = site.armed(&home, &mark);
            let armed =
                armed.ok_or_else(|| conflict(format!("{} was made, but not from a point", home.name)))?;
            Ok(Armed { instance: Instance { generation: armed.instance.generation, ..instance }, ..armed })
        })
        .await
    }

    async fn must_fit(&self, disks: &Disks) -> Result<()> {
        let mut need = 0;
        for disk in disks.values() {
            for window in Run::new(0, disk.size()).pieces(WINDOW) {
                let extents = disk.extents(window).await?;
                need += extents.iter().filter(|e| e.fill == Fill::Data).map(|e| e.run.len).sum::<u64>();
            }
        }
        self.act("materialise", move |site| copies::must_fit(&site.root, need)).await
    }

    /// Writes one disk of the point into a new sparse file.
    async fn stream(
        &self,
        op: &Op,
        what: &Recovery,
        draft: &Home,
        file: &str,
        disk: &Arc<dyn Disk>,
    ) -> Result<()> {
        let (path, size) = (draft.dir.join(file), disk.size());
        let (make_op, make_draft, machine) = (op.clone(), draft.clone(), what.machine.id().clone());
        let file = self.act("materialise", move |site| {
            let _turn = site.register.turn(&make_op, &machine)?;
            site.still_making(&make_op.key, &make_draft)?;
            let file = File::create(&path).told("make", &path)?;
            file.set_len(size).told("size", &path)?;
            Ok(Arc::new(file))
        });
        let file = file.await?;
        let pool = Pool::new((BATCH + PIECE) as usize);
        let mut batch: Vec<(u64, Bytes)> = vec![];
        let mut bytes = 0;
        for window in Run::new(0, size).pieces(WINDOW) {
            for extent in disk.extents(window).await?.iter().filter(|e| e.fill == Fill::Data) {
                for piece in extent.run.pieces(PIECE) {
                    batch.push((piece.start, disk.read(piece, &pool).await?));
                    bytes += piece.len;
                    if bytes >= BATCH - PIECE {
                        self.put(op, what, draft, &file, std::mem::take(&mut batch)).await?;
                        bytes = 0;
                    }
                }
            }
        }
        self.put(op, what, draft, &file, batch).await
    }

    async fn put(
        &self,
        op: &Op,
        what: &Recovery,
        draft: &Home,
        file: &Arc<File>,
        batch: Vec<(u64, Bytes)>,
    ) -> Result<()> {
        let (op, machine, draft) = (op.clone(), what.machine.id().clone(), draft.clone());
        let file = Arc::clone(file);
        self.act("materialise", move |site| {
            let _turn = site.register.turn(&op, &machine)?;
            site.still_making(&op.key, &draft)?;
            for (at, bytes) in batch.iter().filter(|(_, b)| b.iter().any(|b| *b != 0)) {
                file.write_all_at(bytes, *at).told("write a disk in", &site.root)?;
            }
            Ok(())
        })
        .await
    }
}

fn must_match(specs: &[DiskSpec], disks: &Disks) -> Result<()> {
    for spec in specs.iter().filter(|d| d.included) {
        let size = disks.get(&spec.id).map(|d| d.size());
        if size != Some(spec.size) {
            let found = size.map_or("no such disk".to_owned(), |s| format!("{s} bytes"));
            let message =
                format!("the point has {found} for disk {}, its manifest {} bytes", spec.id, spec.size);
            return Err(site_recovery::Error::new(ErrorKind::Corrupt, message));
        }
    }
    Ok(())
}
