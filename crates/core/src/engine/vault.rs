use super::builder::{BACK, OUT, VaultBuilder};
use super::events::Events;
use super::handle::{GroupHandle, ItemHandle};
use super::job::{self, Beginning, Job};
use super::shared::{Shared, Slot, audit_subject};
use super::turn::Turn;
use crate::audit::AuditRecord;
use crate::workflow::Course;
use crate::{
    DiskId, EngineId, Epoch, Error, ErrorKind, Finding, Item, Machine, MachineId, Operation, Policy, Request,
    Result, RoleName, Settings, Unit, UnitId,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The place that holds replicated items, and the engine that works on them. Built once from legs, journal and clock; a
/// cheap handle, `Send`, `Sync` and `Clone`. There is no global state: two vaults in one program know nothing of each
/// other, but for the epochs at the roles that they share.
#[derive(Debug, Clone)]
pub struct Vault {
    pub(crate) shared: Arc<Shared>,
}

/// What to protect.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProtectRequest {
    /// Names of the machines at the source of the leg out, or titles that no other has. More than one: a replication group.
    pub machines: Vec<String>,
    /// The group's name; needed for more than one machine.
    pub group: Option<String>,
    /// Replication policy.
    pub policy: Policy,
    /// What each machine shall be at the recovery site, over what the leg out says. A group has no name, NICs or disks here.
    pub settings: Option<Settings>,
    /// Disks that are left out; never the system disk.
    pub excluded: BTreeSet<DiskId>,
    /// Names of the legs; the default ones otherwise.
    pub legs: Option<(String, String)>,
    /// Who asks.
    pub operator: String,
}

impl ProtectRequest {
    /// One machine, with Azure's policy.
    pub fn machine(name: &str) -> Self {
        Self { machines: vec![name.to_owned()], ..Self::default() }
    }

    /// A replication group.
    pub fn group(name: &str, machines: &[&str]) -> Self {
        let machines = machines.iter().map(|m| (*m).to_owned()).collect();
        Self { machines, group: Some(name.to_owned()), ..Self::default() }
    }

    /// With this policy.
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// With these settings at the recovery site.
    #[must_use]
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = Some(settings);
        self
    }
}

impl Vault {
    /// Starts building one.
    pub fn builder() -> VaultBuilder {
        VaultBuilder::default()
    }

    pub(crate) fn of(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// This engine's id.
    pub fn engine_id(&self) -> &EngineId {
        &self.shared.id
    }

    /// Takes one machine into care. Checks the whole circle first; then the first copy goes on as the item's job.
    ///
    /// # Errors
    /// `Invalid`, naming the field; `NotFound` for a machine that the source does not see; `Conflict` for one that is
    /// protected already; `Refused` with the findings that stand in the way. Nothing changed.
    pub async fn protect(&self, request: ProtectRequest) -> Result<ItemHandle> {
        if request.machines.len() != 1 {
            let rule = "one machine; several form a group";
            return Err(Error::invalid(
                "protect.machines",
                request.machines.len(),
                rule,
                "use protect_group",
            ));
        }
        let slot = self.enable(request).await?;
        let unit = slot.unit();
        let item = unit.members.first().ok_or_else(|| Error::new(ErrorKind::NotFound, "no member"))?;
        Ok(ItemHandle::new(&self.shared, &slot, item.id()))
    }

    /// Takes a replication group into care: one capture, one cut, one failover for all.
    ///
    /// # Errors
    /// As [`protect`](Vault::protect); `Unsupported` where the source cannot capture several machines at one instant.
    pub async fn protect_group(&self, request: ProtectRequest) -> Result<GroupHandle> {
        if request.group.is_none() {
            return Err(Error::invalid("protect.group", "absent", "a group has a name", "name it"));
        }
        let slot = self.enable(request).await?;
        Ok(GroupHandle::new(&self.shared, &slot))
    }

    async fn enable(&self, request: ProtectRequest) -> Result<Arc<Slot>> {
        let shared = &self.shared;
        request.policy.validate()?;
        let (out, back) = request.legs.clone().unwrap_or_else(|| (OUT.into(), BACK.into()));
        let (leg, far) = (shared.leg(&out)?, shared.leg(&back)?);
        super::verify::check_policy(shared, &request.policy, &out)?;
        if let Some(settings) = &request.settings {
            settings.validate()?;
            if let Some(field) = settings.of_one_machine().filter(|_| request.machines.len() > 1) {
                let rule = "it is of one machine, and the group has several";
                return Err(Error::invalid("protect.settings", field, rule, "set it at each machine later"));
            }
        }
        if request.machines.len() > 1 && !leg.source.capability().groups {
            let message = format!("{} cannot capture several machines at one instant", leg.source.name());
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        let seen = shared.within(shared.deadlines.source, "discover", leg.source.discover()).await?;
        let epoch = Epoch { number: 1, owner: shared.id.clone() };
        let (mut members, mut ready) = (vec![], vec![]);
        for name in &request.machines {
            let (stands, title) = (|m: &Machine| m.instance.name == *name, |m: &Machine| m.title.clone());
            let found = named(&seen, name, stands, title, |m| m.instance.name.clone())?;
            let found = found.ok_or_else(|| unseen(&seen, name, &leg.source.name()))?;
            let machine = self.minted(found, &request)?;
            let mut item = Item::new(machine, epoch.clone(), request.policy.clone(), &out, &back);
            item.settings.extend(request.settings.clone().map(|asked| (leg.recovery_site.name(), asked)));
            let found = super::readiness::circle(shared, leg, far, &item).await?;
            ready.push((item.id().clone(), found.clone()));
            let findings: Vec<Finding> = found.into_iter().filter(Finding::blocks).collect();
            if let Some(first) = findings.first() {
                let all: Vec<String> =
                    findings.iter().map(|f| format!("{}: {}; {}", f.code, f.cause, f.remedy)).collect();
                let kind =
                    if first.code.starts_with("setting.") { ErrorKind::Invalid } else { ErrorKind::Refused };
                let error = Error::new(kind, format!("{name} is not ready: {}", all.join(" | ")));
                return Err(error.with("field", first.code.trim_start_matches("setting.")));
            }
            members.push(item);
        }
        let id = match &request.group {
            Some(name) => UnitId(name.clone()),
            None => UnitId(members[0].id().0.clone()),
        };
        if shared.slots.read().expect("no panic under this lock").contains_key(&id) {
            return Err(Error::new(ErrorKind::Conflict, format!("there is a unit named {id} already")));
        }
        let (count, _) = shared.journal.load(&super::shared::unit_subject(&id)).await?;
        let (audits, _) = shared.journal.load(&audit_subject(&id)).await?;
        if count != 0 || audits != 0 {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!("the journal has a unit named {id} already"),
            ));
        }
        let slot = Slot::new(Unit::new(id, request.group.is_some(), members), (0, 0));
        for (machine, findings) in ready {
            super::readiness::keep(shared, &slot, &machine, findings);
        }
        shared.insert(&slot);
        let beginning = Beginning {
            operation: Operation::EnableProtection,
            request: Request::Plain,
            who: if request.operator.is_empty() { "embedder".into() } else { request.operator },
            by_engine: false,
        };
        match job::begin(shared, &slot, beginning).await {
            Ok(_) => Ok(slot),
            Err(error) => {
                shared.remove(&slot.id);
                Err(error)
            }
        }
    }

