//! The network of a machine: its cards, where they are, and with which address.

use super::Site;
use super::claim::is_changing;
use super::mark::{Mark, Marked};
use super::names::resource;
use super::register::Turn;
use futures_util::future::join_all;
use site_recovery::{Error, Nic, NicId, NicSettings, OpKey, Purpose, Recovery, Result, Settings};
use site_recovery_azure_arm::{self as arm, NewNic, Provisioning};
use std::net::IpAddr;

/// A card that a machine is to have.
pub(super) struct Card {
    id: NicId,
    settings: NicSettings,
    /// Its resource.
    name: String,
}

/// A card with its place, and what is there of it already.
struct Placed {
    card: Card,
    subnet: String,
    address: Option<IpAddr>,
    held: Option<arm::Nic>,
}

impl Placed {
    fn is_there(&self) -> bool {
        self.held.as_ref().is_some_and(|held| {
            held.provisioning != Provisioning::Failed
                && held.subnet_id.as_ref().is_some_and(|it| it.eq_ignore_ascii_case(&self.subnet))
                && (self.address.is_none() || self.address == held.address)
        })
    }
}

impl Site {
    /// The cards that a machine of this mark is to have, the primary one first.
    ///
    /// # Errors
    /// `Invalid` where all are excluded.
    pub(super) fn cards(&self, what: &Recovery, mark: &Mark, by: &OpKey) -> Result<Vec<Card>> {
        let default = NicSettings::default();
        let settings = |nic: &Nic| what.settings.nics.get(&nic.id).unwrap_or(&default).clone();
        let mut wanted: Vec<_> =
            what.machine.nics.iter().map(|nic| (nic.id.clone(), settings(nic))).collect();
        if wanted.is_empty() {
            // Azure makes no machine without one.
            wanted.push(("nic-0".into(), default.clone()));
        }
        wanted.retain(|(_, nic)| !nic.excluded);
        if wanted.is_empty() {
            let rule = "a machine has a network card";
            return Err(Error::invalid("settings.nics", "all excluded", rule, "leave one in"));
        }
        wanted.sort_by_key(|(_, nic)| !nic.primary);
        let card = |(id, settings): (NicId, NicSettings)| {
            let name = mark.nics.get(&id).cloned();
            Card { name: name.unwrap_or_else(|| resource(&mark.name, id.as_str(), by)), id, settings }
        };
        Ok(wanted.into_iter().map(card).collect())
    }

    /// The network that a machine is to be in.
    ///
    /// # Errors
    /// `Invalid` where none is named, or it is not there.
    pub(super) async fn network_for(&self, network: Option<&str>) -> Result<arm::Network> {
        let network = network.ok_or_else(|| {
            let rule = "a machine is in a network";
            let remedy = "name the network, or give the site a default";
            Error::invalid("settings.network", "not set", rule, remedy)
        })?;
        let network = self.network_id(network);
        self.arm.network(&network).await?.ok_or_else(|| {
            let rule = "it is a network of the subscription";
            Error::invalid("settings.network", &network, rule, "name another")
        })
    }

    /// What is there of these cards, in their order, once Azure is not busy with any of them.
    ///
    /// # Errors
    /// `Conflict` for one that this key did not make.
    pub(super) async fn cards_held(&self, cards: &[Card], by: &OpKey) -> Result<Vec<Option<arm::Nic>>> {
        let nics = self.arm.nics(&self.group);
        let settled = async |card: &Card| {
            let name = &card.name;
            let is_busy = |nic: &arm::Nic| is_changing(&nic.provisioning);
            self.settled(&format!("network card {name}"), async || nics.get(name).await, is_busy).await
        };
        let held = join_all(cards.iter().map(settled)).await;
        let held = held.into_iter().map(|held| {
            let held = held?;
            held.iter().try_for_each(|nic| self.must_be_made_by(&nic.name, &nic.tags, by))?;
            Ok(held)
        });
        held.collect()
    }

