//! `nbdkit`, really run, with a stand-in for its plugin `vddk`: VDDK cannot be had. What the stand-in cannot show is whether VDDK
//! takes what it is given.

use super::lease::host;
use super::server::{Fake, PASSWORD, Reply, USER};
use super::streams::disk;
use super::whole;
use crate::read::nbdkit::Nbdkit;
use crate::read::vddk::{Frozen, Vddk, VddkDisk};
use rustix::process::{Pid, Signal, kill_process};
use site_recovery::{Clock, Disk, ErrorKind, Pool, Result, Run, SystemClock};
use site_recovery_nbd::{Address, RemoteDisk};
use site_recovery_vim::{DatastorePath, Moref, Secret, Vim};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

const LONG: Duration = Duration::from_secs(30);

/// What the plugin does with its parameters, and a disk. The password is read as the plugin reads it: from the file that is named,
/// opened by `nbdkit`.
const STAND_IN: &str = r#"
cd "$(dirname "$0")"
case $1 in
    config)
        echo "$PPID" >pid
        case $2=$3 in
            password=+/dev/stdin) head -n 1 "/proc/$PPID/fd/0" >password ;;
            *) echo "$2=$3" >>parameters ;;
        esac ;;
    config_complete) [ ! -e incomplete ] || { cat incomplete >&2; exit 1; } ;;
    thread_model) echo parallel ;;
    open) [ ! -e closed ] || { cat closed >&2; exit 1; } ;;
    get_size) stat -c %s disk.raw ;;
    pread) dd if=disk.raw iflag=skip_bytes,count_bytes skip="$4" count="$3" status=none ;;
    can_multi_conn) exit 0 ;;
    *) exit 2 ;;
esac
"#;

/// A folder with programs of a test.
struct Site {
    dir: TempDir,
    fake: Fake,
}

impl Site {
    /// With a program in place of `nbdkit` that starts it with `vddk` replaced. Nothing where `nbdkit` is absent.
    fn new(plugin: &str) -> Option<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        if !std::env::split_paths(&path).any(|dir| dir.join("nbdkit").is_file()) {
            println!("SKIPPED nbdkit with a stand-in for vddk: nbdkit is absent; tests/run --setup gets it");
            assert!(std::env::var("SITE_RECOVERY_PEERS").as_deref() != Ok("required"), "nbdkit is required");
            return None;
        }
        let (dir, fake) = (tempfile::tempdir().unwrap(), host("ready", || Reply::Break));
        std::fs::write(dir.path().join("disk.raw"), disk()).unwrap();
        let site = Self { dir, fake };
        site.script("stand-in", STAND_IN);
        site.script(
            "nbdkit",
            &format!(
                "printf '%s\\n' \"$@\" >'{0}/arguments'\nfor a; do shift; case $a in {plugin} *) set -- \"$@\" \"$a\" ;; \
                 esac; done\nexec nbdkit \"$@\"\n",
                site.dir.path().display()
            ),
        );
        Some(site)
    }

    fn with_stand_in() -> Option<Self> {
        Self::new("vddk) set -- \"$@\" sh \"$(dirname \"$0\")/stand-in\" ;;")
    }

    fn script(&self, name: &str, text: &str) {
        let path = self.file(name);
        std::fs::write(&path, format!("#!/bin/sh\n{text}")).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).unwrap();
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.file(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    fn vddk(&self) -> Vddk {
        let transports = Some("file:nbdssl:nbd".into());
        Vddk { nbdkit: self.file("nbdkit"), libdir: Some(self.file("vddk 8")), transports }
    }

    async fn open_as(&self, vddk: &Vddk, limit: Duration) -> Result<VddkDisk> {
        let vim = Vim::connect(&self.fake.settings, Arc::new(SystemClock)).await.unwrap();
        let (machine, snapshot) =
            (Moref::new("VirtualMachine", "vm-1"), Moref::new("VirtualMachineSnapshot", "snapshot-1"));
        let file: DatastorePath = "[fast 1] 웹/50% \"a\"'s.vmdk".parse().unwrap();
        let capacity = disk().len() as u64;
        vddk.open(&vim, Frozen { machine: &machine, snapshot: &snapshot, file: &file, capacity }, limit).await
    }

    async fn open(&self) -> Result<VddkDisk> {
        self.open_as(&self.vddk(), LONG).await
    }

    fn pid(&self) -> i32 {
        self.read("pid").trim().parse().unwrap()
    }

    /// Whether the program that ran here ends.
    async fn ends(&self) -> bool {
        let process = PathBuf::from(format!("/proc/{}", self.pid()));
        until(|| !process.exists()).await
    }
}

async fn until(is: impl Fn() -> bool) -> bool {
    for _ in 0..5_000 {
        if is() {
            return true;
        }
        SystemClock.sleep(Duration::from_millis(2)).await;
    }
    false
}

