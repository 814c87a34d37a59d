//! Servers of several shapes, from trees of files.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod inventory_tree;

use inventory_tree::{GIB, KERNEL, Tree, cpio};
use site_recovery::{DiskRole, ErrorKind, Firmware, Generation, Instance, OsFamily, Platform};
use site_recovery_physical::inventory::{
    Inventory, LayerKind, NetworkService, Reach, Server, ServerDisk, WhyLeftOut,
};

fn read(tree: &Tree) -> Server {
    Inventory::of(tree.root()).read().unwrap()
}

fn ids(server: &Server) -> Vec<&str> {
    server.disks.iter().map(|d| d.id.as_str()).collect()
}

fn mounted(disk: &ServerDisk) -> Vec<(String, String, &str)> {
    let text = |p: &std::path::Path| p.display().to_string();
    disk.file_systems.iter().map(|f| (text(&f.device), text(&f.mounted), f.kind.as_str())).collect()
}

fn found(device: &str, at: &str, kind: &'static str) -> (String, String, &'static str) {
    (device.into(), at.into(), kind)
}

/// `sda` is data and `sdb` the system's, as after a change of cables.
fn plain() -> Tree {
    let tree = Tree::new();
    tree.sata("sda", "8:0", 100 * GIB, "t10.ATA     Samsung SSD 870   S6PUNX0T100001A      ");
    tree.part("sda", "sda1", "8:1", 99 * GIB);
    tree.sata("sdb", "8:16", 20 * GIB, "naa.5002538e40a1b2c3");
    tree.part("sdb", "sdb1", "8:17", 19 * GIB);
    tree.mounts(
        "27 1 8:17 / / rw,relatime - ext4 /dev/sdb1 rw\n\
         28 27 8:1 /sub /srv/a\\040b rw - xfs /dev/sda1 rw\n\
         29 27 8:1 / /srv/all rw - xfs /dev/sda1 rw\n\
         30 27 8:17 /var /mnt/bind rw - ext4 /dev/sdb1 rw\n",
    );
    tree
}

#[test]
fn scratch_space_of_captures_is_no_disk_of_the_server() {
    let tree = plain();
    tree.sata("sdc", "8:32", GIB, "naa.5002538e40a1b2c9");
    let own = |inventory: Inventory| inventory.scratch(["/dev/sdc"]);
    let all = ["naa.5002538e40a1b2c3", "naa.5002538e40a1b2c9", "t10.ATA_Samsung_SSD_870_S6PUNX0T100001A"];
    let mut found = ids(&read(&tree)).iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
    found.sort();
    assert_eq!(found, all, "without a word it is taken for one");
    let server = own(Inventory::of(tree.root())).read().unwrap();
    assert_eq!(ids(&server), [all[0], all[2]]);
    let left: Vec<_> = server.left_out.iter().map(|l| (l.device.to_str().unwrap(), l.why)).collect();
    assert_eq!(left, [("/dev/sdc", WhyLeftOut::Scratch)]);
    let only = own(Inventory::of(tree.root()).only(["/dev/sdb"])).read().unwrap();
    assert_eq!(ids(&only), [all[0]]);
    let both = own(Inventory::of(tree.root()).with(["/dev/sdc"])).read().unwrap_err();
    assert_eq!((both.kind(), both.fact("field")), (ErrorKind::Invalid, Some("inventory.disks")), "{both}");
}

