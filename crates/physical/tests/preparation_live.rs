//! Real builders of an initramfs, in an overlay over a root that has them: this system's, or the one that
//! `SITE_RECOVERY_DEBIAN_ROOT` or `SITE_RECOVERY_DRACUT_ROOT` names. On Debian the packages are `initramfs-tools` or `dracut-core`, and any `linux-image`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use site_recovery_physical::inventory::{Archive, Inventory};
use site_recovery_physical::preparation::{Destination, Preparation};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// An overlay: whatever is written goes with it.
struct Overlay {
    top: tempfile::TempDir,
    mounted: Vec<PathBuf>,
}

impl Overlay {
    fn over(lower: &str) -> Self {
        let top = tempfile::tempdir().unwrap();
        let mut overlay = Self { top, mounted: vec![] };
        let top = overlay.top.path().to_owned();
        // Overlays do not lie on overlays, as a container's root may be.
        overlay.mount(&["-t", "tmpfs", "tmpfs"], &top);
        ["upper", "work", "root"].iter().for_each(|dir| fs::create_dir(top.join(dir)).unwrap());
        let dirs = format!(
            "lowerdir={lower},upperdir={},workdir={}",
            top.join("upper").display(),
            top.join("work").display()
        );
        overlay.mount(&["-t", "overlay", "overlay", "-o", &dirs], &top.join("root"));
        overlay.mount(&["-t", "proc", "proc"], &top.join("root/proc"));
        overlay.mount(&["-t", "tmpfs", "tmpfs"], &top.join("root/dev"));
        run("mknod", &[&top.join("root/dev/null").display().to_string(), "c", "1", "3"]);
        overlay.mount(&["-t", "sysfs", "sysfs"], &top.join("root/sys"));
        overlay
    }

    fn mount(&mut self, how: &[&str], at: &Path) {
        run("mount", &[how, &[at.to_str().unwrap()]].concat());
        self.mounted.push(at.to_owned());
    }

    fn root(&self) -> PathBuf {
        self.top.path().join("root")
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        for at in self.mounted.iter().rev() {
            let done = Command::new("umount").arg(at).status();
            assert!(done.is_ok_and(|d| d.success()) || std::thread::panicking(), "{} is busy", at.display());
        }
    }
}

/// The root that a variable names, or this one, where it has a kernel and these programs.
fn root_with(what: &str, variable: &str, programs: &[&str]) -> Option<(String, String)> {
    let root = std::env::var(variable).unwrap_or_else(|_| "/".into());
    let modules = Path::new(&root).join("lib/modules");
    let mut kernels = fs::read_dir(modules).into_iter().flatten().map(|e| e.unwrap());
    let kernel = kernels.find(|k| k.path().join("modules.dep").exists());
    let has = |p: &&str| ["usr/sbin", "usr/bin"].iter().any(|d| Path::new(&root).join(d).join(p).exists());
    if let Some(kernel) = kernel
        && programs.iter().all(has)
    {
        return Some((root, kernel.file_name().into_string().unwrap()));
    }
    println!("SKIPPED {what}: a kernel or {} is absent", programs.join(", "));
    let required = std::env::var("SITE_RECOVERY_PEERS").as_deref() == Ok("required");
    assert!(!required, "a kernel and {} are required in {root}", programs.join(", "));
    None
}

#[tokio::test]
async fn initramfs_tools_take_the_drivers_in_and_out() {
    let programs = ["update-initramfs", "mkinitramfs"];
    let Some((lower, kernel)) = root_with("a real initramfs-tools", "SITE_RECOVERY_DEBIAN_ROOT", &programs)
    else {
        return;
    };
    let overlay = Overlay::over(&lower);
    // As small as it gets: no driver that is not asked for.
    fs::create_dir_all(overlay.root().join("etc/initramfs-tools/conf.d")).unwrap();
    fs::write(overlay.root().join("etc/initramfs-tools/conf.d/zz-small"), "MODULES=list\n").unwrap();
    run("chroot", &[overlay.root().to_str().unwrap(), "update-initramfs", "-c", "-k", &kernel]);
    let image = format!("/boot/initrd.img-{kernel}");
    in_and_out(&overlay, &kernel, &image, "lsinitramfs", "etc/initramfs-tools/hooks/site-recovery").await;
}

#[tokio::test]
async fn dracut_takes_the_drivers_in_and_out() {
    let Some((lower, kernel)) = root_with("a real dracut", "SITE_RECOVERY_DRACUT_ROOT", &["dracut"]) else {
        return;
    };
    let overlay = Overlay::over(&lower);
    fs::create_dir_all(overlay.root().join("etc/dracut.conf.d")).unwrap();
    // Without its module of drivers, which may take in those that are asked for.
    let small = "hostonly=\"yes\"\nhostonly_cmdline=\"no\"\ndracutmodules=\" base \"\n";
    fs::write(overlay.root().join("etc/dracut.conf.d/small.conf"), small).unwrap();
    // One of the other may stand there, too: it is dracut's then.
    for other in ["usr/sbin/mkinitramfs".to_owned(), format!("boot/initrd.img-{kernel}")] {
        let _ = fs::remove_file(overlay.root().join(other));
    }
    let image = format!("/boot/initramfs-{kernel}.img");
    run("chroot", &[overlay.root().to_str().unwrap(), "dracut", "--force", &image, &kernel]);
    in_and_out(&overlay, &kernel, &image, "lsinitrd", "etc/dracut.conf.d/site-recovery.conf").await;
}

async fn in_and_out(overlay: &Overlay, kernel: &str, image: &str, lists: &str, ours: &str) {
    let root = overlay.root();
    let path = root.join(image.trim_start_matches('/'));
    let modules = || Archive::read(&path).unwrap().modules().collect::<BTreeSet<_>>();
    let before = modules();

    let mut server = Inventory::of(&root).read().unwrap();
    server.system.kernel = Some(kernel.to_owned());
    server.adapters.clear();
    let preparation = Preparation::of(&root, [Destination::HyperV]).unwrap();
    let plan = preparation.plan(&server).await.unwrap();
    assert!(plan.build.is_some(), "{:?}", plan.findings);
    assert!(
        plan.findings.iter().any(|f| f.code == "preparation.drivers" && f.blocks()),
        "{:?}",
        plan.findings
    );

    fs::create_dir_all(root.join("etc/systemd/network")).unwrap();
    fs::create_dir_all(root.join("etc/udev/rules.d")).unwrap();
    let left = preparation.apply(&server).await.unwrap();
    let about: Vec<_> = left.iter().filter(|f| f.code.starts_with("preparation.drivers")).collect();
    assert!(about.is_empty(), "{about:?}");
    let after = modules();
    assert!(after.contains("hv_vmbus") && after.contains("hv_storvsc") && !before.contains("hv_storvsc"));
    // What their own program says is in it: names are the last words of its lines.
    let told = Command::new("chroot").arg(&root).args([lists, image]).output().unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    let told = String::from_utf8_lossy(&told.stdout);
    let files = told.lines().filter_map(|l| l.rsplit([' ', '/']).next()?.split_once(".ko"));
    let files = files.filter(|(_, packed)| ["", ".xz", ".zst", ".gz"].contains(packed));
    assert_eq!(after, files.map(|(name, _)| name.replace('-', "_")).collect::<BTreeSet<_>>());

    preparation.revert().await.unwrap();
    assert_eq!(modules(), before);
    assert!(!root.join(ours).exists());
}
