//! A store that behaves as no store should, and peers that speak the protocol by hand.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "shared by several test programs; a test that cannot go on fails"
)]

use super::{Authority, Tls, client_tls, server_tls};
use async_trait::async_trait;
use bytes::Bytes;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use site_recovery::*;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsStream;

/// Never ends a write, panics over a head, names very many machines and points, drops more points than it is told to, and
/// counts what is read of its disk and still held.
#[derive(Debug, Default)]
pub struct Odd {
    pub machines: usize,
    pub points: u64,
    pub capability: Capability,
    pub held: Arc<AtomicI64>,
    pub most: Arc<AtomicI64>,
    pub writing: Arc<AtomicI64>,
    pub sealed: Mutex<Option<Manifest>>,
    pub remembered: Mutex<Option<PhaseRecord>>,
}

#[async_trait]
impl Role for Odd {
    fn name(&self) -> RoleName {
        "store".into()
    }
    fn capability(&self) -> Capability {
        self.capability.clone()
    }
    async fn claim(&self, _: &Op, _: &MachineId) -> Result<()> {
        Ok(())
    }
}

/// Counts down when it is dropped.
struct Counted<T>(T, i64, Arc<AtomicI64>);

impl<T> Counted<T> {
    fn new(what: T, count: i64, held: &Arc<AtomicI64>, most: &Arc<AtomicI64>) -> Self {
        most.fetch_max(held.fetch_add(count, SeqCst) + count, SeqCst);
        Self(what, count, Arc::clone(held))
    }
}

impl<T> Drop for Counted<T> {
    fn drop(&mut self) {
        self.2.fetch_sub(self.1, SeqCst);
    }
}