#[test]
fn two_sata_disks() {
    let tree = plain();
    tree.device("pci0000:00/usb1/host3/3:0:0:0/block/sdc", "8:32", GIB, &[("removable", "1")]);
    tree.device("pci0000:00/ata5/host5/block/sr0", "11:0", GIB, &[("device/type", "5"), ("removable", "1")]);
    tree.device("pci0000:00/mmc0/block/mmcblk0boot0", "179:8", GIB, &[("ro", "1")]);
    tree.device("pci0000:00/ata6/block/sdd", "8:48", 0, &[]);
    tree.made("zram0", "253:0", GIB, &[], &[]);
    tree.made("loop0", "7:0", GIB, &[], &[("loop/backing_file", "/srv/all/disk.img")]);
    let server = read(&tree);
    assert_eq!(ids(&server), ["naa.5002538e40a1b2c3", "t10.ATA_Samsung_SSD_870_S6PUNX0T100001A"]);
    let system = &server.disks[0];
    assert_eq!(system.device.to_str(), Some("/dev/sdb"));
    assert_eq!((system.size, system.sector, system.role), (20 * GIB, 512, DiskRole::System));
    assert_eq!(mounted(system), [found("/dev/sdb1", "/", "ext4")]);
    let data = &server.disks[1];
    assert_eq!(data.role, DiskRole::Data);
    assert_eq!(mounted(data), [found("/dev/sda1", "/srv/all", "xfs")], "where all of it is mounted");
    let left: Vec<_> = server.left_out.iter().map(|l| (l.device.to_str().unwrap(), l.why)).collect();
    assert_eq!(
        left,
        [
            ("/dev/loop0", WhyLeftOut::Virtual),
            ("/dev/mmcblk0boot0", WhyLeftOut::ReadOnly),
            ("/dev/sdc", WhyLeftOut::Removable),
            ("/dev/sr0", WhyLeftOut::Optical),
            ("/dev/zram0", WhyLeftOut::Virtual),
        ]
    );
    assert_eq!((server.name.as_str(), server.cpus, server.memory), ("web-1", 4, 8_192_000_000));
    assert_eq!(server.firmware, Firmware::Bios);
    assert_eq!(server.guest.os_name.as_deref(), Some("Debian GNU/Linux 12 (bookworm)"));
}

#[test]
fn the_systems_disk_is_told_first_and_the_others_in_the_order_in_which_the_kernel_counts() {
    let tree = plain();
    tree.sata("sdaa", "65:160", GIB, "naa.27");
    tree.sata("sdz", "65:144", GIB, "naa.26");
    let devices: Vec<std::path::PathBuf> = read(&tree).disks.into_iter().map(|disk| disk.device).collect();
    assert_eq!(devices, ["/dev/sdb", "/dev/sda", "/dev/sdz", "/dev/sdaa"].map(std::path::PathBuf::from));
}

#[test]
fn a_loop_device_is_a_disk_where_it_is_named_by_itself_or_by_its_file() {
    let tree = plain();
    tree.made("loop0", "7:0", GIB, &[], &[("loop/backing_file", "/srv/all/disk.img")]);
    tree.file("dev/loop0", "");
    tree.link("dev/ours", "loop0");
    for name in ["/dev/loop0", "/srv/all/disk.img", "/dev/ours"] {
        let server = Inventory::of(tree.root()).with([name]).read().unwrap();
        assert_eq!(server.disks.len(), 3);
        assert_eq!(server.disks[1].id, "loop:/srv/all/disk.img");
        let server = Inventory::of(tree.root()).only([name]).read().unwrap();
        assert_eq!(ids(&server), ["loop:/srv/all/disk.img"]);
        assert!(server.left_out.iter().all(|l| l.why == WhyLeftOut::NotNamed));
    }
}

#[test]
fn a_named_disk_that_is_not_there_is_told() {
    let tree = plain();
    tree.made("loop0", "7:0", 0, &[], &[]);
    for name in ["/dev/loop0", "/dev/sda1", "/srv/all/disk.img"] {
        let error = Inventory::of(tree.root()).with([name]).read().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.message().contains(name), "{error}");
    }
}

#[test]
fn nvme_with_volumes_and_a_boot_partition_of_its_own() {
    let tree = Tree::new();
    let place = "virtual/nvme-subsystem/nvme-subsys0/nvme0n1";
    tree.device(place, "259:0", 500 * GIB, &[("wwid", "eui.0025388b710116a1")]);
    tree.device("pci0000:00/nvme/nvme0/nvme0c0n1", "0:0", 500 * GIB, &[("hidden", "1")]);
    for (part, number) in [("nvme0n1p1", "259:1"), ("nvme0n1p2", "259:2"), ("nvme0n1p3", "259:3")] {
        tree.part("nvme0n1", part, number, GIB);
    }
    tree.udev("259:3", "E:ID_FS_TYPE=LVM2_member");
    tree.made("dm-0", "254:0", 30 * GIB, &["nvme0n1p3"], &[("dm/name", "vg-root"), ("dm/uuid", "LVM-abc")]);
    tree.made("dm-1", "254:1", 90 * GIB, &["nvme0n1p3"], &[("dm/name", "vg-data"), ("dm/uuid", "LVM-def")]);
    tree.mounts(
        "27 1 254:0 / / rw - ext4 /dev/mapper/vg-root rw\n28 27 259:2 / /boot rw - ext4 /dev/nvme0n1p2 rw\n\
         29 28 259:1 / /boot/efi rw - vfat /dev/nvme0n1p1 rw\n30 27 254:1 / /srv rw - xfs /dev/mapper/vg-data rw\n",
    );
    tree.dir("sys/firmware/efi");
    tree.file("sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c", [6, 0, 0, 0, 1]);
    let server = read(&tree);
    assert_eq!(ids(&server), ["eui.0025388b710116a1"]);
    assert_eq!(server.firmware, Firmware::Uefi { secure_boot: true });
    let disk = &server.disks[0];
    assert_eq!(
        mounted(disk),
        [
            found("/dev/mapper/vg-root", "/", "ext4"),
            found("/dev/nvme0n1p2", "/boot", "ext4"),
            found("/dev/nvme0n1p1", "/boot/efi", "vfat"),
            found("/dev/mapper/vg-data", "/srv", "xfs"),
        ]
    );
    let layers: Vec<_> = disk.layout.layers.iter().map(|l| (l.device.to_str().unwrap(), l.kind)).collect();
    assert_eq!(
        layers,
        [
            ("/dev/nvme0n1p1", LayerKind::Partition),
            ("/dev/nvme0n1p2", LayerKind::Partition),
            ("/dev/nvme0n1p3", LayerKind::Partition),
            ("/dev/mapper/vg-root", LayerKind::Volume),
            ("/dev/mapper/vg-data", LayerKind::Volume),
        ]
    );
    assert_eq!(disk.layout.layers[2].content.as_deref(), Some("LVM2_member"));
}

