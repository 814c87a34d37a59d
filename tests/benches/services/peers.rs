//! The peers: the same image between the same hosts, by programs that everybody has.

use crate::Outcome;
use crate::group::Group;
use crate::hosts::{Disk, Ground, Host, reflink};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

const PORT: &str = "9000";
pub(crate) const ZSTD: &str = r#"($DR socat -u TCP-LISTEN:$PORT,bind=$IP,reuseaddr - | zstd -q -d --sparse -f -o "$O") & server=$!
    zstd -q -1 -c "$A" | $WEB socat -u - TCP:$IP:$PORT,retry=200,interval=0.01
    wait $server; sync -d "$O""#;
pub(crate) const NBD: &str = r#"$DR nbdkit -f -i $IP -p $PORT -P "$PID" --tls=require --tls-certificates="$TLS" --tls-verify-peer file "$O" & server=$!
    while ! [ -s "$PID" ]; do sleep .005; done
    $WEB nbdcopy --flush "$A" "nbds://$IP:$PORT/?tls-certificates=$TLS" || { kill $server; exit 1; }
    sync -d "$O"; kill $server; wait $server 2>/dev/null || true"#;

/// Two hosts on the network of the services.
pub(crate) struct Peers {
    dir: PathBuf,
    web: Host,
    dr: Host,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) cpu: f64,
    pub(crate) wall: f64,
}

impl Peers {
    pub(crate) fn on(ground: &Ground) -> Outcome<Self> {
        let (web, dr) = (ground.host("pweb"), ground.host("pdr"));
        let dir = ground.dir().join("peers");
        fs::create_dir_all(dir.join("tls"))?;
        identities(&dir.join("tls"), &dr.ip().to_string())?;
        Ok(Self { dir, web, dr })
    }

    /// Copies what a disk holds to an empty file. As a capture does, it reads a clone, which is in nobody's cache.
    pub(crate) fn copy(&self, script: &str, disk: &Disk) -> Outcome<Cost> {
        let (clone, copy, pid) =
            (disk.image().with_extension("clone"), self.dir.join("copy"), self.dir.join("pid"));
        for left in [&copy, &pid] {
            crate::bench::clear(left)?;
        }
        File::create(&copy)?.set_len(fs::metadata(disk.image())?.len())?;
        reflink(disk.image(), &clone);
        let group = Group::new()?;
        let mut command = Command::new("sh");
        command.args(["-euc", script]);
        let set: [(&str, &Path); 5] = [
            ("A", &clone),
            ("O", &copy),
            ("PID", &pid),
            ("TLS", &self.dir.join("tls")),
            ("PORT", Path::new(PORT)),
        ];
        command.envs(set).env("IP", self.dr.ip().to_string());
        command.env("WEB", inside(&self.web)).env("DR", inside(&self.dr));
        let began = Instant::now();
        let status = group.command(&command).status()?;
        let cost = Cost { wall: began.elapsed().as_secs_f64(), cpu: group.cpu()? };
        crate::bench::clear(&clone)?;
        if status.success() { Ok(cost) } else { Err(format!("{status} of {script}").into()) }
    }

    /// An error where what was copied last is not what the disk holds.
    pub(crate) fn check(&self, disk: &Disk) -> Outcome<()> {
        let vars = [("A", disk.image()), ("O", &*self.dir.join("copy"))];
        crate::programs::shell("cmp \"$A\" \"$O\"", &vars).map(drop)
    }
}

/// What stands before a program to run it in a host.
fn inside(host: &Host) -> String {
    let command = host.command::<&str>("", &[]);
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// An authority, a server of this address and a client, as the files that GnuTLS looks for.
fn identities(dir: &Path, address: &str) -> Outcome<()> {
    let mut params = CertificateParams::new(vec![])?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    fs::write(dir.join("ca-cert.pem"), authority.pem())?;
    for (who, name) in [("server", address), ("client", "process-server")] {
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(vec![name.to_owned()])?.signed_by(&key, &authority)?;
        fs::write(dir.join(format!("{who}-cert.pem")), certificate.pem())?;
        fs::write(dir.join(format!("{who}-key.pem")), key.serialize_pem())?;
    }
    Ok(())
}
