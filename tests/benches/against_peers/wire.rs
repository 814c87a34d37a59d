//! G1 and G2: image A over TCP, to a durable replica in another process.

use crate::Outcome;
use crate::bench::{Bench, clear, stored, warm};
use crate::images::SIZE_OF_A;
use crate::ours::{By, Seal, free_port};
use crate::programs::{need, shell};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

const NBD_TLS: &str = r#"nbdkit -f -i 127.0.0.1 -p "$PORT" -P "$PID" --tls=require --tls-certificates="$TLS" --tls-verify-peer file "$O" & server=$!
    while ! [ -s "$PID" ]; do sleep .005; done
    nbdcopy --flush "$A" "nbds://localhost:$PORT/?tls-certificates=$TLS" || { kill $server; exit 1; }
    sync -d "$O"; kill $server; wait $server 2>/dev/null || true"#;
const NBD_PLAIN: &str = r#"nbdcopy --flush -- "$A" [ nbdkit --exit-with-parent file "$O" ]; sync -d "$O""#;
const ZSTD: &str = r#"(socat -u TCP-LISTEN:"$PORT",bind=127.0.0.1,reuseaddr - | zstd -q -d --sparse -f -o "$O") & server=$!
    zstd -q -1 -T2 -c "$A" | socat -u - TCP:127.0.0.1:"$PORT",retry=200,interval=0.01
    wait $server; sync -d "$O""#;

/// G1: as it is, over TLS; beside it without a network, where nothing is promised.
pub(crate) fn plain(bench: &Bench) -> Outcome<()> {
    need(&["nbdkit", "nbdcopy", "sync"])?;
    let (a, store, copy) = (bench.images.a()?, bench.at("store"), bench.at("copy.raw"));
    let (identities, pid) = (identities(bench)?, bench.at("nbdkit.pid"));
    warm(&a)?;
    let ours = || {
        clear(&store)?;
        Ok(bench.ship_far(&store, &a, "Raw", Seal::No, &identities)?.0)
    };
    let peer = |text: &str| {
        empty(&copy)?;
        clear(&pid)?;
        let port = free_port()?.to_string();
        let vars =
            [("A", &*a), ("O", &*copy), ("TLS", &*identities), ("PID", &*pid), ("PORT", Path::new(&port))];
        Ok(bench.meter.script(text, &vars)?.0)
    };
    let pairs = bench.in_turn(bench.pairs(5), ours, || peer(NBD_TLS))?;
    bench.check(&store, &a, Seal::No)?;
    bench.report.costs(
        "G1",
        "A over mutual TLS, raw, against nbdcopy to nbdkit",
        &pairs,
        Some(0.9),
        Some(1.0),
    )?;
    let ours = || {
        clear(&store)?;
        Ok(bench.ship_as("Raw", &store, &a, "first", By::Whole, Seal::No)?.0)
    };
    let pairs = bench.in_turn(bench.pairs(3), ours, || peer(NBD_PLAIN))?;
    let what = "A in one process, raw, against nbdcopy to nbdkit by a Unix socket";
    bench.report.costs("G1", what, &pairs, None, None)
}

/// G2: compressed and sealed.
pub(crate) fn sealed(bench: &Bench) -> Outcome<()> {
    need(&["zstd", "socat", "sync"])?;
    let (a, store, copy) = (bench.images.a()?, bench.at("store"), bench.at("copy.raw"));
    let identities = identities(bench)?;
    warm(&a)?;
    let crossed: u64 = shell("zstd -q -1 -T2 -c \"$A\" | wc -c", &[("A", &a)])?.trim().parse()?;
    for (codec, cpu, bytes) in [("Zstd", 0.65, 1.1), ("Lz4", 0.5, 1.4)] {
        let ours = || {
            clear(&store)?;
            bench.ship_far(&store, &a, codec, Seal::Yes, &identities)
        };
        let peer = || {
            clear(&copy)?;
            let port = free_port()?.to_string();
            let vars = [("A", &*a), ("O", &*copy), ("PORT", Path::new(&port))];
            Ok(bench.meter.script(ZSTD, &vars)?.0)
        };
        let pairs = match bench.in_turn(bench.pairs(5), ours, peer) {
            Ok(pairs) => pairs,
            Err(error) => {
                bench.report.failed("G2", &format!("{codec}: {error}"))?;
                continue;
            }
        };
        bench.check(&store, &a, Seal::Yes)?;
        let costs: Vec<_> = pairs.iter().map(|(ours, peer)| (ours.0, *peer)).collect();
        let sent: Vec<_> = pairs.iter().map(|(ours, _)| (ours.1, crossed)).collect();
        let what = format!("A over mutual TLS, {codec}, sealed, against zstd -1 -T2, socat");
        bench.report.costs("G2", &what, &costs, Some(cpu), None)?;
        bench.report.bytes(
            "G2",
            &format!("of records that crossed, {codec}, against zstd -1"),
            &sent,
            Some(bytes),
        )?;
        bench.report.bytes(
            "G2",
            &format!("stored, {codec}, against a raw file"),
            &[(stored(&store)?, stored(&copy)?)],
            None,
        )?;
    }
    Ok(())
}

fn empty(copy: &Path) -> Outcome<()> {
    clear(copy)?;
    Ok(File::create(copy)?.set_len(SIZE_OF_A)?)
}

/// An authority, a server called `localhost` and a client, as the files that GnuTLS looks for.
fn identities(bench: &Bench) -> Outcome<PathBuf> {
    let dir = bench.fresh("tls")?;
    let mut params = CertificateParams::new(vec![])?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    fs::write(dir.join("ca-cert.pem"), authority.pem())?;
    for (who, name) in [("server", "localhost"), ("client", "process-server")] {
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(vec![name.to_owned()])?.signed_by(&key, &authority)?;
        fs::write(dir.join(format!("{who}-cert.pem")), certificate.pem())?;
        fs::write(dir.join(format!("{who}-key.pem")), key.serialize_pem())?;
    }
    Ok(dir)
}