#[tokio::test(flavor = "multi_thread")]
async fn c1_a_disk_is_read_and_the_password_is_in_no_argument_and_no_variable() {
    let Some(site) = Site::with_stand_in() else { return };
    let disk = site.open().await.unwrap();
    assert!(whole(&disk).await == super::streams::disk());
    assert_eq!(site.read("password").trim_end_matches('\n'), PASSWORD);

    let (_, port) = site.fake.settings.url.rsplit_once(':').unwrap();
    let vim = Vim::connect(&site.fake.settings, Arc::new(SystemClock)).await.unwrap();
    let thumbprint = vim.login().await.unwrap().thumbprint;
    let libdir = site.file("vddk 8");
    let parameters = format!(
        "libdir={}\nserver=127.0.0.1\nport={port}\nuser={USER}\nthumbprint={thumbprint}\nvm=moref=vm-1\nsnapshot=snapshot-1\n\
         transports=file:nbdssl:nbd\nfile=[fast 1] 웹/50% \"a\"'s.vmdk\n",
        libdir.display()
    );
    assert_eq!(site.read("parameters"), parameters);
    let arguments = site.read("arguments");
    let (options, _) = arguments.split_once("\nvddk\n").unwrap();
    let options: Vec<&str> = options.lines().collect();
    assert_eq!(options[..4], ["--readonly", "--foreground", "--exit-with-parent", "--unix"]);
    for shown in ["cmdline", "environ"] {
        let shown = std::fs::read(format!("/proc/{}/{shown}", site.pid())).unwrap();
        let shown = String::from_utf8_lossy(&shown);
        assert!(!shown.contains("canary") && shown.contains("vddk 8"), "{shown}");
    }
    // Its socket's folder went when it was connected to.
    assert!(!Path::new(options[4]).exists() && !Path::new(options[4]).parent().unwrap().exists());

    drop(disk);
    assert!(site.ends().await, "it ends with the disk");
}

#[tokio::test(flavor = "multi_thread")]
async fn c1_nbdkit_itself_reads_the_password_from_what_it_is_given() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/disk", listener.local_addr().unwrap());
    let of_vddk = "libdir=*|server=*|port=*|thumbprint=*|vm=*|snapshot=*|transports=*|file=*";
    let curl = format!("vddk) set -- \"$@\" curl url={url} ;; {of_vddk}) ;;");
    let Some(site) = Site::new(&curl) else { return };
    let serving = std::thread::spawn(move || serve(&listener));
    let disk = site.open().await.unwrap();
    assert!(whole(&disk).await == super::streams::disk());
    assert!(site.read("arguments").contains("\npassword=+/dev/stdin\n"));
    drop(disk);
    let address = url.strip_prefix("http://").unwrap().strip_suffix("/disk").unwrap();
    TcpStream::connect(address).unwrap().write_all(b"END / HTTP/1.1\r\n\r\n").unwrap();
    assert!(serving.join().unwrap() > 0, "it was asked with the password, and with nothing else");
}

/// Serves the disk to who has the password, and says how often. Ends at a request to end.
fn serve(listener: &TcpListener) -> usize {
    let disk = disk();
    let mut served = vec![];
    for stream in listener.incoming().map(std::result::Result::unwrap) {
        let mut first = String::new();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        reader.read_line(&mut first).unwrap();
        if first.starts_with("END") {
            break;
        }
        let disk = disk.clone();
        served.push(std::thread::spawn(move || serve_one(stream, reader, first, &disk)));
    }
    served.into_iter().map(|t| t.join().unwrap()).sum()
}