    /// The machine under an id of its own, with the excluded disks marked.
    fn minted(&self, found: &Machine, request: &ProtectRequest) -> Result<Machine> {
        for slot in self.shared.all_slots() {
            if let Some(item) =
                slot.unit().members.iter().find(|i| i.instances.iter().any(|x| x.is(&found.instance)))
            {
                let message = format!("{found} is protected already, as {}", item.id());
                return Err(Error::new(ErrorKind::Conflict, message));
            }
        }
        let mut machine = found.clone();
        for disk in &request.excluded {
            match machine.disks.iter_mut().find(|d| &d.id == disk) {
                Some(disk) => disk.included = false,
                None => {
                    let rule = format!("{found} has no such disk");
                    return Err(Error::invalid(
                        "protect.excluded",
                        disk,
                        &rule,
                        "name a disk of the machine",
                    ));
                }
            }
        }
        let plain: String = found.proper_name().chars().take(40).collect();
        machine.instance.machine = MachineId(format!("{plain}-{:08x}", self.shared.random.bits() as u32));
        machine.validate()?;
        Ok(machine)
    }

    /// Goes on with every run that a crash interrupted: forward, or back. A boot proof is taken back: how long its guest took
    /// is not known any more.
    ///
    /// Returns by unit the jobs that go on, and why one does not: `StaleEpoch` where another engine has gone on with it;
    /// `Unavailable` where nobody says who is in charge, which may be asked again; what the journal said. One that does not
    /// holds up no other. One that goes on may still end with `StaleEpoch`, where it is the replica that knows of the other engine.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the rest as it is; each job that was begun goes on.
    #[must_use = "a job that nobody goes on with is told here alone"]
    pub async fn resume(&self) -> BTreeMap<UnitId, Result<Job>> {
        let mut resumed = BTreeMap::new();
        for slot in self.shared.all_slots() {
            if let Some(job) = self.go_on(&slot).await.transpose() {
                resumed.insert(slot.id.clone(), job);
            }
        }
        resumed
    }

    /// None where nothing was interrupted, or somebody drives it.
    async fn go_on(&self, slot: &Arc<Slot>) -> Result<Option<Job>> {
        let open = slot.unit().run.as_ref().is_some_and(|r| r.course != Course::Parked);
        let undo = job::undoes_itself(&slot.unit());
        if slot.is_driven() || !(open || undo.is_some()) {
            return Ok(None);
        }
        let turn = Turn::take(&self.shared, slot).await;
        if slot.is_driven() {
            return Ok(None);
        }
        match undo {
            Some((undo, _)) => job::open(&turn, undo).await?,
            None => self.reclaim(&turn).await?,
        }
        let job = job::start(turn)?;
        if slot.unit().proves() {
            job.cancel();
        }
        Ok(Some(job))
    }

