//! `boot`: the machine is made of its disks, which starts it.

use super::Site;
use super::import::os_type;
use super::mark::{Mark, Marked};
use super::register::Turn;
use site_recovery::{
    Armed, BootPermit, Booted, DiskRole, Error, ErrorKind, Op, Placement, Purpose, Recovery, Result,
};
use site_recovery_azure_arm::{NewMachine, Power as Runs, Provisioning};

/// The engine's word for the network of a drill whose settings name none.
const ISOLATED: &str = "isolated";

impl Site {
    pub(super) async fn boot(
        &self,
        op: &Op,
        what: &Recovery,
        armed: &Armed,
        permit: BootPermit,
    ) -> Result<Booted> {
        permit.admits(op, &armed.instance, what.purpose)?;
        if *what.machine.id() != armed.instance.machine {
            let message = format!("{} is no machine of {}", armed.instance.name, what.machine.id());
            return Err(Error::new(ErrorKind::Refused, message));
        }
        let network = match &permit {
            // What the engine says where the settings name none.
            BootPermit::Isolated { network }
                if network == ISOLATED && what.settings.test_network.is_none() =>
            {
                Some(self.test_network.clone().unwrap_or_else(|| network.clone()))
            }
            BootPermit::Isolated { network } => Some(network.clone()),
            _ => what.settings.network.clone().or_else(|| self.network.clone()),
        };
        let is_drill = what.purpose == Purpose::Drill;
        if let Some(network) =
            network.as_ref().filter(|network| is_drill && self.is_production(network, &what.settings))
        {
            let message = format!("{network} is the network of production: a drill is kept out of it");
            return Err(Error::new(ErrorKind::Refused, message).with("field", "settings.test_network"));
        }
        let turn = self.turn(op, &armed.instance.machine).await?;
        let mut marked = self.mark_of(&armed.instance).await?;
        let made = self.must_be_made(&marked.mark)?;
        if made.base.is_empty() {
            let message = format!("{} is not prepared: materialise it first", marked.mark.name);
            return Err(Error::new(ErrorKind::Refused, message));
        }
        if made.purpose != what.purpose {
            let message = format!("{} was made for another purpose: {:?}", marked.mark.name, made.purpose);
            return Err(Error::new(ErrorKind::Refused, message));
        }
        let by = made.by.clone();
        let machines = self.arm.machines(&self.group);
        if let Some(view) = self.settled_view(&marked.mark.name).await?
            && let Some(found) = machines.get(&marked.mark.name).await?
        {
            self.must_be_made_by(&found.name, &found.tags, &by)?;
            let was_made = found.provisioning != Provisioning::Failed;
            if was_made || !marked.mark.started.is_empty() || view.power == Runs::Running {
                return self.started(&turn, op, &mut marked).await;
            }
            // It never ran: its disks and cards are taken by the next one.
            let next = Mark { starting: None, ..marked.mark.clone() };
            self.set_mark(&mut marked, next).await?;
            self.ask(&turn, machines.delete(&marked.mark.name)).await?.done().await?;
        } else if marked.mark.has_started(&op.key) || self.came_to_start(&op.key, &marked.mark).await? {
            return Ok(Booted { reach: vec![], running: false });
        }
        self.build(&turn, op, what, &mut marked, network.as_deref()).await?;
        self.started(&turn, op, &mut marked).await
    }

    /// Starts the machine that is there, unless it runs.
    async fn started(&self, turn: &Turn, op: &Op, marked: &mut Marked) -> Result<Booted> {
        let mark = marked.mark.clone();
        let (running, reach) = futures_util::join!(self.ignite(turn, &op.key, marked), self.reach(&mark));
        Ok(Booted { running: running?, reach: reach? })
    }

    async fn build(
        &self,
        turn: &Turn,
        op: &Op,
        what: &Recovery,
        marked: &mut Marked,
        network: Option<&str>,
    ) -> Result<()> {
        let by = self.must_be_made(&marked.mark)?.by.clone();
        let cards = self.cards(what, &marked.mark, &by)?;
        let (disks, size, network, held, availability_set) = futures_util::join!(
            self.disks_of(&marked.mark),
            self.size_of(what),
            self.network_for(network),
            self.cards_held(&cards, &by),
            self.availability_set(&what.settings.placement),
        );
        let (disks, size, network, held, availability_set) =
            (disks?, size?, network?, held?, availability_set?);
        let id_of = |held: &super::mark::Held| {
            let found = disks.iter().find(|disk| disk.name.eq_ignore_ascii_case(&held.resource));
            let gone = || Error::new(ErrorKind::NotFound, format!("disk {} is gone", held.resource));
            found.map(|disk| disk.id.clone()).ok_or_else(gone)
        };
        let (mut system, mut data) = (None, vec![]);
        for spec in &marked.mark.description.disks {
            let Some(held) = marked.mark.disks.get(&spec.id) else { continue };
            match spec.role {
                DiskRole::System if system.is_none() => system = Some(id_of(held)?),
                _ => data.push(id_of(held)?),
            }
        }
        let Some(os_disk) = system else {
            let rule = "a machine starts from a disk whose role is System";
            return Err(Error::invalid("machine.disks", "none", rule, "say which disk it starts from"));
        };
        let cards = cards.into_iter().zip(held).collect();
        // What is off is looked at meanwhile.
        let mark = marked.mark.clone();
        let (nics, off) =
            futures_util::join!(self.make_cards(turn, what, marked, &network, cards), self.stamp_of(&mark));
        let (nics, off) = (nics?, off?);
        let mut tags = what.settings.tags.clone();
        tags.extend(self.tags(&marked.mark, &by));
        let new = NewMachine {
            location: self.location.clone(),
            size,
            os_disk,
            os_type: os_type(what.machine.os),
            data_disks: (0..).zip(data).collect(),
            nics,
            availability_set,
            zone: match &what.settings.placement {
                Placement::Zone(zone) => Some(zone.clone()),
                _ => None,
            },
            licence: what.settings.licence.clone(),
            tags,
            boot_diagnostics: true,
        };
        let machines = self.arm.machines(&self.group);
        self.note_starting(&op.key, marked, off).await?;
        self.ask(turn, machines.put(&marked.mark.name, &new)).await?.done().await?;
        Ok(())
    }

    async fn size_of(&self, what: &Recovery) -> Result<String> {
        match &what.settings.size {
            Some(size) => Ok(size.clone()),
            None => Ok(self.size_for(&what.machine, &what.settings).await?.name),
        }
    }

    /// The id of the availability set, where it is placed in one.
    async fn availability_set(&self, placement: &Placement) -> Result<Option<String>> {
        let Placement::AvailabilitySet(name) = placement else { return Ok(None) };
        let found = self.arm.availability_set(&self.group, name).await?;
        let rule = "it is in the machine's group";
        let missing = || Error::invalid("settings.placement", name, rule, "make it, or name another");
        Ok(Some(found.ok_or_else(missing)?.id))
    }
}
