//! A resource group of Azure, and the points in its container.

use super::Site;
use crate::settings::Azure;
use site_recovery::{Clock, RecoveryPointStore, Result};
use site_recovery_azure::Subscription;
use std::sync::Arc;

pub(crate) async fn open(
    name: &str,
    told: &Azure,
    store: Option<&str>,
    clock: Arc<dyn Clock>,
) -> Result<Site> {
    let subscription = Subscription::new((**told).clone(), clock)?;
    let points = match store {
        Some(store) => Some(subscription.points(store.into()).await?),
        None => None,
    };
    let site = Arc::new(subscription.site(name.into(), points.as_ref()).await?);
    let points = points.map(|points| Arc::new(points) as Arc<dyn RecoveryPointStore>);
    Ok(Site { source: site.clone(), target: Some(site), landing: None, points })
}
