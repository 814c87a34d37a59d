//! The site as a target.

use crate::home::Home;
use crate::hydrate::Hydrated;
use crate::mark::{How, Mark};
use crate::materialise::point_of;
use crate::network::ISOLATED;
use crate::place::short;
use crate::{QemuSite, Site};
use async_trait::async_trait;
use site_recovery::{
    Armed, BootPermit, Booted, Disks, Finding, Instance, Machine, Op, OpKey, PointId, Purpose, Recovery,
    RecoverySite, Replica, Result, Settings, Target,
};
use site_recovery_register::{conflict, durable, not_found, refused};
use std::sync::Arc;
use std::time::Duration;

/// How long QEMU may take to find the server of a point again: it waits for up to 16 s between two attempts. Source: QEMU,
/// `nbd/client-connection.c`.
const FOUND: Duration = Duration::from_secs(20);
/// How long a guest that an error of another kind has paused is looked at.
const AGAIN: Duration = Duration::from_secs(1);

#[async_trait]
impl RecoverySite for QemuSite {
    async fn check(&self, machine: &Machine, settings: &Settings) -> Result<Vec<Finding>> {
        let (machine, settings) = (machine.clone(), settings.clone());
        self.act("check", move |site| {
            let mut found = site.check_settings(&machine, &settings);
            for purpose in [Purpose::Failover, Purpose::Drill] {
                let name = settings.name_for(&machine, purpose);
                if site.root.join(&name).exists() && !site.is_made_of(&name, machine.id()) {
                    let rule = format!("it is taken in {}", site.root.display());
                    let remedy = "choose another, or remove that machine";
                    found.push(Finding::setting("name", &name, &rule, remedy));
                }
            }
            found.extend(site.check_space(&machine)?);
            Ok(found)
        })
        .await
    }

    async fn materialise(&self, op: &Op, what: &Recovery, from: &Arc<dyn Replica>) -> Result<Armed> {
        self.materialise_overlay(op, what, from).await
    }

    async fn withdraw(&self, op: &Op, made_by: &OpKey, what: &Recovery) -> Result<()> {
        let (op, made_by, what) = (op.clone(), made_by.clone(), what.clone());
        self.act("withdraw", move |site| {
            let _turn = site.register.turn(&op, what.machine.id())?;
            let made = site.made(&made_by)?;
            if made.is_none() {
                site.must_be_gone(&made_by)?;
            }
            if let Some((home, mark)) = &made {
                if !mark.made.as_ref().is_some_and(|m| m.how == How::Materialised) {
                    return Err(refused(format!("{} was not made from a point by this key", home.name)));
                }
                if mark.machine != *what.machine.id() {
                    return Err(conflict(format!("{made_by} has made {}, another machine", home.name)));
                }
                if !home.state()?.done.is_empty() || site.running(home)? != Some(false) {
                    let message = format!("{} was booted: fence it and set it aside instead", home.name);
                    return Err(refused(message));
                }
            }
            site.withdraw_key(&made_by)?;
            site.stop_serving(&site.place_called(&short(made_by.as_str())));
            match made {
                Some((home, mark)) => {
                    site.remove_made(&op, &site.instance(&home, &mark), &[How::Materialised])
                }
                None => Ok(()),
            }
        })
        .await
    }

    async fn boot(&self, op: &Op, what: &Recovery, armed: &Armed, permit: BootPermit) -> Result<Booted> {
        let (op, machine, instance) = (op.clone(), what.machine.id().clone(), armed.instance.clone());
        let purpose = what.purpose;
        self.act("boot", move |site| {
            if machine != instance.machine {
                return Err(refused(format!("{} is no machine of {machine}", instance.name)));
            }
            site.boot(&op, &instance, purpose, permit)
        })
        .await
    }

    async fn tend(&self, op: &Op, armed: &Armed, from: &Arc<dyn Replica>) -> Result<()> {
        let (turn, instance) = (op.clone(), armed.instance.clone());
        let needs = self.act("tend", move |site| {
            let _turn = site.register.turn(&turn, &instance.machine)?;
            let Some(home) = site.home_if_there(&instance)? else { return Ok(None) };
            let known = site.known(home)?;
            let served = site.serves(&site.place(&known.home)?);
            Ok(point_of(&known).filter(|_| Site::needs_point(&known) && !served))
        });
        let opened = match needs.await? {
            Some(point) => {
                let disks = from.open(&armed.instance.machine, point).await;
                Some((point, disks.map_err(|e| e.at(&self.0.name, "tend"))?))
            }
            None => None,
        };
        let (op, instance) = (op.clone(), armed.instance.clone());
        self.act("tend", move |site| {
            let _turn = site.register.turn(&op, &instance.machine)?;
            let Some(home) = site.home_if_there(&instance)? else { return Ok(()) };
            site.tend_here(&home, opened)
        })
        .await
    }

    async fn settle(&self, op: &Op, armed: &Armed) -> Result<()> {
        let (op, instance) = (op.clone(), armed.instance.clone());
        self.act("settle", move |site| {
            let _turn = site.register.turn(&op, &instance.machine)?;
            let home = site.home_of(&instance)?;
            let mark = home.marked()?;
            site.hydrate(&home)?.must_be_whole(&home)?;
            if site.process(&home)?.is_none() {
                site.end_store(&home)?;
            }
            site.stop_serving(&site.place(&home)?);
            home.set_mark(&Mark { settled: true, ..mark })
        })
        .await
    }

