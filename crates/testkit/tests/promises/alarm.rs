//! What an alarm does: it keeps the last quiet point, and says so once.

use super::*;
use site_recovery::{
    AlarmRule, CommitRequest, Delivery, ErrorKind, NoticeKind, Policy, ProtectRequest, ReprotectRequest,
    Result, Retention,
};
use site_recovery_testkit::engine::{DISK, MemoryEngine};
use std::time::Duration;

/// A machine that keeps only its newest point, after eight quiet cycles.
async fn quiet(alarm: Option<AlarmRule>) -> Result<(MemoryEngine, ItemHandle)> {
    let engine = MemoryEngine::new(11).await?;
    engine.pair.here.add_machine("web", &[("boot", DISK), ("data", DISK)]);
    let policy =
        Policy { alarm, ..Policy::every(Duration::from_secs(300)).keep(Retention::Grid { days: 0 }) };
    let web = engine.vault.protect(ProtectRequest::machine("web").policy(policy)).await?;
    web.until_done().await?;
    for number in 0..8 {
        cycle(&engine, &web, &[number; 4096]).await?;
    }
    Ok((engine, web))
}

async fn cycle(engine: &MemoryEngine, web: &ItemHandle, bytes: &[u8]) -> Result<()> {
    engine.pair.world.clock().advance(Duration::from_secs(300));
    engine.pair.here.write("web", "data", 0, bytes);
    engine.vault.replicate_now(web.id()).await
}

/// Of each point: its number and its pins.
async fn points(web: &ItemHandle) -> Result<Vec<(u64, Vec<String>)>> {
    Ok(web.points().await?.into_iter().map(|p| (p.id.0, p.pins)).collect())
}

fn alarms(engine: &MemoryEngine) -> usize {
    let mut events = engine.vault.events_from(0);
    let told = std::iter::from_fn(|| events.try_next());
    told.filter(|d| match d {
        Delivery::Notice(n) => matches!(&n.kind, NoticeKind::Alert(f) if f.code == "alarm"),
        Delivery::Lagged { .. } => false,
    })
    .count()
}

fn rule() -> Option<AlarmRule> {
    Some(AlarmRule { least_bytes: 4096, ..AlarmRule::default() })
}

/// A storm of changes: the point before it is pinned and outlives pruning; one alarm is told while it lasts.
#[tokio::test]
async fn d8_the_last_quiet_point_before_a_storm_is_kept() -> Result<()> {
    let (engine, web) = quiet(rule()).await?;
    let before = points(&web).await?;
    assert_eq!(before.len(), 1, "only the newest is kept: {before:?}");
    let last_quiet = before[0].0;
    let content = engine.pair.here.bytes("web");
    for number in 100..104 {
        cycle(&engine, &web, &[number; 128 * 1024]).await?;
    }
    let after = points(&web).await?;
    let expected = [(last_quiet, vec!["alarm".to_owned()]), (last_quiet + 4, vec![])];
    assert_eq!(after, expected, "the last quiet one, and the newest");
    assert_eq!(alarms(&engine), 1, "told once while it lasts");
    assert!(web.summary()?.health.findings.iter().any(|f| f.code == "alarm"), "health says so");
    let kept = web.points().await?[0].id;
    let disks = engine.pair.forward.replica.open(web.id(), kept).await?;
    let pool = site_recovery::Pool::new(DISK as usize);
    let data = disks[&"data".into()].read(site_recovery::Run::new(0, DISK), &pool).await?;
    assert!(content.values().any(|bytes| bytes.as_slice() == data.as_ref()), "it holds what was before");
    // It calms down: nothing is unpinned, and another storm is another alarm.
    for number in 0..4 {
        cycle(&engine, &web, &[number; 4096]).await?;
    }
    assert!(!web.summary()?.health.findings.iter().any(|f| f.code == "alarm"), "it is over");
    cycle(&engine, &web, &[200; 128 * 1024]).await?;
    assert_eq!(alarms(&engine), 2);
    let pinned = points(&web).await?.into_iter().filter(|(_, pins)| !pins.is_empty()).count();
    assert_eq!(pinned, 2);
    Ok(())
}

/// Changes at the usual rate that do not compress any more, as when files are encrypted.
#[tokio::test]
async fn d8_changes_that_do_not_compress_any_more_are_told() -> Result<()> {
    let (engine, web) = quiet(rule()).await?;
    let last_quiet = points(&web).await?[0].0;
    let random = site_recovery_testkit::clock::SeededRandom::new(5).bytes(4096 * 2);
    cycle(&engine, &web, &random).await?;
    assert_eq!(alarms(&engine), 1);
    assert_eq!(points(&web).await?[0], (last_quiet, vec!["alarm".to_owned()]));
    Ok(())
}

