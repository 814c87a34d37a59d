//! Whether a server can write now, and what keeps it off.

use super::home::Home;
use super::{Kept, Site};
use crate::power::{PowerControl, PowerState};
use site_recovery::{ErrorKind, Instance, Power, Result, StartGuard};

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
        let first = said(control).await;
        match self.answers(kept, instance).await {
            Answers::FromItsSystem => return Ok(Power::On),
            Answers::FromRescue => return Ok(Power::Off { start: self.guard(control, home).await? }),
            Answers::Unclear => return Ok(Power::Unknown),
            Answers::Silent => {}
        }
        if first != PowerState::Off {
            return Ok(Power::Unknown);
        }
        // Once is no proof: a controller that restarts may say anything.
        self.clock.sleep(self.patience.between).await;
        match said(control).await {
            PowerState::Off => Ok(Power::Off { start: self.guard(control, home).await? }),
            PowerState::On | PowerState::Unknown => Ok(Power::Unknown),
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
