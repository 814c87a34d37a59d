//! The site as a target.

use crate::home::{Home, How, Mark};
use crate::{LocalSite, Site, handles, tracking};
use async_trait::async_trait;
use site_recovery::{
    Armed, BootPermit, Booted, Finding, Instance, Machine, Op, OpKey, Purpose, Recovery, RecoverySite,
    Replica, Result, Settings, Target,
};
use site_recovery_register::durable;
use site_recovery_register::{conflict, not_found, refused};
use std::sync::Arc;

#[async_trait]
impl RecoverySite for LocalSite {
    async fn check(&self, machine: &Machine, settings: &Settings) -> Result<Vec<Finding>> {
        let (machine, settings) = (machine.clone(), settings.clone());
        self.act("check", move |site| {
            let mut found = site.check_settings(&machine, &settings);
            for purpose in [Purpose::Failover, Purpose::Drill] {
                let name = settings.name_for(&machine, purpose);
                if site.root.join(&name).exists() && !site.is_made_of(&name, machine.id()) {
                    let rule = format!("it is taken in {}", site.root.display());
                    found.push(Finding::setting(
                        "name",
                        &name,
                        &rule,
                        "choose another, or remove that machine",
                    ));
                }
            }
            found.extend(site.check_space(&machine)?);
            Ok(found)
        })
        .await
    }

    async fn materialise(&self, op: &Op, what: &Recovery, from: &Arc<dyn Replica>) -> Result<Armed> {
        self.materialise_streamed(op, what, from).await
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
                if !home.power_state()?.done.is_empty() || site.running(home)? != Some(false) {
                    let message = format!("{} was booted: fence it and set it aside instead", home.name);
                    return Err(refused(message));
                }
            }
            site.withdraw_key(&made_by)?;
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
            site.launch(&op, &instance, purpose, permit)
        })
        .await
    }

    async fn tend(&self, op: &Op, armed: &Armed, _from: &Arc<dyn Replica>) -> Result<()> {
        let (op, machine) = (op.clone(), armed.instance.machine.clone());
        // The disks are whole: nothing of the replica is needed.
        self.act("tend", move |site| site.register.turn(&op, &machine).map(drop)).await
    }

    async fn settle(&self, op: &Op, armed: &Armed) -> Result<()> {
        let (op, instance) = (op.clone(), armed.instance.clone());
        self.act("settle", move |site| {
            let _turn = site.register.turn(&op, &instance.machine)?;
            let home = site.home_of(&instance)?;
            let mark = home.marked()?;
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
impl Target for LocalSite {
    async fn propose(&self, machine: &Machine) -> Result<Settings> {
        let machine = machine.clone();
        self.act("propose", move |site| {
            let base = machine.proper_name();
            let free = |name: &String| {
                !site.root.join(name).exists() && !site.root.join(format!("{name}-test")).exists()
            };
            let mut names = std::iter::once(base.clone()).chain((2_u64..).map(|n| format!("{base}-{n}")));
            let name = names.find(free).expect("there is always another number");
            let network = machine.nics.iter().find_map(|n| n.network.clone());
            let test_network =
                if network.as_deref() == Some("isolated") { "isolated-test" } else { "isolated" };
            Ok(Settings {
                name: Some(name),
                network,
                test_network: Some(test_network.into()),
                ..Settings::default()
            })
        })
        .await
    }
}

impl Site {
    /// Starts a machine with a permit, in the permit's network.
    pub(crate) fn launch(
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

    fn move_aside(&self, op: &Op, instance: &Instance) -> Result<Instance> {
        let digest = tracking::hex(tracking::hash(op.key.as_str().as_bytes()));
        let kept_name = format!("{}-kept-{}", instance.name, &digest[..8]);
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
        self.block(op, &home, false, "set aside")?;
        let _ended = handles::end_all(&home)?;
        home.set_mark(&Mark { moving_to: Some(kept_name.clone()), ..mark.clone() })?;
        durable::rename(&home.dir, &kept.dir)?;
        let mark = Mark { name: kept_name, moving_to: None, ..mark };
        kept.set_mark(&mark)?;
        Ok(self.instance(&kept, &mark))
    }
}
