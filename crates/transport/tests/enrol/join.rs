//! By token, once.

use crate::support::loopback;
use crate::world::*;
use site_recovery::*;
use site_recovery_testkit::clock::ManualClock;
use site_recovery_transport::enrol::*;
use site_recovery_transport::*;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

fn denied(outcome: Result<Credentials>, why: &str) {
    let error = outcome.expect_err(why);
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert!(error.message().contains(why), "{error}");
}

#[tokio::test]
async fn a_service_joins_over_tls_and_is_on_disk_for_its_owner_alone() {
    let world = World::now().await;
    let credentials = world.joined(&agent("web-1")).await;
    assert_eq!(credentials.service(), agent("web-1"));
    let life = credentials.until().since(SystemClock.now());
    assert!(life > 23 * HOUR && life <= 24 * HOUR, "{life:?}");
    for dir in ["web-1", "authority", "authority/tokens", "authority/services"] {
        let dir = world.place(dir);
        assert_eq!(dir.metadata().unwrap().permissions().mode() & 0o777, 0o700, "{}", dir.display());
        for file in dir.read_dir().unwrap().map(|f| f.unwrap()).filter(|f| f.metadata().unwrap().is_file()) {
            let mode = file.metadata().unwrap().permissions().mode() & 0o777;
            let lock = file.file_name() == "ledger.lock";
            assert!(mode == 0o600 || lock && mode & 0o022 == 0, "{:?} {mode:o}", file.path());
        }
    }
    let again = world.at("web-1").open().await.unwrap();
    assert_eq!((again.serial(), again.service()), (credentials.serial(), credentials.service()));
    assert!(!world.place("web-1").join("joining.json").exists());
    world.server.stop().await;
}

