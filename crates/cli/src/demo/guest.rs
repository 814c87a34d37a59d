//! The machine of the demonstration: raw disks in a directory, and a guest that writes to them.

use bytes::Bytes;
use sha2::{Digest, Sha256};
use site_recovery::{Clock, Error, ErrorKind, Random, Result, SystemClock, SystemRandom};
use site_recovery_local::LocalSite;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

const MIB: usize = 1 << 20;
/// Disks, and how many MiB each has.
const DISKS: [(&str, usize); 2] = [("root", 32), ("data", 16)];

/// A running machine named `web` at a site.
#[derive(Debug)]
pub(crate) struct Guest {
    site: LocalSite,
}

impl Guest {
    /// Makes the machine, with random bytes on its disks, and switches it on.
    pub(crate) async fn install(dir: &Path, site: &str) -> Result<Self> {
        let home = dir.join(site).join("web");
        std::fs::create_dir_all(&home).map_err(|e| failed(&home, e))?;
        for (id, mib) in DISKS {
            let path = home.join(format!("disk-{id}.raw"));
            fill(&path, mib).map_err(|e| failed(&path, e))?;
        }
        let description = r#"{ "os": "linux", "disks": [
    { "id": "root", "file": "disk-root.raw" },
    { "id": "data", "file": "disk-data.raw" }
] }"#;
        std::fs::write(home.join("machine.json"), description).map_err(|e| failed(&home, e))?;
        let guest = Self::at(dir, site).await?;
        guest.site.switch_on("web").await?;
        Ok(guest)
    }

    /// The machine that runs at a site.
    pub(crate) async fn at(dir: &Path, site: &str) -> Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        Ok(Self { site: LocalSite::open(site.into(), dir.join(site), clock)? })
    }

    /// Writes as the guest does.
    pub(crate) async fn write(&self, text: &str) -> Result<()> {
        let at = SystemRandom.bits() % (8 * MIB as u64 / 4096) * 4096;
        for (disk, _) in DISKS {
            self.site.write_disk("web", &disk.into(), at, Bytes::from(text.to_owned())).await?;
        }
        Ok(())
    }
}

/// A quarter is random, so that nothing is compressed away, and the rest is zero.
fn fill(path: &Path, mib: usize) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    for _ in 0..mib / 4 {
        let block: Vec<u8> = (0..MIB / 8).flat_map(|_| SystemRandom.bits().to_le_bytes()).collect();
        file.write_all(&block)?;
    }
    file.set_len((mib * MIB) as u64)
}

/// SHA-256 of the disks of `web` at a site, by their files' names.
pub(crate) fn digests(dir: &Path, site: &str) -> Result<BTreeMap<String, String>> {
    let mut digests = BTreeMap::new();
    for (id, _) in DISKS {
        let name = format!("disk-{id}.raw");
        let path = dir.join(site).join("web").join(&name);
        let mut bytes = vec![];
        File::open(&path).and_then(|mut f| f.read_to_end(&mut bytes)).map_err(|e| failed(&path, e))?;
        digests.insert(name, Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect());
    }
    Ok(digests)
}

fn failed(path: &Path, error: std::io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, format!("{} cannot be used", path.display())).caused_by(error)
}
