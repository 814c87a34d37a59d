//! Whether a server can write now, and what keeps it off.

use super::home::Home;
use super::{Kept, Site};
use crate::power::{PowerControl, PowerState};
use site_recovery::{ErrorKind, Instance, Power, Result, StartGuard};
use std::sync::PoisonError;

/// What the agent's answer says of its server.
enum Answers {
    FromItsSystem,
    FromRescue,
    Silent,
    Unclear,
}

impl Site {
    pub(crate) async fn power_of(&self, kept: &Kept, home: &Home, instance: &Instance) -> Result<Power> {
        let control = kept.server.power.as_deref();
        let began = kept.starts();
        let first = said(control).await;
        match self.answers(kept, instance).await {
            Answers::FromItsSystem => {
                self.saw_start(kept, home)?;
                return Ok(Power::On);
            }
            // Whoever answers so has its certificate, and no more. That its own system went is seen at its power.
            Answers::FromRescue if control.is_none() || home.seen_off()? => {
                return Ok(Power::Off { start: self.guard(control, home).await? });
            }
            Answers::FromRescue | Answers::Silent => {}
            Answers::Unclear => return Ok(Power::Unknown),
        }
        match control {
            Some(control) if first == PowerState::Off && self.is_off_again(control).await => {}
            _ => return Ok(Power::Unknown),
        }
        self.saw_off(kept, home, began)?;
        Ok(Power::Off { start: self.guard(control, home).await? })
    }

    /// Whether its power reads as off, twice.
    pub(crate) async fn is_off(&self, control: &dyn PowerControl) -> Result<bool> {
        Ok(said(Some(control)).await == PowerState::Off && self.is_off_again(control).await)
    }

    /// Once is no proof: a controller that restarts may say anything.
    async fn is_off_again(&self, control: &dyn PowerControl) -> bool {
        self.clock.sleep(self.patience.between).await;
        said(Some(control)).await == PowerState::Off
    }

    /// Its power read as off, twice, by looks that began at so many starts.
    pub(crate) fn saw_off(&self, kept: &Kept, home: &Home, began: u64) -> Result<()> {
        let starts = kept.starts.lock().unwrap_or_else(PoisonError::into_inner);
        // What was seen before a start says nothing of what comes after it.
        match *starts == began && !home.seen_off()? {
            true => home.set_seen_off(Some(self.clock.now())),
            false => Ok(()),
        }
    }

    /// It is about to be started by us, or its own system was seen.
    pub(crate) fn saw_start(&self, kept: &Kept, home: &Home) -> Result<()> {
        let mut starts = kept.starts.lock().unwrap_or_else(PoisonError::into_inner);
        *starts += 1;
        match home.seen_off()? {
            true => home.set_seen_off(None),
            false => Ok(()),
        }
    }

    /// Whether its own system is known to run.
    pub(crate) async fn runs(&self, kept: &Kept, home: &Home, instance: &Instance) -> Result<Option<bool>> {
        Ok(match self.power_of(kept, home, instance).await? {
            Power::On => Some(true),
            Power::Off { .. } => Some(false),
            Power::Unknown => None,
        })
    }

    async fn answers(&self, kept: &Kept, instance: &Instance) -> Answers {
        match self.briefly(kept, kept.agent().power(&kept.there(instance))).await {
            Ok(Power::On) => Answers::FromItsSystem,
            Ok(Power::Off { .. }) => Answers::FromRescue,
            Err(e) if e.kind() == ErrorKind::Unavailable => Answers::Silent,
            Ok(Power::Unknown) | Err(_) => Answers::Unclear,
        }
    }

    /// What keeps it off, read now. What nobody says keeps nothing.
    async fn guard(&self, control: Option<&dyn PowerControl>, home: &Home) -> Result<StartGuard> {
        let Some(control) = control else { return Ok(StartGuard::Free) };
        if control.keeps().holds && matches!(control.held().await, Ok(Some(true))) {
            return Ok(StartGuard::Blocked { until: None });
        }
        match control.stamp().await {
            Ok(Some(stamp)) if control.keeps().tells => {
                Ok(StartGuard::Tells(home.power()?.witness.told(&stamp)))
            }
            _ => Ok(StartGuard::Free),
        }
    }
}

/// What a control says; one that does not answer says nothing.
pub(crate) async fn said(control: Option<&dyn PowerControl>) -> PowerState {
    match control {
        Some(control) => control.state().await.unwrap_or(PowerState::Unknown),
        None => PowerState::Unknown,
    }
}
