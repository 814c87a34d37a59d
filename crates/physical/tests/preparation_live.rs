//! A Debian's own initramfs-tools, in an overlay over a root that has them: this system's, or the one that
//! `SITE_RECOVERY_DEBIAN_ROOT` names.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod inventory_tree;

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

#[tokio::test]
async fn initramfs_tools_take_the_drivers_in_and_out() {
    let lower = std::env::var("SITE_RECOVERY_DEBIAN_ROOT").unwrap_or_else(|_| "/".into());
    let modules = Path::new(&lower).join("lib/modules");
    let kernels = fs::read_dir(modules).into_iter().flatten().map(|e| e.unwrap());
    let kernel = kernels.filter(|k| k.path().join("modules.dep").exists()).map(|k| k.file_name()).next();
    let has = |program: &str| Path::new(&lower).join("usr/sbin").join(program).exists();
    let (Some(kernel), true) = (kernel, has("update-initramfs") && has("mkinitramfs")) else {
        println!("SKIPPED the initramfs of a Debian: update-initramfs or a kernel is absent");
        let required = std::env::var("SITE_RECOVERY_PEERS").as_deref() == Ok("required");
        assert!(!required, "update-initramfs and a kernel are required");
        return;
    };
    let kernel = kernel.into_string().unwrap();
    let overlay = Overlay::over(&lower);
    let root = overlay.root();
    // As small as it gets: no driver that is not asked for.
    fs::create_dir_all(root.join("etc/initramfs-tools/conf.d")).unwrap();
    fs::write(root.join("etc/initramfs-tools/conf.d/zz-small"), "MODULES=list\n").unwrap();
    run("chroot", &[root.to_str().unwrap(), "update-initramfs", "-c", "-k", &kernel]);
    let image = root.join(format!("boot/initrd.img-{kernel}"));
    let names = || Archive::read(&image).unwrap().names().map(str::to_owned).collect::<BTreeSet<_>>();
    let before = names();

    let mut server = Inventory::of(&root).read().unwrap();
    server.system.kernel = Some(kernel.clone());
    server.adapters.clear();
    let preparation = Preparation::of(&root, [Destination::HyperV]).unwrap();
    let plan = preparation.plan(&server).await.unwrap();
    assert!(plan.build.is_some());
    assert!(
        plan.findings.iter().any(|f| f.code == "preparation.drivers" && f.blocks()),
        "{:?}",
        plan.findings
    );

    let left = preparation.apply(&server).await.unwrap();
    let about: Vec<_> = left.iter().filter(|f| f.code.starts_with("preparation.drivers")).collect();
    assert!(about.is_empty(), "{about:?}");
    let archive = Archive::read(&image).unwrap();
    for driver in ["hv_vmbus", "hv_storvsc"] {
        assert!(archive.has_module(driver), "{driver}");
    }
    // What their own program says is in it.
    let told = Command::new("chroot")
        .arg(&root)
        .args(["lsinitramfs", &format!("/boot/initrd.img-{kernel}")])
        .output()
        .unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    let told: BTreeSet<String> = String::from_utf8_lossy(&told.stdout).lines().map(str::to_owned).collect();
    assert_eq!(names(), told);

    preparation.revert().await.unwrap();
    assert_eq!(names(), before);
    assert!(!root.join("etc/initramfs-tools/hooks/site-recovery").exists());
}