    /// A run goes on under this engine's own authority, so that a late call of the engine that began it passes no more.
    async fn reclaim(&self, turn: &Turn) -> Result<()> {
        let unit = turn.unit();
        // Where it is over, the run ends by itself.
        let ours = unit.members.iter().all(|i| i.epoch.owner == self.shared.id);
        if ours || self.shared.in_charge(&unit).await.is_err() {
            return Ok(());
        }
        let highest = unit.members.iter().map(|i| &i.epoch).max_by_key(|e| e.number);
        let Some(epoch) = highest.map(|e| e.raised(&self.shared.id)) else { return Ok(()) };
        let events: Vec<_> =
            unit.members.iter().map(|i| (i.id().clone(), crate::Event::Claimed(epoch.clone()))).collect();
        turn.record(&super::turn::Cause::engine("resume"), &events, |_| {}).await
    }

    /// Everything that is protected here.
    pub fn items(&self) -> Vec<ItemHandle> {
        self.items_of(|_| true)
    }

    /// Those of them whose unit has a run: under way, parked, or left where an engine ended.
    pub fn with_runs(&self) -> Vec<ItemHandle> {
        self.items_of(|unit| unit.run.is_some())
    }

    fn items_of(&self, which: impl Fn(&Unit) -> bool) -> Vec<ItemHandle> {
        let mut items = vec![];
        for slot in self.shared.all_slots() {
            let unit = slot.unit();
            if which(&unit) {
                let machines = unit.members.iter().map(Item::id);
                items.extend(machines.map(|machine| ItemHandle::new(&self.shared, &slot, machine)));
            }
        }
        items
    }

    /// One item by its machine id.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn item(&self, machine: &MachineId) -> Result<ItemHandle> {
        let slot = self.shared.slot_of(machine)?;
        Ok(ItemHandle::new(&self.shared, &slot, machine))
    }

    /// One item by the name that its machine has where it stands, or by its title where no other has that.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` for a title that several have.
    pub fn find(&self, name: &str) -> Result<ItemHandle> {
        let with_item = |handle: ItemHandle| handle.item().ok().map(|item| (handle, item));
        let items: Vec<(ItemHandle, Item)> = self.items().into_iter().filter_map(with_item).collect();
        let stands = |(_, i): &(ItemHandle, Item)| i.instances.iter().any(|x| x.name == name);
        let title = |(_, i): &(ItemHandle, Item)| i.machine.title.clone();
        let found = named(&items, name, stands, title, |(handle, _)| handle.id().to_string())?;
        let none = || Error::new(ErrorKind::NotFound, format!("no machine named {name} is protected here"));
        found.map(|(handle, _)| handle.clone()).ok_or_else(none)
    }

    /// One group by its name; also a machine that is in none, which is a unit of its own under its id.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn group(&self, name: &str) -> Result<GroupHandle> {
        let slot =
            self.shared.slots.read().expect("no panic under this lock").get(&UnitId::from(name)).cloned();
        let slot = slot.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("no group named {name}")))?;
        Ok(GroupHandle::new(&self.shared, &slot))
    }

    /// What happens from now on.
    pub fn events(&self) -> Events {
        self.shared.bus.read_from(self.shared.bus.next_position())
    }

    /// What happened since a position of this engine's life, as far as it is kept.
    pub fn events_from(&self, position: u64) -> Events {
        self.shared.bus.read_from(position)
    }

    /// The audit trail of a unit, verified.
    ///
    /// # Errors
    /// `Corrupt`, naming the record that was changed, added or removed.
    pub async fn audit(&self, unit: &UnitId) -> Result<Vec<AuditRecord>> {
        let (_, entries) = self.shared.journal.load(&audit_subject(unit)).await?;
        crate::audit::read(&entries).map_err(|e| e.with("unit", unit))
    }
}

/// The one that stands under this name, or the only one that people call so; none where there is neither.
///
/// # Errors
/// `Conflict` for a title that several have: what is told of each says which.
fn named<'a, T>(
    all: &'a [T],
    name: &str,
    stands: impl Fn(&T) -> bool,
    title: impl Fn(&T) -> Option<String>,
    tell: impl Fn(&T) -> String,
) -> Result<Option<&'a T>> {
    if let Some(found) = all.iter().find(|one| stands(one)) {
        return Ok(Some(found));
    }
    let called: Vec<&T> = all.iter().filter(|one| title(one).as_deref() == Some(name)).collect();
    if let [_, _, ..] = called[..] {
        let which: Vec<String> = called.iter().map(|one| tell(one)).collect();
        let (several, which) = (called.len(), which.join(", "));
        let message = format!("{several} machines are called {name}: say which of {which}");
        return Err(Error::new(ErrorKind::Conflict, message));
    }
    Ok(called.first().copied())
}

fn unseen(seen: &[Machine], name: &str, source: &RoleName) -> Error {
    let names: Vec<String> = seen.iter().map(Machine::to_string).collect();
    let message = format!("{source} has no machine named {name}; it has {}", names.join(", "));
    Error::new(ErrorKind::NotFound, message)
}
