//! Who is let in.

use crate::client::{Got, HOUR, Site};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use fake_blob::{Account, Config, jwt};
use ring::hmac;
use serde_json::json;
use std::time::Duration;

async fn with_token(site: &Site, token: &str) -> Got {
    let url = site.url("vault/disks?restype=container");
    Got::of(site.bare("GET", &url).bearer_auth(token)).await
}

#[tokio::test]
async fn a_token_has_to_be_for_storage_and_in_its_time() {
    let site = Site::ready().await;
    let url = site.url("vault/disks?restype=container");
    let none = Got::of(site.bare("GET", &url)).await;
    none.refused(401, "NoAuthenticationInformation");
    assert!(none.header("www-authenticate").unwrap().contains("resource_id=https://storage.azure.com"));
    let old = Got::of(site.client.get(&url).bearer_auth(site.fake.token(HOUR))).await;
    old.refused(403, "AuthenticationFailed");
    with_token(&site, "junk").await.refused(401, "InvalidAuthenticationInfo");
    let other = jwt(&json!({"aud": "https://management.azure.com", "exp": 4_000_000_000_i64}));
    with_token(&site, &other).await.refused(401, "InvalidAuthenticationInfo");
    let slashed = jwt(&json!({"aud": "https://storage.azure.com/", "exp": 4_000_000_000_i64}));
    assert_eq!(with_token(&site, &slashed).await.status, 200);
    let token = site.fake.token(Duration::from_secs(60));
    assert_eq!(with_token(&site, &token).await.status, 200);
    site.fake.pass(Duration::from_secs(61));
    let expired = with_token(&site, &token).await;
    expired.refused(401, "InvalidAuthenticationInfo");
    assert_eq!(
        expired.all("AuthenticationErrorDetail"),
        ["Lifetime validation failed. The token is expired."]
    );
    let token = site.fake.token(HOUR);
    assert_eq!(with_token(&site, &token).await.status, 200);
    site.fake.expire_tokens();
    with_token(&site, &token).await.refused(401, "InvalidAuthenticationInfo");
    assert_eq!(with_token(&site, &site.fake.token(HOUR)).await.status, 200);
}

#[tokio::test]
async fn a_signature_lets_do_what_it_says_where_it_says_while_it_says() {
    let site = Site::ready().await;
    site.document("a", "1").await;
    site.document("b", "2").await;
    let ask = async |method: &str, path: &str, sas: &str| {
        Got::of(site.bare(method, &format!("{}?{sas}", site.url(path)))).await
    };
    let one = site.fake.sas("vault", "disks", Some("a"), "r", Duration::from_secs(60));
    assert_eq!(ask("GET", "vault/disks/a", &one).await.text(), "1");
    ask("GET", "vault/disks/b", &one).await.refused(403, "AuthenticationFailed");
    ask("DELETE", "vault/disks/a", &one).await.refused(403, "AuthorizationPermissionMismatch");
    ask("DELETE", "vault/disks/a", &one.replace("sp=r", "sp=rd")).await.refused(403, "AuthenticationFailed");
    site.fake.pass(Duration::from_secs(61));
    ask("GET", "vault/disks/a", &one).await.refused(403, "AuthenticationFailed");
    let all = site.fake.sas("vault", "disks", None, "rld", HOUR);
    assert_eq!(ask("GET", "vault/disks/b", &all).await.text(), "2");
    let list = ask("GET", "vault/disks", &format!("restype=container&comp=list&{all}")).await;
    assert_eq!(list.all("Name"), ["a", "b"]);
    ask("DELETE", "vault/disks", &format!("restype=container&{all}"))
        .await
        .refused(403, "AuthorizationPermissionMismatch");
    assert_eq!(ask("DELETE", "vault/disks/b", &all).await.status, 202);
}

fn sign(key: &[u8], text: &str) -> String {
    BASE64_STANDARD.encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()))
}