impl AsRef<[u8]> for Counted<Bytes> {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[async_trait]
impl Replica for Odd {
    async fn machines(&self) -> Result<Vec<MachineId>> {
        Ok((0..self.machines).map(|n| MachineId(format!("machine-{n:0>100}"))).collect())
    }
    async fn prepare(&self, _: &Op, _: &Machine, _: &Seed, _: &Settings) -> Result<()> {
        Ok(())
    }
    async fn head(&self, _: &MachineId) -> Result<Head> {
        panic!("this store panics over heads, as it should in this test")
    }
    async fn begin(&self, _: &Op, _: &Machine, _: &CutId, _: &ChangeSet) -> Result<Ingest> {
        unreachable!()
    }
    async fn write(&self, _: &Ingest, _: u64, records: Vec<Record>) -> Result<Landed> {
        let _counted = Counted::new(records, 1, &self.writing, &Arc::default());
        std::future::pending().await
    }
    async fn seal(&self, _: &Ingest, manifest: &Manifest, _: Complete) -> Result<Point> {
        *self.sealed.lock().unwrap() = Some(manifest.clone());
        Ok(point(manifest.machine.id(), 1))
    }
    async fn points(&self, machine: &MachineId) -> Result<Vec<Point>> {
        Ok((0..self.points).map(|number| point(machine, number)).collect())
    }
    async fn manifest(&self, id: &MachineId, _: PointId) -> Result<Manifest> {
        Ok(self.sealed.lock().unwrap().clone().unwrap_or_else(|| manifest(id)))
    }
    async fn open(&self, _: &MachineId, _: PointId) -> Result<Disks> {
        let disk = CountingDisk { held: Arc::clone(&self.held), most: Arc::clone(&self.most) };
        Ok(Disks::from([("root".into(), Arc::new(disk) as Arc<dyn Disk>)]))
    }
    async fn hashes(&self, _: &MachineId, _: &DiskId, _: Run) -> Result<Vec<Hash>> {
        Ok(vec![])
    }
    async fn changed(&self, _: &MachineId, _: Option<PointId>, _: PointId) -> Result<Option<ChangeSet>> {
        Ok(None)
    }
    async fn pin(&self, _: &Op, _: &MachineId, _: PointId, _: &str) -> Result<()> {
        Ok(())
    }
    async fn unpin(&self, _: &Op, _: &MachineId, _: PointId, _: &str) -> Result<()> {
        Ok(())
    }
    async fn prune(&self, _: &Op, _: &MachineId, _: &[PointId]) -> Result<Vec<PointId>> {
        Ok((0..self.points).map(PointId).collect())
    }
    async fn delete(&self, _: &Op, _: &MachineId) -> Result<()> {
        Ok(())
    }
    async fn remember(&self, _: &Op, _: &MachineId, record: &PhaseRecord) -> Result<()> {
        *self.remembered.lock().unwrap() = Some(record.clone());
        Ok(())
    }
    async fn recall(&self, _: &MachineId) -> Result<Option<PhaseRecord>> {
        Ok(self.remembered.lock().unwrap().clone())
    }
}

#[async_trait]
impl RecoveryPointStore for Odd {
    async fn lock(&self, _: &Op, _: &MachineId, _: PointId, _: Timestamp) -> Result<()> {
        Ok(())
    }
    async fn scrub(&self, _: &MachineId, _: PointId) -> Result<Vec<Finding>> {
        Ok(vec![])
    }
}

pub fn point(machine: &MachineId, number: u64) -> Point {
    Point {
        id: PointId(number),
        cut: format!("cut-{number}-of-a-name-as-long-as-they-are").into(),
        members: vec![machine.clone()],
        taken: Timestamp(number),
        consistency: Consistency::Crash,
        generation: Generation(1),
        pins: vec![],
        locked_until: None,
        verified: true,
        verified_boot: None,
    }
}

pub fn manifest(id: &MachineId) -> Manifest {
    let generation = Generation(0);
    let machine = Machine {
        instance: Instance { machine: id.clone(), site: "here".into(), name: "web".into(), generation },
        title: None,
        disks: vec![],
        nics: vec![],
        cpus: 1,
        memory: 1,
        firmware: Default::default(),
        os: Default::default(),
        platform: Default::default(),
        guest: Default::default(),
    };
    let epoch = Epoch { number: 1, owner: "engine".into() };
    let item = Item::new(machine.clone(), epoch, Policy::default(), "out", "back");
    Manifest {
        machine,
        members: vec![],
        cut: "cut".into(),
        taken: Timestamp(0),
        consistency: Consistency::Crash,
        cursor: None,
        sidecars: vec![],
        control: Control { unit: "web".into(), members: vec![], item },
    }
}

#[derive(Debug)]
struct CountingDisk {
    held: Arc<AtomicI64>,
    most: Arc<AtomicI64>,
}

#[async_trait]
impl Disk for CountingDisk {
    fn size(&self) -> u64 {
        1 << 40
    }
    async fn extents(&self, range: Run) -> Result<Vec<Extent>> {
        Ok(vec![Extent { run: range, fill: Fill::Data }])
    }
    async fn read(&self, run: Run, pool: &Pool) -> Result<Bytes> {
        let block = pool.take(run.len as usize).await?.freeze();
        Ok(Bytes::from_owner(Counted::new(block, run.len as i64, &self.held, &self.most)))
    }
}

/// Both sides' TLS, and the means to speak by hand on either.
pub struct ByHand {
    pub tls: Tls,
    connector: tokio_rustls::TlsConnector,
    of_server: rustls::ServerConfig,
}

impl ByHand {
    pub fn new() -> Self {
        let ca = Authority::new();
        let (server, client) = (ca.issue("localhost"), ca.issue("process-server"));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca.pem().as_bytes()).unwrap()).unwrap();
        let chain = |pem: &str| vec![CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()];
        let key = |pem: &str| PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap();
        let alpn = vec![b"site-recovery-transport".to_vec()];
        let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).unwrap();
        let builder = builder.with_root_certificates(roots);
        let mut of_client =
            builder.with_client_auth_cert(chain(&client.certificate), key(&client.key)).unwrap();
        of_client.alpn_protocols = alpn.clone();
        let builder = rustls::ServerConfig::builder_with_provider(provider);
        let builder =
            builder.with_protocol_versions(&[&rustls::version::TLS13]).unwrap().with_no_client_auth();
        let mut of_server = builder.with_single_cert(chain(&server.certificate), key(&server.key)).unwrap();
        of_server.alpn_protocols = alpn;
        Self {
            tls: Tls { server: server_tls(&server, &ca), client: client_tls(&client, &ca, "localhost") },
            connector: Arc::new(of_client).into(),
            of_server,
        }
    }

    /// A client that says what it likes.
    pub async fn client(&self, server: SocketAddr) -> Peer {
        let stream = TcpStream::connect(server).await.unwrap();
        let secure = self.connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
        Peer(secure.into())
    }

    /// As the client, in another protocol.
    pub async fn client_of(&self, server: SocketAddr, protocol: &[u8]) -> Peer {
        let stream = TcpStream::connect(server).await.unwrap();
        let connector = self.connector.clone();
        let connector = connector.with_alpn(vec![protocol.to_vec()]);
        Peer(connector.connect("localhost".try_into().unwrap(), stream).await.unwrap().into())
    }

    /// A server that says what it likes, to the next client that comes so far.
    pub async fn server(&self, listener: &TcpListener) -> Peer {
        self.server_of(listener, b"site-recovery-transport").await
    }

    /// As the server, in another protocol.
    pub async fn server_of(&self, listener: &TcpListener, protocol: &[u8]) -> Peer {
        let mut config = self.of_server.clone();
        config.alpn_protocols = vec![protocol.to_vec()];
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            if let Ok(secure) = acceptor.accept(stream).await {
                return Peer(secure.into());
            }
        }
    }
}

