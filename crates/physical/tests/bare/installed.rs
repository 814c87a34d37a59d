//! What a restored system is told before it starts: on real file systems, which land here byte by byte, or stood here before.

use crate::support::*;
use site_recovery::*;
use site_recovery_physical::bare::{BareDisks, Described, Installed, Rescue, Shown, Slot};
use site_recovery_physical::guard;
use site_recovery_physical::power::Command as Program;
use std::collections::BTreeMap;
use std::fs;
use std::io::BufRead;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

const MIB: u64 = 1 << 20;
const SIZE: u64 = 24 * MIB;
/// Where the partition begins.
const START: u64 = MIB;
pub(crate) const STATE: &str = "var/lib/site-recovery/agent";
const MARK: &str = "var/lib/site-recovery/agent/agent/guard-mark.json";
const SHOWN: &str = "var/lib/site-recovery/agent/credentials/identity.json";
const SECRET: &str = "the rescue system's own";

pub(crate) fn peers() -> bool {
    ["mke2fs", "losetup", "mount", "addpart"]
        .into_iter()
        .all(|program| is_here(program, "an installed system"))
}

fn run(program: &str, arguments: &[&str]) {
    let ran = Command::new(program).args(arguments).output().unwrap();
    assert!(ran.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
}

/// A system's file system, mounted for as long as this lives.
pub(crate) struct Mounted(pub(crate) PathBuf);

impl Mounted {
    fn of(device: &Path, at: &Path, options: &str) -> Self {
        fs::create_dir_all(at).unwrap();
        run("mount", &["-o", options, device.to_str().unwrap(), at.to_str().unwrap()]);
        Self(at.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// A server in its rescue system, with one disk.
pub(crate) struct Scene {
    pub(crate) dir: TempDir,
    pub(crate) disk: Loop,
    installed: Installed,
}

impl Scene {
    /// An ext4 on the bare disk, with what `fill` puts there.
    pub(crate) fn new(fill: impl FnOnce(&Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("disk.img");
        fs::File::create(&file).unwrap().set_len(SIZE).unwrap();
        run("mke2fs", &["-q", "-F", "-t", "ext4", file.to_str().unwrap()]);
        let disk = Loop::over(&file);
        let scene = Self { installed: Installed::on(&disk.path), disk, dir };
        fill(&scene.look().0);
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn size(&self) -> u64 {
        SIZE
    }

    pub(crate) fn look(&self) -> Mounted {
        Mounted::of(&self.installed.device, &self.path("look"), "rw")
    }

    fn site(&self, shown: Option<Arc<dyn Shown>>) -> BareDisks {
        site(self.dir.path(), &self.disk.path, Some(self.installed.clone()), shown)
    }

    /// Lands nothing new, and starts it.
    async fn start(&self, shown: Option<Arc<dyn Shown>>) -> Error {
        let site = self.site(shown);
        if !self.path("state/servers/web-1/landing.json").exists() {
            landed(&site).await;
        }
        start(&site).await
    }

    /// How often the rescue system was left.
    fn left(&self) -> usize {
        fs::read_to_string(self.path("left")).unwrap_or_default().lines().count()
    }

    /// That nobody has it mounted, seen or unseen, and no volume lies on it.
    pub(crate) fn is_free(&self) -> bool {
        let mut options = fs::File::options();
        options.read(true).custom_flags(0o200); // O_EXCL
        options.open(&self.installed.device).is_ok()
    }
}

fn site(dir: &Path, disk: &Path, installed: Option<Installed>, shown: Option<Arc<dyn Shown>>) -> BareDisks {
    let leave = format!("echo left >> {}", dir.join("left").display());
    let leave = Program { run: vec!["/bin/sh".into(), "-c".into(), leave], seconds: 10 };
    let described = Described {
        name: "web-1".into(),
        slots: vec![Slot { id: "root".into(), path: disk.to_owned() }],
        firmware: Some(Firmware::Bios),
    };
    let builder = BareDisks::builder("hall-1".into(), dir.join("state"), Arc::new(SystemClock));
    let builder = builder.server(described.in_rescue(Rescue::leaving_by(leave)));
    let builder = match installed {
        Some(installed) => builder.installed("web-1", installed, shown),
        None => builder,
    };
    builder.open().unwrap()
}

fn web() -> Machine {
    machine("m-web", "hall-1", "web-1", &[("root", SIZE)])
}

/// Attaches, arms as of the second promotion, and detaches.
pub(crate) async fn landed(site: &impl LandingSite) {
    site.attach(&op("a"), &web(), Some(web().instance), &Settings::default()).await.unwrap();
    site.arm(&op("arm"), &web().instance, Generation(2)).await.unwrap();
    site.detach(&op("d"), &web().instance).await.unwrap();
}

/// What it says. That the rescue system is left is `Unavailable`: nobody has seen it run yet.
pub(crate) async fn start(site: &impl LandingSite) -> Error {
    let recovery = Recovery {
        machine: web(),
        sidecars: vec![],
        point: PointId(1),
        taken: Timestamp(1),
        consistency: Consistency::Crash,
        generation: Generation(2),
        purpose: Purpose::Failover,
        settings: Settings::default(),
    };
    let op = op_of("engine", 7, "s");
    let leave = permit(&op, &web()).await;
    site.start(&op, &web().instance, &recovery, leave).await.unwrap_err()
}

fn has_left(error: &Error) -> bool {
    error.kind() == ErrorKind::Unavailable && error.message().contains("leaves its rescue system")
}

/// A certificate that is put there, after as many failures as are asked for.
#[derive(Debug, Default)]
struct Certificate {
    fails: AtomicBool,
}

impl Shown for Certificate {
    fn put(&self, credentials: &Path) -> Result<()> {
        let file = credentials.join("identity.json");
        site_recovery_register::durable::write_bytes(&file, SECRET.as_bytes())?;
        match self.fails.swap(false, Ordering::SeqCst) {
            true => Err(Error::new(ErrorKind::Unavailable, "the disk did not answer")),
            false => Ok(()),
        }
    }
}

fn certificate() -> Option<Arc<dyn Shown>> {
    Some(Arc::new(Certificate::default()))
}

/// An agent that was at work when it was captured, and what else a system has.
pub(crate) fn with_agent(root: &Path) {
    let state = root.join(STATE);
    fs::create_dir_all(state.join("agent/epochs")).unwrap();
    fs::create_dir_all(state.join("guard")).unwrap();
    fs::create_dir(state.join("credentials")).unwrap();
    fs::set_permissions(state.join("credentials"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(root.join(MARK), "{\"of\": \"its past\"}").unwrap();
    fs::write(root.join(SHOWN), "expired").unwrap();
    fs::write(state.join("agent/mark.json"), "{}").unwrap();
    fs::write(state.join("guard/seen.json"), "{\"order\": [1, 2]}").unwrap();
    fs::create_dir_all(root.join("etc")).unwrap();
    fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\n").unwrap();
}

/// Every file and link below, by its path: its mode and bytes, or where it leads.
fn tree(root: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let (mut all, mut open) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let about = path.symlink_metadata().unwrap();
            let bytes = match (about.is_dir(), about.is_symlink()) {
                (true, _) => {
                    open.push(path.clone());
                    vec![]
                }
                (_, true) => fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes(),
                _ => fs::read(&path).unwrap(),
            };
            all.insert(path.strip_prefix(root).unwrap().to_owned(), (about.permissions().mode(), bytes));
        }
    }
    all
}

/// The mark is of what was armed, as the start's operation says.
pub(crate) fn is_marked(root: &Path) {
    let armed = Instance { generation: Generation(2), ..web().instance };
    let mark = guard::Mark::read(&root.join(MARK)).unwrap();
    assert_eq!(mark, guard::Mark::of(&armed, &Epoch { number: 7, owner: "engine".into() }));
    for (path, mode) in [(MARK, 0o600), (SHOWN, 0o600), ("var/lib/site-recovery/agent/credentials", 0o700)] {
        assert_eq!(fs::metadata(root.join(path)).unwrap().permissions().mode() & 0o7777, mode, "{path}");
    }
}

fn is_told(root: &Path) {
    is_marked(root);
    assert_eq!(fs::read_to_string(root.join(SHOWN)).unwrap(), SECRET);
}

/// A disk with a partition, and an ext4 in it.
fn partitioned(file: &Path, mount: &Path) {
    fs::File::create(file).unwrap().set_len(SIZE).unwrap();
    let (start, size) = (format!("offset={START}"), format!("{}k", (SIZE - START) >> 10));
    run("mke2fs", &["-q", "-F", "-t", "ext4", "-E", &start, file.to_str().unwrap(), &size]);
    with_agent(&Mounted::of(file, mount, &format!("loop,offset={START}")).0);
}

#[tokio::test]
async fn s2_what_landed_is_told_who_it_is_on_a_partition_that_was_not_there_before() {
    if !peers() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (image, file, mount) = (dir.path().join("image"), dir.path().join("disk.img"), dir.path().join("m"));
    partitioned(&image, &mount);
    fs::File::create(&file).unwrap().set_len(SIZE).unwrap();
    let disk = Loop::over(&file);
    let (of, device) = (disk.path.to_str().unwrap(), PathBuf::from(format!("{}p1", disk.path.display())));
    // By hand: not every kernel reads a table of partitions.
    let program = |words: &[&str]| {
        Some(Program { run: words.iter().map(|word| (*word).to_owned()).collect(), seconds: 10 })
    };
    let (start, size) = ((START / 512).to_string(), ((SIZE - START) / 512).to_string());
    let installed = Installed {
        activate: program(&["/usr/bin/addpart", of, "1", &start, &size]),
        deactivate: program(&["/usr/bin/delpart", of, "1"]),
        ..Installed::on(&device)
    };
    let site = site(dir.path(), &disk.path, Some(installed), certificate());
    site.attach(&op("a"), &web(), Some(web().instance), &Settings::default()).await.unwrap();
    let landing = site.disk(&web().instance, &"root".into()).await.unwrap();
    let bytes = bytes::Bytes::from(fs::read(&image).unwrap());
    for run in Run::new(0, SIZE).pieces(MIB) {
        landing.write(run.start, bytes.slice(run.start as usize..run.end() as usize)).await.unwrap();
    }
    landing.flush().await.unwrap();
    site.arm(&op("arm"), &web().instance, Generation(2)).await.unwrap();
    site.detach(&op("d"), &web().instance).await.unwrap();
    let look = || {
        run("addpart", &[of, "1", &start, &size]);
        tree(&Mounted::of(&device, &mount, "ro").0)
    };
    let before = look();
    run("delpart", &[of, "1"]);
    assert!(!device.exists());
    let error = self::start(&site).await;
    assert!(has_left(&error), "{error}");
    assert!(!device.exists(), "it could not go while it was mounted");
    let mut after = look();
    is_told(&Mounted::of(&device, &mount, "ro").0);
    run("delpart", &[of, "1"]);
    // And nothing else of it was written.
    assert_eq!(after.len(), before.len());
    after.retain(|path, found| before[path] != *found);
    assert_eq!(after.keys().collect::<Vec<_>>(), [Path::new(MARK), Path::new(SHOWN)]);
}

#[tokio::test]
async fn a_system_without_an_agent_is_told_nothing_and_starts_all_the_same() {
    if !peers() {
        return;
    }
    for (what, of_it) in [("nothing", "srv"), ("the directory alone", STATE)] {
        let scene = Scene::new(|root| fs::create_dir_all(root.join(of_it)).unwrap());
        let before = tree(&scene.look().0);
        let error = scene.start(certificate()).await;
        assert!(has_left(&error), "{what}: {error}");
        assert_eq!(tree(&scene.look().0), before, "{what}");
        assert_eq!(scene.left(), 1);
    }
}

#[tokio::test]
async fn c1_no_link_leads_out_of_the_file_system_that_is_told() {
    if !peers() {
        return;
    }
    // Where a link stands, and what lies where it leads.
    for (link, there) in [
        ("var", "lib/site-recovery/agent/agent"),
        ("var/lib/site-recovery", "agent/agent"),
        (STATE, "agent"),
        ("var/lib/site-recovery/agent/agent", "epochs"),
        ("var/lib/site-recovery/agent/credentials", "x"),
    ] {
        let outside = tempfile::tempdir().unwrap();
        fs::create_dir_all(outside.path().join(there)).unwrap();
        let scene = Scene::new(|root| {
            with_agent(root);
            fs::remove_dir_all(root.join(link)).unwrap();
            symlink(outside.path(), root.join(link)).unwrap();
        });
        let before = tree(outside.path());
        let error = scene.start(certificate()).await;
        assert_eq!(error.kind(), ErrorKind::Refused, "{link}: {error}");
        assert_eq!(error.fact("field"), Some("installed.state"), "{link}: {error}");
        assert_eq!(tree(outside.path()), before, "{link}");
        assert_eq!((scene.left(), scene.is_free()), (0, true), "{link}");
    }
    // One in the place of a file is replaced, and what it leads to stays.
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("shadow"), "a secret").unwrap();
    let scene = Scene::new(|root| {
        with_agent(root);
        for file in [MARK, SHOWN] {
            fs::remove_file(root.join(file)).unwrap();
            symlink(outside.path().join("shadow"), root.join(file)).unwrap();
        }
    });
    let error = scene.start(certificate()).await;
    assert!(has_left(&error), "{error}");
    is_told(&scene.look().0);
    assert_eq!(fs::read(outside.path().join("shadow")).unwrap(), b"a secret");
}

#[tokio::test]
async fn a_device_that_is_another_one_is_refused_and_no_mount_is_left() {
    if !peers() {
        return;
    }
    // A disk of the rescue system's own, with an agent's state on it.
    let other = Scene::new(with_agent);
    let before = tree(&other.look().0);
    let mut scene = Scene::new(with_agent);
    let own = std::mem::replace(&mut scene.installed.device, other.disk.path.clone());
    let error = scene.start(certificate()).await;
    assert_eq!(
        (error.kind(), error.fact("field")),
        (ErrorKind::Invalid, Some("installed.device")),
        "{error}"
    );
    assert_eq!(tree(&other.look().0), before);
    // The right one, by another kind, and one that this kernel does not know.
    scene.installed.device = own;
    for (kind, field) in [("xfs", "installed.device"), ("nosuchfs", "installed.kind")] {
        scene.installed.kind = kind.into();
        let error = scene.start(certificate()).await;
        assert_eq!(error.fact("field").unwrap_or_default(), field, "{kind}: {error}");
        assert_eq!(error.kind(), ErrorKind::Invalid, "{kind}: {error}");
        assert!(scene.is_free(), "{kind}");
    }
    scene.installed.kind = "ext4".into();
    // Somebody has it mounted.
    let mounted = scene.look();
    let error = scene.start(certificate()).await;
    assert_eq!((error.kind(), error.fact("field")), (ErrorKind::Busy, Some("installed.device")), "{error}");
    assert_eq!(fs::read_to_string(mounted.0.join(SHOWN)).unwrap(), "expired");
    drop(mounted);
    assert_eq!(scene.left(), 0);
    // What it is told by now, it is told by the same key.
    let error = scene.start(certificate()).await;
    assert!(has_left(&error), "{error}");
    is_told(&scene.look().0);
}

#[tokio::test]
async fn d1_what_failed_midway_is_told_again_by_the_same_key() {
    if !peers() {
        return;
    }
    let mut scene = Scene::new(with_agent);
    let log = scene.path("log");
    let noted = |word: &str| Program {
        run: vec![
            "/bin/sh".into(),
            "-c".into(),
            format!("echo {word} $SITE_RECOVERY_SERVER >> {}", log.display()),
        ],
        seconds: 10,
    };
    scene.installed.activate = Some(noted("activate"));
    scene.installed.deactivate = Some(noted("deactivate"));
    let shown: Arc<dyn Shown> = Arc::new(Certificate { fails: true.into() });
    let error = scene.start(Some(Arc::clone(&shown))).await;
    // Not as if it had been left: nobody waits for a system that was never started.
    assert_eq!((error.kind(), error.is_temporary()), (ErrorKind::Refused, true), "{error}");
    assert!(
        error.to_string().contains("the disk did not answer") && !error.to_string().contains(SECRET),
        "{error}"
    );
    assert_eq!((scene.left(), scene.is_free()), (0, true));
    assert_eq!(fs::read_to_string(&log).unwrap(), "activate web-1\ndeactivate web-1\n");
    let error = scene.start(Some(Arc::clone(&shown))).await;
    assert!(has_left(&error), "{error}");
    is_told(&scene.look().0);
    // In the same life of the rescue system it is left again, and told again.
    let once = tree(&scene.look().0);
    let error = scene.start(Some(shown)).await;
    assert!(has_left(&error), "{error}");
    assert_eq!((tree(&scene.look().0), scene.left()), (once, 2));

    // What cannot be activated, or not be undone, is told, and the system does not start.
    let failing = Program { run: vec!["/bin/false".into()], seconds: 10 };
    fs::write(&log, "").unwrap();
    let works = scene.installed.activate.replace(failing.clone());
    let error = scene.start(certificate()).await;
    assert!(error.kind() == ErrorKind::Refused && error.to_string().contains("not activated"), "{error}");
    assert_eq!(fs::read_to_string(&log).unwrap(), "deactivate web-1\n", "what was begun is undone");
    scene.installed.activate = works;
    scene.installed.deactivate = Some(failing);
    let error = scene.start(certificate()).await;
    assert!(error.kind() == ErrorKind::Refused && error.to_string().contains("not deactivated"), "{error}");
    assert_eq!((scene.left(), scene.is_free()), (2, true));
}

/// Says that it is asked, and never returns.
#[derive(Debug)]
struct Hangs(Mutex<()>);

impl Shown for Hangs {
    fn put(&self, _: &Path) -> Result<()> {
        println!("mounted now");
        let _first = self.0.lock().unwrap();
        // Held by this very thread, or whoever came before: the process is killed here.
        loop {
            std::thread::park();
        }
    }
}

#[tokio::test]
async fn d1_a_process_that_is_killed_while_it_tells_leaves_no_mount() {
    if !peers() {
        return;
    }
    let scene = Scene::new(with_agent);
    landed(&scene.site(None)).await;
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["installed::tells_until_it_is_killed", "--exact", "--ignored", "--nocapture"])
        .env("BARE_DIR", scene.dir.path())
        .env("BARE_DEVICE", &scene.disk.path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
    let told = lines.any(|line| line.unwrap().ends_with("mounted now"));
    let (free, mounts) = (scene.is_free(), fs::read_to_string("/proc/self/mountinfo").unwrap());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(told && !free, "it was killed while the file system was mounted");
    assert!(!mounts.contains(scene.disk.path.to_str().unwrap()), "and nobody saw the mount: {mounts}");
    assert!(scene.is_free());
    let error = scene.start(certificate()).await;
    assert!(has_left(&error), "{error}");
    is_told(&scene.look().0);
}

/// Not a test of its own: the process that the test above kills.
#[tokio::test]
#[ignore = "is run, and killed, by another test"]
async fn tells_until_it_is_killed() {
    let told = |name: &str| PathBuf::from(std::env::var_os(name).unwrap());
    let (dir, device) = (told("BARE_DIR"), told("BARE_DEVICE"));
    let hangs: Arc<dyn Shown> = Arc::new(Hangs(Mutex::default()));
    start(&site(&dir, &device, Some(Installed::on(&device)), Some(hangs))).await;
}

#[tokio::test]
async fn a_survey_says_what_is_not_told_and_a_server_that_is_none_is_refused() {
    if !peers() {
        return;
    }
    let scene = Scene::new(with_agent);
    let told = async |site: BareDisks| {
        let found = site.survey(&web(), &Settings::default()).await.unwrap().findings;
        found.into_iter().find(|finding| finding.code == "landing.installed")
    };
    assert_eq!(told(scene.site(certificate())).await, None);
    let untold = told(site(scene.dir.path(), &scene.disk.path, None, None)).await.unwrap();
    assert_eq!(untold.severity, Severity::Info);
    for part in ["boot guard", "certificate"] {
        assert!(untold.cause.contains(part), "{part}: {untold:?}");
    }
    assert!(untold.remedy.contains("[receive.installed]") && untold.remedy.contains("lift"), "{untold:?}");
    let builder = BareDisks::builder("hall-1".into(), scene.path("other"), Arc::new(SystemClock));
    let described = Described {
        name: "web-1".into(),
        slots: vec![Slot { id: "x".into(), path: "/x".into() }],
        firmware: None,
    };
    let builder = builder.server(described.in_rescue(Rescue::rebooting()));
    let error = builder.installed("web-2", scene.installed.clone(), None).open().unwrap_err();
    assert_eq!(error.fact("field"), Some("installed.server"), "{error}");
}