    async fn set_aside(&self, op: &Op, instance: &Instance) -> Result<Instance> {
        let (op, instance) = (op.clone(), instance.clone());
        self.act("set aside", move |site| {
            let _turn = site.register.turn(&op, &instance.machine)?;
            site.move_aside(&op, &instance)
        })
        .await
    }

    async fn destroy(&self, op: &Op, instance: &Instance) -> Result<()> {
        let (op, instance) = (op.clone(), instance.clone());
        self.act("destroy", move |site| {
            let _turn = site.register.turn(&op, &instance.machine)?;
            site.remove_made(&op, &instance, &[How::Materialised])
        })
        .await
    }
}

#[async_trait]
impl Target for QemuSite {
    async fn propose(&self, machine: &Machine) -> Result<Settings> {
        let machine = machine.clone();
        self.act("propose", move |site| {
            let base = machine.proper_name();
            let free = |name: &String| {
                !site.root.join(name).exists() && !site.root.join(format!("{name}-test")).exists()
            };
            let mut names = std::iter::once(base.clone()).chain((2_u64..).map(|n| format!("{base}-{n}")));
            let name = names.find(free).expect("there is always another number");
            let known = |n: &&String| site.options.networks.contains_key(*n);
            let network = machine.nics.iter().filter_map(|n| n.network.as_ref()).find(known).cloned();
            let apart =
                |(name, n): &(&String, &crate::Network)| n.isolated && Some(*name) != network.as_ref();
            let test = site.options.networks.iter().find(apart).map(|(name, _)| name.clone());
            Ok(Settings {
                name: Some(name),
                network,
                test_network: Some(test.unwrap_or_else(|| ISOLATED.into())),
                ..Settings::default()
            })
        })
        .await
    }
}

impl Site {
    /// Starts a machine with a permit, in the permit's network.
    pub(crate) fn boot(
        &self,
        op: &Op,
        instance: &Instance,
        purpose: Purpose,
        permit: BootPermit,
    ) -> Result<Booted> {
        permit.admits(op, instance, purpose)?;
        let _turn = self.register.turn(op, &instance.machine)?;
        let home = self.home_of(instance)?;
        let network = match permit {
            BootPermit::Isolated { network } => Some(network),
            _ => None,
        };
        let running = self.ignite(op, &home, network)?;
        let addresses = home.description()?.nics.into_iter().flat_map(|n| n.addresses);
        let reach = std::iter::once(home.dir.display().to_string()).chain(addresses).collect();
        Ok(Booted { reach, running })
    }

    /// Serves the point that was opened for it, where it still needs that one, lets its guest go on, and hydrates it.
    fn tend_here(&self, home: &Home, opened: Option<(PointId, Disks)>) -> Result<()> {
        let (known, place) = (self.known(home.clone())?, self.place(home)?);
        let stands_on_point = Self::needs_point(&known);
        let opened = opened.filter(|o| stands_on_point && point_of(&known) == Some(o.0));
        let mut failed = opened.is_none();
        if let Some((point, disks)) = opened {
            self.serve(&place, point, disks)?;
        }
        if let Some(mut layer) = self.live(home)? {
            layer.go_on_after_error(if stands_on_point { FOUND } else { AGAIN })?;
            failed &= layer.has_failed()?;
        }
        // What failed is begun again by whoever needs it whole.
        if !failed && self.hydration_is_due(home)? && self.hydrate(home)? == Hydrated::Whole {
            self.stop_serving(&place);
        }
        Ok(())
    }

    fn move_aside(&self, op: &Op, instance: &Instance) -> Result<Instance> {
        let kept_name = format!("{}-kept-{}", instance.name, &short(op.key.as_str())[..8]);
        let kept = Home { name: kept_name.clone(), dir: self.root.join(&kept_name) };
        let Some(home) = self.home_if_there(instance)? else {
            if !kept.dir.exists() {
                return Err(not_found(format!("neither {} nor {kept_name} is there", instance.name)));
            }
            let mark = Mark { name: kept_name, moving_to: None, ..kept.marked()? };
            kept.set_mark(&mark)?;
            return Ok(self.instance(&kept, &mark));
        };
        let mark = home.marked()?;
        if mark.made.as_ref().is_none_or(|m| m.how != How::Materialised) {
            return Err(refused(format!("{} was not made from a point", home.name)));
        }
        if mark.settled {
            return Err(refused(format!("{} was settled: it is the machine now", home.name)));
        }
        self.must_be_off(&home)?;
        self.block(op, &home, "set aside")?;
        // What is kept stands alone, so that its point can go.
        self.hydrate(&home)?.must_be_whole(&home)?;
        self.end_store(&home)?;
        self.stop_serving(&self.place(&home)?);
        home.set_mark(&Mark { moving_to: Some(kept_name.clone()), ..mark.clone() })?;
        durable::rename(&home.dir, &kept.dir)?;
        let mark = Mark { name: kept_name, moving_to: None, ..mark };
        kept.set_mark(&mark)?;
        Ok(self.instance(&kept, &mark))
    }

    /// Whether a machine has run long enough that copying does not hold up its start.
    fn hydration_is_due(&self, home: &Home) -> Result<bool> {
        if self.process(home)?.is_none() {
            return Ok(false);
        }
        let started = std::fs::metadata(self.place(home)?.pid()).and_then(|m| m.modified());
        let age = started.ok().and_then(|s| s.elapsed().ok()).unwrap_or_default();
        Ok(age >= self.options.hydrate_after)
    }
}
