//! Where every service is.

use crate::world::*;
use site_recovery::*;
use site_recovery_transport::enrol::*;

fn stated(address: &str, roles: &[&ServedRole]) -> Stated {
    Stated { address: Some(address.into()), roles: roles.iter().map(|role| (*role).clone()).collect() }
}

#[tokio::test]
async fn roles_are_found_where_their_service_says_also_without_the_authority() {
    let world = World::now().await;
    let points = ServedRole::new(RoleKind::Store, "points");
    let asker = world.joined(&agent("web-1")).await;
    let name = RoleName::from("points");
    let error = asker.locate(RoleKind::Store, &name).await.unwrap_err();
    assert!(error.kind() == ErrorKind::NotFound && error.message().contains("points"), "{error}");
    let invitation = Invitation::new(store("points"), world.address()).role(points.clone());
    let token = world.authority.mint(invitation).await.unwrap();
    let keeps = world.at("points").states(stated("10.0.0.1:7443", &[&points])).join(&token).await.unwrap();
    // It was not known, so it is asked about.
    let entry = asker.locate(RoleKind::Store, &name).await.unwrap();
    let right = RosterEntry {
        service: store("points"),
        address: "10.0.0.1:7443".into(),
        roles: vec![points.clone()],
    };
    assert_eq!(entry, right);
    assert_eq!(asker.locate(RoleKind::Source, &name).await.unwrap_err().kind(), ErrorKind::NotFound);
    // It moves.
    keeps.state(stated("[::1]:1", &[&points])).unwrap();
    keeps.renew().await.unwrap();
    assert_eq!(asker.locate(RoleKind::Store, &name).await.unwrap(), entry, "as it was known");
    asker.refresh_roster().await.unwrap();
    assert_eq!(asker.locate(RoleKind::Store, &name).await.unwrap().address, "[::1]:1");
    assert_eq!(world.authority.roster().await.unwrap(), **asker.roster().borrow());
    // The authority moves.
    let (authority, limits) = (world.authority.clone(), EnrolmentLimits::default());
    let moved = EnrolmentServer::listen(authority, crate::support::loopback(), limits).await.unwrap();
    world.server.stop().await;
    let told = world.dir.path().join("web-1");
    let again = Credentials::at(&told).authority(moved.address().to_string()).open().await.unwrap();
    again.renew().await.unwrap();
    drop(again);
    Credentials::at(&told).open().await.unwrap().renew().await.expect("it is remembered");
    // Nobody to ask, and a restart.
    moved.stop().await;
    drop(asker);
    let asker = Credentials::at(world.dir.path().join("web-1")).open().await.unwrap();
    assert_eq!(asker.locate(RoleKind::Store, &name).await.unwrap().address, "[::1]:1");
    let error = asker.locate(RoleKind::Store, &RoleName::from("other")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}

#[tokio::test]
async fn c2_a_service_states_no_role_that_its_token_does_not_allow() {
    let world = World::now().await;
    let (source, points) =
        (ServedRole::new(RoleKind::Source, "web-1"), ServedRole::new(RoleKind::Store, "points"));
    let invitation = Invitation::new(agent("web-1"), world.address()).role(source.clone());
    let token = world.authority.mint(invitation).await.unwrap();
    let denied = |error: Error| {
        assert!(error.kind() == ErrorKind::Denied && error.message().contains("store \"points\""), "{error}");
    };
    denied(world.at("web-1").states(stated("a:1", &[&source, &points])).join(&token).await.unwrap_err());
    let joined = world.at("web-1").states(stated("a:1", &[&source])).join(&token).await.unwrap();
    joined.state(stated("a:1", &[&points])).unwrap();
    denied(joined.renew().await.unwrap_err());
    let roles: Vec<_> = world.authority.roster().await.unwrap().into_iter().flat_map(|e| e.roles).collect();
    assert_eq!(roles, [source]);
    let nowhere = Stated { address: None, roles: vec![points] };
    assert_eq!(joined.state(nowhere).unwrap_err().fact("field"), Some("address"));
}

#[tokio::test]
async fn what_a_service_says_anew_is_told_at_once_where_it_is_kept_fresh() {
    let world = World::now().await;
    let source = ServedRole::new(RoleKind::Source, "web-1");
    let invitation = Invitation::new(agent("web-1"), world.address()).role(source.clone());
    let token = world.authority.mint(invitation).await.unwrap();
    drop(world.at("web-1").states(stated("a:1", &[&source])).join(&token).await.unwrap());
    // After a restart it listens elsewhere.
    let opened = world.at("web-1").states(stated("b:2", &[&source])).open().await.unwrap();
    let before = opened.serial();
    let _renewal = opened.keep(Keeping::default(), &TokioSpawner::current().unwrap()).unwrap();
    until("it renews at once", || opened.serial() != before).await;
    assert_eq!(world.authority.roster().await.unwrap()[0].address, "b:2");
    let mut roster = opened.roster();
    roster.wait_for(|roster| roster.iter().any(|entry| entry.address == "b:2")).await.unwrap();
}
