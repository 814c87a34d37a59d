//! Disks: loop devices over image files on XFS, which clones a file without copying it.

use super::tool::{run, try_run, until};
use super::{Ground, Host};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// An XFS file system with reflinks, on a loop device.
pub struct Store {
    dir: PathBuf,
    device: Loop,
}

impl Store {
    /// The least that XFS takes are 300 MiB; what is not written takes no room.
    pub(super) fn new(ground: Ground, bytes: u64) -> Self {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let (image, dir) =
            (ground.dir().join(format!("store{number}.raw")), ground.dir().join(format!("store{number}")));
        let device = Loop::over(&ground, &image, bytes);
        run("mkfs.xfs", &["-q", "-K", "-m", "reflink=1", &device.path]);
        fs::create_dir(&dir).unwrap();
        run("mount", &["-t", "xfs", &device.path, dir.to_str().unwrap()]);
        Self { dir, device }
    }

    /// Where it is mounted, for the test process and for each host.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A new disk, all zeros.
    pub fn disk(&self, name: &str, bytes: u64) -> Disk {
        Disk::over(&self.device.ground, &self.dir.join(format!("{name}.raw")), bytes)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // Busy while a disk stands on it; then it goes with the ground.
        let _busy = try_run("umount", &[&self.dir]);
    }
}

/// An image file, and the block device over it.
pub struct Disk {
    image: PathBuf,
    device: Loop,
}

impl Disk {
    /// Over this file in the ground's directory, which is made where it is not there, and has `bytes` then.
    pub fn over(ground: &Ground, image: &Path, bytes: u64) -> Self {
        Self { image: image.to_owned(), device: Loop::over(ground, image, bytes) }
    }

    pub fn image(&self) -> &Path {
        &self.image
    }

    pub fn device(&self) -> &Path {
        Path::new(&self.device.path)
    }

    /// Takes the device away, as when somebody pulls the disk out. Nothing may have it open or mounted.
    pub fn pull(&mut self) {
        self.device.detach();
    }

    /// Puts a disk back that was pulled; its device may have another number then.
    pub fn put_back(&mut self) {
        self.device = Loop::over(&self.device.ground.clone(), &self.image, 0);
    }

    /// Makes it so large, as a disk of a storage system grows under a server that runs.
    pub fn grow(&self, bytes: u64) {
        let image = fs::OpenOptions::new().write(true).open(&self.image).unwrap();
        assert!(image.metadata().unwrap().len() <= bytes, "it would shrink");
        image.set_len(bytes).unwrap();
        run("losetup", &["-c", &self.device.path]);
    }

    /// Makes an ext4 file system on it.
    pub fn format(&self) {
        run("mkfs.ext4", &["-q", "-F", &self.device.path]);
    }

    /// Makes an ext4 file system on it that ends so many bytes before the disk does.
    pub fn format_before(&self, end: u64) {
        let size = fs::metadata(&self.image).unwrap().len() - end;
        run("mkfs.ext4", &["-q", "-F", &self.device.path, &format!("{}k", size >> 10)]);
    }

    /// Mounts it in a host alone.
    pub fn mount<'a>(&self, host: &'a Host, name: &str) -> Mount<'a> {
        let at = host.ground.dir().join(format!("{}-{name}", host.name()));
        fs::create_dir_all(&at).unwrap();
        host.run("mount", &[self.device(), &at]);
        Mount { host, at }
    }
}

/// A loop device. Detached when dropped, or as soon as nothing uses it; without a path it is detached already. The ground, which would take it down, and let others
/// have it, does not go before.
struct Loop {
    path: String,
    ground: Ground,
}

impl Loop {
    fn over(ground: &Ground, image: &Path, bytes: u64) -> Self {
        assert!(image.starts_with(ground.dir()), "{} would be left", image.display());
        if !image.exists() {
            File::create(image).unwrap().set_len(bytes).unwrap();
        }
        let said = run("losetup", &["-f".as_ref(), "--show".as_ref(), image.as_os_str()]);
        Self { path: said.trim().to_owned(), ground: ground.clone() }
    }

    /// Now, and not only once nothing uses it any more.
    fn detach(&mut self) {
        run("losetup", &["-d", &self.path]);
        let name = Path::new(&self.path).file_name().unwrap();
        let attached = Path::new("/sys/block").join(name).join("loop");
        until(&format!("{} is detached", self.path), || !attached.exists());
        self.path.clear();
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        if self.path.is_empty() {
            return;
        }
        if let Err(complaint) = try_run("losetup", &["-d", &self.path]) {
            eprintln!("{complaint}");
        }
    }
}

/// A file system that is mounted in a host. Unmounted when dropped.
pub struct Mount<'a> {
    host: &'a Host,
    at: PathBuf,
}

impl Mount<'_> {
    /// Where it is in the host.
    pub fn at(&self) -> &Path {
        &self.at
    }

    /// Where the test process reaches it.
    pub fn outside(&self) -> PathBuf {
        self.host.outside(&self.at)
    }

    /// Writes back all there is, and lets nobody write until it is thawed.
    pub fn freeze(&self) -> Frozen<'_> {
        self.host.run("fsfreeze", &["-f".as_ref(), self.at.as_os_str()]);
        Frozen(self)
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        // Busy while a program uses it; then it goes with the host.
        let _busy = self.host.try_run("umount", &[&self.at]);
    }
}

/// A frozen file system. Thawed when dropped.
pub struct Frozen<'a>(&'a Mount<'a>);

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        let _thawed_by_another = self.0.host.try_run("fsfreeze", &["-u".as_ref(), self.0.at.as_os_str()]);
    }
}

/// Clones a file of a [`Store`]: from then on both have the same bytes, and each is written by itself.
pub fn reflink(from: &Path, to: &Path) {
    let (from, to) = (File::open(from).unwrap(), File::create(to).unwrap());
    rustix::fs::ioctl_ficlone(&to, &from).unwrap();
}

/// Whether an ext4 file system is whole and was left clean; nothing is changed.
///
/// # Errors
/// What the check says.
pub fn fsck(device: &Path) -> Result<(), String> {
    try_run("e2fsck", &["-fn".as_ref(), device.as_os_str()]).map(|_| ())
}