#[test]
fn a_mirror_makes_both_its_disks_the_systems_and_the_third_stays_data() {
    let tree = Tree::new();
    for (disk, number, wwid) in [("sda", 0, "naa.1"), ("sdb", 16, "naa.2"), ("sdc", 32, "naa.3")] {
        tree.sata(disk, &format!("8:{number}"), 50 * GIB, wwid);
        tree.part(disk, &format!("{disk}1"), &format!("8:{}", number + 1), GIB);
        tree.part(disk, &format!("{disk}2"), &format!("8:{}", number + 2), 49 * GIB);
    }
    tree.made("md0", "9:0", 49 * GIB, &["sda2", "sdb2"], &[("md/level", "raid1")]);
    tree.dir("sys/firmware/efi");
    tree.mounts(
        "27 1 9:0 / / rw - ext4 /dev/md0 rw\n28 27 8:17 / /boot/efi rw - vfat /dev/sdb1 rw\n\
         29 27 8:34 / /srv rw - ext4 /dev/sdc2 rw\n",
    );
    let server = read(&tree);
    assert_eq!(ids(&server), ["naa.1", "naa.2", "naa.3"]);
    let roles: Vec<_> = server.disks.iter().map(|d| d.role).collect();
    assert_eq!(roles, [DiskRole::System, DiskRole::System, DiskRole::Data]);
    assert_eq!(mounted(&server.disks[0]), [found("/dev/md0", "/", "ext4")]);
    assert_eq!(mounted(&server.disks[1])[1], found("/dev/sdb1", "/boot/efi", "vfat"));
    assert_eq!(server.firmware, Firmware::Uefi { secure_boot: false });
    let boot: Vec<_> = server.system.boot.iter().map(|(at, on)| (at.to_str().unwrap(), on.len())).collect();
    assert_eq!(boot, [("/", 2), ("/boot/efi", 1)]);
}

#[test]
fn several_paths_are_one_disk() {
    let tree = Tree::new();
    for (disk, host, number) in [("sda", 2, "8:0"), ("sdb", 3, "8:16")] {
        let place = format!("pci0000:00/0000:00:03.0/host{host}/rport-{host}:0-0/target/block/{disk}");
        tree.device(&place, number, 200 * GIB, &[("device/wwid", "naa.600a098038303053")]);
    }
    let map = [("dm/name", "mpatha"), ("dm/uuid", "mpath-3600a098038303053")];
    tree.made("dm-0", "254:0", 200 * GIB, &["sda", "sdb"], &map);
    let part = [("dm/name", "mpatha-part1"), ("dm/uuid", "part1-mpath-3600a098038303053")];
    tree.made("dm-1", "254:1", 199 * GIB, &["dm-0"], &part);
    tree.mounts("27 1 254:1 / / rw - xfs /dev/mapper/mpatha-part1 rw\n");
    let server = read(&tree);
    assert_eq!(ids(&server), ["naa.600a098038303053"]);
    let disk = &server.disks[0];
    assert_eq!(disk.device.to_str(), Some("/dev/mapper/mpatha"));
    assert_eq!((disk.role, disk.layout.reach), (DiskRole::System, Reach::Multipath));
    assert_eq!(mounted(disk), [found("/dev/mapper/mpatha-part1", "/", "xfs")]);
    assert!(server.left_out.iter().all(|l| l.why == WhyLeftOut::Path));
    assert_eq!(server.left_out.len(), 2);
}

