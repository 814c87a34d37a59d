//! Opening a timeline: disks are attached, and where the next delta starts is written down.

use crate::desk::{Desk, Entered};
use crate::register;
use crate::timeline::{Chain, From, Sealed, Stage, Timeline};
use site_recovery::{
    ChangeSet, Consistency, Control, CutId, Error, ErrorKind, Instance, Item, Machine, Manifest, Op,
    POINT_ZERO, Point, PointId, Policy, Result, Seed, Settings, Stamp, UnitId,
};

impl Desk {
    pub(crate) async fn prepare(
        &self,
        op: &Op,
        machine: &Machine,
        seed: &Seed,
        settings: &Settings,
    ) -> Result<()> {
        machine.validate()?;
        self.accepts(settings)?;
        let mut line = self.enter(op, machine.id()).await?;
        if line.timeline.as_ref().is_some_and(|t| t.prepared == op.key) {
            return Ok(());
        }
        self.has_room_for(machine).await?;
        let opening = Opening::of(line.timeline.as_ref(), machine, seed)?;
        let landing = self.landing.attach(op, machine, opening.existing.clone(), settings).await?;
        line.end_handles();
        let stamp = self.landing.stamp(&landing).await?;
        if let Some(made) = &opening.abandoned {
            self.landing.remove(&op.part("abandoned"), made).await?;
        }
        let mut next = match line.timeline.clone() {
            Some(timeline) => timeline,
            None => Timeline::new(machine, &landing),
        };
        if opening.anew {
            if next.points.is_empty() {
                (next.chains, next.next_point) = (vec![], 0);
            }
            next.begin_chain();
            if let Some(point) = opening.base(&mut next) {
                let manifest = self.as_found(&mut line, op, machine, &landing).await?;
                next.points.push(point_zero(point, &manifest, &landing));
                line.blocking(move |line| line.write_manifest(point, &manifest)).await?;
            }
            next.brought |= opening.existing.is_some();
            next.stamp.clone_from(&stamp);
        }
        if next.outsider(&stamp) {
            next.doubt(stamp);
        }
        let known = line.blocking({
            let (seed, next) = (seed.clone(), next.clone());
            move |line| distance(line, &next, &seed)
        });
        let known = known.await?.filter(|_| !next.doubted && !opening.strange);
        next.seed = match seed {
            Seed::Fresh => None,
            _ => Some(known.unwrap_or(From { cursor: None, touched: ChangeSet::new() })),
        };
        next.session += 1;
        (next.open, next.landing, next.stage) = (None, landing, Stage::Landing);
        (next.machine, next.settings, next.prepared) = (machine.clone(), settings.clone(), op.key.clone());
        line.blocking(move |line| line.publish(next)).await
    }

    /// The landing as it stands, as the manifest of a point that no ingest sealed.
    async fn as_found(
        &self,
        line: &mut Entered,
        op: &Op,
        machine: &Machine,
        landing: &Instance,
    ) -> Result<Manifest> {
        let phase = line.blocking(|line| register::recall(&line.folder)).await?;
        let machine = machine.standing_as(landing.clone());
        let control = phase.map_or_else(
            || Control {
                unit: UnitId(machine.id().0.clone()),
                members: vec![machine.id().clone()],
                item: Item::new(machine.clone(), op.epoch.clone(), Policy::default(), "", ""),
            },
            |phase| phase.control,
        );
        Ok(Manifest {
            members: vec![machine.id().clone()],
            cut: CutId(format!("{POINT_ZERO}/{}", op.key)),
            taken: self.clock.now(),
            consistency: Consistency::Crash,
            cursor: None,
            sidecars: vec![],
            control,
            machine,
        })
    }
}

/// What a seed means for the timeline that is there.
struct Opening {
    existing: Option<Instance>,
    /// Whether the distance to every earlier point is unknown from here on.
    anew: bool,
    /// Whether the seed speaks of a point that has no known distance to these disks.
    strange: bool,
    /// A landing that we made and leave.
    abandoned: Option<Instance>,
}

