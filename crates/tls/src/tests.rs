//! Handshakes in memory.

use super::*;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConnection, ServerConnection};

struct Authority(CertifiedIssuer<'static, KeyPair>);

/// As PEM: certificate and key.
type Pair = (String, String);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).expect("no name");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signed"))
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    fn issue(&self, name: &str, expired: bool) -> Pair {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        if expired {
            (params.not_before, params.not_after) = (date_time_ymd(2001, 1, 1), date_time_ymd(2002, 1, 1));
        }
        let key = KeyPair::generate().expect("a key");
        (params.signed_by(&key, &self.0).expect("signed").pem(), key.serialize_pem())
    }
}

fn identity(pair: &Pair) -> Identity<'_> {
    Identity { certificate: pair.0.as_bytes(), key: pair.1.as_bytes() }
}

/// What comes of a handshake between the two.
fn handshake(
    client: ClientConfig,
    server: ServerConfig,
) -> std::result::Result<rustls::HandshakeKind, rustls::Error> {
    let name = server_name("localhost").expect("a name");
    let mut client = ClientConnection::new(Arc::new(client), name)?;
    let mut server = ServerConnection::new(Arc::new(server))?;
    for _ in 0..8 {
        let mut bytes = vec![];
        client.write_tls(&mut bytes).expect("into memory");
        server.read_tls(&mut &bytes[..]).expect("from memory");
        server.process_new_packets()?;
        bytes.clear();
        server.write_tls(&mut bytes).expect("into memory");
        client.read_tls(&mut &bytes[..]).expect("from memory");
        client.process_new_packets()?;
    }
    assert!(!client.is_handshaking() && !server.is_handshaking(), "it comes to an end");
    Ok(server.handshake_kind().expect("it is over"))
}

fn meet(client: ClientConfig, server: ServerConfig) -> std::result::Result<(), rustls::Error> {
    handshake(client, server).map(|_| ())
}

#[test]
fn c2_both_sides_of_one_authority_meet_and_others_do_not() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let (pem, versions) = (ours.pem(), [&TLS13]);
    let serve = |pair: &Pair| server(&versions, identity(pair), Clients::Of(pem.as_bytes())).expect("usable");
    let ask = |pair: Option<&Pair>| {
        client(&versions, Trust::Authority(pem.as_bytes()), pair.map(identity)).expect("usable")
    };
    let (here, there) = (ours.issue("localhost", false), ours.issue("client", false));
    assert_eq!(meet(ask(Some(&there)), serve(&here)), Ok(()));
    assert!(meet(ask(None), serve(&here)).is_err(), "a client without a certificate");
    assert!(meet(ask(Some(&theirs.issue("client", false))), serve(&here)).is_err(), "a stranger");
    assert!(meet(ask(Some(&ours.issue("client", true))), serve(&here)).is_err(), "an expired client");
    assert!(meet(ask(Some(&there)), serve(&theirs.issue("localhost", false))).is_err(), "a strange server");
    assert!(meet(ask(Some(&there)), serve(&ours.issue("localhost", true))).is_err(), "an expired server");
    assert!(meet(ask(Some(&there)), serve(&ours.issue("elsewhere", false))).is_err(), "another name");
    let open = server(&versions, identity(&here), Clients::Anyone).expect("usable");
    assert_eq!(meet(ask(None), open), Ok(()));
    let older = client(&[&TLS12], Trust::Authority(pem.as_bytes()), Some(identity(&there))).expect("usable");
    assert!(meet(older, serve(&here)).is_err(), "an older version");
}

#[test]
fn c2_every_connection_looks_at_the_certificates() {
    let ca = Authority::new();
    let (pem, here, there) = (ca.pem(), ca.issue("localhost", false), ca.issue("client", false));
    for version in [&TLS12, &TLS13] {
        let server = server(&[version], identity(&here), Clients::Of(pem.as_bytes())).expect("usable");
        let trust = Trust::Authority(pem.as_bytes());
        let client = client(&[version], trust, Some(identity(&there))).expect("usable");
        for _ in 0..3 {
            assert_eq!(handshake(client.clone(), server.clone()), Ok(rustls::HandshakeKind::Full));
        }
    }
}

#[test]
fn c2_one_certificate_is_trusted_whatever_it_says_and_no_other() {
    let ca = Authority::new();
    let (right, wrong) = (ca.issue("elsewhere", true), ca.issue("localhost", false));
    for version in [&TLS12, &TLS13] {
        let serve = |pair: &Pair| server(&[version], identity(pair), Clients::Anyone).expect("usable");
        let ask = || client(&[version], Trust::Certificate(right.0.as_bytes()), None).expect("usable");
        assert_eq!(meet(ask(), serve(&right)), Ok(()));
        assert!(meet(ask(), serve(&wrong)).is_err());
        let der = &pem::certificates("certificate", right.0.as_bytes()).expect("PEM")[0];
        let sha256 = ring::digest::digest(&ring::digest::SHA256, der);
        let digest = sha256.as_ref().try_into().expect("32 bytes");
        let ask = || client(&[version], Trust::Sha256(digest), None).expect("usable");
        assert_eq!(meet(ask(), serve(&right)), Ok(()));
        assert!(meet(ask(), serve(&wrong)).is_err());
    }
}

#[test]
fn what_cannot_be_used_is_named_and_no_key_is_printed() {
    let ca = Authority::new();
    let (pair, pem) = (ca.issue("localhost", false), ca.pem());
    let other = ca.issue("localhost", false);
    let (good, of_ca) = (identity(&pair), Clients::Of(pem.as_bytes()));
    let field = |error: site_recovery::Error| {
        let said = format!("{error} {error:?}");
        let secret = pair.1.lines().nth(1).expect("a line of the key");
        assert!(!said.contains(secret), "{said}");
        error.fact("field").map(str::to_owned)
    };
    let of_server = |identity, clients| field(server(&[&TLS13], identity, clients).expect_err("not usable"));
    let of_client = |trust, identity| field(client(&[&TLS13], trust, identity).expect_err("not usable"));
    let (serving, asking) = (server(&[], good, of_ca), client(&[], Trust::Authority(pem.as_bytes()), None));
    assert_eq!(field(serving.expect_err("no version")).as_deref(), Some("versions"));
    assert_eq!(field(asking.expect_err("no version")).as_deref(), Some("versions"));
    assert_eq!(of_server(Identity { certificate: b"", ..good }, of_ca).as_deref(), Some("certificate"));
    assert_eq!(of_server(Identity { key: b"none", ..good }, of_ca).as_deref(), Some("key"));
    let mixed = Identity { key: other.1.as_bytes(), ..good };
    assert_eq!(of_server(mixed, of_ca).as_deref(), Some("certificate"), "of another key");
    assert_eq!(of_server(good, Clients::Of(b"")).as_deref(), Some("client_ca"));
    assert_eq!(of_client(Trust::Authority(b""), None).as_deref(), Some("ca"));
    let chain = format!("{}{pem}", pair.0);
    assert_eq!(of_client(Trust::Certificate(chain.as_bytes()), None).as_deref(), Some("certificate"));
    let keyless = Identity { key: b"", ..good };
    assert_eq!(of_client(Trust::Authority(pem.as_bytes()), Some(keyless)).as_deref(), Some("key"));
    assert_eq!(field(server_name("not a name").expect_err("no name")).as_deref(), Some("name"));
    assert!(!format!("{good:?}").contains("["), "{good:?}");
}
