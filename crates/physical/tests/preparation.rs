//! What is written into a system, and that nothing else is. The system's programs are fakes here; real ones run in
//! `preparation_live`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod inventory_tree;

use inventory_tree::{GIB, KERNEL, Tree, cpio, packed, peer};
use site_recovery::{ErrorKind, Severity};
use site_recovery_physical::inventory::{Archive, Inventory, Server};
use site_recovery_physical::preparation::{Builder, Destination, Preparation};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const HOOK: &str = "etc/initramfs-tools/hooks/site-recovery";
const DRACUT: &str = "etc/dracut.conf.d/site-recovery.conf";
const NETWORKD: &str = "etc/systemd/network/05-site-recovery.network";
const RULE: &str = "etc/udev/rules.d/99-site-recovery.rules";
const PROFILE: &str = "etc/NetworkManager/system-connections/site-recovery.nmconnection";

/// A fake of a program that builds every initramfs: of what our configuration names, and one module that it always has.
fn fake_builder(tree: &Tree, program: &str, image: &str, config: &str, sed: &str) {
    let root = tree.root().display();
    let script = format!(
        "#!/bin/sh\n# A fake of {program}, for one tree.\nset -e\necho \"{program} $*\" >> {root}/fakes/log\n\
         if [ -e {root}/fakes/fails ]; then echo 'no space for \"x\"' >&2; exit 1; fi\n\
         for image in {root}/boot/{image}; do\n\
         work=$(mktemp -d)\nmkdir -p $work/lib/modules\ntouch $work/lib/modules/ext4.ko\n\
         for m in $(sed -n '{sed}' {root}/{config} 2>/dev/null); do touch $work/lib/modules/$m.ko; done\n\
         (cd $work && find . -name '*.ko' | cpio -o -H newc --quiet | gzip) > $image\nrm -r $work\ndone\n"
    );
    program_of(tree, program, &script);
}

fn program_of(tree: &Tree, program: &str, script: &str) {
    tree.file(&format!("fakes/{program}"), script);
    fs::set_permissions(tree.path(&format!("fakes/{program}")), fs::Permissions::from_mode(0o755)).unwrap();
}

fn kernel(tree: &Tree, kernel: &str, modules: &[&str], builtin: &[&str], image: &str) {
    let dir = format!("lib/modules/{kernel}");
    let dep: String = modules.iter().map(|m| format!("kernel/drivers/{m}.ko.xz: kernel/x.ko\n")).collect();
    tree.file(&format!("{dir}/modules.dep"), dep);
    let builtin: String = builtin.iter().map(|m| format!("kernel/drivers/{m}.ko\n")).collect();
    tree.file(&format!("{dir}/modules.builtin"), builtin);
    tree.file(&format!("boot/{image}"), packed("gzip", &cpio(&["lib/modules/ext4.ko"])));
}

const HYPER_V: [&str; 4] = ["hv/hv_vmbus", "scsi/hv_storvsc", "net/hv_netvsc", "ata/ata_piix"];

/// Debian with systemd-networkd and a static address.
fn debian() -> Tree {
    let tree = bare();
    kernel(&tree, KERNEL, &HYPER_V, &["sd_mod"], &format!("initrd.img-{KERNEL}"));
    tree.file("usr/sbin/update-initramfs", "");
    tree.file("usr/sbin/mkinitramfs", "");
    tree.dir("etc/initramfs-tools/hooks");
    fake_builder(&tree, "update-initramfs", "initrd.img-*", HOOK, "s/^manual_add_modules //p");
    tree.enabled("systemd-networkd.service");
    tree.file("etc/systemd/network/10-lan.network", "[Match]\nName=eno1\n[Network]\nAddress=192.0.2.7/24\n");
    tree
}

fn bare() -> Tree {
    let tree = Tree::new();
    tree.sata("sda", "8:0", 20 * GIB, "naa.1");
    tree.adapter("eno1", "aa:00:00:00:00:01", "ixgbe");
    tree.file(
        "etc/fstab",
        "# /dev/sda1 was it\nUUID=1-2 / ext4 defaults 0 1\n/dev/sdb1 /mnt ext4 nofail 0 0\n",
    );
    tree.file("proc/cmdline", "BOOT_IMAGE=/vmlinuz root=UUID=1-2 ro quiet\n");
    tree
}

fn read(tree: &Tree) -> Server {
    Inventory::of(tree.root()).read().unwrap()
}