/// Where the policy wants none, nothing is told and nothing is kept.
#[tokio::test]
async fn an_alarm_can_be_switched_off() -> Result<()> {
    let (engine, web) = quiet(None).await?;
    cycle(&engine, &web, &[100; 128 * 1024]).await?;
    assert_eq!((alarms(&engine), points(&web).await?.len()), (0, 1));
    Ok(())
}

/// A load that goes up and down: the pins of alarms are bounded, what a user pinned stays, and what goes is told.
#[tokio::test]
async fn d8_pins_of_alarms_are_bounded_and_those_of_users_stay() -> Result<()> {
    let (engine, web) = quiet(rule()).await?;
    for round in 0..AlarmRule::MOST_PINS as u8 + 4 {
        cycle(&engine, &web, &[200 + round; 128 * 1024]).await?;
        for number in 0..4 {
            cycle(&engine, &web, &[number; 4096]).await?;
        }
        if round == 0 {
            let first = points(&web).await?[0].0;
            web.pin(site_recovery::PointId(first), "audit").await?;
        }
    }
    assert_eq!(alarms(&engine), AlarmRule::MOST_PINS + 4);
    let pinned = points(&web).await?;
    let (audited, rest) = pinned.split_first().expect("points");
    assert_eq!(audited.1, ["audit"], "the user's pin stays, the alarm's is gone");
    let (newest, alarms) = rest.split_last().expect("points");
    assert!(newest.1.is_empty() && alarms.iter().all(|(_, pins)| pins == &["alarm"]), "{rest:?}");
    assert_eq!(alarms.len(), AlarmRule::MOST_PINS);
    let mut events = engine.vault.events_from(0);
    let told: Vec<u64> = std::iter::from_fn(|| events.try_next())
        .filter_map(|d| match d {
            Delivery::Notice(n) => match &n.kind {
                NoticeKind::Unpinned { point, why } if why == "alarm" => Some(point.0),
                _ => None,
            },
            Delivery::Lagged { missed } => panic!("{missed} were missed"),
        })
        .collect();
    assert_eq!(told.len(), 4);
    assert!(told[0] == audited.0 && told.iter().all(|id| *id < alarms[0].0), "the oldest go: {told:?}");
    Ok(())
}

/// Pins under a reason of the engine's are the engine's: nobody else's pin could be told from them.
#[tokio::test]
async fn the_reasons_of_the_engine_are_refused_to_users() -> Result<()> {
    let (_engine, web) = quiet(rule()).await?;
    let point = web.points().await?[0].id;
    for own in ["alarm", "failover", "drill", "before resync", "point zero", "losing side", ""] {
        let error = web.pin(point, own).await.expect_err(own);
        assert_eq!((error.kind(), error.fact("field")), (ErrorKind::Invalid, Some("pin.why")), "{own}");
    }
    for own in ["failover", "drill", "before resync", "point zero"] {
        assert_eq!(web.unpin(point, own).await.expect_err(own).kind(), ErrorKind::Refused, "{own}");
    }
    assert!(points(&web).await?[0].1.is_empty());
    Ok(())
}

/// Who switches the alarm off is not told of an old one any more; switched on again it begins anew.
#[tokio::test]
async fn an_alarm_that_lasts_is_gone_when_it_is_switched_off() -> Result<()> {
    let (engine, web) = quiet(rule()).await?;
    cycle(&engine, &web, &[100; 128 * 1024]).await?;
    let stands =
        || Ok::<_, site_recovery::Error>(web.summary()?.health.findings.iter().any(|f| f.code == "alarm"));
    assert!(stands()?);
    let on = web.summary()?.policy;
    web.set_policy(Policy { alarm: None, ..on.clone() }).await?;
    assert!(!stands()?, "at once");
    cycle(&engine, &web, &[101; 128 * 1024]).await?;
    web.set_policy(on).await?;
    assert!(!stands()?, "what was before counts no more");
    Ok(())
}

/// What the policy says of alarms holds both ways.
#[tokio::test]
async fn an_alarm_is_on_or_off_on_the_way_back_as_the_policy_says() -> Result<()> {
    for (alarm, told) in [(rule(), 1), (None, 0)] {
        let (engine, web) = quiet(alarm.clone()).await?;
        let there = failed_over(&engine, &web).await?;
        web.commit(CommitRequest::default()).await?.done().await?;
        web.reprotect(ReprotectRequest::default()).await?.done().await?;
        for number in 0..12_u8 {
            engine.pair.world.clock().advance(Duration::from_secs(300));
            engine.pair.cloud.write(&there, "data", 0, &[number; 4096]);
            engine.vault.replicate_now(web.id()).await?;
        }
        assert_eq!(alarms(&engine), 0, "{alarm:?}: quiet");
        engine.pair.world.clock().advance(Duration::from_secs(300));
        engine.pair.cloud.write(&there, "data", 0, &[200; 128 * 1024]);
        engine.vault.replicate_now(web.id()).await?;
        assert_eq!(alarms(&engine), told, "{alarm:?}");
    }
    Ok(())
}