#[test]
fn an_encrypted_disk_and_a_disk_by_iscsi() {
    let tree = Tree::new();
    tree.device("pci0000:00/0000:00:04.0/virtio1/block/vda", "252:0", 20 * GIB, &[("serial", "root-1")]);
    tree.part("vda", "vda1", "252:1", GIB);
    tree.part("vda", "vda2", "252:2", 19 * GIB);
    tree.udev("252:2", "E:ID_FS_TYPE=crypto_LUKS");
    let crypt = [("dm/name", "root_crypt"), ("dm/uuid", "CRYPT-LUKS2-aaaa-root_crypt")];
    tree.made("dm-0", "254:0", 19 * GIB, &["vda2"], &crypt);
    tree.device("platform/host3/session1/target3:0:0/3:0:0:1/block/sda", "8:0", GIB, &[]);
    tree.file(
        "sys/devices/platform/host3/session1/target3:0:0/3:0:0:1/block/sda/device/vpd_pg80",
        b"\0\x80\0\x04LUN7",
    );
    tree.mounts(
        "27 1 254:0 / / rw - ext4 /dev/mapper/root_crypt rw\n28 27 252:1 / /boot rw - ext4 /dev/vda1 rw\n",
    );
    let server = read(&tree);
    assert_eq!(ids(&server), ["root-1", "LUN7"]);
    let kinds: Vec<_> = server.disks[0].layout.layers.iter().map(|l| l.kind).collect();
    assert_eq!(kinds, [LayerKind::Partition, LayerKind::Partition, LayerKind::Crypt]);
    assert_eq!(server.disks[1].layout.reach, Reach::Iscsi);
}

#[test]
fn a_disk_without_identity_takes_udevs_name_and_then_its_own() {
    let tree = Tree::new();
    tree.device("pci0000:00/cciss0/block/cciss!c0d0", "104:0", GIB, &[]);
    tree.device("pci0000:00/virtio1/block/vda", "252:0", GIB, &[]);
    tree.link("dev/disk/by-id/scsi-1ABC", "../../cciss!c0d0");
    tree.link("dev/disk/by-id/wwn-0x5000", "../../cciss!c0d0");
    let server = read(&tree);
    assert_eq!(ids(&server), ["wwn-0x5000", "vda"]);
    assert_eq!(server.disks[0].device.to_str(), Some("/dev/cciss/c0d0"));
    assert_eq!((server.disks[0].layout.stable, server.disks[1].layout.stable), (true, false));
}

#[test]
fn btrfs_is_found_on_all_its_disks_though_its_number_is_its_own() {
    let tree = plain();
    tree.dir("sys/fs/btrfs/features");
    for part in ["sda1", "sdb1"] {
        tree.file(&format!("sys/fs/btrfs/11-22/devices/{part}"), "");
    }
    tree.mounts("27 1 0:30 /@ / rw - btrfs /dev/sdb1 rw,subvol=/@\n28 27 0:40 / /mnt rw - nfs4 far:/x rw\n");
    let server = read(&tree);
    for disk in &server.disks {
        assert_eq!((disk.role, mounted(disk)), (DiskRole::System, vec![found("/dev/sdb1", "/", "btrfs")]));
    }
    assert_eq!(server.system.elsewhere.len(), 1);
    assert_eq!(server.system.elsewhere[0].kind, "nfs4");
}

#[test]
fn the_disk_that_a_bios_starts_is_the_systems() {
    let tree = plain();
    tree.udev("8:1", "E:ID_PART_ENTRY_TYPE=21686148-6449-6e6f-744e-656564454649");
    assert!(read(&tree).disks.iter().all(|d| d.role == DiskRole::System));
    tree.dir("sys/firmware/efi");
    assert_eq!(read(&tree).disks[1].role, DiskRole::Data, "UEFI does not look there");
}

