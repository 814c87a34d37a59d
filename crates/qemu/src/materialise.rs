//! Brings a machine into being from a point: images that stand on it and hold what differs, tracked from the first write.

use crate::deadline::Deadline;
use crate::home::Home;
use crate::hydrate::Hydrated;
use crate::known::Known;
use crate::making::Begun;
use crate::mark::{ArmedBy, How, Made};
use crate::place::short;
use crate::rules::{describe, recovered};
use crate::sidecars::Kind;
use crate::stacks::point_export;
use crate::tracking::{Link, Position, tag};
use crate::{QemuSite, Restore, Site};
use site_recovery::{
    Armed, Disks, Error, ErrorKind, Finding, Instance, Op, PointId, Recovery, Replica, Result,
};
use site_recovery_nbd::Address;
use site_recovery_register::conflict;
use std::sync::Arc;
use std::time::Duration;

/// How often a restore that goes on is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// How long a restore may stand still.
const STILL: Duration = Duration::from_secs(300);

impl QemuSite {
    pub(crate) async fn materialise_overlay(
        &self,
        op: &Op,
        what: &Recovery,
        from: &Arc<dyn Replica>,
    ) -> Result<Armed> {
        let (key, recovery) = (op.clone(), what.clone());
        let begun = self.act("materialise", move |site| {
            Finding::refuse_critical(
                &site.check_settings(&recovery.machine, &recovery.settings),
                ErrorKind::Invalid,
            )?;
            let name = recovery.settings.name_for(&recovery.machine, recovery.purpose);
            let _turn = site.register.turn(&key, recovery.machine.id())?;
            site.begin_making(&key, recovery.machine.id(), &name)
        });
        let armed = match begun.await? {
            Begun::New(draft) => self.make(op, what, draft, from).await?,
            Begun::Already(home, instance) => self.made_before(op, home, instance, from).await?,
        };
        if self.0.options.restore == Restore::First {
            self.restore(op, &armed).await?;
        }
        Ok(armed)
    }

    async fn make(&self, op: &Op, what: &Recovery, draft: Home, from: &Arc<dyn Replica>) -> Result<Armed> {
        let disks = from.open(what.machine.id(), what.point).await?;
        must_match(what, &disks).map_err(|e| e.at(&self.0.name, "materialise"))?;
        let (op, what) = (op.clone(), what.clone());
        self.act("materialise", move |site| {
            let _turn = site.register.turn(&op, what.machine.id())?;
            // Before the point is served: what another call of this key goes on with is that one's.
            site.still_making(&op.key, &draft)?;
            let place = site.place_called(&short(op.key.as_str()));
            let made =
                site.serve(&place, what.point, disks).and_then(|()| site.make_overlays(&op, &what, &draft));
            // What was not made needs no point.
            made.inspect_err(|_| site.stop_serving(&place))
        })
        .await
    }

    /// What this key has made, its point served again.
    async fn made_before(
        &self,
        op: &Op,
        home: Home,
        instance: Instance,
        from: &Arc<dyn Replica>,
    ) -> Result<Armed> {
        let (machine, there) = (instance.machine.clone(), home.clone());
        let found = self.act("materialise", move |site| {
            let known = site.known(there)?;
            let mark = known.home.marked()?;
            let armed = site.armed(&known.home, &mark);
            let armed = armed
                .ok_or_else(|| conflict(format!("{} was made, but not from a point", known.home.name)))?;
            Ok((Site::needs_point(&known) && !site.serves(&site.place(&known.home)?), armed))
        });
        let (needs, armed) = found.await?;
        if needs {
            let disks = from.open(&machine, armed.point).await?;
            let (op, point) = (op.clone(), armed.point);
            self.act("materialise", move |site| {
                let _turn = site.register.turn(&op, &machine)?;
                site.serve(&site.place(&home)?, point, disks)?;
                site.connect_anew(&home)
            })
            .await?;
        }
        Ok(Armed { instance: Instance { generation: armed.instance.generation, ..instance }, ..armed })
    }

