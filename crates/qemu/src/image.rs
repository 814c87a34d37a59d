//! Disk images, by `qemu-img`: what they are, whether somebody writes them, and how they are made.

use crate::Site;
use crate::description::Format;
use crate::program::run;
use crate::tracking::Link;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use serde::Deserialize;
use site_recovery::{Error, ErrorKind, Result};
use site_recovery_register::Told;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long an act on an image may take that reads or writes little of its metadata.
const LIMIT: Duration = Duration::from_secs(30);
/// How long one may take that writes all of it. Broken off it would leave clusters that nothing names.
const LONG: Duration = Duration::from_secs(6 * 3600);
/// Where a process locks an image that it writes, or whose size it changes, and how many bytes. Source: QEMU
/// `block/file-posix.c`, `RAW_LOCK_PERM_BASE`, and `include/block/block-common.h`, `BLK_PERM_WRITE` to `BLK_PERM_RESIZE`.
const WRITERS: (i64, i64) = (101, 3);
/// How a qcow2 image begins. Source: QEMU `docs/interop/qcow2.rst`.
const QCOW2: [u8; 4] = *b"QFI\xfb";
/// Most images that stand on each other.
const DEEPEST: usize = 64;

/// What an image says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Image {
    pub(crate) size: u64,
    /// As its header names it, where it stands on another image.
    pub(crate) backing: Option<String>,
    /// The format of that one, where it is told.
    pub(crate) backing_format: Option<String>,
    /// The same, from here: a path, or an address.
    pub(crate) stands_on: Option<String>,
    pub(crate) snapshots: u32,
    /// Whether the format keeps dirty bitmaps: qcow2 of version 3.
    pub(crate) keeps_bitmaps: bool,
    /// Names of the bitmaps that it keeps, as of its last clean close.
    pub(crate) bitmaps: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Info {
    format: String,
    virtual_size: u64,
    #[serde(default)]
    backing_filename: Option<String>,
    #[serde(default)]
    full_backing_filename: Option<String>,
    #[serde(default)]
    backing_filename_format: Option<String>,
    #[serde(default)]
    snapshots: Vec<serde_json::Value>,
    #[serde(default)]
    format_specific: Option<Specific>,
}

#[derive(Deserialize)]
struct Specific {
    #[serde(default)]
    data: serde_json::Value,
}

impl Site {
    /// What an image is, also while somebody writes it. Does not open the image that it stands on. Of a raw image nothing is
    /// read: its guest could make it look like anything.
    ///
    /// # Errors
    /// `Invalid` for an image of another format.
    pub(crate) fn image(&self, path: &Path, format: Format) -> Result<Image> {
        self.information(path, Some(format.name())).map_err(|e| {
            if !e.message().contains("not in") {
                return e;
            }
            let rule = format!("it is described as {}", format.name());
            let remedy = "correct `format`: qcow2 or raw are served; convert any other with qemu-img";
            Error::invalid("disks.format", path.display(), &rule, remedy).caused_by(e)
        })
    }

    /// Without a format, `qemu-img` finds one.
    fn information(&self, path: &Path, format: Option<&str>) -> Result<Image> {
        let mut words: Vec<&OsStr> = ["info", "-U", "--output=json"].map(AsRef::as_ref).into();
        words.extend(format.into_iter().flat_map(|f| ["-f", f]).map(OsStr::new));
        words.push(path.as_os_str());
        let text = run(&self.options.programs.img, words, LIMIT)?;
        let info: Info = serde_json::from_slice(&text).map_err(|e| {
            let message = format!("qemu-img does not say what {} is", path.display());
            Error::new(ErrorKind::Unavailable, message).caused_by(e)
        })?;
        let data = info.format_specific.map(|s| s.data).unwrap_or_default();
        let compat = data["compat"].clone();
        let bitmaps = data["bitmaps"].as_array().into_iter().flatten();
        Ok(Image {
            bitmaps: bitmaps.filter_map(|b| b["name"].as_str().map(str::to_owned)).collect(),
            keeps_bitmaps: info.format == "qcow2" && compat != "0.10",
            size: info.virtual_size,
            stands_on: info.full_backing_filename.or_else(|| info.backing_filename.clone()),
            backing: info.backing_filename,
            backing_format: info.backing_filename_format,
            snapshots: info.snapshots.len() as u32,
        })
    }

    /// The first file that is missing of those that an image stands on.
    ///
    /// # Errors
    /// `Invalid` where they stand on each other in a circle; those of [`image`](Site::image).
    pub(crate) fn missing_below(&self, image: &Image) -> Result<Option<PathBuf>> {
        let mut image = image.clone();
        for _ in 0..DEEPEST {
            // An address is of something that is not a file: whether it answers is seen when it is opened.
            let Some(path) = image.stands_on.take().map(PathBuf::from).filter(|p| p.is_absolute()) else {
                return Ok(None);
            };
            if !fs::exists(&path).told("look at", &path)? {
                return Ok(Some(path));
            }
            // Where an older image does not tell, QEMU looks for itself, too; nobody writes to what others stand on.
            image = self.information(&path, image.backing_format.as_deref())?;
        }
        let rule = format!("at most {DEEPEST} images stand on each other");
        Err(Error::invalid("disks.file", "stands on too many", &rule, "merge some, with qemu-img commit"))
    }

