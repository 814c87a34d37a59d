//! Attaching the landing disks, writing over them, reading points back.

use super::*;

/// Landing: attaching, writing over, reading back.
impl MemoryMasterTarget {
    pub(super) async fn prepare_landing(
        &self,
        op: &Op,
        machine: &Machine,
        seed: &Seed,
        settings: &Settings,
    ) -> Result<()> {
        machine.validate()?;
        settings.validate()?;
        placeable(settings)?;
        if self.state().timelines.line(machine.id()).is_ok_and(|l| l.was_prepared(op)) {
            return Ok(());
        }
        let before = self.landing(machine.id()).ok();
        if before.as_ref().is_some_and(|l| matches!(l.handed, Handed::Over { .. })) {
            let message = format!("a promotion of {} stands on the landing disks", machine.id());
            return Err(Error::new(ErrorKind::Refused, message + ": settle it or set it aside"));
        }
        let named = match seed {
            Seed::Fresh => None,
            Seed::Known { landing, .. } | Seed::Unknown { landing } => landing.clone(),
        };
        let ours = before.clone().filter(|l| matches!(l.handed, Handed::No));
        let existing = named.clone().or(ours.as_ref().map(|l| l.instance.clone()));
        let instance = self.on.attach(&op.part("attach"), machine, existing.clone(), settings).await?;
        let stamp = self.on.stamp(&instance).await?;
        let mut state = self.state();
        let line = state.timelines.prepare(op, machine, seed)?;
        let goes_on = ours.as_ref().is_some_and(|l| l.instance.is(&instance));
        if existing.is_some() && !goes_on && !line.sealed.iter().any(|s| s.point.id == PointId(0)) {
            line.sealed.insert(0, point_zero(machine, &instance, self.clock.now()));
        }
        let landing = Landing {
            made: existing.is_none() || goes_on && ours.as_ref().is_some_and(|l| l.made),
            undo: ours.filter(|_| goes_on).map(|l| l.undo).unwrap_or_default(),
            instance,
            stamp,
            handed: Handed::No,
        };
        state.landings.insert(machine.id().clone(), landing);
        Ok(())
    }

    /// The landing, while its disks are ours.
    pub(super) fn ours(&self, machine: &MachineId) -> Result<Landing> {
        let landing = self.landing(machine)?;
        match landing.handed {
            Handed::No => Ok(landing),
            Handed::Over { .. } | Handed::Away => {
                let message = format!("the disks of {} are handed over", landing.instance.name);
                Err(Error::new(ErrorKind::Refused, message))
            }
        }
    }

    pub(super) async fn was_started(&self, landing: &Landing) -> Result<bool> {
        if !matches!(landing.handed, Handed::No) {
            return Ok(false);
        }
        Ok(self.on.stamp(&landing.instance).await? != landing.stamp)
    }

    /// Somebody started the landing machine past us: points that rest on its disks are in doubt, and only a comparison of
    /// everything ends it.
    pub(super) async fn doubt(&self, landing: &Landing, machine: &Machine, plan: &ChangeSet) -> Result<()> {
        let stamp = self.on.stamp(&landing.instance).await?;
        let mut state = self.state();
        let line = state.timelines.line(machine.id())?;
        line.close();
        line.compare_all(machine);
        for sealed in line.sealed.iter_mut().filter(|s| s.kept.whole.is_none()) {
            sealed.point.verified = false;
        }
        state.landings.get_mut(machine.id()).expect("found above").stamp = stamp;
        let whole = ChangeSet::whole(machine.included());
        if whole.disks().all(|(id, runs)| runs.iter().all(|run| plan.contains(id, *run))) {
            return Ok(());
        }
        let message = format!("{} was started past us: compare everything", landing.instance.name);
        Err(Error::new(ErrorKind::Refused, message))
    }

