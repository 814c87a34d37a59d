//! The choice of an accelerator by a boot: by the real program here, and by one that does what broken hosts do.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(clippy::disallowed_methods, reason = "processes of this host take its own time")]

mod support;

use site_recovery::{Error, ErrorKind};
use site_recovery_qemu::{Accelerator, Choice, Programs, QemuSite};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use support::*;
use tempfile::TempDir;

/// Ample for emulation on a busy host; KVM that emulates needs minutes.
const LIMIT: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread")]
async fn where_no_kernel_runs_with_kvm_the_probe_says_emulation() {
    if !qemu_is_here() {
        return;
    }
    let dir = TempDir::new().unwrap();
    let began = Instant::now();
    let found = opened(dir.path(), Programs::default(), LIMIT).await.unwrap().accelerator();
    println!("the probe says {found:?} after {:?}", began.elapsed());
    assert!(began.elapsed() < 2 * LIMIT + BOUND, "it took {:?}", began.elapsed());
    // Without KVM, or with one that emulates every kernel which is not made for it, nothing else is true.
    if !Path::new("/dev/kvm").exists() || Path::new("/sys/module/kvm_pvm").exists() {
        assert_eq!(found, Accelerator::Tcg);
    }
    assert_eq!(fs::read_dir(dir.path().join(".site-recovery")).unwrap().count(), 1, "site.json alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_hangs_with_kvm_is_ended_and_emulation_is_taken() {
    if !qemu_is_here() {
        return;
    }
    let dir = TempDir::new().unwrap();
    let program = Program::that(&dir, r#"*" kvm "*) hang;; *) exec qemu-system-x86_64 "$@";;"#);
    let began = Instant::now();
    // The limit is that of the real program, too, which shares the host with other tests.
    let site = program.probed(LIMIT).await.unwrap();
    assert_eq!(site.accelerator(), Accelerator::Tcg);
    assert!(began.elapsed() >= LIMIT, "it was waited for");
    program.is_over();
}

#[tokio::test(flavor = "multi_thread")]
async fn kvm_is_taken_where_the_guest_gets_through_with_it() {
    if !qemu_is_here() {
        return;
    }
    let dir = TempDir::new().unwrap();
    // A KVM that works is played by emulation: the guest is the same, and what it says in the end.
    let program =
        Program::that(&dir, r#"*" kvm "*) shift 2; exec qemu-system-x86_64 -accel tcg "$@";; *) exit 1;;"#);
    assert_eq!(program.probed(LIMIT).await.unwrap().accelerator(), Accelerator::Kvm);
    program.is_over();
}

#[tokio::test]
async fn a_kvm_that_cannot_be_opened_is_left_at_once() {
    if !qemu_is_here() {
        return;
    }
    let dir = TempDir::new().unwrap();
    let program = Program::that(&dir, r#"*" kvm "*) exit 1;; *) exec qemu-system-x86_64 "$@";;"#);
    let (began, long) = (Instant::now(), 2 * BOUND);
    assert_eq!(program.probed(long).await.unwrap().accelerator(), Accelerator::Tcg);
    assert!(began.elapsed() < long, "nothing was waited for");
}

#[tokio::test]
async fn a_probe_that_passes_nowhere_proves_nothing_and_opens_no_site() {
    if !qemu_is_here() {
        return;
    }
    let dir = TempDir::new().unwrap();
    let program = Program::that(&dir, "*) hang;;");
    let began = Instant::now();
    let error = program.probed(Duration::from_millis(200)).await.unwrap_err();
    assert!(began.elapsed() < BOUND, "it took {:?}", began.elapsed());
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().contains("within 200ms"), "{error}");
    program.is_over();
    assert!(!dir.path().join("site").exists(), "nothing was made");

    // A program that ends well has not run our guest.
    let program = Program::that(&dir, "*) echo no such machine >&2; exit 0;;");
    let error = program.probed(LIMIT).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().contains("no such machine"), "{error}");

    let absent = Programs { system: dir.path().join("absent"), ..Programs::default() };
    let error = opened(dir.path(), absent, LIMIT).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

async fn opened(dir: &Path, programs: Programs, limit: Duration) -> Result<QemuSite, Error> {
    let site = QemuSite::builder("here".into(), dir).programs(programs);
    site.accelerator(Choice::Probe(limit)).open().await
}

/// Something in QEMU's place.
struct Program {
    dir: PathBuf,
    path: PathBuf,
}

impl Program {
    /// Does what the cases of a shell's `case` say about its command line, once it has told its version.
    fn that(dir: &TempDir, cases: &str) -> Self {
        let (dir, text, path) = (dir.path().to_owned(), dir.path().join("qemu.sh"), dir.path().join("qemu"));
        let pids = dir.join("pids");
        let script = format!(
            "#!/bin/sh\ncase \" $* \" in *version*) exec qemu-system-x86_64 --version;; esac\n\
             echo $$ >>{}\nhang() {{ exec sleep 600; }}\ncase \" $* \" in {cases} esac\n",
            pids.display()
        );
        fs::write(&text, script).unwrap();
        // By another process: what this one writes cannot be executed while another thread's child still has it open.
        run("install", &["-m", "755", text_of(&text), text_of(&path)]);
        Self { dir, path }
    }

    async fn probed(&self, limit: Duration) -> Result<QemuSite, Error> {
        let programs = Programs { system: self.path.clone(), ..Programs::default() };
        opened(&self.dir.join("site"), programs, limit).await
    }

    /// Every process that it ever was has ended.
    fn is_over(&self) {
        let pids = fs::read_to_string(self.dir.join("pids")).unwrap();
        assert!(pids.lines().count() > 0);
        for pid in pids.lines() {
            assert!(!Path::new("/proc").join(pid).exists(), "process {pid} is left behind");
        }
    }
}
