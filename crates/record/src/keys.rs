//! Keys, by reference, never shown.

use site_recovery::{Error, ErrorKind, MachineId, Result};
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Bytes of a key.
pub const KEY_BYTES: usize = 32;

/// Names a key without telling it: the first eight bytes of SHA-256 over a label and the key. It stands in every frame
/// that the key has sealed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub(crate) [u8; 8]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// 256 bits that seal. Neither printed nor serialised, and wiped when the last copy is dropped.
#[derive(Clone)]
pub struct Key {
    id: KeyId,
    pub(crate) bytes: Arc<Zeroizing<[u8; KEY_BYTES]>>,
}

impl Key {
    /// A key of these bytes, which somebody else keeps.
    pub fn new(bytes: [u8; KEY_BYTES]) -> Self {
        let named = Zeroizing::new([b"site-recovery key\0".as_slice(), &bytes].concat());
        let digest = ring::digest::digest(&ring::digest::SHA256, &named);
        let (id, _) = digest.as_ref().split_first_chunk().expect("SHA-256 has 32 bytes");
        Self { id: KeyId(*id), bytes: Arc::new(Zeroizing::new(bytes)) }
    }

    /// Reads a key from its file: 64 hex digits, and perhaps a line end. Nobody but the owner may have rights to it.
    ///
    /// # Errors
    /// `Invalid`, naming file, rule and remedy, never the content; `NotFound` or `Denied` where it cannot be read.
    pub fn read(file: &Path) -> Result<Self> {
        let unread = |e: std::io::Error| {
            let kind = match e.kind() {
                std::io::ErrorKind::NotFound => ErrorKind::NotFound,
                _ => ErrorKind::Denied,
            };
            Error::new(kind, format!("the key file {} cannot be read", file.display())).caused_by(e)
        };
        let bad = |rule, remedy| Error::invalid("key.file", file.display(), rule, remedy);
        let mode = fs::metadata(file).map_err(unread)?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(bad("only its owner may read a key file", "chmod 600"));
        }
        let text = Zeroizing::new(fs::read(file).map_err(unread)?);
        let digits = text.trim_ascii_end();
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        if digits.len() != 2 * KEY_BYTES {
            return Err(bad("a key file holds 64 hex digits", "make one with: openssl rand -hex 32"));
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |d: u8| char::from(d).to_digit(16);
            let (Some(high), Some(low)) = (digit(pair[0]), digit(pair[1])) else {
                return Err(bad("a key file holds hex digits alone", "make one with: openssl rand -hex 32"));
            };
            *byte = (high << 4 | low) as u8;
        }
        Ok(Self::new(*bytes))
    }

    /// Its name.
    pub fn id(&self) -> KeyId {
        self.id
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}, ***)", self.id)
    }
}

/// Which key seals a machine's records, and which ones open what was sealed. Empty: nothing is sealed, and what is
/// sealed stays shut.
#[derive(Debug, Clone, Default)]
pub struct Keyring {
    seals: Option<Key>,
    seals_of: BTreeMap<MachineId, Key>,
    opens: BTreeMap<KeyId, Key>,
}

impl Keyring {
    /// Seals nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Seals the records of all machines that have no key of their own.
    #[must_use]
    pub fn seal_with(mut self, key: Key) -> Self {
        self = self.open_with(key.clone());
        self.seals = Some(key);
        self
    }

    /// Seals the records of these machines: those of one group, or of one owner.
    #[must_use]
    pub fn seal_for(mut self, key: Key, machines: impl IntoIterator<Item = MachineId>) -> Self {
        self = self.open_with(key.clone());
        self.seals_of.extend(machines.into_iter().map(|machine| (machine, key.clone())));
        self
    }

    /// Opens what this key has sealed: one from before a rotation.
    #[must_use]
    pub fn open_with(mut self, key: Key) -> Self {
        self.opens.insert(key.id(), key);
        self
    }

    pub(crate) fn sealing(&self, machine: &MachineId) -> Option<&Key> {
        self.seals_of.get(machine).or(self.seals.as_ref())
    }

    pub(crate) fn opening(&self, id: KeyId) -> Option<&Key> {
        self.opens.get(&id)
    }
}