/// One end of a connection.
pub struct Peer(pub TlsStream<TcpStream>);

pub fn frame(kind: u8, id: u64, body: &[u8]) -> Vec<u8> {
    [&[kind, 0, 0, 0][..], &(body.len() as u32).to_le_bytes(), &id.to_le_bytes(), body].concat()
}

pub fn hello(client: &str, connection: u64, versions: (u32, u32)) -> Vec<u8> {
    let (oldest, newest) = versions;
    let body = format!(
        r#"{{"versions":{{"oldest":{oldest},"newest":{newest}}},"role":"store","client":"{client}",
            "connection":{connection},"silence":600000,"longest":268435456,"unknown":"ignored"}}"#
    );
    frame(1, 0, body.as_bytes())
}

pub fn welcome(version: u32) -> Vec<u8> {
    let capability = serde_json::to_string(&Capability::default()).unwrap();
    let body = format!(
        r#"{{"version":{version},"capability":{capability},"credit":67108864,"requests":64,"silence":600000}}"#
    );
    frame(2, 0, body.as_bytes())
}

impl Peer {
    pub async fn say(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.0.write_all(bytes).await?;
        self.0.flush().await
    }

    /// The next frame that is no beat: kind, id, body.
    pub async fn hear(&mut self) -> std::io::Result<(u8, u64, Vec<u8>)> {
        loop {
            let mut header = [0; 16];
            self.0.read_exact(&mut header).await?;
            let len = u32::from_le_bytes(header[4..8].try_into().unwrap());
            let id = u64::from_le_bytes(header[8..].try_into().unwrap());
            let mut body = vec![0; len as usize];
            self.0.read_exact(&mut body).await?;
            if header[0] != 0 {
                return Ok((header[0], id, body));
            }
        }
    }

    /// Says hello, and is welcome.
    pub async fn enter(&mut self, client: &str, connection: u64) {
        self.say(&hello(client, connection, (1, 1))).await.unwrap();
        assert_eq!(self.hear().await.unwrap().0, 2, "welcome");
    }

    /// Reads until the other end hangs up.
    pub async fn ends(&mut self) {
        let ended = async { while self.hear().await.is_ok() {} };
        tokio::time::timeout(super::SOON, ended).await.expect("the other end hangs up");
    }
}
