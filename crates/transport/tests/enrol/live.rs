//! Certificates that change, and that count no more, between a store and those who reach it.

use crate::support::{Authority as Other, SOON, client_tls, loopback, points};
use crate::world::*;
use site_recovery::*;
use site_recovery_testkit::clock::ManualClock;
use site_recovery_transport::enrol::*;
use site_recovery_transport::*;
use std::sync::Arc;
use std::time::Duration;

async fn serve(dir: &std::path::Path, tls: ServerTls) -> Server {
    Server::builder(tls).store(points(dir)).listen(loopback()).await.unwrap()
}

/// One connection of its own, and one call.
async fn call(server: &Server, tls: ClientTls) -> Result<()> {
    let builder = RemoteStore::builder(server.address().to_string(), "store".into(), tls);
    let far = tokio::time::timeout(SOON, builder.connect()).await.expect("in time")?;
    far.machines().await.map(|_| ())
}

fn denied(outcome: Result<()>, why: &str) {
    let error = outcome.expect_err(why);
    assert!(error.kind() == ErrorKind::Denied && !error.is_temporary(), "{error}");
    assert!(error.message().to_lowercase().contains(why), "{error}");
}

#[tokio::test]
async fn c2_services_of_one_authority_meet_by_name_whatever_the_address() {
    let world = World::now().await;
    let (here, there) = (world.joined(&store("points")).await, world.joined(&agent("web-1")).await);
    let server = serve(&world.place("data"), here.server_tls()).await;
    call(&server, there.client_tls(&store("points")).unwrap()).await.unwrap();
    denied(call(&server, there.client_tls(&store("other")).unwrap()).await, "not valid for name");
    denied(call(&server, there.client_tls(&agent("points")).unwrap()).await, "not valid for name");
    // One of another authority, with the same names.
    let theirs = World::now().await;
    let stranger = theirs.joined(&agent("web-1")).await;
    denied(call(&server, stranger.client_tls(&store("points")).unwrap()).await, "unknownissuer");
    let other = Other::new();
    let identity = other.issue_uri(&agent("web-1").uri());
    denied(call(&server, client_tls(&identity, &other, &store("points").dns_name())).await, "unknownissuer");
    server.stop(SOON).await;
}

#[tokio::test]
async fn c2_rules_by_kind_and_name_let_in_those_alone() {
    let world = World::now().await;
    let here = world.joined(&store("points")).await;
    let server = Server::builder(here.server_tls())
        .store(points(&world.place("data")))
        .allow(Client::service(ServiceKind::Agent, "web-1").unwrap(), Machines::All)
        .allow(Client::kind(ServiceKind::ProcessServer), Machines::All);
    let server = server.listen(loopback()).await.unwrap();
    let mover = Service::new(ServiceKind::ProcessServer, "web-2").unwrap();
    for (service, welcome) in [(agent("web-1"), true), (agent("web-2"), false), (mover, true)] {
        let at = world.at(&service.to_string().replace('/', "-"));
        let credentials = at.join(&world.token(&service).await).await.unwrap();
        let outcome = call(&server, credentials.client_tls(&store("points")).unwrap()).await;
        assert_eq!(outcome.is_ok(), welcome, "{service}: {outcome:?}");
        if !welcome {
            denied(outcome, "no rule here");
        } else {
            // Also with the next certificate.
            credentials.renew().await.unwrap();
            call(&server, credentials.client_tls(&store("points")).unwrap()).await.unwrap();
        }
    }
    server.stop(SOON).await;
}

