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
#[derive(Debug, Serialize, Deserialize)]
struct Remembered {
    subscription: String,
    group: String,
    account: String,
    seen: Seen,
}

impl Remembered {
    fn is_of(&self, told: &Settings) -> bool {
        (&self.subscription, &self.group, &self.account) == (&told.subscription, &told.group, &told.account)
    }
}

/// What does not need Azure has to go on while it does not answer: then it is opened as it was when it did.
async fn look(subscription: &Subscription, name: &str, remembered: &Path) -> Result<Seen> {
    let told = subscription.settings();
    let looked = subscription.look().await.map_err(|e| e.at(&name.into(), "open"));
    match looked {
        Ok(seen) => {
            let (subscription, group, account) =
                (told.subscription.clone(), told.group.clone(), told.account.clone());
            durable::write(remembered, &Remembered { subscription, group, account, seen: seen.clone() })?;
            Ok(seen)
        }
        Err(error) if error.kind() == ErrorKind::Unavailable => {
            let before = durable::read::<Remembered>(remembered)?.filter(|before| before.is_of(told));
            let Some(before) = before else { return Err(error) };
            tracing::warn!(site = name, %error, "Azure does not answer: opened as it was seen last");
            Ok(before.seen)
        }
        Err(error) => Err(error),
    }
}
