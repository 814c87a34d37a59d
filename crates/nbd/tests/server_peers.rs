//! Our server, asked by `nbdinfo`, `nbdcopy`, `qemu-img` and `qemu-io`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use site_recovery::*;
use site_recovery_nbd::{Address, Export, Server, ServerTls, Stopped};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use support::*;

const SIZE: u64 = 20 * MIB + 512;

async fn serve(dir: &Path, export: Export) -> Server {
    Server::builder().export(export).listen(Address::Unix(dir.join("s.sock"))).await.unwrap()
}

fn file(dir: &Path, name: &str, bytes: &[u8]) -> String {
    let path = dir.join(name);
    std::fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_is_listed_copied_mapped_compared_and_converted() {
    if !peers("our server and its readers", &["nbdinfo", "nbdcopy", "qemu-img"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(image(SIZE, 7));
    let original = file(dir.path(), "original.raw", &disk.bytes);
    let export = Export::read_only("web/root@17", disk.clone()).describe("root of web at point 17");
    let server = serve(dir.path(), export).await;
    let uri = server.address().uri("web/root@17");

    let listed = run("nbdinfo", &["--list", &server.address().uri("")]).await;
    assert!(listed.contains("web/root@17") && listed.contains("root of web at point 17"), "{listed}");
    let told = run("nbdinfo", &[&uri]).await;
    assert!(told.contains("export-size: 20972032"), "{told}");
    for fact in ["is_read_only: true", "can_multi_conn: true", "base:allocation"] {
        assert!(told.contains(fact), "{fact}: {told}");
    }
    for option in ["newstyle-fixed", "structured"] {
        assert!(told.contains(option), "{option}: {told}");
    }

    let copy = dir.path().join("copy.raw");
    run("nbdcopy", &[&uri, copy.to_str().unwrap()]).await;
    assert!(std::fs::read(&copy).unwrap() == disk.bytes, "nbdcopy has other bytes");
    let same = run("qemu-img", &["compare", "-f", "raw", "-F", "raw", &uri, &original]).await;
    assert!(same.contains("identical"), "{same}");
    let converted = dir.path().join("converted.raw");
    run("qemu-img", &["convert", "-f", "raw", "-O", "raw", &uri, converted.to_str().unwrap()]).await;
    assert!(std::fs::read(&converted).unwrap() == disk.bytes, "qemu-img convert has other bytes");

    // Both maps say of every byte what the disk says.
    let zeros = disk.extents(Run::new(0, SIZE)).await.unwrap();
    let zeros: Vec<Run> = zeros.into_iter().filter(|e| e.fill == Fill::Zero).map(|e| e.run).collect();
    let map = run("nbdinfo", &["--map", &uri]).await;
    let told: Vec<Run> = map.lines().filter(|l| l.contains("zero")).map(columns).collect();
    assert_eq!(told, zeros, "{map}");
    let map = run("qemu-img", &["map", "-f", "raw", "--output=json", &uri]).await;
    assert_eq!(map.matches("\"zero\": true").count(), zeros.len(), "{map}");
    assert_eq!(server.stop(Duration::from_secs(5)).await, Stopped { cut: 0 });
    assert!(!dir.path().join("s.sock").exists());
}

fn columns(line: &str) -> Run {
    let mut numbers = line.split_whitespace().map(|n| n.parse::<u64>().unwrap());
    Run::new(numbers.next().unwrap(), numbers.next().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_since_a_point_are_a_dirty_bitmap() {
    if !peers("our server and its bitmaps", &["nbdinfo", "qemu-img"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let id = DiskId::from("root");
    let changes: ChangeSet =
        [(id.clone(), Run::new(MIB, 64 * KIB)), (id.clone(), Run::new(5 * MIB, 4096))].into_iter().collect();
    let export = Export::read_only("x", Arc::new(image(SIZE, 1))).changed("since-3", &changes, &id);
    let server = serve(dir.path(), export).await;
    let uri = server.address().uri("x");
    let map = run("nbdinfo", &["--map=qemu:dirty-bitmap:since-3", &uri]).await;
    let dirty: Vec<Run> = map.lines().filter(|l| l.contains("dirty")).map(columns).collect();
    assert_eq!(dirty, changes.runs(&id), "{map}");
    let socket = dir.path().join("s.sock");
    let options = format!(
        "driver=nbd,server.type=unix,server.path={},export=x,x-dirty-bitmap=qemu:dirty-bitmap:since-3",
        socket.display()
    );
    let map = run("qemu-img", &["map", "--output=json", "--image-opts", &options]).await;
    assert_eq!(map.matches("\"data\": false").count(), 2, "{map}");
    server.stop(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_go_to_an_overlay_and_are_gone_afterwards() {
    if !peers("our server and its writers", &["qemu-io", "qemu-img", "nbdcopy"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(image(SIZE, 3));
    let original = file(dir.path(), "original.raw", &disk.bytes);
    let export = Export::with_overlay("x", disk.clone(), dir.path(), 8 * MIB).unwrap();
    let server = serve(dir.path(), export).await;
    let uri = server.address().uri("x");
    // The same to a file, by the same program, is what the export must read as.
    let acts = [
        "write -P 0x41 0 4096",
        "write -P 0x42 10000 777",
        "write -P 0x43 1048000 70000",
        "write -z 2097152 1048576",
        "write -P 0x44 2200000 5",
        "discard 4194304 65536",
        "write -P 0x45 20971520 512",
        "flush",
    ];
    let expected = file(dir.path(), "expected.raw", &disk.bytes);
    let mut args = vec!["-f", "raw"];
    args.extend(acts.iter().flat_map(|act| ["-c", act]));
    let said = run("qemu-io", &[&args[..], &[uri.as_str()]].concat()).await;
    assert!(!said.contains("failed"), "{said}");
    let acts = acts.map(|act| act.replace("discard", "write -z"));
    let mut args = vec!["-f", "raw"];
    args.extend(acts.iter().flat_map(|act| ["-c", act.as_str()]));
    run("qemu-io", &[&args[..], &[expected.as_str()]].concat()).await;
    let same = run("qemu-img", &["compare", "-f", "raw", "-F", "raw", &uri, &expected]).await;
    assert!(same.contains("identical"), "{same}");

    // As an installer or a restore would: everything, over several connections.
    let other = image(SIZE, 4);
    let all = Export::with_overlay("all", disk.clone(), dir.path(), 64 * MIB).unwrap();
    let writable =
        Server::builder().export(all).listen(Address::Unix(dir.path().join("all.sock"))).await.unwrap();
    let everything = file(dir.path(), "other.raw", &other.bytes);
    run("nbdcopy", &[&everything, &writable.address().uri("all")]).await;
    let same =
        run("qemu-img", &["compare", "-f", "raw", "-F", "raw", &writable.address().uri("all"), &everything])
            .await;
    assert!(same.contains("identical"), "{same}");
    writable.stop(Duration::from_secs(5)).await;

    let (code, too_much) = try_run("qemu-io", &["-f", "raw", "-c", "write -P 1 4M 12M", &uri]).await;
    assert!(code == Some(1) && too_much.contains("No space left"), "{too_much}");
    let (code, differs) = try_run("qemu-img", &["compare", "-f", "raw", "-F", "raw", &uri, &original]).await;
    assert_eq!(code, Some(1), "{differs}");
    server.stop(Duration::from_secs(5)).await;

    let server = serve(dir.path(), Export::read_only("x", disk)).await;
    let same = run("qemu-img", &["compare", "-f", "raw", "-F", "raw", &uri, &original]).await;
    assert!(same.contains("identical"), "{same}");
    let refused = try_run("qemu-io", &["-f", "raw", "-c", "write 0 512", &uri]).await;
    assert!(refused.1.contains("Permission denied"), "{refused:?}");
    server.stop(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_required_or_off() {
    if !peers("our server and TLS", &["nbdinfo", "nbdcopy", "qemu-img"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for name in ["ca-cert.pem", "client-cert.pem", "client-key.pem"] {
        file(dir.path(), name, &pem(name));
    }
    let disk = Arc::new(image(SIZE, 5));
    let tls =
        ServerTls::mutual(&pem("server-cert.pem"), &pem("server-key.pem"), &pem("ca-cert.pem")).unwrap();
    let server = Server::builder().export(Export::read_only("x", disk.clone())).tls(tls);
    let server = server.listen(Address::loopback()).await.unwrap();
    let Address::Tcp(at) = server.address() else { panic!("TCP was asked for") };
    let certificates = dir.path().to_str().unwrap();
    let uri = format!("nbds://localhost:{}/x?tls-certificates={certificates}", at.port());
    let copy = dir.path().join("copy.raw");
    run("nbdcopy", &[&uri, copy.to_str().unwrap()]).await;
    assert!(std::fs::read(&copy).unwrap() == disk.bytes, "nbdcopy over TLS has other bytes");
    let secret = format!("tls-creds-x509,id=tls,endpoint=client,dir={certificates}");
    let image = format!(
        "driver=nbd,server.type=inet,server.host=127.0.0.1,server.port={},export=x,tls-creds=tls",
        at.port()
    );
    let converted = dir.path().join("converted.raw");
    let converted = converted.to_str().unwrap();
    run("qemu-img", &["convert", "--object", &secret, "--image-opts", "-O", "raw", &image, converted]).await;
    assert!(std::fs::read(converted).unwrap() == disk.bytes, "qemu-img over TLS has other bytes");

    let (code, said) = try_run("nbdinfo", &["--size", &server.address().uri("x")]).await;
    assert_ne!(code, Some(0), "who speaks without TLS is refused: {said}");

    let nobody = tempfile::tempdir().unwrap();
    file(nobody.path(), "ca-cert.pem", &pem("ca-cert.pem"));
    let uri = format!("nbds://localhost:{}/x?tls-certificates={}", at.port(), nobody.path().display());
    let (code, said) = try_run("nbdinfo", &["--size", &uri]).await;
    assert_ne!(code, Some(0), "who shows no certificate is refused: {said}");
    assert_eq!(server.stop(Duration::from_secs(5)).await, Stopped { cut: 0 });

    let server = serve(dir.path(), Export::read_only("x", disk)).await;
    let uri = format!("nbds+unix://localhost/x?socket={0}/s.sock&tls-certificates={0}", certificates);
    let (code, said) = try_run("nbdinfo", &["--size", &uri]).await;
    assert_ne!(code, Some(0), "who wants TLS of a server without it does not go on: {said}");
    server.stop(Duration::from_secs(5)).await;
}