#[test]
fn adapters_in_a_bond_with_a_bridge_and_a_vlan_above() {
    let tree = plain();
    tree.adapter("eno1", "aa:00:00:00:00:01", "ixgbe");
    tree.adapter("eno2", "aa:00:00:00:00:01", "ixgbe");
    tree.adapter("eno3", "aa:00:00:00:00:03", "tg3");
    for slave in ["eno1", "eno2"] {
        tree.link(&format!("sys/class/net/{slave}/master"), "../../../virtual/net/bond0");
        tree.link(&format!("sys/class/net/{slave}/upper_bond0"), "../../../virtual/net/bond0");
    }
    tree.file("sys/class/net/eno2/bonding_slave/perm_hwaddr", "aa:00:00:00:00:02\n");
    tree.file("sys/class/net/bond0/bonding/mode", "active-backup 1\n");
    tree.file("sys/class/net/bond0/uevent", "DEVTYPE=bond\nINTERFACE=bond0\n");
    tree.link("sys/class/net/bond0/upper_bond0.7", "../bond0.7");
    tree.file("sys/class/net/bond0.7/type", "1\n");
    tree.file("sys/class/net/lo/type", "772\n");
    tree.route("bond0.7");
    let told = [("eno3", "198.51.100.3"), ("bond0.7", "192.0.2.7"), ("lo", "127.0.0.1")];
    let told = told.map(|(n, a)| (n.to_owned(), a.to_owned()));
    let server = Inventory::of(tree.root()).addresses(told).read().unwrap();
    let adapters: Vec<_> = server
        .adapters
        .iter()
        .map(|a| (a.name.as_str(), a.mac.as_deref().unwrap(), a.addresses.join(" ")))
        .collect();
    assert_eq!(
        adapters,
        [
            ("eno1", "aa:00:00:00:00:01", "192.0.2.7".into()),
            ("eno2", "aa:00:00:00:00:02", String::new()),
            ("eno3", "aa:00:00:00:00:03", "198.51.100.3".into()),
        ]
    );
    assert_eq!(server.system.bonds, ["bond0"]);
}

#[test]
fn who_gives_the_address() {
    use NetworkService::*;
    let fresh = || {
        let tree = plain();
        tree.adapter("eno1", "aa:00:00:00:00:01", "ixgbe");
        tree
    };
    let asked = |tree: &Tree| {
        let server = read(tree);
        (server.system.network, server.guest.dhcp)
    };
    let tree = fresh();
    assert_eq!(asked(&tree), (None, None));
    tree.enabled("dhcpcd.service");
    assert_eq!(asked(&tree), (Some(Dhcpcd), Some(true)));
    tree.file("etc/sysconfig/network-scripts/ifcfg-eno1", "DEVICE=eno1\nBOOTPROTO=\"none\"\n");
    assert_eq!(asked(&tree), (Some(Ifcfg), Some(false)));
    tree.enabled("NetworkManager.service");
    assert_eq!(asked(&tree), (Some(NetworkManager), Some(false)), "by the older file");
    let profile = |mac: &str, method: &str| {
        format!(
            "[connection]\nid=a\ntype=ethernet\n\n[ethernet]\nmac-address={mac}\n\n[ipv4]\nmethod={method}\n"
        )
    };
    let dir = "etc/NetworkManager/system-connections";
    tree.file(&format!("{dir}/other.nmconnection"), profile("BB:00:00:00:00:01", "manual"));
    tree.file(&format!("{dir}/ours.nmconnection"), profile("AA:00:00:00:00:01", "auto"));
    assert_eq!(asked(&tree), (Some(NetworkManager), Some(true)));
    tree.enabled("systemd-networkd.service");
    assert_eq!(asked(&tree), (Some(NetworkManager), Some(true)), "networkd leaves it alone");
    tree.file("usr/lib/systemd/network/90-all.network", "[Match]\nType=ether\n\n[Network]\nDHCP=yes\n");
    assert_eq!(asked(&tree), (Some(Networkd), Some(true)));
    tree.file("etc/systemd/network/10-wifi.network", "[Match]\nName=wl*\n[Network]\nDHCP=yes\n");
    tree.file(
        "run/systemd/network/10-netplan.network",
        "[Match]\nName=en?1 ens*\n[Network]\nAddress=192.0.2.7/24\n",
    );
    assert_eq!(asked(&tree), (Some(Networkd), Some(false)));
    tree.file("etc/network/interfaces", "auto lo\niface lo inet loopback\n");
    assert_eq!(asked(&tree), (Some(Networkd), Some(false)));
    tree.file(
        "etc/network/interfaces.d/eno1",
        "allow-hotplug eno1\niface eno1 inet dhcp\niface eno1 inet6 auto\n",
    );
    assert_eq!(asked(&tree), (Some(Ifupdown), Some(true)));
}

