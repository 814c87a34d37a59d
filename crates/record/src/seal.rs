//! AES-256-GCM around the body of a frame.
//!
//! A packer's life is one *stream*: 16 random bytes. Each machine's records are sealed under a subkey of its own, by
//! HKDF-SHA256 from the key, with the stream as salt; the nonce is the number of the record in the stream, so that none
//! comes twice. What a frame says it is, and where it belongs, is authenticated with it: a record that is put elsewhere
//! does not open.

use crate::keys::{Key, KeyId, Keyring};
use crate::place::Place;
use bytes::BytesMut;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf;
use site_recovery::MachineId;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Bytes before the sealed body: key, stream, number.
pub(crate) const PREFIX: usize = 8 + 16 + 8;
/// Bytes after it.
pub(crate) const TAG: usize = 16;
/// Subkeys that are kept ready for opening; each start of a process server is a stream.
const READY: usize = 64;

pub(crate) type Stream = [u8; 16];

fn subkey(key: &Key, stream: &Stream, machine: &MachineId) -> LessSafeKey {
    let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, stream).extract(key.bytes.as_slice());
    let info = [b"site-recovery record 1\0".as_slice(), machine.as_str().as_bytes()];
    let expanded = extracted.expand(&info, &AES_256_GCM).expect("the length is that of the cipher's key");
    LessSafeKey::new(UnboundKey::from(expanded))
}

/// What is authenticated beside the body.
fn bound(kind: &[u8], place: Place<'_>) -> Vec<u8> {
    [kind, &place.bytes()].concat()
}

fn nonce(number: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&number.to_le_bytes());
    Nonce::assume_unique_for_key(nonce)
}

/// Seals; one for the life of a packer.
pub(crate) struct Sealer {
    keys: Keyring,
    stream: Stream,
    number: AtomicU64,
    subkeys: Mutex<BTreeMap<MachineId, Arc<LessSafeKey>>>,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("keys", &self.keys).finish_non_exhaustive()
    }
}

impl Sealer {
    pub(crate) fn new(keys: Keyring) -> Self {
        let mut stream = [0; 16];
        let random = ring::rand::SystemRandom::new();
        ring::rand::SecureRandom::fill(&random, &mut stream).expect("the system gives random bytes");
        Self { keys, stream, number: AtomicU64::new(0), subkeys: Mutex::default() }
    }

    pub(crate) fn seals(&self, machine: &MachineId) -> bool {
        self.keys.sealing(machine).is_some()
    }

    /// Appends prefix, sealed body and tag to `frame`, which is the header; its first `kind` bytes are authenticated.
    pub(crate) fn seal(&self, place: Place<'_>, frame: &mut BytesMut, kind: usize, body: &[u8]) {
        let key = self.keys.sealing(place.machine).expect("asked before");
        let bound = bound(&frame[..kind], place);
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        frame.extend_from_slice(&key.id().0);
        frame.extend_from_slice(&self.stream);
        frame.extend_from_slice(&number.to_le_bytes());
        let start = frame.len();
        frame.extend_from_slice(body);
        let subkey = self.subkey(key, place.machine);
        let tag = subkey.seal_in_place_separate_tag(nonce(number), Aad::from(bound), &mut frame[start..]);
        frame.extend_from_slice(tag.expect("a record is shorter than the cipher's limit").as_ref());
    }

    fn subkey(&self, key: &Key, machine: &MachineId) -> Arc<LessSafeKey> {
        let mut subkeys = self.subkeys.lock().expect("no panic under this lock");
        let ready = subkeys.get(machine).cloned();
        ready.unwrap_or_else(|| {
            let made = Arc::new(subkey(key, &self.stream, machine));
            subkeys.insert(machine.clone(), Arc::clone(&made));
            made
        })
    }
}

/// Why a sealed body does not open.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Shut {
    #[error("the sealed body ends too early")]
    Short,
    #[error("it is sealed with the key {0}, which is not in the keyring")]
    NoKey(KeyId),
    #[error("it was changed, or belongs elsewhere: its seal does not fit")]
    Broken,
}

type Ready = VecDeque<((KeyId, Stream, MachineId), Arc<LessSafeKey>)>;

/// Opens what any sealer of these keys has sealed.
pub(crate) struct Opener {
    keys: Keyring,
    ready: Mutex<Ready>,
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opener").field("keys", &self.keys).finish_non_exhaustive()
    }
}

impl Opener {
    pub(crate) fn new(keys: Keyring) -> Self {
        Self { keys, ready: Mutex::default() }
    }

    /// The body of a frame of this kind.
    pub(crate) fn open(&self, place: Place<'_>, kind: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Shut> {
        let (prefix, body) = sealed.split_first_chunk::<PREFIX>().ok_or(Shut::Short)?;
        if body.len() < TAG {
            return Err(Shut::Short);
        }
        let (id, rest) = prefix.split_first_chunk::<8>().expect("the prefix begins with it");
        let (stream, number) = rest.split_first_chunk::<16>().expect("then the stream");
        let number = u64::from_le_bytes(number.try_into().expect("then eight bytes"));
        let subkey = self.subkey(KeyId(*id), stream, place.machine)?;
        let mut body = body.to_vec();
        let bound = Aad::from(self::bound(kind, place));
        let plain = subkey.open_in_place(nonce(number), bound, &mut body).map_err(|_| Shut::Broken)?.len();
        body.truncate(plain);
        Ok(body)
    }

    fn subkey(&self, id: KeyId, stream: &Stream, machine: &MachineId) -> Result<Arc<LessSafeKey>, Shut> {
        let named = (id, *stream, machine.clone());
        let mut ready = self.ready.lock().expect("no panic under this lock");
        if let Some((_, subkey)) = ready.iter().find(|(n, _)| *n == named) {
            return Ok(Arc::clone(subkey));
        }
        let key = self.keys.opening(id).ok_or(Shut::NoKey(id))?;
        let made = Arc::new(subkey(key, stream, machine));
        ready.truncate(READY - 1);
        ready.push_front((named, Arc::clone(&made)));
        Ok(made)
    }
}