impl Opening {
    fn of(timeline: Option<&Timeline>, machine: &Machine, seed: &Seed) -> Result<Self> {
        let (at, named) = match seed {
            Seed::Fresh => (None, None),
            Seed::Known { at, landing, .. } => (*at, landing.clone()),
            Seed::Unknown { landing } => (None, landing.clone()),
        };
        let Some(timeline) = timeline else {
            return match at {
                Some(at) => {
                    Err(Error::new(ErrorKind::NotFound, format!("there is no point {at} to start from")))
                }
                None => Ok(Self { existing: named, anew: true, strange: false, abandoned: None }),
            };
        };
        timeline.fits(machine)?;
        if timeline.handed_over().is_some() {
            let message =
                format!("{} stands on these disks; settle it or set it aside first", timeline.landing.name);
            return Err(Error::new(ErrorKind::Refused, message));
        }
        if *seed == Seed::Fresh && !timeline.points.is_empty() {
            let message = "the timeline has points; start from a known or unknown state, or delete it first";
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        if let Some(at) = at.filter(|at| at.0 >= timeline.next_point) {
            return Err(Error::new(ErrorKind::NotFound, format!("there is no point {at} to start from")));
        }
        let released = matches!(timeline.stage, Stage::Released(_));
        let moved = named.as_ref().is_some_and(|n| !n.is(&timeline.landing));
        if moved && timeline.points.iter().any(|s| s.whole.is_none()) {
            let message = format!(
                "points rest on the disks of {}; land there, or delete the timeline",
                timeline.landing.name
            );
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        let anew = released || moved;
        Ok(Self {
            existing: named.or_else(|| Some(timeline.landing.clone())),
            anew,
            strange: at.is_some() && anew,
            abandoned: (moved && !released && !timeline.brought).then(|| timeline.landing.clone()),
        })
    }

    /// The number of the point that keeps the disks as they were found, where there was anything to find.
    fn base(&self, next: &mut Timeline) -> Option<PointId> {
        self.existing.as_ref()?;
        next.next_point += 1;
        Some(PointId(next.next_point - 1))
    }
}

impl Timeline {
    fn new(machine: &Machine, landing: &Instance) -> Self {
        Self {
            machine: machine.clone(),
            settings: Settings::default(),
            prepared: "".into(),
            landing: landing.clone(),
            brought: false,
            stamp: None,
            doubted: false,
            stage: Stage::Landing,
            next_point: 0,
            next_file: 0,
            session: 0,
            points: vec![],
            chains: vec![],
            pending: 0,
            seed: None,
            open: None,
            kept: vec![],
        }
    }

    fn begin_chain(&mut self) {
        self.chains.push(Chain { first: PointId(self.next_point), links: vec![] });
        self.pending = self.file();
        self.doubted = false;
        for sealed in &mut self.points {
            sealed.undo = false;
        }
    }

    /// Whether the landing disks are in other hands since we had them, as far as the site can tell.
    pub(crate) fn outsider(&self, stamp: &Option<Stamp>) -> bool {
        *stamp != self.stamp
    }

    /// A disk may grow, never shrink.
    pub(crate) fn fits(&self, machine: &Machine) -> Result<()> {
        for disk in machine.included() {
            if let Some(known) = self.machine.disk(&disk.id).filter(|known| disk.size < known.size) {
                let rule = format!("the timeline has it with {} bytes, and disks only grow", known.size);
                let remedy = "delete the timeline and start anew";
                return Err(Error::invalid("disk.size", disk.size, &rule, remedy).with("disk", &disk.id));
            }
        }
        Ok(())
    }
}

fn point_zero(id: PointId, manifest: &Manifest, landing: &Instance) -> Sealed {
    let point = Point {
        id,
        cut: manifest.cut.clone(),
        members: manifest.members.clone(),
        taken: manifest.taken,
        consistency: manifest.consistency,
        generation: landing.generation,
        pins: vec![POINT_ZERO.into()],
        locked_until: None,
        verified: true,
        verified_boot: None,
    };
    Sealed { point, whole: None, undo: true }
}

/// The seed's distance, counted to where the working copy stands; none where it is unknown.
fn distance(line: &crate::line::Line, timeline: &Timeline, seed: &Seed) -> Result<Option<From>> {
    let Seed::Known { at, cursor, differs, .. } = seed else { return Ok(None) };
    let mut touched = differs.clone();
    if let (Some(at), Some(newest)) = (at, timeline.newest()) {
        let Some(links) = timeline.between(Some(*at), newest) else { return Ok(None) };
        for link in links {
            touched = touched.union(&line.runs(link)?);
        }
    }
    Ok(Some(From { cursor: Some(cursor.clone()), touched }))
}
