//! Networks and addresses at the other side: a plan's maps become settings, where the user has asked for none. They come before what
//! a leg says.

use crate::driver::Driver;
use crate::plan::{Kind, Plan};
use crate::resolve::machine_id;
use crate::run::{MachineRun, Mapped, MemberRun, PlanRun};
use site_recovery::state::Direction;
use site_recovery::{Machine, Nic, Result, Settings};
use std::net::IpAddr;

impl Driver {
    /// A member's machines with what the maps set of each.
    pub(crate) fn mapped(&self, member: &MemberRun) -> Result<Vec<MachineRun>> {
        let (run, mut machines) = (self.slot.run(), member.machines.clone());
        for machine in machines.iter_mut().filter(|_| maps(&run)) {
            let (_, mapped) = self.wanted(&run, machine)?;
            machine.mapped.insert(run.direction, mapped);
        }
        Ok(machines)
    }

    /// Sets what was recorded.
    pub(crate) async fn set_mapped(&self, run: &PlanRun, member: &MemberRun) -> Result<()> {
        for machine in member.machines.iter().filter(|_| maps(run)) {
            let handle = self.shared.vault.item(&machine.machine)?.acting_as(&run.operator());
            let (settings, _) = self.wanted(run, machine)?;
            if settings != handle.asked()? {
                handle.set_settings(settings).await?;
            }
        }
        Ok(())
    }

    fn wanted(&self, run: &PlanRun, machine: &MachineRun) -> Result<(Settings, Mapped)> {
        let vault = &self.shared.vault;
        let handle = vault.item(&machine.machine)?;
        let is_it = |name: &str| machine_id(vault, name).is_ok_and(|id| id == machine.machine);
        let maps = [&machine.mapped, &machine.replaced];
        let ours: Vec<&Mapped> = maps.into_iter().filter_map(|m| m.get(&run.direction)).collect();
        Ok(apply(&run.of, run.direction, is_it, &handle.item()?.machine, &handle.asked()?, &ours))
    }
}

fn maps(run: &PlanRun) -> bool {
    let any = !run.of.networks.is_empty() || !run.of.addresses.is_empty();
    any && matches!(run.kind(), Some(Kind::Planned | Kind::Unplanned))
}

/// The settings with what the maps give, where they are empty or hold what this plan gave before; and what that is.
fn apply(
    plan: &Plan,
    direction: Direction,
    is_it: impl Fn(&str) -> bool,
    machine: &Machine,
    settings: &Settings,
    ours: &[&Mapped],
) -> (Settings, Mapped) {
    let (mut settings, mut mapped) = (settings.clone(), Mapped::default());
    let of_nic = |nic: &Nic| {
        let (network, maps) = (nic.network.as_deref()?, &plan.networks);
        let mapped = maps.iter().find_map(|map| map.map(network, direction));
        // What the source tells may be of the other side: it was described there.
        mapped.or_else(|| maps.iter().find_map(|map| map.keep(network, direction)))
    };
    if settings.network.is_none() || ours.iter().any(|ours| settings.network == ours.network) {
        mapped.network = machine.nics.iter().find_map(of_nic).map(str::to_owned);
        settings.network.clone_from(&mapped.network);
    }
    let told = |nic: &Nic| nic.addresses.iter().filter_map(|text| parse(text)).collect::<Vec<_>>();
    let silent = machine.nics.iter().all(|nic| told(nic).is_empty());
    let own = |name: &Option<String>| name.as_deref().is_some_and(&is_it);
    for (at, nic) in machine.nics.iter().enumerate() {
        let set = settings.nics.get(&nic.id).and_then(|s| s.address);
        let is_ours = |ours: &&Mapped| ours.addresses.get(&nic.id).copied() == set;
        if set.is_some() && !ours.iter().any(is_ours) {
            continue;
        }
        let of_machine = plan.addresses.iter().filter(|map| own(&map.machine));
        let of_all = plan.addresses.iter().filter(|map| map.machine.is_none());
        let ordered: Vec<_> = of_machine.chain(of_all).collect();
        let found =
            ordered.iter().find_map(|map| told(nic).into_iter().find_map(|ip| map.map(ip, direction)));
        let kept =
            || ordered.iter().find_map(|map| told(nic).into_iter().find_map(|ip| map.keep(ip, direction)));
        // A fixed address says what the first adapter is to have, also where the guest reports none.
        let fixed = || {
            let single = ordered.iter().find(|map| own(&map.machine) && map.to.is_single());
            single.map(|map| map.sides(direction).1.first()).filter(|_| silent && at == 0)
        };
        let address = found.or_else(kept).or_else(fixed);
        if address != set {
            settings.nics.entry(nic.id.clone()).or_default().address = address;
        }
        mapped.addresses.extend(address.map(|ip| (nic.id.clone(), ip)));
    }
    (settings, mapped)
}

/// Some sites report an address with its prefix.
fn parse(text: &str) -> Option<IpAddr> {
    text.split('/').next().and_then(|ip| ip.parse().ok())
}
