//! A resource group of Azure, and the points in its container.

use super::Site;
use crate::settings::Azure;
use serde::{Deserialize, Serialize};
use site_recovery::{Clock, ErrorKind, RecoveryPointStore, Result};
use site_recovery_azure::{Seen, Settings, Subscription};
use site_recovery_register::durable;
use std::path::Path;
use std::sync::Arc;

/// `remembered` is the file in which the site keeps how Azure was when it answered last.
pub(crate) async fn open(
    name: &str,
    told: &Azure,
    store: Option<&str>,
    remembered: &Path,
    clock: Arc<dyn Clock>,
) -> Result<Site> {
    let subscription = Subscription::new((**told).clone(), clock)?;
    let seen = look(&subscription, name, remembered).await?;
    let subscription = subscription.seen(seen);
    let points = match store {
        Some(store) => Some(subscription.points(store.into()).await?),
        None => None,
    };
    let site = Arc::new(subscription.site(name.into(), points.as_ref()).await?);
    let points = points.map(|points| Arc::new(points) as Arc<dyn RecoveryPointStore>);
    Ok(Site { source: site.clone(), target: Some(site), landing: None, points })
}

/// How Azure was, and which place of it that was.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Remembered {
    subscription: String,
    group: String,
    account: String,
    container: String,
    seen: Seen,
}

impl Remembered {
    fn of(told: &Settings, seen: Seen) -> Self {
        let (subscription, group) = (told.subscription.clone(), told.group.clone());
        Self { subscription, group, account: told.account.clone(), container: told.container.clone(), seen }
    }

    /// What cannot be read is looked at anew.
    fn read(path: &Path) -> Option<Self> {
        durable::read(path).unwrap_or_else(|error| {
            tracing::warn!(%error, "what Azure was is not remembered");
            None
        })
    }
}

/// What does not need Azure has to go on while it does not answer: then it is opened as it was when it did.
async fn look(subscription: &Subscription, name: &str, path: &Path) -> Result<Seen> {
    let (told, before) = (subscription.settings(), Remembered::read(path));
    match subscription.look().await.map_err(|e| e.at(&name.into(), "open")) {
        Ok(seen) => {
            let now = Remembered::of(told, seen.clone());
            if before.is_none_or(|before| before != now)
                && let Err(error) = durable::write(path, &now)
            {
                tracing::warn!(%error, "what Azure was is not remembered");
            }
            Ok(seen)
        }
        Err(error) if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Busy) => {
            let before = before.filter(|before| *before == Remembered::of(told, before.seen.clone()));
            let Some(before) = before else { return Err(error) };
            tracing::warn!(site = name, %error, "Azure does not answer: opened as it was seen last");
            Ok(before.seen)
        }
        Err(error) => Err(error),
    }
}