fn towards(tree: &Tree, places: &[Destination]) -> Preparation {
    let preparation = Preparation::of(tree.root(), places.iter().copied()).unwrap();
    preparation.programs(tree.path("fakes"))
}

async fn codes(preparation: &Preparation, tree: &Tree) -> Vec<String> {
    preparation.check(&read(tree)).await.unwrap().into_iter().map(|f| f.code).collect()
}

/// Everything below a directory: mode, and bytes or where it leads.
fn everything(tree: &Tree) -> BTreeMap<String, (u32, Vec<u8>)> {
    fn walk(top: &Path, dir: &Path, all: &mut BTreeMap<String, (u32, Vec<u8>)>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let told = fs::symlink_metadata(&path).unwrap();
            let bytes = if told.is_symlink() {
                fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
            } else if told.is_file() {
                fs::read(&path).unwrap()
            } else {
                walk(top, &path, all);
                vec![]
            };
            let name = path.strip_prefix(top).unwrap().display().to_string();
            all.insert(name, (told.permissions().mode(), bytes));
        }
    }
    let mut all = BTreeMap::new();
    walk(tree.root(), tree.root(), &mut all);
    all.remove("fakes/log");
    all
}

/// Names of what differs.
fn differs(a: &BTreeMap<String, (u32, Vec<u8>)>, b: &BTreeMap<String, (u32, Vec<u8>)>) -> Vec<String> {
    let names: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
    names.into_iter().filter(|n| a.get(*n) != b.get(*n)).cloned().collect()
}

fn runs(tree: &Tree) -> Vec<String> {
    let log = fs::read_to_string(tree.path("fakes/log")).unwrap_or_default();
    log.lines().map(str::to_owned).collect()
}

fn modules(tree: &Tree) -> Vec<String> {
    Archive::read(&tree.path(&format!("boot/initrd.img-{KERNEL}"))).unwrap().modules().collect()
}

#[tokio::test]
async fn a_debian_server_is_made_ready_and_made_as_it_was() {
    if !peer("a fake of update-initramfs", "cpio") {
        return;
    }
    let tree = debian();
    let preparation = towards(&tree, &[Destination::HyperV]);
    let before = everything(&tree);

    let plan = preparation.plan(&read(&tree)).await.unwrap();
    assert_eq!(differs(&before, &everything(&tree)), [""; 0], "a plan changes nothing");
    let told: Vec<_> = plan.findings.iter().map(|f| (f.code.as_str(), f.severity)).collect();
    assert_eq!(told, [("preparation.drivers", Severity::Critical), ("preparation.dhcp", Severity::Warning)]);
    for driver in ["hv_vmbus", "hv_storvsc", "hv_netvsc", "ata_piix"] {
        assert!(plan.findings[0].cause.contains(driver), "{}", plan.findings[0].cause);
    }
    assert_eq!(plan.build, Some(Builder::InitramfsTools));

    let left = preparation.apply(&read(&tree)).await.unwrap();
    assert_eq!(left, []);
    let image = format!("boot/initrd.img-{KERNEL}");
    assert_eq!(differs(&before, &everything(&tree)), [image.as_str(), HOOK, NETWORKD]);
    assert_eq!(modules(&tree), ["ata_piix", "ext4", "hv_netvsc", "hv_storvsc", "hv_vmbus"]);
    assert_eq!(runs(&tree), [format!("update-initramfs -u -k {KERNEL}")]);
    let (mode, hook) = &everything(&tree)[HOOK];
    assert_eq!(mode & 0o777, 0o755);
    let hook = String::from_utf8_lossy(hook);
    assert!(hook.contains("Written by site-recovery") && hook.starts_with("#!/bin/sh\n"), "{hook}");
    let (mode, network) = &everything(&tree)[NETWORKD];
    assert_eq!(mode & 0o777, 0o644, "networkd is another user");
    assert!(String::from_utf8_lossy(network).contains("[Match]\nDriver=hv_netvsc\n\n[Network]\nDHCP=yes\n"));
    assert_eq!(read(&tree).guest.dhcp, Some(false), "the server's own address stays");

    let applied = everything(&tree);
    assert_eq!(preparation.apply(&read(&tree)).await.unwrap(), []);
    assert!(preparation.plan(&read(&tree)).await.unwrap().is_empty());
    assert_eq!(differs(&applied, &everything(&tree)), [""; 0], "a repeat changes nothing");
    assert_eq!(runs(&tree).len(), 1);

    fs::set_permissions(tree.path(HOOK), fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(preparation.plan(&read(&tree)).await.unwrap().files.len(), 1, "as it is nobody would run it");
    assert_eq!(preparation.apply(&read(&tree)).await.unwrap(), []);
    assert_eq!(differs(&applied, &everything(&tree)), [""; 0]);

    preparation.revert().await.unwrap();
    assert_eq!(differs(&before, &everything(&tree)), [image.as_str()], "which was built anew");
    assert_eq!(modules(&tree), ["ext4"]);
    let reverted = everything(&tree);
    preparation.revert().await.unwrap();
    assert_eq!(differs(&reverted, &everything(&tree)), [""; 0]);
    assert_eq!(runs(&tree).len(), 2, "nothing of ours there: nothing is built");
}

#[tokio::test]
async fn what_is_not_ours_is_not_touched() {
    let tree = debian();
    tree.file(NETWORKD, "[Match]\nName=eno1\n");
    let before = everything(&tree);
    let preparation = towards(&tree, &[Destination::HyperV]);
    for error in [
        preparation.check(&read(&tree)).await.unwrap_err(),
        preparation.apply(&read(&tree)).await.unwrap_err(),
        preparation.revert().await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.to_string().contains("05-site-recovery.network"), "{error}");
    }
    assert_eq!(differs(&before, &everything(&tree)), [""; 0]);
}