/// The bond has the address, so its configuration is asked, and not that of the adapters below it.
#[test]
fn who_gives_a_bond_its_address() {
    use NetworkService::*;
    let tree = plain();
    tree.adapter("eno1", "aa:00:00:00:00:01", "ixgbe");
    tree.link("sys/class/net/eno1/master", "../bond0");
    tree.file("sys/class/net/bond0/uevent", "DEVTYPE=bond\nINTERFACE=bond0\n");
    tree.route("bond0");
    let asked = |tree: &Tree| {
        let server = read(tree);
        (server.system.network, server.guest.dhcp)
    };
    tree.enabled("NetworkManager.service");
    let dir = "etc/NetworkManager/system-connections";
    let slave = "[connection]\ntype=ethernet\ninterface-name=eno1\nmaster=bond0\n\n[ipv4]\nmethod=disabled\n";
    tree.file(&format!("{dir}/a.nmconnection"), slave);
    let bond = "[connection]\ntype=bond\ninterface-name=bond0\n\n[ipv4]\nmethod=auto\n";
    tree.file(&format!("{dir}/b.nmconnection"), bond);
    assert_eq!(asked(&tree), (Some(NetworkManager), Some(true)));
    tree.enabled("systemd-networkd.service");
    tree.file("etc/systemd/network/10-ports.network", "[Match]\nType=ether\n[Network]\nBond=bond0\n");
    tree.file("etc/systemd/network/20-bond.network", "[Match]\nKind=bond\n[Network]\nDHCP=ipv4\n");
    assert_eq!(asked(&tree), (Some(Networkd), Some(true)));
    tree.file("etc/network/interfaces", "iface bond0 inet static\n address 192.0.2.7/24\n");
    assert_eq!(asked(&tree), (Some(Ifupdown), Some(false)));
}

#[test]
fn drivers_are_those_in_the_kernel_and_in_its_initramfs() {
    let tree = plain();
    assert_eq!(read(&tree).guest.boot_drivers, None);
    let builtin = "kernel/drivers/ata/ata_piix.ko\nkernel/drivers/scsi/sd_mod.ko\nkernel/fs/ext4/ext4.ko\n";
    tree.file(&format!("lib/modules/{KERNEL}/modules.builtin"), builtin);
    let modules = format!("usr/lib/modules/{KERNEL}/kernel/drivers");
    let names = [format!("{modules}/hv/hv_vmbus.ko.xz"), format!("{modules}/hid/hid-hyperv.ko")];
    let mut image = cpio(&["kernel/x86/microcode/GenuineIntel.bin"]);
    image.extend(inventory_tree::packed("gzip", &cpio(&[&names[0], &names[1], "etc/hv_netvsc.ko.conf"])));
    tree.file(&format!("boot/initrd.img-{KERNEL}"), &image);
    let drivers = read(&tree).guest.boot_drivers.unwrap();
    assert_eq!(drivers, ["hv_vmbus", "hid_hyperv", "ata_piix", "sd_mod"]);
    tree.file(&format!("boot/initrd.img-{KERNEL}"), &image[..image.len() - 40]);
    assert_eq!(read(&tree).guest.boot_drivers, None, "what cannot be read is not guessed");
}

#[test]
fn it_is_a_machine() {
    let tree = plain();
    tree.adapter("eno1", "aa:00:00:00:00:01", "ixgbe");
    let instance = Instance {
        machine: "m-1".into(),
        site: "hall-1".into(),
        name: "web-1".into(),
        generation: Generation(0),
    };
    let machine = read(&tree).machine(instance.clone(), |id| !id.as_str().starts_with("t10"));
    machine.validate().unwrap();
    assert_eq!(machine.instance, instance);
    assert_eq!((machine.os, machine.platform), (OsFamily::Linux, Platform::Physical));
    let disks: Vec<_> = machine.disks.iter().map(|d| (d.id.as_str(), d.size, d.included)).collect();
    let second = "t10.ATA_Samsung_SSD_870_S6PUNX0T100001A";
    assert_eq!(disks, [("naa.5002538e40a1b2c3", 20 * GIB, true), (second, 100 * GIB, false)]);
    assert_eq!(machine.nics[0].id.as_str(), "aa:00:00:00:00:01");
    let none = read(&tree).machine(instance, |_| false);
    assert_eq!(none.validate().unwrap_err().fact("field"), Some("disk.included"));
}