    /// Makes an empty image.
    pub(crate) fn make_image(&self, path: &Path, format: Format, size: u64) -> Result<()> {
        let size = size.to_string();
        let arguments = ["create", "-q", "-f", format.name()].map(AsRef::as_ref);
        let arguments = arguments.into_iter().chain([path.as_os_str(), size.as_ref()]);
        run(&self.options.programs.img, arguments, LIMIT).map(drop)
    }

    /// Makes an image that holds what differs from `base`, which is not opened: a path is relative to the image.
    pub(crate) fn make_overlay(&self, path: &Path, base: &str, base_format: Format, size: u64) -> Result<()> {
        let size = size.to_string();
        let arguments = ["create", "-q", "-u", "-f", "qcow2", "-F", base_format.name(), "-b", base];
        let arguments = arguments.map(AsRef::as_ref).into_iter().chain([path.as_os_str(), size.as_ref()]);
        run(&self.options.programs.img, arguments, LIMIT).map(drop)
    }

    /// Makes an image larger that nobody has open. What is added reads as zeros.
    pub(crate) fn grow_image(&self, path: &Path, format: Format, size: u64) -> Result<()> {
        let size = size.to_string();
        let arguments = ["resize", "-q", "-f", format.name()].map(AsRef::as_ref);
        run(&self.options.programs.img, arguments.into_iter().chain([path.as_os_str(), size.as_ref()]), LIMIT)
            .map(drop)
    }

    /// Our bitmaps of an image, in the order of the chain.
    pub(crate) fn image_links(&self, path: &Path) -> Result<Vec<Link>> {
        let mut links: Vec<Link> =
            self.image(path, Format::Qcow2)?.bitmaps.iter().filter_map(|b| b.parse().ok()).collect();
        links.sort_by_key(|l| l.place);
        Ok(links)
    }

    /// Begins a bitmap in an image that nobody has open. It records from the next opening on.
    pub(crate) fn add_image_bitmap(&self, path: &Path, name: &str) -> Result<()> {
        self.change_bitmap("--add", path, name)
    }

    pub(crate) fn remove_image_bitmap(&self, path: &Path, name: &str) -> Result<()> {
        self.change_bitmap("--remove", path, name)
    }

    fn change_bitmap(&self, how: &str, path: &Path, name: &str) -> Result<()> {
        let arguments = ["bitmap".as_ref(), how.as_ref(), path.as_os_str(), name.as_ref()];
        run(&self.options.programs.img, arguments, LIMIT).map(drop)
    }

    /// Removes all internal snapshots of an image that nobody has open.
    pub(crate) fn drop_snapshots(&self, path: &Path) -> Result<()> {
        for _ in 0..self.image(path, Format::Qcow2)?.snapshots {
            let ask = ["info", "--output=json", "-f", "qcow2"].map(AsRef::as_ref);
            let text = run(&self.options.programs.img, ask.into_iter().chain([path.as_os_str()]), LIMIT)?;
            let info: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
            let Some(name) = info["snapshots"][0]["name"].as_str() else { break };
            let arguments = ["snapshot", "-q", "-d", name].map(AsRef::as_ref);
            run(&self.options.programs.img, arguments.into_iter().chain([path.as_os_str()]), LONG)?;
        }
        Ok(())
    }
}

/// Whether some process has the image open for writing, by QEMU's own lock on it.
///
/// # Errors
/// Those of the file system: where it cannot be told, nobody says that it is not.
pub(crate) fn is_written(path: &Path) -> Result<bool> {
    let file = File::open(path).told("open", path)?;
    let mut lock = libc::flock {
        l_type: libc::F_WRLCK as _,
        l_whence: libc::SEEK_SET as _,
        l_start: WRITERS.0,
        l_len: WRITERS.1,
        l_pid: 0,
    };
    fcntl(&file, FcntlArg::F_OFD_GETLK(&mut lock))
        .map_err(std::io::Error::from)
        .told("look at the lock of", path)?;
    Ok(lock.l_type != libc::F_UNLCK as libc::c_short)
}

/// Refuses a raw image that begins as a qcow2 image does.
///
/// # Errors
/// `Invalid`.
pub(crate) fn must_be_raw(path: &Path) -> Result<()> {
    let mut start = [0; QCOW2.len()];
    let read = File::open(path).and_then(|mut f| f.read(&mut start)).told("read", path)?;
    if start[..read] != QCOW2 {
        return Ok(());
    }
    let remedy = "describe it as qcow2, or overwrite its first bytes if they are the guest's own";
    Err(Error::invalid("disks.format", path.display(), "it is described as raw, and begins as qcow2", remedy))
}