/// A file that is not ours in the last place is seen before the first is touched.
#[tokio::test]
async fn all_of_it_is_ours_or_none_is_touched() {
    let tree = red_hat("1.40.16");
    tree.file(NETWORKD, "# Written by site-recovery. Taken away by its revert; changes here are lost.\n");
    tree.file(DRACUT, "add_drivers+=\" mine \"\n");
    let before = everything(&tree);
    let preparation = towards(&tree, &[Destination::Qemu]);
    assert_eq!(preparation.revert().await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(preparation.apply(&read(&tree)).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(differs(&before, &everything(&tree)), [""; 0]);
}

#[tokio::test]
async fn without_a_directory_for_the_last_file_the_first_is_not_written() {
    let tree = debian();
    tree.file("etc/network/interfaces", "iface eno1 inet static\n");
    tree.file("usr/lib/systemd/system/systemd-networkd.service", "");
    let before = everything(&tree);
    let error = towards(&tree, &[Destination::HyperV]).apply(&read(&tree)).await.unwrap_err();
    assert!(error.message().contains("etc/udev/rules.d"), "{error}");
    assert_eq!(differs(&before, &everything(&tree)), [""; 0]);
}

/// A file system of that many bytes, for as long as it is kept.
struct Small(std::path::PathBuf);

impl Small {
    fn at(path: std::path::PathBuf, bytes: u64) -> Self {
        fs::create_dir_all(&path).unwrap();
        let size = format!("size={bytes}");
        let mut mount = std::process::Command::new("mount");
        let done = mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&path).status().unwrap();
        assert!(done.success());
        Self(path)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(&self.0).status();
    }
}

#[tokio::test]
async fn without_room_for_an_initramfs_nothing_is_written() {
    let tree = debian();
    let _boot = Small::at(tree.path("boot"), 256 << 10);
    let names: Vec<String> = (0..1000).map(|n| format!("lib/modules/module_{n}.ko")).collect();
    let image = cpio(&names.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(image.len() > 128 << 10);
    tree.file(&format!("boot/initrd.img-{KERNEL}"), &image);
    let before = everything(&tree);
    let error = towards(&tree, &[Destination::HyperV]).apply(&read(&tree)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutOfSpace);
    assert_eq!(differs(&before, &everything(&tree)), [""; 0]);
    assert_eq!(runs(&tree), [""; 0]);
}

#[tokio::test]
async fn a_link_out_of_the_root_is_not_followed() {
    let tree = debian();
    let outside = tempfile::tempdir().unwrap();
    fs::remove_dir(tree.path("etc/initramfs-tools/hooks")).unwrap();
    tree.link("etc/initramfs-tools/hooks", outside.path().to_str().unwrap());
    let error = towards(&tree, &[Destination::HyperV]).apply(&read(&tree)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_build_that_fails_is_told_and_a_repeat_goes_on() {
    if !peer("a fake of update-initramfs", "cpio") {
        return;
    }
    let tree = debian();
    let preparation = towards(&tree, &[Destination::HyperV]);
    let before = everything(&tree);
    tree.file("fakes/fails", "");
    let error = preparation.apply(&read(&tree)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().contains("no space for \"x\""), "{error}");
    assert_eq!(codes(&preparation, &tree).await, ["preparation.drivers"], "the archive tells, not the file");
    fs::remove_file(tree.path("fakes/fails")).unwrap();
    assert_eq!(preparation.apply(&read(&tree)).await.unwrap(), []);

    tree.file("fakes/fails", "");
    preparation.revert().await.unwrap_err();
    assert!(tree.path(HOOK).exists(), "what is left to do can be seen");
    fs::remove_file(tree.path("fakes/fails")).unwrap();
    preparation.revert().await.unwrap();
    assert_eq!(modules(&tree), ["ext4"]);
    assert_eq!(differs(&before, &everything(&tree)), [format!("boot/initrd.img-{KERNEL}")]);
}

#[tokio::test]
async fn a_new_kernel_without_the_drivers_is_found() {
    if !peer("a fake of update-initramfs", "cpio") {
        return;
    }
    let tree = debian();
    let preparation = towards(&tree, &[Destination::HyperV]);
    assert_eq!(preparation.apply(&read(&tree)).await.unwrap(), []);
    let new = "6.12.0-1-amd64";
    kernel(&tree, new, &["net/hv_netvsc"], &["hv_vmbus"], &format!("initrd.img-{new}"));
    let found = preparation.check(&read(&tree)).await.unwrap();
    let told: Vec<_> = found.iter().map(|f| (f.code.as_str(), f.severity)).collect();
    let wanted =
        [("preparation.drivers.absent", Severity::Critical), ("preparation.drivers", Severity::Warning)];
    assert_eq!(told, wanted);
    assert!(found[0].cause.contains(new) && found[0].cause.ends_with("no hv_storvsc"), "{}", found[0].cause);
}

/// Red Hat's, with NetworkManager of that version.
fn red_hat(version: &str) -> Tree {
    let tree = bare();
    let modules = ["virtio_blk", "virtio_net", "virtio_scsi", "ahci", "hv_vmbus", "hv_storvsc"];
    kernel(&tree, KERNEL, &modules, &["virtio_pci"], &format!("initramfs-{KERNEL}.img"));
    tree.file("usr/bin/dracut", "");
    tree.file("usr/sbin/update-initramfs", "dracut's own, on Debian");
    tree.dir("etc/dracut.conf.d");
    let sed = "s/^add_drivers+=\"\\(.*\\)\"/\\1/p";
    fake_builder(&tree, "dracut", "initramfs-*.img", DRACUT, sed);
    program_of(&tree, "NetworkManager", &format!("#!/bin/sh\n# A fake, for one tree.\necho {version}\n"));
    tree.enabled("NetworkManager.service");
    tree.dir("etc/NetworkManager/system-connections");
    tree
}

#[tokio::test]
async fn a_red_hat_server_is_made_ready_and_made_as_it_was() {
    if !peer("a fake of dracut", "cpio") {
        return;
    }
    let tree = red_hat("1.40.16-4.el8");
    let preparation = towards(&tree, &[Destination::Qemu]);
    let before = everything(&tree);
    assert_eq!(preparation.apply(&read(&tree)).await.unwrap(), []);
    let image = format!("boot/initramfs-{KERNEL}.img");
    assert_eq!(
        differs(&before, &everything(&tree)),
        [PROFILE, image.as_str(), DRACUT].map(String::from).sorted()
    );
    assert_eq!(runs(&tree), [format!("dracut --force /{image} {KERNEL}")]);
    let (mode, profile) = &everything(&tree)[PROFILE];
    assert_eq!(mode & 0o777, 0o600, "NetworkManager reads no other");
    let profile = String::from_utf8_lossy(profile);
    assert!(profile.contains("[match]\ndriver=e1000;e1000e;virtio_net;\n"), "{profile}");
    let archive = Archive::read(&tree.path(&image)).unwrap();
    assert!(["virtio_blk", "virtio-net", "ahci"].iter().all(|m| archive.has_module(m)));
    assert!(!archive.has_module("hv_vmbus"), "which nobody asked for");
    preparation.revert().await.unwrap();
    assert_eq!(differs(&before, &everything(&tree)), [image]);
}

trait Sorted {
    fn sorted(self) -> Self;
}

impl<const N: usize> Sorted for [String; N] {
    fn sorted(mut self) -> Self {
        self.sort();
        self
    }
}

#[tokio::test]
async fn an_older_network_manager_gets_no_profile_that_it_would_use_for_every_adapter() {
    if !peer("a fake of dracut", "cpio") {
        return;
    }
    let tree = red_hat("1.18.8-2.el7");
    let preparation = towards(&tree, &[Destination::Qemu]);
    let left = preparation.apply(&read(&tree)).await.unwrap();
    assert_eq!(left.iter().map(|f| f.code.as_str()).collect::<Vec<_>>(), ["preparation.dhcp.unsupported"]);
    assert!(!tree.path(PROFILE).exists());
}

#[tokio::test]
async fn a_driver_of_the_servers_own_adapters_is_left_alone() {
    let tree = debian();
    tree.adapter("eno2", "aa:00:00:00:00:02", "e1000e");
    let preparation = towards(&tree, &[Destination::VMware]);
    let plan = preparation.plan(&read(&tree)).await.unwrap();
    let network = plan.files.iter().find(|f| f.path.ends_with(".network")).unwrap();
    assert!(network.text.contains("Driver=e1000 vmxnet3\n"), "{}", network.text);
    let same = plan.findings.iter().find(|f| f.code == "preparation.dhcp.same-driver").unwrap();
    assert!(same.cause.contains("e1000e"));
    tree.adapter("eno3", "aa:00:00:00:00:03", "hv_netvsc");
    let plan = towards(&tree, &[Destination::HyperV]).plan(&read(&tree)).await.unwrap();
    assert!(
        plan.files.iter().all(|f| !f.path.ends_with(".network")),
        "there is no driver that is not its own"
    );
}

#[tokio::test]
async fn ifupdown_gets_networkd_for_other_hardware_alone() {
    let tree = debian();
    tree.file("etc/network/interfaces", "iface eno1 inet static\n address 192.0.2.7/24\n");
    let preparation = towards(&tree, &[Destination::HyperV]);
    assert!(codes(&preparation, &tree).await.contains(&"preparation.dhcp.unsupported".to_owned()));
    tree.file("usr/lib/systemd/system/systemd-networkd.service", "");
    tree.dir("etc/udev/rules.d");
    let plan = preparation.plan(&read(&tree)).await.unwrap();
    let rule = plan.files.iter().find(|f| f.path.ends_with(RULE)).unwrap();
    let line = "ACTION==\"add\", SUBSYSTEM==\"net\", DRIVERS==\"hv_netvsc\", TAG+=\"systemd\", \
                ENV{SYSTEMD_WANTS}+=\"systemd-networkd.service\"\n";
    assert!(rule.text.ends_with(line), "{}", rule.text);
    assert!(plan.files.iter().any(|f| f.path.ends_with(NETWORKD)));
}

#[tokio::test]
async fn names_of_hardware_are_found() {
    let tree = debian();
    tree.file(
        "etc/fstab",
        "/dev/sda1 / ext4 defaults\n/dev/mapper/vg-a /a ext4 defaults\n/dev/sdb1 /b ext4 noauto\n",
    );
    tree.file("proc/cmdline", "root=/dev/nvme0n1p2 ro\n");
    let found = towards(&tree, &[Destination::HyperV]).check(&read(&tree)).await.unwrap();
    let causes: Vec<_> =
        found.iter().filter(|f| f.code == "preparation.device-name").map(|f| f.cause.as_str()).collect();
    let end = ", which may be called otherwise elsewhere";
    assert_eq!(
        causes,
        [
            format!("/etc/fstab names /dev/sda1{end}"),
            format!("the kernel's command line names /dev/nvme0n1p2{end}")
        ]
    );
}

#[tokio::test]
async fn what_cannot_be_built_is_told() {
    let tree = debian();
    fs::remove_file(tree.path("usr/sbin/update-initramfs")).unwrap();
    let preparation = towards(&tree, &[Destination::HyperV]);
    assert!(codes(&preparation, &tree).await.contains(&"preparation.builder".to_owned()));
    tree.file(&format!("boot/initrd.img-{KERNEL}"), b"\x01\x02 no archive");
    assert!(codes(&preparation, &tree).await.contains(&"preparation.initramfs".to_owned()));
    fs::remove_file(tree.path(&format!("boot/initrd.img-{KERNEL}"))).unwrap();
    assert!(codes(&preparation, &tree).await.contains(&"preparation.initramfs".to_owned()));
    let error = Preparation::of(tree.root(), []).unwrap_err();
    assert_eq!((error.kind(), error.fact("field")), (ErrorKind::Invalid, Some("preparation.towards")));
}