    /// Keeps what each block held, where this is its first write since the newest point; then writes.
    pub(super) async fn overwrite(&self, landing: &Landing, record: &Record) -> Result<()> {
        let machine = &landing.instance.machine;
        let disk = self.on.disk(&landing.instance, &record.disk).await?;
        for block in record.run.aligned(BLOCK, disk.size()).pieces(BLOCK) {
            let before = Bytes::copy_from_slice(&disk.read(block, &self.pool).await?);
            let mut state = self.state();
            let undo = &mut state.landings.get_mut(machine).expect("found before").undo;
            undo.entry((record.disk.clone(), block.start / BLOCK)).or_insert(before);
        }
        self.state().timelines.line(machine)?.touch(record);
        match record.payload {
            site_recovery::Payload::Zero => disk.zero(record.run).await?,
            _ => disk.write(record.run.start, plain(record)?).await?,
        }
        disk.flush().await
    }

    /// The landing disks as they stand.
    pub(super) async fn working(&self, landing: &Landing) -> Result<Content> {
        let specs = self.state().timelines.line(&landing.instance.machine)?.machine.clone();
        let mut content = Content::new();
        for spec in specs.included() {
            let disk = self.on.disk(&landing.instance, &spec.id).await?;
            let mut bytes = Vec::with_capacity(disk.size() as usize);
            for run in Run::new(0, disk.size()).pieces(self.pool.size() as u64) {
                bytes.extend_from_slice(&disk.read(run, &self.pool).await?);
            }
            content.insert(spec.id.clone(), Arc::new(bytes));
        }
        Ok(content)
    }

    /// The bytes of a point, cut to the sizes that it was sealed with.
    pub(super) async fn content_at(&self, machine: &MachineId, point: PointId) -> Result<Content> {
        let whole = self.state().timelines.line(machine)?.point(point)?.kept.whole.clone();
        if let Some(whole) = whole {
            return Ok(whole);
        }
        let landing = self.landing(machine)?;
        let working = match &landing.handed {
            Handed::No => self.working(&landing).await?,
            Handed::Over { below, booted: false, .. } => below.clone(),
            Handed::Over { .. } | Handed::Away => {
                let message =
                    format!("{} runs on the disks that point {point} rests on", landing.instance.name);
                return Err(Error::new(ErrorKind::Refused, message));
            }
        };
        self.rolled_back(machine, working, &landing.undo, point)
    }

    pub(super) fn rolled_back(
        &self,
        machine: &MachineId,
        mut content: Content,
        pending: &Undo,
        point: PointId,
    ) -> Result<Content> {
        let mut state = self.state();
        let line = state.timelines.line(machine)?;
        let later = line.sealed.iter().rev().take_while(|s| s.point.id > point).map(|s| &s.kept.undo);
        for ((id, block), before) in std::iter::once(pending).chain(later).flatten() {
            if let Some(bytes) = content.get_mut(id) {
                let start = (block * BLOCK) as usize;
                Arc::make_mut(bytes)[start..start + before.len()].copy_from_slice(before);
            }
        }
        if let Ok(manifest) = line.manifest(point) {
            content.retain(|id, _| manifest.machine.disk(id).is_some());
            for (id, bytes) in &mut content {
                let size = manifest.machine.disk(id).map_or(0, |d| d.size);
                Arc::make_mut(bytes).truncate(size as usize);
            }
        }
        Ok(content)
    }
}

fn point_zero(
    machine: &Machine,
    at: &Instance,
    now: site_recovery::Timestamp,
) -> crate::world::timeline::Sealed<Kept> {
    let point = Point {
        id: PointId(0),
        cut: POINT_ZERO.into(),
        members: vec![machine.id().clone()],
        taken: now,
        consistency: Consistency::Crash,
        generation: at.generation,
        pins: vec![POINT_ZERO.to_owned()],
        locked_until: None,
        verified: true,
        verified_boot: None,
    };
    crate::world::timeline::Sealed { point, manifest: None, lease: Arc::default(), kept: Kept::default() }
}
