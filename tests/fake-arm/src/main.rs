//! The fake as a program, for clients in other languages.

use fake_arm::{Account, Config, Fake};
use fake_blob::Image;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;

const USAGE: &str = "usage: fake-arm --ready-file FILE [--record FILE]
    Runs until its standard input ends. The ready file is JSON: url, authority (PEM), subscription, account (a resource id), and
    blobs with the addresses of two page blobs: good is a fixed VHD, bad is none; storage is the authority (PEM) of whoever serves
    blobs and signed addresses.";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (mut ready, mut record) = (None, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().map(PathBuf::from).ok_or(USAGE)?;
        match name.as_str() {
            "--ready-file" => ready = Some(value),
            "--record" => record = Some(value),
            _ => return Err(USAGE.into()),
        }
    }
    let ready = ready.ok_or(USAGE)?;
    let (blobs, account, addresses) = blobs().await?;
    let config = Config { accounts: vec![account.clone()], record, ..Config::default() };
    let subscription = config.subscription.clone();
    let storage = blobs.ca_pem().to_owned();
    let fake = Fake::start(config, blobs).await?;
    let told = json!({
        "url": fake.url(), "authority": fake.authority(), "subscription": subscription,
        "account": account.id, "blobs": addresses, "storage": storage,
    });
    // By a rename, so that nobody reads half of it.
    let half = ready.with_extension("half");
    std::fs::write(&half, told.to_string())?;
    std::fs::rename(&half, &ready)?;
    tokio::io::stdin().read_to_end(&mut vec![]).await?;
    Ok(())
}

/// A store with one blob that can be imported and one that cannot.
async fn blobs() -> Result<(Arc<fake_blob::Fake>, Account, Value), Box<dyn Error>> {
    let blobs = fake_blob::Fake::start(fake_blob::Config::account("store"));
    let endpoint = format!("{}store", blobs.endpoint());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(blobs.ca_pem().as_bytes())?)?;
    let config =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
    let client = reqwest::Client::builder().tls_backend_preconfigured(config).no_proxy().build()?;
    let request = client.put(format!("{endpoint}/vhds?restype=container")).header("content-length", 0);
    let request = request.header("x-ms-version", "2021-12-02");
    request.bearer_auth(blobs.token(Duration::from_secs(3600))).send().await?.error_for_status()?;
    let mut disk = Image::new(1 << 20);
    disk.write(0, &[7; 512]);
    let put = |name: &str, image| {
        let there = blobs.put_image("store", "vhds", name, image);
        there.then(|| format!("{endpoint}/vhds/{name}")).ok_or("the container is not there")
    };
    let addresses = json!({ "good": put("good.vhd", disk.with_footer())?, "bad": put("bad.vhd", disk)? });
    let account = Account {
        id: "/subscriptions/s/resourceGroups/rg/providers/Microsoft.Storage/storageAccounts/store".into(),
        location: "westeurope".into(),
        endpoint,
        credential: None,
        authority: None,
    };
    Ok((Arc::new(blobs), account, addresses))
}
