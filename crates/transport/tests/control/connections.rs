//! Calls whose caller or whose connection is gone.

use crate::odd_source::{OddSource, instance};
use crate::support::shipping::Proxy;
use crate::support::*;
use bytes::Bytes;
use site_recovery::*;
use site_recovery_testkit::world::World;
use site_recovery_transport::{RemoteLandingSite, RemoteProcessServer, RemoteSource, Server};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

fn op(key: &str) -> Op {
    Op { key: key.into(), epoch: Epoch { number: 1, owner: "dr".into() } }
}

async fn served(tls: &Tls) -> (Arc<OddSource>, Server) {
    let source = Arc::new(OddSource::default());
    let server = Server::builder(tls.server.clone()).source(Arc::clone(&source) as _);
    (source, server.listen(loopback()).await.unwrap())
}

fn far(tls: &Tls, address: SocketAddr) -> site_recovery_transport::RemoteBuilder<RemoteSource> {
    RemoteSource::builder(address.to_string(), "hall".into(), tls.client.clone())
}

async fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let reaching = async {
        while !reached() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, reaching).await.unwrap_or_else(|_| panic!("never: {what}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_dropped_is_over_there_before_a_later_one_begins() {
    let tls = Tls::new();
    let (source, server) = served(&tls).await;
    let far = Arc::new(far(&tls, server.address()).connect().await.unwrap());
    for round in 0..50 {
        source.to_hang.store(1, SeqCst);
        let hanging = {
            let far = Arc::clone(&far);
            tokio::spawn(async move { far.fence(&op("fence"), &instance(), Duration::ZERO).await })
        };
        until("the fence hangs", || source.hanging.load(SeqCst) == 1).await;
        hanging.abort();
        let _ = hanging.await;
        assert_eq!(far.power(&instance()).await.unwrap(), Power::Unknown);
        assert_eq!(source.hanging_at_power.load(SeqCst), 0, "round {round}: it hung on beside a later call");
    }
    server.stop(SOON).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o2_a_call_whose_connection_is_cut_is_asked_again_and_never_twice_at_a_time() {
    let tls = Tls::new();
    let (source, server) = served(&tls).await;
    let proxy = Proxy::new(server.address(), vec![8_000, 8_000, 8_000]).await;
    let far = far(&tls, proxy.address).connect().await.unwrap();
    for _ in 0..100 {
        far.fence(&op("fence"), &instance(), Duration::ZERO).await.unwrap();
    }
    assert_eq!(proxy.cut.load(SeqCst), 3, "it was cut");
    assert!(source.fenced.load(SeqCst) >= 100);
    // One hangs, its connection is cut by another's bytes, and it comes again: the first one is over by then.
    source.to_hang.store(1, SeqCst);
    let proxy = Proxy::new(server.address(), vec![6_000]).await;
    let far = self::far(&tls, proxy.address).connect().await.unwrap();
    let hanging = async { far.fence(&op("fence"), &instance(), Duration::ZERO).await };
    let busy = async {
        until("the fence hangs", || source.hanging.load(SeqCst) == 1).await;
        while proxy.cut.load(SeqCst) == 0 {
            far.power(&instance()).await.unwrap();
        }
    };
    let both = async { tokio::join!(hanging, busy) };
    let (fenced, ()) = tokio::time::timeout(SOON, both).await.expect("in time");
    fenced.unwrap();
    assert_eq!((source.hanging.load(SeqCst), source.most_hanging.load(SeqCst)), (0, 1));
    server.stop(SOON).await;
}

/// Passes the first connection on until it is told to swallow everything, and later ones for good. Nobody hangs up.
async fn black_hole(
    target: SocketAddr,
) -> (SocketAddr, tokio::sync::watch::Sender<bool>, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (swallow, swallows) = tokio::sync::watch::channel(false);
    let task = tokio::spawn(async move {
        let mut all = tokio::task::JoinSet::new();
        for number in 0.. {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut server = TcpStream::connect(target).await.unwrap();
            let mut swallows = swallows.clone();
            all.spawn(async move {
                let pass = tokio::io::copy_bidirectional(&mut client, &mut server);
                tokio::select! {
                    _ = pass => return,
                    _ = swallows.wait_for(|swallow| *swallow && number == 0) => {}
                }
                std::future::pending::<()>().await;
                drop((client, server));
            });
        }
    });
    (address, swallow, task)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o2_a_black_hole_is_found_out_and_the_call_goes_another_way() {
    let tls = Tls::new();
    let (source, server) = served(&tls).await;
    let (address, swallow, task) = black_hole(server.address()).await;
    // Whoever waits for an answer for longer than for a connection is still given one to ask on again. A busy machine takes its
    // time to make that one.
    let far = far(&tls, address).stall(Duration::from_secs(6)).patience(Duration::from_secs(5));
    let far = far.connect().await.unwrap();
    far.fence(&op("fence"), &instance(), Duration::ZERO).await.unwrap();
    swallow.send(true).unwrap();
    let fenced = tokio::time::timeout(SOON, far.fence(&op("again"), &instance(), Duration::ZERO)).await;
    fenced.expect("in time").unwrap();
    assert_eq!(source.fenced.load(SeqCst), 2);
    task.abort();
    drop(far);
    server.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn nobody_there_is_unavailable_after_the_patience_and_says_nothing_of_power() {
    let tls = Tls::new();
    let (_, server) = served(&tls).await;
    let address = server.address();
    server.stop(SOON).await;
    let patience = Duration::from_secs(2);
    let far = far(&tls, address).patience(patience).lazy(Capability::default()).unwrap();
    let error = far.power(&instance()).await.unwrap_err();
    assert_eq!((error.kind(), error.is_temporary()), (ErrorKind::Unavailable, true), "{error}");

    // Whoever asks again does not wait as long again; and is answered as soon as somebody is there.
    let again = tokio::time::timeout(patience / 2, far.power(&instance())).await;
    assert_eq!(again.expect("one try").unwrap_err().kind(), ErrorKind::Unavailable);
    let server = Server::builder(tls.server.clone()).source(Arc::new(OddSource::default()));
    let server = server.listen(address).await.unwrap();
    far.power(&instance()).await.unwrap();
    server.stop(SOON).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d1_a_landing_disk_whose_connection_broke_never_says_that_it_is_flushed() {
    let tls = Tls::new();
    let site = World::new(5).site("here");
    site.add_machine("web", &[("system", 256 << 10)]);
    site.stop_outside("web");
    let server = Server::builder(tls.server.clone()).landing_site(Arc::new(site.clone()));
    let server = server.listen(loopback()).await.unwrap();
    let proxy = Proxy::new(server.address(), vec![u64::MAX, 80_000]).await;
    let far = RemoteLandingSite::builder(proxy.address.to_string(), "here".into(), tls.client.clone());
    let far = far.connect().await.unwrap();
    let machine = site.machine("web").unwrap();
    let (existing, settings) = (Some(machine.instance.clone()), Settings::default());
    let landed = far.attach(&op("attach"), &machine, existing, &settings).await.unwrap();
    let id = &machine.disks[0].id;
    let disk = far.disk(&landed, id).await.unwrap();
    disk.write(0, Bytes::from(vec![1; 4096])).await.unwrap();
    disk.flush().await.unwrap();
    let mut broken = None;
    for at in 1..60 {
        match disk.write(at * 4096, Bytes::from(vec![2; 4096])).await {
            Ok(()) => {}
            Err(error) => {
                broken = Some(error);
                break;
            }
        }
    }
    let error = broken.expect("the connection was cut");
    assert_eq!((error.kind(), proxy.cut.load(SeqCst)), (ErrorKind::Unavailable, 1), "{error}");
    assert!(error.to_string().contains("not flushed"), "{error}");
    assert_eq!(disk.flush().await.unwrap_err().kind(), ErrorKind::Unavailable);
    // Opened anew it goes on.
    let disk = far.disk(&landed, id).await.unwrap();
    disk.zero(Run::new(0, 4096)).await.unwrap();
    disk.flush().await.unwrap();
    assert_eq!(site.bytes("web")["system"][..4096], [0; 4096]);
    drop((disk, far));
    server.stop(SOON).await;
}

#[tokio::test]
async fn a_name_that_a_service_does_not_know_is_told_before_it_is_needed() {
    #[derive(Debug)]
    struct Nobody;
    #[async_trait::async_trait]
    impl site_recovery_transport::Names for Nobody {
        async fn source(&self, name: &RoleName) -> Result<Arc<dyn Source>> {
            Err(Error::new(ErrorKind::NotFound, format!("{name} is not enrolled")))
        }
        async fn replica(&self, name: &RoleName) -> Result<Arc<dyn Replica>> {
            Err(Error::new(ErrorKind::NotFound, format!("{name} is not enrolled")))
        }
    }
    let tls = Tls::new();
    let near = site_recovery_process_server::ProcessServer::builder("ps").build().await.unwrap();
    let server = Server::builder(tls.server.clone()).process_server(Arc::new(near)).names(Arc::new(Nobody));
    let server = server.listen(loopback()).await.unwrap();
    let far = RemoteProcessServer::builder(server.address().to_string(), "ps".into(), tls.client.clone());
    let far = far.connect().await.unwrap();
    let findings = far.knows(&["hall".into()]).await.unwrap();
    let told: Vec<_> = findings.iter().map(|f| (f.code.as_str(), f.severity)).collect();
    assert_eq!(told, [("process_server.unknown_role", Severity::Critical)]);
    assert!(findings[0].cause.contains("hall is not enrolled"), "{:?}", findings[0]);
    server.stop(SOON).await;
}
