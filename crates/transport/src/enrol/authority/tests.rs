//! The ledger through crashes, and tokens that come again.

use super::super::certify;
use super::super::ledger::crash;
use super::super::roster::{RoleKind, ServedRole};
use super::super::service::ServiceKind;
use super::*;
use rcgen::KeyPair;
use site_recovery_testkit::clock::ManualClock;

struct World {
    dir: tempfile::TempDir,
    clock: ManualClock,
    authority: Authority,
}

/// What was given out: by the joiner's view of the world.
type Held = Vec<(Service, Serial)>;

impl World {
    fn new() -> Self {
        let (dir, clock) = (tempfile::tempdir().expect("a directory"), ManualClock::new());
        let authority = Authority::open(dir.path().join("a"), Arc::new(clock.clone())).expect("made");
        Self { dir, clock, authority }
    }

    fn ledger(&self) -> Ledger {
        Ledger::turn(&self.dir.path().join("a")).expect("the turn")
    }

    /// As after a crash: nothing is known but what is on disk.
    fn restart(&mut self) {
        crash::after(None);
        self.authority =
            Authority::open(self.dir.path().join("a"), Arc::new(self.clock.clone())).expect("opened");
        let ledger = self.ledger();
        ledger.tokens().expect("tokens that can be read");
        ledger.members().expect("members that can be read");
        ledger.revoked().expect("revocations that can be read");
    }

    fn mint(&self) -> Result<JoinToken> {
        let invitation = Invitation::new(web(), "authority:7444").role(role());
        self.authority.0.mint(&self.ledger(), invitation)
    }

    fn join(&self, token: &JoinToken, key: &KeyPair) -> Result<Granted> {
        let request = certify::request(key)?;
        let stated = Stated { address: Some("web:1".into()), roles: vec![role()] };
        let (id, secret) = (token.id.clone(), token.secret.to_vec());
        let joining = Joining { token: id, secret, request: request.clone(), stated };
        self.authority.0.join(&self.ledger(), joining, &Requested::read(&request)?)
    }

    fn renew(&self, serial: &Serial) -> Result<Granted> {
        let who = Membership { service: web(), serial: serial.clone() };
        let request = certify::request(&key()).expect("a request");
        let stated = Stated { address: Some("web:2".into()), roles: vec![role()] };
        self.authority.0.renew(&self.ledger(), &who, &Requested::read(&request)?, stated)
    }

    fn revoke(&self) -> Result<Revoked> {
        self.authority.0.revoke(&self.ledger(), &web())
    }

    /// What somebody holds is on record, so that it can be revoked.
    fn on_record(&self, held: &Held) {
        for (service, serial) in held {
            let member = self.ledger().member(service).expect("read").expect("on record");
            assert!(member.issued.iter().any(|issued| issued.serial == *serial), "{serial} is on no record");
        }
    }
}

fn web() -> Service {
    Service::new(ServiceKind::Agent, "web-1").expect("a label")
}

fn role() -> ServedRole {
    ServedRole::new(RoleKind::Source, "web-1")
}

fn key() -> KeyPair {
    KeyPair::generate().expect("a key")
}

fn serial(granted: &Granted) -> Serial {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    let der = CertificateDer::from_pem_slice(granted.certificate.as_bytes()).expect("PEM");
    crate::allow::Shown::of(&der).serial().expect("a serial number").clone()
}

/// Runs a whole life with a crash before each of its writes in turn, and does again what was not answered.
#[test]
fn c2_a_crash_at_any_write_loses_no_token_and_no_certificate_from_record() {
    let mut crashes = 0;
    for writes in 0.. {
        let mut world = World::new();
        let mut held = Held::new();
        crash::after(Some(writes));
        let mut crashed = false;
        macro_rules! again {
            ($what:expr) => {
                match $what {
                    Ok(done) => done,
                    Err(error) => {
                        assert!(!crashed && error.message().contains("killed"), "{error}");
                        crashed = true;
                        world.restart();
                        world.on_record(&held);
                        $what.expect("once more, and it is done")
                    }
                }
            };
        }
        let token = again!(world.mint());
        let key = key();
        let joined = again!(world.join(&token, &key));
        held.push((web(), serial(&joined)));
        world.on_record(&held);
        let others = world.join(&token, &super::tests::key()).expect_err("spent");
        assert_eq!(others.kind(), ErrorKind::Denied, "{others}");
        let first = held[0].1.clone();
        let renewed = again!(world.renew(&first));
        held.push((web(), serial(&renewed)));
        world.on_record(&held);
        let unused = again!(world.mint());
        let revoked = again!(world.revoke());
        assert!(held.iter().all(|(_, serial)| revoked.contains(serial)));
        world.restart();
        world.on_record(&held);
        for (_, serial) in &held {
            let error = world.renew(serial).expect_err("revoked");
            assert!(error.kind() == ErrorKind::Denied && error.message().contains("revoked"), "{error}");
        }
        for token in [&token, &unused] {
            let error = world.join(token, &key).expect_err("revoked");
            assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        }
        assert_eq!(world.ledger().roster().expect("read"), vec![]);
        if !crashed {
            break;
        }
        crashes += 1;
    }
    // mint 1, join 2, renew 1, mint 1, revoke: list, two tokens, member.
    assert_eq!(crashes, 9);
}