#[tokio::test]
async fn c2_certificates_change_under_live_traffic_and_nothing_is_cut() {
    let world = World::now().await;
    let (here, there) = (world.joined(&store("points")).await, world.joined(&agent("web-1")).await);
    let server = serve(&world.place("data"), here.server_tls()).await;
    let tls = there.client_tls(&store("points")).unwrap();
    let address = server.address();
    let old = RemoteStore::builder(address.to_string(), "store".into(), tls.clone()).connect().await.unwrap();
    old.machines().await.unwrap();
    let mut serials = vec![(here.serial(), there.serial())];
    for _ in 0..5 {
        let (one, two, calls) = tokio::join!(here.renew(), there.renew(), async {
            for _ in 0..20 {
                old.machines().await.unwrap();
            }
            call(&server, tls.clone()).await
        });
        one.and(two).and(calls).unwrap();
        let now = (here.serial(), there.serial());
        assert!(serials.iter().all(|before| before.0 != now.0 && before.1 != now.1));
        serials.push(now);
        old.machines().await.unwrap();
        call(&server, tls.clone()).await.unwrap();
    }
    assert_eq!(server.address(), address);
    // What is on disk is what is shown.
    assert_eq!(world.at("points").open().await.unwrap().serial(), here.serial());
    // The old one, where somebody has it still, counts until it is revoked.
    world.authority.revoke_certificate(&serials[0].1).await.unwrap();
    here.refresh_revoked().await.unwrap();
    call(&server, tls).await.expect("the newest one is not revoked");
    server.stop(SOON).await;
}

#[tokio::test]
async fn c2_at_half_of_its_life_a_certificate_is_renewed_by_itself_also_after_failures() {
    let clock = ManualClock::new();
    let world = World::by(&clock).await;
    let credentials = world.joined(&agent("web-1")).await;
    let (first, until_first) = (credentials.serial(), credentials.until());
    let renewal = credentials.keep(Keeping::default(), &TokioSpawner::current().unwrap()).unwrap();
    // It tells what came of each attempt, and nothing of it waits for the clock then.
    let mut failing = renewal.failing();
    failing.changed().await.unwrap();
    until("it sleeps", || clock.sleepers() > 0).await;
    clock.advance(11 * HOUR);
    failing.changed().await.unwrap();
    assert!(failing.borrow().is_none());
    until("it sleeps", || clock.sleepers() > 0).await;
    assert_eq!(credentials.serial(), first, "before half of its life");
    // The authority is away when it is time.
    let address = world.server.address();
    world.server.stop().await;
    clock.advance(2 * HOUR);
    until("it says that it failed", || failing.borrow().is_some()).await;
    let said = failing.borrow().as_ref().unwrap().to_string();
    assert!(said.contains(&address.to_string()), "{said}");
    assert_eq!(credentials.serial(), first);
    let server = EnrolmentServer::listen(world.authority.clone(), address, EnrolmentLimits::default()).await;
    let server = server.unwrap();
    for _ in 0..200 {
        if credentials.serial() != first {
            break;
        }
        clock.advance(Duration::from_secs(1));
        tokio::time::timeout(Duration::from_millis(50), std::future::pending::<()>()).await.unwrap_err();
    }
    assert_ne!(credentials.serial(), first, "renewed");
    assert!(credentials.until() > until_first);
    until("it says that all is well", || failing.borrow().is_none()).await;
    drop(renewal);
    until("its task ends with it", || clock.sleepers() == 0 || failing.has_changed().is_err()).await;
    server.stop().await;
}

#[tokio::test]
async fn c2_what_has_expired_is_shown_to_nobody_and_says_to_join_anew() {
    let clock = ManualClock::new();
    let world = World::by(&clock).await;
    let (here, there) = (world.joined(&store("points")).await, world.joined(&agent("web-1")).await);
    let server = serve(&world.place("data"), here.server_tls()).await;
    let tls = there.client_tls(&store("points")).unwrap();
    call(&server, tls.clone()).await.unwrap();
    clock.advance(12 * HOUR);
    here.renew().await.unwrap();
    clock.advance(12 * HOUR);
    let again = |error: Error| {
        assert!(error.kind() == ErrorKind::Refused && error.message().contains("join anew"), "{error}");
    };
    again(call(&server, tls.clone()).await.unwrap_err());
    again(there.renew().await.unwrap_err());
    again(there.refresh_revoked().await.unwrap_err());
    again(world.at("web-1").open().await.unwrap_err());
    let there = world.joined(&agent("web-1")).await;
    call(&server, there.client_tls(&store("points")).unwrap()).await.unwrap();
    server.stop(SOON).await;
}