    /// Makes the cards of which nothing is there, or something else of an earlier try, all at once; their ids, in their order. They
    /// are in the mark before they are made. Where one fails, the others have come to their end too.
    pub(super) async fn make_cards(
        &self,
        turn: &Turn,
        what: &Recovery,
        marked: &mut Marked,
        network: &arm::Network,
        cards: Vec<(Card, Option<arm::Nic>)>,
    ) -> Result<Vec<String>> {
        let is_drill = what.purpose == Purpose::Drill;
        let placed = cards.into_iter().map(async |(card, held)| -> Result<_> {
            let subnet = subnet_of(network, &card.settings, is_drill)?;
            let own = held.as_ref().and_then(|held| held.address);
            let address = self.address_for(&network.id, &card.settings, is_drill, own).await?;
            Ok(Placed { card, subnet, address, held })
        });
        let placed = join_all(placed).await.into_iter().collect::<Result<Vec<_>>>()?;
        let mut next = marked.mark.clone();
        next.nics.extend(placed.iter().map(|placed| (placed.card.id.clone(), placed.card.name.clone())));
        self.set_mark(marked, next).await?;
        let nics = self.arm.nics(&self.group);
        let wrong = placed.iter().filter(|placed| placed.held.is_some() && !placed.is_there());
        let gone = join_all(wrong.map(async |placed| -> Result<()> {
            Ok(self.ask(turn, nics.delete(&placed.card.name)).await?.done().await?)
        }));
        gone.await.into_iter().collect::<Result<()>>()?;
        let tags = self.tags(&marked.mark, &self.must_be_made(&marked.mark)?.by);
        let (mut ids, mut wanting) = (vec![String::new(); placed.len()], vec![]);
        for (place, placed) in placed.into_iter().enumerate() {
            match &placed.held {
                Some(held) if placed.is_there() => ids[place].clone_from(&held.id),
                _ => wanting.push((place, placed)),
            }
        }
        // Those with an address of their own first, before Azure gives it to another one.
        let (fixed, free): (Vec<_>, Vec<_>) =
            wanting.into_iter().partition(|(_, placed)| placed.address.is_some());
        for some in [fixed, free] {
            let made = some.into_iter().map(async |(place, Placed { card, subnet, address, .. })| {
                let (location, tags) = (self.location.clone(), tags.clone());
                let new = NewNic { location, subnet_id: subnet, address, tags, accelerated: false };
                let made = self.ask(turn, nics.put(&card.name, &new)).await?.done().await?;
                Ok((place, made.id))
            });
            for (place, id) in join_all(made).await.into_iter().collect::<Result<Vec<_>>>()? {
                ids[place] = id;
            }
        }
        Ok(ids)
    }

    /// A fixed address, where one is asked for. In a drill: the same if it is free there, or is that of the card itself.
    async fn address_for(
        &self,
        network: &str,
        nic: &NicSettings,
        is_drill: bool,
        own: Option<IpAddr>,
    ) -> Result<Option<IpAddr>> {
        if !is_drill {
            return Ok(nic.address);
        }
        match (nic.test_address, nic.address) {
            (Some(address), _) => Ok(Some(address)),
            (None, Some(address)) if own == Some(address) => Ok(own),
            (None, Some(address)) => Ok(self.arm.address_is_free(network, address).await?.then_some(address)),
            (None, None) => Ok(None),
        }
    }

    /// Whether a network is the one of failovers, by its name or its id.
    pub(super) fn is_production(&self, network: &str, settings: &Settings) -> bool {
        let production = settings.network.as_ref().or(self.network.as_ref());
        let is_it = |other: &String| self.network_id(other).eq_ignore_ascii_case(&self.network_id(network));
        production.is_some_and(is_it)
    }

    pub(super) fn network_id(&self, network: &str) -> String {
        crate::settings::network_id(&self.subscription, &self.group, network)
    }

    /// The addresses of the machine's cards.
    pub(super) async fn reach(&self, mark: &Mark) -> Result<Vec<String>> {
        let nics = self.arm.nics(&self.group);
        let found = join_all(mark.nics.values().map(async |name| nics.get(name).await)).await;
        let mut reach = vec![];
        for nic in found {
            // One of an earlier try may be nobody's.
            let nic = nic?.filter(|nic| nic.machine.is_some());
            reach.extend(nic.and_then(|nic| nic.address).map(|address| address.to_string()));
        }
        Ok(reach)
    }
}

/// The subnet that is named, in drills the one of the same name where there is one, else the first by name.
pub(super) fn subnet_of(network: &arm::Network, nic: &NicSettings, is_drill: bool) -> Result<String> {
    let by_name = |name: &str| network.subnets.iter().find(|subnet| subnet.name == name);
    let asked = if is_drill { nic.test_subnet.as_ref() } else { nic.subnet.as_ref() };
    if let Some(name) = asked {
        let missing = || {
            let rule = format!("it is a subnet of {}", network.id);
            Error::invalid("settings.nics.subnet", name, &rule, "name another")
        };
        return by_name(name).map(|subnet| subnet.id.clone()).ok_or_else(missing);
    }
    let same = nic.subnet.as_ref().filter(|_| is_drill).and_then(|name| by_name(name));
    let first = network.subnets.iter().min_by_key(|subnet| &subnet.name);
    same.or(first).map(|subnet| subnet.id.clone()).ok_or_else(|| {
        let rule = "it has a subnet";
        Error::invalid("settings.network", &network.id, rule, "give the network a subnet")
    })
}
