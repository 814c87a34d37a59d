//! Handing the disks over to a promotion, and taking them back.

use super::*;

/// Handing over, and taking back.
impl MemoryMasterTarget {
    pub(super) async fn hand_over(&self, op: &Op, what: &Recovery) -> Result<Armed> {
        let machine = what.machine.id();
        if self.state().withdrawn.contains(&op.key) {
            let message = format!("{} was withdrawn and makes nothing more", op.key);
            return Err(Error::new(ErrorKind::Refused, message));
        }
        let mut landing = self.landing(machine)?;
        let below = match landing.handed.clone() {
            Handed::Over { key, armed: Some(armed), .. } if key == op.key => return Ok(armed),
            Handed::Over { key, below, .. } if key == op.key => below,
            _ => self.working(&self.ours(machine)?).await?,
        };
        self.state().timelines.line(machine)?.point(what.point)?;
        let key = op.key.clone();
        landing.handed = Handed::Over { key, below: below.clone(), armed: None, booted: false };
        {
            let mut state = self.state();
            state.timelines.line(machine)?.close();
            state.landings.insert(machine.clone(), landing.clone());
        }
        if self.on.capability().branches {
            self.on.branch(&op.part("branch"), &landing.instance).await?;
        }
        let point = self.content_at(machine, what.point).await?;
        self.write_content(&landing.instance, &point).await?;
        let armed = self.on.arm(&op.part("arm"), &landing.instance, what.generation).await?;
        let armed = Armed { point: what.point, ..armed };
        landing.instance = armed.instance.clone();
        let key = op.key.clone();
        landing.handed = Handed::Over { key, below, armed: Some(armed.clone()), booted: false };
        self.state().landings.insert(machine.clone(), landing);
        Ok(armed)
    }

    /// Writes every block that differs.
    pub(super) async fn write_content(&self, instance: &Instance, content: &Content) -> Result<()> {
        for (id, bytes) in content {
            let disk = self.on.disk(instance, id).await?;
            for run in Run::new(0, bytes.len() as u64).pieces(BLOCK) {
                let wanted = &bytes[run.start as usize..run.end() as usize];
                if disk.read(run, &self.pool).await? != wanted {
                    disk.write(run.start, Bytes::copy_from_slice(wanted)).await?;
                }
            }
            disk.flush().await?;
        }
        Ok(())
    }

    pub(super) async fn take_back(&self, op: &Op, made_by: &OpKey, machine: &MachineId) -> Result<()> {
        let handed = self.landing(machine).ok();
        let ours = handed.and_then(|l| match l.handed {
            Handed::Over { key, below, booted, .. } if &key == made_by => Some((l.instance, below, booted)),
            _ => None,
        });
        if let Some((instance, below, booted)) = ours {
            if booted {
                let message = format!("{} was booted: undo it", instance.name);
                return Err(Error::new(ErrorKind::Refused, message));
            }
            if self.on.capability().branches {
                match self.on.part(&op.part("part"), &instance).await {
                    Ok(above) => self.on.remove(&op.part("remove"), &above).await?,
                    // The branch was never made, so nothing was written above one.
                    Err(e) if e.kind() == ErrorKind::Refused => {}
                    Err(e) => return Err(e),
                }
            } else {
                self.write_content(&instance, &below).await?;
            }
            self.stand_again(op, &instance).await?;
        }
        self.state().withdrawn.insert(made_by.clone());
        Ok(())
    }

    /// The landing disks are as before the hand-over, and ours again.
    pub(super) async fn stand_again(&self, op: &Op, instance: &Instance) -> Result<()> {
        let machine = self.state().timelines.line(&instance.machine)?.machine.clone();
        let settings = Settings::default();
        let instance =
            self.on.attach(&op.part("attach"), &machine, Some(instance.clone()), &settings).await?;
        let mut state = self.state();
        let landing = state.landings.get_mut(machine.id()).expect("handed over before");
        (landing.instance, landing.handed) = (instance, Handed::No);
        Ok(())
    }

    /// Checks that a promotion stands on the landing disks as this instance.
    pub(super) fn promoted(&self, instance: &Instance, f: impl FnOnce(&mut bool)) -> Result<()> {
        let mut state = self.state();
        let landing = state.landings.get_mut(&instance.machine).filter(|l| l.instance.is(instance));
        match landing.map(|l| &mut l.handed) {
            Some(Handed::Over { booted, armed: Some(_), .. }) => {
                f(booted);
                Ok(())
            }
            _ => {
                let message = format!("{} is not a promotion of this master target", instance.name);
                Err(Error::new(ErrorKind::NotFound, message))
            }
        }
    }

    pub(super) fn write_out_pinned(&self, machine: &MachineId) -> Result<()> {
        let landing = self.landing(machine)?;
        let Handed::Over { below, .. } = &landing.handed else { return Ok(()) };
        let pinned: Vec<PointId> = {
            let points = self.state().timelines.points(machine);
            points.iter().filter(|p| !p.pins.is_empty()).map(|p| p.id).collect()
        };
        for id in pinned {
            let content = self.rolled_back(machine, below.clone(), &landing.undo, id)?;
            let mut state = self.state();
            let kept = &mut state.timelines.line(machine)?.point(id)?.kept;
            kept.whole.get_or_insert(content);
        }
        Ok(())
    }

    /// Before a timeline is forgotten: the disks go back as they are; where nothing was sealed, as they were.
    pub(super) async fn give_back(&self, op: &Op, machine: &MachineId) -> Result<()> {
        let Ok(landing) = self.landing(machine) else { return Ok(()) };
        match &landing.handed {
            Handed::Away => return Ok(()),
            Handed::Over { .. } => {
                let message = format!("a promotion of {machine} stands on the landing disks");
                return Err(Error::new(ErrorKind::Refused, message + ": settle it or set it aside"));
            }
            Handed::No => {}
        }
        if !self.state().timelines.line(machine)?.is_sealed() {
            for ((id, block), before) in &landing.undo {
                let disk = self.on.disk(&landing.instance, id).await?;
                disk.write(block * BLOCK, before.clone()).await?;
                disk.flush().await?;
            }
        }
        self.on.detach(&op.part("detach"), &landing.instance).await?;
        if landing.made {
            self.on.remove(&op.part("remove"), &landing.instance).await?;
        }
        Ok(())
    }
}