#[tokio::test]
async fn c2_a_peer_whose_clock_lets_it_show_what_has_expired_is_refused_by_the_other_side() {
    let (ours, theirs) = (ManualClock::new(), ManualClock::new());
    let world = World::by(&ours).await;
    let token = world.token(&agent("web-1")).await;
    let late = Credentials::at(world.place("late")).clock(Arc::new(theirs.clone()));
    let late = late.join(&token).await.unwrap();
    for clock in [&ours, &theirs] {
        clock.advance(20 * HOUR);
    }
    let here = world.joined(&store("points")).await;
    let server = serve(&world.place("data"), here.server_tls()).await;
    // From here on its clock stands still.
    ours.advance(5 * HOUR);
    denied(call(&server, late.client_tls(&store("points")).unwrap()).await, "expired");
    assert_eq!(late.renew().await.unwrap_err().kind(), ErrorKind::Denied);
    server.stop(SOON).await;
    // And the server, by a client whose clock is right.
    let fresh = world.joined(&agent("web-2")).await;
    let server = serve(&world.place("more"), late.server_tls()).await;
    denied(call(&server, fresh.client_tls(&agent("web-1")).unwrap()).await, "expired");
    server.stop(SOON).await;
}

#[tokio::test]
async fn c2_revoked_clients_and_servers_are_turned_away_on_both_sides_also_after_a_restart_without_the_authority()
 {
    let world = World::now().await;
    let (here, there) = (world.joined(&store("points")).await, world.joined(&agent("web-1")).await);
    let third = world.joined(&agent("web-2")).await;
    let server = serve(&world.place("data"), here.server_tls()).await;
    let tls = there.client_tls(&store("points")).unwrap();
    call(&server, tls.clone()).await.unwrap();
    let mut revoked = here.server_tls().revoked();
    assert!(revoked.borrow_and_update().is_empty());
    let said = world.authority.revoke(&agent("web-1")).await.unwrap();
    assert!(said.contains(&there.serial()) && said.len() == 1);
    call(&server, tls.clone()).await.expect("nobody has told the store");
    here.refresh_revoked().await.unwrap();
    // What a server with live connections waits for.
    assert!(revoked.has_changed().unwrap() && revoked.borrow_and_update().contains(&there.serial()));
    denied(call(&server, tls.clone()).await, "revoked");
    call(&server, third.client_tls(&store("points")).unwrap()).await.expect("another one is let in");
    let error = there.renew().await.unwrap_err();
    assert!(error.kind() == ErrorKind::Denied && error.message().contains("revoked"), "{error}");
    assert_eq!(there.refresh_roster().await.unwrap_err().kind(), ErrorKind::Denied);
    server.stop(SOON).await;

    // A revoked server, for a client that knows.
    world.authority.revoke(&store("points")).await.unwrap();
    assert_eq!(third.refresh_revoked().await.unwrap().len(), 2);
    let server = serve(&world.place("data"), here.server_tls()).await;
    denied(call(&server, third.client_tls(&store("points")).unwrap()).await, "revoked");
    server.stop(SOON).await;

    // Nobody to ask any more.
    world.server.stop().await;
    drop((here, third));
    let third = Credentials::at(world.dir.path().join("web-2")).open().await.unwrap();
    assert_eq!(third.revoked().borrow().len(), 2);
    let server = serve(&world.dir.path().join("more"), third.server_tls()).await;
    denied(call(&server, there.client_tls(&agent("web-2")).unwrap()).await, "revoked");
    server.stop(SOON).await;
}

#[tokio::test]
async fn c2_a_connection_that_stands_ends_when_its_client_is_revoked_and_no_other_does() {
    let world = World::now().await;
    let (here, there) = (world.joined(&store("points")).await, world.joined(&agent("web-1")).await);
    let third = world.joined(&agent("web-2")).await;
    let server = serve(&world.place("data"), here.server_tls()).await;
    let connected = async |credentials: &Credentials| {
        let tls = credentials.client_tls(&store("points")).unwrap();
        let far = RemoteStore::builder(server.address().to_string(), "store".into(), tls);
        far.patience(Duration::from_secs(5)).connect().await.unwrap()
    };
    let (bad, good) = (connected(&there).await, connected(&third).await);
    bad.machines().await.unwrap();
    good.machines().await.unwrap();
    world.authority.revoke(&agent("web-1")).await.unwrap();
    here.refresh_revoked().await.unwrap();
    let ended = async { while bad.machines().await.is_ok() {} };
    tokio::time::timeout(SOON, ended).await.expect("its connection ends");
    denied(bad.machines().await.map(|_| ()), "revoked");
    good.machines().await.unwrap();
    server.stop(SOON).await;
}