fn serve_one(
    mut stream: TcpStream,
    mut reader: BufReader<TcpStream>,
    mut line: String,
    disk: &[u8],
) -> usize {
    let wanted =
        format!("authorization: basic {}", base64(format!("{USER}:{PASSWORD}").as_bytes()).to_lowercase());
    let mut served = 0;
    while !line.is_empty() {
        let head = line.starts_with("HEAD");
        let (mut known, mut range) = (false, 0..disk.len());
        loop {
            line.clear();
            reader.read_line(&mut line).unwrap();
            let header = line.trim().to_lowercase();
            known |= header == wanted;
            if let Some((start, end)) = header.strip_prefix("range: bytes=").and_then(|r| r.split_once('-')) {
                // Older ones ask for a byte more.
                range = start.parse().unwrap()..(end.parse::<usize>().unwrap() + 1).min(disk.len());
            }
            if header.is_empty() {
                break;
            }
        }
        let (status, body) = if known { ("206 Partial", &disk[range]) } else { ("401 Who", &disk[..0]) };
        let status = if head && known { "200 OK" } else { status };
        let len = body.len();
        write!(stream, "HTTP/1.1 {status}\r\naccept-ranges: bytes\r\ncontent-length: {len}\r\n\r\n").unwrap();
        if !head {
            stream.write_all(body).unwrap();
        }
        served += usize::from(known);
        line.clear();
        // It breaks off when its client is ended.
        if reader.read_line(&mut line).is_err() {
            break;
        }
    }
    served
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut all = String::new();
    for three in bytes.chunks(3) {
        let number = three.iter().fold(0_u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - three.len()));
        for digit in 0..4 {
            let shown = digit <= three.len();
            all.push(if shown {
                char::from(DIGITS[(number >> (18 - 6 * digit)) as usize & 63])
            } else {
                '='
            });
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_start_or_does_not_open_is_told_with_the_words_of_nbdkit() {
    let Some(site) = Site::with_stand_in() else { return };
    let mut absent = site.vddk();
    absent.nbdkit = site.file("no such program");
    let error = site.open_as(&absent, LONG).await.unwrap_err();
    assert!(
        error.kind() == ErrorKind::Unsupported && error.to_string().contains("no such program"),
        "{error}"
    );

    std::fs::write(site.file("closed"), "EACCES VixDiskLib_Open: Insufficient permissions in the host\n")
        .unwrap();
    let error = site.open().await.unwrap_err();
    let words = error.to_string();
    assert!(words.contains("[fast 1]") && words.contains("Insufficient permissions"), "{words}");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(site.ends().await);
    std::fs::remove_file(site.file("closed")).unwrap();

    std::fs::write(site.file("incomplete"), "libvixDiskLib.so.8: cannot open shared object file\n").unwrap();
    let error = site.open().await.unwrap_err();
    assert!(
        error.kind() == ErrorKind::Unsupported && error.to_string().contains("name its folder"),
        "{error}"
    );
    std::fs::remove_file(site.file("incomplete")).unwrap();

    std::fs::write(site.file("disk.raw"), [1; 512]).unwrap();
    let error = site.open().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert!(site.ends().await);
    assert!(!error.to_string().contains("canary") && !words.contains("canary"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_is_not_installed_is_told_with_a_remedy() {
    let Some(site) = Site::new("") else { return };
    let known = Command::new("nbdkit").args(["vddk", "--dump-plugin"]).output().unwrap();
    if known.status.success() {
        println!("SKIPPED that the plugin vddk is absent: it is here");
        return;
    }
    let error = site.open().await.unwrap_err();
    assert!(error.kind() == ErrorKind::Unsupported && error.to_string().contains("install"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn o6_one_that_is_never_ready_is_ended_and_leaves_no_folder() {
    let Some(site) = Site::with_stand_in() else { return };
    // It hears no request to end before its child ends, and has said why.
    site.script("nbdkit", "cd \"$(dirname \"$0\")\"; echo \"$$\" >pid; printf '%s' \"$5\" >socket; echo 'waits for ever' >&2; exec sleep 600");
    let error = site.open_as(&site.vddk(), Duration::from_secs(2)).await.unwrap_err();
    assert!(
        error.kind() == ErrorKind::Unavailable && error.to_string().contains("waits for ever"),
        "{error}"
    );
    assert!(site.ends().await);
    assert!(!Path::new(&site.read("socket")).parent().unwrap().exists());

    // Dropped while it waits, the same.
    std::fs::remove_file(site.file("pid")).unwrap();
    {
        let vddk = site.vddk();
        let opening = site.open_as(&vddk, LONG);
        let started = until(|| site.file("pid").metadata().is_ok_and(|m| m.len() > 1));
        tokio::select! {
            _ = opening => panic!("it is never ready"),
            started = started => assert!(started),
        }
    }
    assert!(site.ends().await);
    assert!(!Path::new(&site.read("socket")).parent().unwrap().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_killed_is_an_error_that_passes() {
    let Some(site) = Site::with_stand_in() else { return };
    let disk = site.open().await.unwrap();
    let pool = Pool::new(1 << 20);
    disk.read(Run::new(0, 512), &pool).await.unwrap();
    kill_process(Pid::from_raw(site.pid()).unwrap(), Signal::KILL).unwrap();
    assert!(site.ends().await);
    let error = disk.read(Run::new(0, 512), &pool).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Unavailable && error.fact("nbdkit").is_some(), "{error}");
}

/// `--exit-with-parent` means the thread.
#[tokio::test(flavor = "multi_thread")]
async fn it_outlives_the_thread_that_asked_for_it() {
    let Some(site) = Site::with_stand_in() else { return };
    let (socket, pid) = (site.file("s"), site.file("p"));
    let mut command = Command::new("nbdkit");
    command.args(["-f", "-r", "--exit-with-parent", "-U"]).arg(&socket).arg("-P").arg(&pid);
    command.arg("file").arg(site.file("disk.raw"));
    let starting = std::thread::spawn(move || Nbdkit::start(command, Secret::new("unused".into())).unwrap());
    let nbdkit = starting.join().unwrap();
    assert!(until(|| pid.metadata().is_ok_and(|m| m.len() > 1)).await, "{}", nbdkit.said());
    let disk = RemoteDisk::builder(Address::Unix(socket), "").connect().await.unwrap();
    assert!(whole(&disk).await == super::streams::disk());
    assert!(!nbdkit.is_over());
    let number = std::fs::read_to_string(pid).unwrap();
    drop((disk, nbdkit));
    let process = PathBuf::from(format!("/proc/{}", number.trim()));
    assert!(until(|| !process.exists()).await);
}