    /// Copies everything before anything boots.
    async fn restore(&self, op: &Op, armed: &Armed) -> Result<()> {
        let (mut before, mut stands) = (None, Deadline::after(STILL));
        loop {
            let (op, instance) = (op.clone(), armed.instance.clone());
            let step = self.act("materialise", move |site| {
                let _turn = site.register.turn(&op, &instance.machine)?;
                let home = site.home_of(&instance)?;
                if site.process(&home)?.is_some() {
                    return Ok(Hydrated::Whole);
                }
                let step = site.hydrate(&home)?;
                if step == Hydrated::Whole {
                    site.end_store(&home)?;
                    site.stop_serving(&site.place(&home)?);
                }
                Ok(step)
            });
            let step = step.await?;
            match step {
                Hydrated::Whole => return Ok(()),
                _ if before != Some(step) => (before, stands) = (Some(step), Deadline::after(STILL)),
                _ if stands.is_over() => {
                    let message = format!(
                        "nothing of {} was copied for {} s: its point is not read, or its image not written",
                        armed.instance.name,
                        STILL.as_secs()
                    );
                    return Err(Error::new(ErrorKind::Unavailable, message).at(&self.0.name, "materialise"));
                }
                Hydrated::Partly { .. } => {}
            }
            self.0.clock.sleep(LOOK).await;
        }
    }
}

impl Site {
    fn make_overlays(&self, op: &Op, what: &Recovery, draft: &Home) -> Result<Armed> {
        let place = self.place_called(&short(op.key.as_str()));
        let description = describe(&what.machine, &what.settings, Kind::of(&what.sidecars));
        let link = Link { generation: what.generation.0, place: 1, capture: tag(&op.key, what.machine.id()) };
        for (described, spec) in description.disks.iter().zip(what.machine.included()) {
            let path = draft.images().join(&described.file);
            let uri = Address::Unix(place.point()).uri(&point_export(&spec.id, what.point));
            self.make_overlay(&path, &uri, crate::description::Format::Raw, spec.size)?;
            self.add_image_bitmap(&path, &link.to_string())?;
        }
        self.write_sidecars(draft, &description, &what.sidecars)?;
        site_recovery_register::durable::write(&draft.dir.join(crate::description::FILE), &description)?;
        let known = self.known(draft.clone())?;
        let mut mark = self.fresh_mark(&known, op, what)?;
        let position = Position {
            machine: what.machine.id().clone(),
            bitmap: link.to_string(),
            sizes: what.machine.included().map(|d| (d.id.clone(), d.size)).collect(),
        };
        mark.armed = Some(ArmedBy {
            key: op.key.clone(),
            cursor: Some(position.cursor(what.generation)),
            generation: what.generation,
            point: what.point,
        });
        let home = self.finish_making(op, draft, &description, &mark, "prepared, never booted")?;
        Ok(self.armed(&home, &mark).expect("it was armed just now"))
    }

    fn fresh_mark(&self, known: &Known, op: &Op, what: &Recovery) -> Result<crate::mark::Mark> {
        let instance = Instance {
            machine: what.machine.id().clone(),
            site: self.name.clone(),
            name: known.home.name.clone(),
            generation: what.generation,
        };
        let made = Made { by: op.key.clone(), how: How::Materialised };
        known.mark_as(&recovered(what, instance), Some(made))
    }
}

fn must_match(what: &Recovery, disks: &Disks) -> Result<()> {
    for spec in what.machine.included() {
        let Some(disk) = disks.get(&spec.id) else {
            return Err(conflict(format!("point {} has no disk {}", what.point.0, spec.id)));
        };
        if disk.size() != spec.size {
            let rule = format!("the manifest says {} bytes", spec.size);
            return Err(Error::invalid("disk.size", disk.size(), &rule, "choose another point"));
        }
    }
    Ok(())
}

/// The point that a machine's images stand on, by its mark.
pub(crate) fn point_of(known: &Known) -> Option<PointId> {
    known.mark.as_ref().and_then(|m| m.armed.as_ref()).map(|a| a.point)
}
