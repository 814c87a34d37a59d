//! Whoever answers from the rescue system has the server's certificate, and proves nothing by it.

use crate::hall::Floor;
use crate::support::*;
use site_recovery::*;
use std::sync::atomic::Ordering;
use std::time::Duration;

const BLOCKED: Power = Power::Off { start: StartGuard::Blocked { until: None } };
const AT_ONCE: Duration = Duration::ZERO;

fn pretends(floor: &Floor, pretends: bool) {
    floor.agent("web").pretends.store(pretends, Ordering::SeqCst);
}

fn cuts(floor: &Floor) -> usize {
    floor.server("web").truth().log.iter().filter(|word| **word == "force_off").count()
}

#[tokio::test]
async fn s2_the_word_of_a_rescue_system_does_not_spare_a_server_that_runs() {
    for keeps in [HOLDS, TELLS] {
        let floor = Floor::new(keeps).await;
        let web = floor.enrolled("web").await.instance;
        pretends(&floor, true);
        assert_eq!(floor.site.power(&web).await.unwrap(), Power::Unknown, "its controller says on");
        floor.site.fence(&op("f"), &web, AT_ONCE).await.unwrap();
        assert!(!floor.server("web").truth().on, "it lost its power, whatever was said");
        let mark = std::fs::read_to_string(floor.kept("web", "fence.json")).unwrap();
        assert!(mark.contains("\"ran_before\": true"), "{mark}");
    }
}

#[tokio::test]
async fn s2_a_rescue_system_counts_once_the_power_was_seen_off_and_until_its_own_system_is_seen() {
    let mut floor = Floor::new(HOLDS).await;
    let web = floor.enrolled("web").await;
    // Held, and in its rescue system, and nobody has seen it off: its word is no proof, and a fence makes one.
    (floor.server("web").truth().held, floor.server("web").truth().rescue) = (true, true);
    assert_eq!(floor.site.power(&web.instance).await.unwrap(), Power::Unknown);
    floor.site.fence(&op("f"), &web.instance, AT_ONCE).await.unwrap();
    assert_eq!(cuts(&floor), 1);
    assert!(!floor.server("web").press(), "its rescue system comes up again");
    assert_eq!(floor.site.power(&web.instance).await.unwrap(), BLOCKED);
    floor.again().await;
    assert_eq!(floor.site.power(&web.instance).await.unwrap(), BLOCKED, "that was seen outlives the keeper");
    floor.site.fence(&op("f2"), &web.instance, AT_ONCE).await.unwrap();
    assert_eq!(cuts(&floor), 1, "held all the time, it is left where it is");

    let lift = op("u");
    let leave = permit(&lift, &web).await;
    assert!(floor.site.unfence(&lift, &web.instance, leave, Start::Run).await.unwrap().running);
    pretends(&floor, true);
    assert_eq!(floor.site.power(&web.instance).await.unwrap(), Power::Unknown, "it was started since");
}

#[tokio::test]
async fn s2_a_start_past_us_that_was_seen_ends_what_was_seen_off() {
    let floor = Floor::new(HOLDS).await;
    let web = floor.enrolled("web").await.instance;
    floor.site.fence(&op("f"), &web, AT_ONCE).await.unwrap();
    floor.server("web").truth().held = false;
    assert!(floor.server("web").press(), "somebody let it go, and started it");
    assert_eq!(floor.site.power(&web).await.unwrap(), Power::On);
    pretends(&floor, true);
    assert_eq!(floor.site.power(&web).await.unwrap(), Power::Unknown);
}

#[tokio::test]
async fn s2_a_fence_spares_no_server_that_it_does_not_find_held() {
    let floor = Floor::new(HOLDS).await;
    let web = floor.enrolled("web").await.instance;
    floor.site.fence(&op("f"), &web, AT_ONCE).await.unwrap();
    floor.server("web").truth().held = false;
    assert!(floor.server("web").press(), "nobody looks, and somebody starts its own system");
    pretends(&floor, true);
    floor.site.fence(&op("f2"), &web, AT_ONCE).await.unwrap();
    assert!(!floor.server("web").truth().on);
    assert_eq!(floor.site.power(&web).await.unwrap(), BLOCKED);
}

#[tokio::test]
async fn without_a_power_control_a_rescue_system_is_all_that_can_be_asked() {
    let floor = Floor::without_power_control().await;
    let web = floor.enrolled("web").await.instance;
    (floor.server("web").truth().held, floor.server("web").truth().rescue) = (true, true);
    assert_eq!(floor.site.power(&web).await.unwrap(), Power::Off { start: StartGuard::Free });
}