#[tokio::test]
async fn c2_a_token_works_once_and_for_one_key() {
    let world = World::now().await;
    let token = world.token(&agent("web-1")).await;
    world.at("one").join(&token).await.unwrap();
    denied(world.at("two").join(&token).await, "used already, by another key");
    assert_eq!(world.at("two").open().await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn c2_of_many_at_once_with_one_token_one_joins_whichever_server_they_reach() {
    let world = World::now().await;
    // Another process has the same authority open, and serves it, too.
    let twin = Authority::open(world.place("authority"), Arc::new(SystemClock)).unwrap();
    let second = EnrolmentServer::listen(twin, loopback(), EnrolmentLimits::default()).await.unwrap();
    let token = world.token(&agent("web-1")).await;
    let there = token.to_text().replace(&world.address(), &second.address().to_string());
    let there: JoinToken = there.parse().unwrap();
    let (names, tokens): (Vec<_>, _) = ((0..12).map(|n| format!("at-{n}")).collect(), [&token, &there]);
    let joins = names.iter().enumerate().map(|(n, name)| world.at(name).join(tokens[n % 2]));
    let outcomes = futures_util::future::join_all(joins).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    for error in outcomes.into_iter().filter_map(Result::err) {
        assert!(error.kind() == ErrorKind::Denied && error.message().contains("another key"), "{error}");
    }
}

#[tokio::test]
async fn c2_a_reply_that_was_lost_is_had_again_by_the_same_key() {
    let world = World::now().await;
    let cut = Arc::new(AtomicBool::new(true));
    let (cuts, tokens) = (Arc::clone(&cut), world.place("authority/tokens"));
    let spent = move || {
        let files = tokens
            .read_dir()
            .unwrap()
            .map(|f| std::fs::read_to_string(f.unwrap().path()).unwrap_or_default());
        let spent = files.into_iter().any(|token| token.contains("serial"));
        spent && cuts.load(Ordering::SeqCst)
    };
    let (address, proxy) = proxy(world.server.address(), spent).await;
    let token = world.authority.mint(Invitation::new(agent("web-1"), address.to_string())).await.unwrap();
    let error = world.at("web-1").join(&token).await.expect_err("no reply comes");
    assert!(error.kind() == ErrorKind::Unavailable && error.is_temporary(), "{error}");
    assert_eq!(world.at("web-1").open().await.unwrap_err().kind(), ErrorKind::NotFound);
    cut.store(false, Ordering::SeqCst);
    denied(world.at("other").join(&token).await, "another key");
    let joined = world.at("web-1").join(&token).await.unwrap();
    assert_eq!(joined.service(), agent("web-1"));
    joined.refresh_revoked().await.expect("the authority knows this certificate");
    proxy.abort();
}

#[tokio::test]
async fn c2_unknown_stale_wrong_and_revoked_tokens_are_denied() {
    let clock = ManualClock::new();
    let world = World::by(&clock).await;
    let token = world.token(&agent("web-1")).await;
    let text = token.to_text();
    let parts: Vec<&str> = text.splitn(5, '.').collect();
    let with = |at: usize, part: &str| {
        let mut parts = parts.clone();
        parts[at] = part;
        parts.join(".").parse::<JoinToken>().unwrap()
    };
    denied(world.at("a").join(&with(1, "0123456789abcdef")).await, "not known");
    denied(world.at("b").join(&with(2, &"ab".repeat(32))).await, "not known");
    // The secret goes to nobody but the authority with this pin.
    denied(world.at("c").join(&with(3, &"ab".repeat(32))).await, "UnknownIssuer");
    clock.advance(HOUR);
    denied(world.at("d").join(&token).await, "expired");
    let token = world.token(&agent("web-1")).await;
    world.authority.revoke(&agent("web-1")).await.unwrap();
    denied(world.at("e").join(&token).await, "revoked");
    let token = world.token(&agent("web-1")).await;
    world.at("f").join(&token).await.expect("one that was minted after");
}

#[tokio::test]
async fn c2_another_authority_at_the_same_address_learns_no_secret() {
    let (ours, theirs) = (World::now().await, World::now().await);
    let invitation = Invitation::new(agent("web-1"), theirs.address());
    let token = ours.authority.mint(invitation).await.unwrap();
    denied(ours.at("a").join(&token).await, "UnknownIssuer");
    // Nor does a service of our own authority, that has a certificate of another name.
    let imposter = ours.joined(&agent("imposter")).await;
    let points = tempfile::tempdir().unwrap();
    let server = Server::builder(imposter.server_tls())
        .store(crate::support::points(points.path()))
        .listen(loopback())
        .await
        .unwrap();
    let token =
        ours.authority.mint(Invitation::new(agent("web-2"), server.address().to_string())).await.unwrap();
    let error = ours.at("b").join(&token).await.expect_err("an imposter");
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    // It is still good for who it is for.
    let good = token.to_text().replace(&server.address().to_string(), &ours.address());
    ours.at("b").join(&good.parse().unwrap()).await.unwrap();
    server.stop(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn what_others_may_look_into_is_refused_and_left_alone() {
    let world = World::now().await;
    let token = world.token(&agent("web-1")).await;
    let open = world.place("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o750)).unwrap();
    for error in [
        world.at("open").join(&token).await.unwrap_err(),
        world.at("open").open().await.unwrap_err(),
        Authority::open(&open, Arc::new(SystemClock)).unwrap_err(),
    ] {
        assert!(error.kind() == ErrorKind::Refused && error.message().contains("chmod 700"), "{error}");
    }
    assert_eq!(open.read_dir().unwrap().count(), 0);
}

#[tokio::test]
async fn o9_records_of_a_newer_program_are_refused() {
    let world = World::now().await;
    drop(world.joined(&agent("web-1")).await);
    for path in ["web-1/identity.json", "authority/authority.json"] {
        let path = world.place(path);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replacen("\"version\": 1", "\"version\": 2", 1)).unwrap();
    }
    let of_service = world.at("web-1").open().await.unwrap_err();
    let of_authority = Authority::open(world.place("authority"), Arc::new(SystemClock)).unwrap_err();
    for error in [of_service, of_authority] {
        assert!(error.kind() == ErrorKind::Unsupported && error.message().contains("version 2"), "{error}");
    }
}

#[tokio::test]
async fn what_cannot_be_minted_is_named() {
    let world = World::now().await;
    let field = |outcome: Result<JoinToken>| outcome.unwrap_err().fact("field").unwrap().to_owned();
    let mint = |invitation| world.authority.mint(invitation);
    let invitation = Invitation::new(agent("a"), "a:1");
    assert_eq!(field(mint(Invitation::new(agent("a"), "nowhere")).await), "address");
    assert_eq!(field(mint(invitation.clone().valid(Duration::from_secs(59))).await), "valid");
    assert_eq!(field(mint(invitation.clone().valid(Duration::MAX)).await), "valid");
    assert_eq!(field(mint(invitation.role(ServedRole::new(RoleKind::Source, ""))).await), "role");
    let authority = Service::new(ServiceKind::Authority, "site").unwrap();
    assert_eq!(field(mint(Invitation::new(authority, "a:1")).await), "service");
    let lives = world.authority.clone().certificates_live(Duration::from_secs(1)).unwrap_err();
    assert_eq!(lives.fact("field"), Some("life"));
}