#[tokio::test]
async fn a_user_signs_with_a_delegated_key() {
    let site = Site::ready().await;
    site.document("m/a", "1").await;
    let body = "<?xml version=\"1.0\"?><KeyInfo><Start>2026-01-01T00:00:00Z</Start><Expiry>2100-01-01T00:00:00Z</Expiry></KeyInfo>";
    let path = "vault/?restype=service&comp=userdelegationkey";
    let long = Got::of(site.request("POST", path, &[]).body(body)).await;
    long.refused(400, "InvalidXmlNodeValue");
    let end = time::OffsetDateTime::now_utc().replace_nanosecond(0).unwrap() + time::Duration::hours(2);
    let end = end.format(&time::format_description::well_known::Rfc3339).unwrap();
    let body = format!("<KeyInfo><Start>2026-01-01T00:00:00Z</Start><Expiry>{end}</Expiry></KeyInfo>");
    let key = Got::of(site.request("POST", path, &[]).body(body)).await;
    assert_eq!(key.status, 200, "{key:?}");
    let field = |name: &str| key.all(name).remove(0);
    let secret = BASE64_STANDARD.decode(field("Value")).unwrap();
    let signed = |version: &str, resource: &str| {
        let mut parts = vec!["r".to_owned(), String::new(), end.clone(), resource.to_owned()];
        parts.extend(
            ["SignedOid", "SignedTid", "SignedStart", "SignedExpiry", "SignedService", "SignedVersion"]
                .map(field),
        );
        parts.extend([(); 3].map(|()| String::new()));
        if version >= "2025-07-05" {
            parts.extend([(); 2].map(|()| String::new()));
        }
        parts.extend(["", "https", version, "b", "", ""].map(str::to_owned));
        if version >= "2026-04-06" {
            parts.extend([(); 2].map(|()| String::new()));
        }
        parts.extend([(); 5].map(|()| String::new()));
        let pairs = [
            ("sv", version.to_owned()),
            ("sr", "b".to_owned()),
            ("sp", "r".to_owned()),
            ("se", end.clone()),
            ("spr", "https".to_owned()),
            ("skoid", field("SignedOid")),
            ("sktid", field("SignedTid")),
            ("skt", field("SignedStart")),
            ("ske", field("SignedExpiry")),
            ("sks", field("SignedService")),
            ("skv", field("SignedVersion")),
            ("sig", sign(&secret, &parts.join("\n"))),
        ];
        url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
    };
    let ask = async |method: &str, sas: String| {
        Got::of(site.bare(method, &format!("{}?{sas}", site.url("vault/disks/m/a")))).await
    };
    for version in ["2020-12-06", "2025-07-05", "2026-04-06"] {
        assert_eq!(ask("GET", signed(version, "/blob/vault/disks/m/a")).await.text(), "1", "{version}");
        ask("GET", signed(version, "/blob/vault/disks/m/b")).await.refused(403, "AuthenticationFailed");
    }
    ask("DELETE", signed("2026-04-06", "/blob/vault/disks/m/a"))
        .await
        .refused(403, "AuthorizationPermissionMismatch");
    let wider = signed("2026-04-06", "/blob/vault/disks/m/a").replace("sp=r", "sp=rd");
    ask("DELETE", wider).await.refused(403, "AuthenticationFailed");
    site.fake.pass(3 * HOUR);
    ask("GET", signed("2026-04-06", "/blob/vault/disks/m/a")).await.refused(403, "AuthenticationFailed");
}

#[tokio::test]
async fn a_key_signs_requests_of_its_account() {
    let key = b"a key of thirty-two bytes, or so";
    let site = Site::ready_with(Config::default().with(Account::new("vault").key(key))).await;
    let date = "Sun, 29 Nov 2026 12:00:00 GMT";
    let put = async |key: &[u8], body: &'static str, signed: usize| {
        let text = format!(
            "PUT\n\n\n{signed}\n\n\n\n\n\n\n\n\nx-ms-blob-type:BlockBlob\nx-ms-date:{date}\nx-ms-version:2026-04-06\n\
             /vault/vault/disks/a%20b\ntimeout:5"
        );
        let request = site
            .bare("PUT", &site.url("vault/disks/a%20b?timeout=5"))
            .header("x-ms-date", date)
            .header("x-ms-blob-type", "BlockBlob")
            .header("Authorization", format!("SharedKey vault:{}", sign(key, &text)));
        Got::of(request.body(body)).await
    };
    assert_eq!(put(key, "text", 4).await.status, 201);
    put(key, "text", 5).await.refused(403, "AuthenticationFailed");
    put(b"another", "more", 4).await.refused(403, "AuthenticationFailed");
    assert_eq!(site.get("vault/disks/a%20b", &[]).await.text(), "text");
    let keyless = Site::ready().await;
    let request = keyless.bare("GET", &keyless.url("vault/disks?restype=container"));
    let got = Got::of(request.header("Authorization", "SharedKey vault:xx")).await;
    got.refused(403, "KeyBasedAuthenticationNotPermitted");
}

#[tokio::test]
async fn an_account_tells_its_kind() {
    let config = Config::account("vault").with(Account::new("lake").namespace());
    let site = Site::ready_with(config).await;
    let told = site.get("vault/?restype=account&comp=properties", &[]).await;
    assert_eq!(
        (told.header("x-ms-account-kind"), told.header("x-ms-is-hns-enabled")),
        (Some("StorageV2"), Some("false"))
    );
    let told = site.get("lake/?restype=account&comp=properties", &[]).await;
    assert_eq!(told.header("x-ms-is-hns-enabled"), Some("true"));
    assert_eq!(site.put("lake/disks?restype=container", &[], "").await.status, 201);
    let page = [("x-ms-blob-type", "PageBlob"), ("x-ms-blob-content-length", "512")];
    site.put("lake/disks/a", &page, "").await.refused(409, "BlobTypeNotSupported");
    site.get("none/disks?restype=container", &[]).await.refused(404, "ResourceNotFound");
}