#[test]
fn c2_a_lost_reply_is_answered_again_for_the_same_key_alone_and_not_for_ever() {
    let world = World::new();
    let token = world.mint().expect("minted");
    let ours = key();
    let first = serial(&world.join(&token, &ours).expect("joined"));
    let second = serial(&world.join(&token, &ours).expect("the same key"));
    assert_ne!(first, second);
    world.on_record(&vec![(web(), first.clone()), (web(), second)]);
    assert!(world.join(&token, &key()).expect_err("another key").message().contains("another key"));
    world.clock.advance(Duration::from_secs(60 * 60));
    assert!(world.join(&token, &ours).expect_err("late").message().contains("expired"));
    let revoked = world.revoke().expect("revoked");
    assert!(revoked.contains(&first) && revoked.len() == 2);
    // It joins anew, by a token that is minted after.
    let again = world.mint().expect("minted");
    assert!(!revoked.contains(&serial(&world.join(&again, &key()).expect("joined"))));
}

#[test]
fn a_role_belongs_to_one_service_until_that_one_is_revoked() {
    let world = World::new();
    let mint = |name: &str| {
        let service = Service::new(ServiceKind::Agent, name).expect("a label");
        world.authority.0.mint(&world.ledger(), Invitation::new(service, "a:1").role(role()))
    };
    let first = mint("web-1").expect("nobody's");
    assert_eq!(mint("web-2").expect_err("promised").kind(), ErrorKind::Conflict);
    world.join(&first, &key()).expect("joined");
    world.clock.advance(Duration::from_secs(2 * 60 * 60));
    let error = mint("web-2").expect_err("held");
    assert!(error.kind() == ErrorKind::Conflict && error.message().contains("agent/web-1"), "{error}");
    world.revoke().expect("revoked");
    mint("web-2").expect("free again");
    // A promise that was not taken up is none.
    world.clock.advance(Duration::from_secs(2 * 60 * 60));
    mint("web-3").expect("free again");
}

#[test]
fn a_later_token_of_a_service_takes_no_role_away() {
    let world = World::new();
    let first = world.mint().expect("minted");
    let first = serial(&world.join(&first, &key()).expect("joined"));
    // As of a server's rescue system.
    let landing = ServedRole::new(RoleKind::LandingSite, "hall-1/web-1");
    let invitation = Invitation::new(web(), "a:1").role(landing.clone());
    let second = world.authority.0.mint(&world.ledger(), invitation).expect("minted");
    world.join(&second, &key()).expect("joined");
    world.renew(&first).expect("it serves what it served");
    let member = world.ledger().member(&web()).expect("read").expect("there");
    assert_eq!(member.granted, [role(), landing]);
}

#[test]
fn a_service_has_no_more_certificates_at_a_time_than_it_may() {
    let world = World::new();
    let token = world.mint().expect("minted");
    let first = serial(&world.join(&token, &key()).expect("joined"));
    for _ in 1..super::super::ledger::MOST_VALID {
        world.renew(&first).expect("renewed");
    }
    assert_eq!(world.renew(&first).expect_err("too many").kind(), ErrorKind::Busy);
    world.clock.advance(Duration::from_secs(25 * 60 * 60));
    world.renew(&first).expect("the others have expired; TLS looks at this one");
    let count = |world: &World| world.ledger().member(&web()).expect("read").expect("there").issued.len();
    assert_eq!(count(&world), super::super::ledger::MOST_VALID + 1);
    world.clock.advance(super::super::ledger::REMEMBERED + Duration::from_secs(60));
    let last = world.ledger().member(&web()).expect("read").expect("there").issued.pop().expect("one").serial;
    world.renew(&last).expect("renewed");
    assert_eq!(count(&world), 2, "what expired long ago is forgotten");
}

#[test]
fn requests_decide_nothing_but_the_key() {
    let world = World::new();
    let token = world.mint().expect("minted");
    let mut params =
        rcgen::CertificateParams::new(vec!["store.point-store.site-recovery.internal".to_owned()])
            .expect("a name");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, "engine/e");
    let key = key();
    let request = params.serialize_request(&key).expect("a request").der().to_vec();
    let (id, secret) = (token.id.clone(), token.secret.to_vec());
    let joining = Joining { token: id, secret, request: request.clone(), stated: Stated::default() };
    let read = Requested::read(&request).expect("a request");
    let granted = world.authority.0.join(&world.ledger(), joining, &read).expect("joined");
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    let der = CertificateDer::from_pem_slice(granted.certificate.as_bytes()).expect("PEM");
    let shown = crate::allow::Shown::of(&der);
    assert_eq!(shown.service(), Some(&web()));
    assert!(!shown.to_string().contains("point-store"), "{shown}");
    // A signature by another key proves nothing.
    let mut forged = request.clone();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    assert_eq!(Requested::read(&forged).err().expect("forged").kind(), ErrorKind::Invalid);
    for len in 0..request.len() {
        assert!(Requested::read(&request[..len]).is_err());
    }
}
