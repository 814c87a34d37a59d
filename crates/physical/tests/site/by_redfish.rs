//! The keeper over a controller that is nobody's fake: sushy-tools.

use crate::emulator::Sushy;
use crate::hall::{Floor, PATIENCE, SITE};
use crate::support::*;
use site_recovery::*;
use site_recovery_physical::power::Redfish;
use site_recovery_physical::site::{Patience, PhysicalSite, Server};
use std::sync::Arc;
use std::time::Duration;

#[tokio::test]
async fn s2_a_dead_server_is_fenced_and_held_by_its_controller() {
    let Some(sushy) = Sushy::start() else { return };
    let floor = Floor::new(TELLS).await;
    let controller = Redfish::new(&sushy.settings(), Arc::new(SystemClock)).unwrap();
    let server = Server {
        name: "web".into(),
        agent: Arc::clone(&floor.agents["web"]) as _,
        power: Some(Arc::new(controller)),
        shutdown: None,
    };
    let state = floor.dir.path().join("state-over-redfish");
    let patience = Patience { off: Duration::from_secs(30), between: Duration::from_millis(200), ..PATIENCE };
    let site = PhysicalSite::builder(SITE.into(), state, Arc::new(SystemClock)).server(server);
    let site = site.patience(patience).open().unwrap();
    let mut web = site.discover().await.unwrap().remove(0);
    web.instance.machine = "m-web".into();
    site.enrol(&op("enrol"), &web).await.unwrap();
    assert_eq!(site.power(&web.instance).await.unwrap(), Power::On);

    floor.server("web").truth().agent_dead = true;
    assert_eq!(
        site.power(&web.instance).await.unwrap(),
        Power::Unknown,
        "silent, and its controller says on"
    );
    site.fence(&op("f"), &web.instance, Duration::ZERO).await.unwrap();
    let blocked = Power::Off { start: StartGuard::Blocked { until: None } };
    assert_eq!(site.power(&web.instance).await.unwrap(), blocked);
    let lift = op("u");
    let leave = permit(&lift, &web).await;
    assert!(!site.unfence(&lift, &web.instance, leave, Start::Stay).await.unwrap().running);
    assert_eq!(site.power(&web.instance).await.unwrap(), Power::Off { start: StartGuard::Free });
}
