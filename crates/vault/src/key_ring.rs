//! The key ring: seals, unseals and rewraps records.

mod authority;
mod derive;
mod row_mac;

pub use row_mac::{RowContent, RowMacError};

use crate::{
    Binding, KeyError, KeyId, KeySource, LockedBytes, SealedBytes,
    binding::Layout,
    key_file::{self, Key, Keys},
    sealed::{KEY_BYTES, NONCE_BYTES, SealedParts},
};
use chacha20poly1305::{
    Tag, XChaCha20Poly1305, XNonce,
    aead::{Aead, AeadInOut, KeyInit, Payload},
};
use sha2::{Digest, Sha256};
use std::{
    fmt,
    fmt::Write as _,
    io,
    sync::{Arc, PoisonError, RwLock},
};
use zeroize::{Zeroize, Zeroizing};

/// Characters of one key's hash in a fingerprint: 64 bits are enough to distinguish the keys of one server.
const SHORT_HASH_CHARS: usize = 16;

/// What the cipher's functions use of the stack at most, in builds without optimisation too, bytes.
const STACK_BYTES: usize = 64 * 1024;

/// The key of one record; wiped when dropped. It exists only while its record is sealed, unsealed or rewrapped.
type DataKey = Zeroizing<[u8; KEY_BYTES]>;

/// Why a record could not be sealed, unsealed or rewrapped. Contains nothing of the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The operating system returned no random bytes.
    #[error("the operating system returned no random bytes")]
    NoRandomness,
    /// There is no memory for the plaintext.
    #[error("there is no memory for the plaintext")]
    NoMemory,
    /// The record is larger than the cipher supports (256 GiB).
    #[error("the record is too large to be sealed")]
    TooLarge,
    /// The record was wrapped with a key that is not in the key file.
    #[error(
        "the record was sealed with key {key}, which is not in the key file; restore the key file that contains it"
    )]
    UnknownKey {
        /// The missing key.
        key: KeyId,
    },
    /// The record was sealed for another record, owner, user, provider, session or revision.
    #[error(
        "the record was sealed for another record, owner, user, provider, session or revision: its row was moved or changed"
    )]
    WrongBinding,
    /// The record was changed after it was sealed, or sealed with another key of the same number.
    #[error("the record was changed after it was sealed, or sealed with another key of the same number")]
    AuthenticationFailed,
}

/// The keys that wrap data keys: the newest one seals, all of them unseal. They are locked in memory. Clones share them, so that a
/// rotation reaches every user of the ring; dropping the last clone wipes them.
#[derive(Clone)]
pub struct KeyRing(Arc<Shared>);

struct Shared {
    source: KeySource,
    keys: RwLock<Arc<Keys>>,
}

/// What is known about a key, without the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyMetadata {
    /// Its number.
    pub id: KeyId,
    /// When it was created, milliseconds since 1970.
    pub created_unix_ms: u64,
    /// Whether it seals new records.
    pub is_primary: bool,
}

/// Keys that are durable in the key file and that the ring does not use yet.
#[derive(Debug)]
#[must_use = "the ring uses the keys when they are installed"]
pub struct PendingKeys(Keys);

impl PendingKeys {
    /// As [`KeyRing::fingerprint`], of these keys.
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.0)
    }
}

/// Shows the numbers of the keys and nothing else.
impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyRing({:?})", self.key_ids())
    }
}

impl KeyRing {
    /// Opens the keys, or creates the key file (mode 0600, one random key, never over an existing file) if it does not exist.
    /// To be used only while the store has no sealed record: otherwise a lost key file would be replaced silently.
    ///
    /// # Errors
    /// When the file cannot be created, or exists and cannot be used; the text names the remedy.
    pub fn open_or_create(source: impl Into<KeySource>) -> Result<Self, KeyError> {
        let source = source.into();
        match Self::open(source.clone()) {
            Err(KeyError::Missing { .. }) => {
                key_file::create_key_file(&source)?;
                Self::open(source)
            }
            other => other,
        }
    }

    /// Opens existing keys.
    ///
    /// # Errors
    /// When the file is missing, unreadable, accessible to others, or malformed, or the token that wraps the keys cannot be used; the
    /// text names the remedy.
    pub fn open(source: impl Into<KeySource>) -> Result<Self, KeyError> {
        let source = source.into();
        let keys = RwLock::new(Arc::new(key_file::read_keys(&source)?));
        Ok(Self(Arc::new(Shared { source, keys })))
    }

    /// Removes temporary files that an interrupted change of the key file has left. To be called by the only server that uses it.
    pub fn remove_temporary_files(&self) {
        key_file::remove_temporary_files(&self.0.source);
    }

    /// Where the keys are.
    pub fn source(&self) -> &KeySource {
        &self.0.source
    }

    /// Adds a new random key to the key file, durably. The ring seals with it after [`KeyRing::install`]; old records remain readable
    /// and can be [rewrapped](Self::rewrap). Concurrent changes of one key file must be excluded by the caller.
    ///
    /// # Errors
    /// As [`KeyRing::open`], or when the file cannot be written.
    pub fn add_key(&self) -> Result<PendingKeys, KeyError> {
        key_file::add_key(&self.0.source).map(PendingKeys)
    }

    /// Whether [`KeyRing::remove_key`] could remove the key, as far as the ring shows.
    ///
    /// # Errors
    /// There is no such key, it is the primary key, or the server cannot change the key file.
    pub fn check_removable(&self, id: KeyId) -> Result<(), KeyError> {
        key_file::require_writable(&self.0.source)?;
        if !self.keys().contains_key(&id) {
            return Err(KeyError::UnknownKey(id));
        }
        if id == self.primary_key_id() { Err(KeyError::PrimaryKey(id)) } else { Ok(()) }
    }

    /// Removes a key from the key file, durably, and from the ring, and wipes it. The caller has made sure that nothing is sealed
    /// with it, and that nothing can be stored that is.
    ///
    /// # Errors
    /// As [`KeyRing::add_key`], or it is the primary key.
    pub fn remove_key(&self, id: KeyId) -> Result<(), KeyError> {
        key_file::remove_key(&self.0.source, id).map(|keys| self.install(PendingKeys(keys)))
    }

    /// The ring uses these keys from now on, in all clones.
    pub fn install(&self, PendingKeys(keys): PendingKeys) {
        *self.0.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
    }

    fn keys(&self) -> Arc<Keys> {
        Arc::clone(&self.0.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The keys without their secrets, the oldest first; never empty.
    pub fn list_keys(&self) -> Vec<KeyMetadata> {
        let keys = self.keys();
        let last = keys.keys().next_back().copied();
        let metadata = |(id, key): (&KeyId, &Key)| KeyMetadata {
            id: *id,
            created_unix_ms: key.created_unix_ms,
            is_primary: Some(*id) == last,
        };
        keys.iter().map(metadata).collect()
    }

    /// The numbers of the keys, the oldest first; never empty.
    pub fn key_ids(&self) -> Vec<KeyId> {
        self.keys().keys().copied().collect()
    }

    /// The key that seals: the newest.
    pub fn primary_key_id(&self) -> KeyId {
        // A key file without keys is rejected, so there is a last key.
        self.keys().keys().next_back().copied().unwrap_or(KeyId(0))
    }

    /// One line that identifies these keys without revealing them: `1:0a1b…,2:…`. Stored in the database's `meta` table.
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.keys())
    }

    /// As [`KeyRing::fingerprint`], without one key.
    pub fn fingerprint_without(&self, id: KeyId) -> String {
        join_fingerprint(self.keys().iter().filter(|(key, _)| **key != id))
    }

    /// Checks that `stored`, an earlier [`fingerprint`](Self::fingerprint), is of this key file. Keys may have been added or removed
    /// since; keys of the same number must be the same, and at least one must be shared.
    ///
    /// # Errors
    /// [`KeyError::FingerprintMismatch`]: this is another key file; the text names the remedy.
    pub fn check_fingerprint(&self, stored: &str) -> Result<(), KeyError> {
        let (keys, mut shared) = (self.keys(), 0);
        for entry in stored.split(',') {
            let (id, hash) =
                entry.split_once(':').ok_or_else(|| KeyError::FingerprintMismatch { stored: clip(stored) })?;
            let id = KeyId(id.parse().map_err(|_| KeyError::FingerprintMismatch { stored: clip(stored) })?);
            match keys.get(&id) {
                Some(key) if short_hash(key) == hash => shared += 1,
                Some(_) => return Err(KeyError::FingerprintMismatch { stored: clip(stored) }),
                None => {}
            }
        }
        if shared == 0 { Err(KeyError::FingerprintMismatch { stored: clip(stored) }) } else { Ok(()) }
    }

    /// Seals `plaintext` for `binding` with a new data key, wrapped by the newest key.
    ///
    /// # Errors
    /// When there are no random bytes, or the plaintext is too large.
    pub fn seal(&self, binding: &Binding<'_>, plaintext: &[u8]) -> Result<SealedBytes, SealError> {
        self.seal_bound(&binding.to_bytes(Layout::V2), plaintext)
    }

    /// `bound`: the associated data.
    fn seal_bound(&self, bound: &[u8], plaintext: &[u8]) -> Result<SealedBytes, SealError> {
        let mut data_key = Zeroizing::new([0; KEY_BYTES]);
        getrandom::fill(data_key.as_mut_slice()).map_err(|_| SealError::NoRandomness)?;
        let content_nonce = nonce()?;
        let content = cipher(&*data_key)?
            .encrypt(&XNonce::from(content_nonce), Payload { msg: plaintext, aad: bound })
            .map_err(|_| SealError::TooLarge)?;
        let sealed = self.wrap(Layout::V2, &data_key, &Sha256::digest(bound), content_nonce, &content);
        wipe_stack();
        sealed
    }

    /// Why the keys are not locked in memory, so that they could be written to swap; `None`: they are locked.
    pub fn lock_error(&self) -> Option<io::Error> {
        self.keys().values().find_map(|key| key.bytes.lock_error()).map(Into::into)
    }

    /// Unseals a record. The plaintext is locked in memory if the kernel permits it, and wiped when dropped.
    ///
    /// # Errors
    /// When the key is not in the ring, the record belongs to another binding, or its authentication fails.
    pub fn unseal(&self, binding: &Binding<'_>, sealed: &SealedBytes) -> Result<LockedBytes, SealError> {
        self.unseal_bound(&binding.to_bytes(sealed.layout()), sealed)
    }

    fn unseal_bound(&self, bound: &[u8], sealed: &SealedBytes) -> Result<LockedBytes, SealError> {
        let parts = sealed.split_parts();
        if parts.binding_digest != Sha256::digest(bound).as_slice() {
            return Err(SealError::WrongBinding);
        }
        let data_key = self.unwrap_key(sealed)?;
        let (content, tag) = parts.sealed_content.split_last_chunk().ok_or(SealError::AuthenticationFailed)?;
        // In place: the plaintext is never outside the locked pages.
        let mut plaintext = LockedBytes::copy_of(content).map_err(|_| SealError::NoMemory)?;
        cipher(&*data_key)?
            .decrypt_inout_detached(
                &XNonce::from(parts.content_nonce),
                bound,
                (&mut *plaintext).into(),
                &Tag::from(*tag),
            )
            .map_err(|_| SealError::AuthenticationFailed)?;
        wipe_stack();
        Ok(plaintext)
    }

    /// Returns the same record with its data key wrapped by the newest key, without decrypting the content.
    ///
    /// # Errors
    /// When the old key is not in the ring, or the authentication of the record fails.
    pub fn rewrap(&self, sealed: &SealedBytes) -> Result<SealedBytes, SealError> {
        let data_key = self.unwrap_key(sealed)?;
        let parts = sealed.split_parts();
        self.wrap(sealed.layout(), &data_key, parts.binding_digest, parts.content_nonce, parts.sealed_content)
    }

    /// Checks that the record belongs to this binding and that its data key can be unwrapped, without decrypting the content.
    ///
    /// # Errors
    /// As [`KeyRing::unseal`].
    pub fn check(&self, binding: &Binding<'_>, sealed: &SealedBytes) -> Result<(), SealError> {
        if sealed.split_parts().binding_digest != binding.to_digest(sealed.layout()) {
            return Err(SealError::WrongBinding);
        }
        self.unwrap_key(sealed).map(drop)
    }

    /// Seals the content of an [outdated](SealedBytes::is_outdated) record again, bound to all parts of `binding`.
    ///
    /// # Errors
    /// As [`KeyRing::unseal`] and [`KeyRing::seal`].
    pub fn upgrade(&self, binding: &Binding<'_>, sealed: &SealedBytes) -> Result<SealedBytes, SealError> {
        self.seal(binding, &self.unseal(binding, sealed)?)
    }

    fn wrap(
        &self,
        layout: Layout,
        data_key: &DataKey,
        digest: &[u8],
        content_nonce: [u8; NONCE_BYTES],
        content: &[u8],
    ) -> Result<SealedBytes, SealError> {
        let keys = self.keys();
        let (current, key) = keys.last_key_value().ok_or(SealError::UnknownKey { key: KeyId(0) })?;
        let header = SealedBytes::build_header(layout, *current, digest);
        let wrap_nonce = nonce()?;
        let wrapped = cipher(&key.bytes)?
            .encrypt(&XNonce::from(wrap_nonce), Payload { msg: data_key.as_slice(), aad: &header })
            .map_err(|_| SealError::TooLarge)?;
        Ok(SealedBytes::assemble(&SealedParts {
            header: &header,
            binding_digest: digest,
            wrap_nonce,
            wrapped_data_key: &wrapped,
            content_nonce,
            sealed_content: content,
        }))
    }

    fn unwrap_key(&self, sealed: &SealedBytes) -> Result<DataKey, SealError> {
        let id = sealed.key_id();
        let keys = self.keys();
        let key = keys.get(&id).ok_or(SealError::UnknownKey { key: id })?;
        let parts = sealed.split_parts();
        let bytes = cipher(&key.bytes)?
            .decrypt(&XNonce::from(parts.wrap_nonce), Payload { msg: parts.wrapped_data_key, aad: parts.header })
            .map(Zeroizing::new)
            .map_err(|_| SealError::AuthenticationFailed)?;
        let mut data_key = Zeroizing::new([0; KEY_BYTES]);
        if bytes.len() != data_key.len() {
            return Err(SealError::AuthenticationFailed);
        }
        data_key.copy_from_slice(&bytes);
        Ok(data_key)
    }
}

/// Overwrites the part of the stack that the functions called before have used: the cipher copies the last block of a text there.
#[inline(never)]
fn wipe_stack() {
    let mut stack = [0xff_u8; STACK_BYTES];
    stack.zeroize();
    std::hint::black_box(&stack);
}

/// The cipher with a key of [`KEY_BYTES`] bytes; the length of every key was checked when it was read.
fn cipher(key: &[u8]) -> Result<XChaCha20Poly1305, SealError> {
    XChaCha20Poly1305::new_from_slice(key).map_err(|_| SealError::AuthenticationFailed)
}

/// A random nonce: at 192 bits, random nonces do not repeat.
fn nonce() -> Result<[u8; NONCE_BYTES], SealError> {
    let mut nonce = [0; NONCE_BYTES];
    getrandom::fill(&mut nonce).map_err(|_| SealError::NoRandomness)?;
    Ok(nonce)
}

fn fingerprint(keys: &Keys) -> String {
    join_fingerprint(keys.iter())
}

fn join_fingerprint<'a>(keys: impl Iterator<Item = (&'a KeyId, &'a Key)>) -> String {
    let mut line = String::new();
    for (id, key) in keys {
        let comma = if line.is_empty() { "" } else { "," };
        let _ = write!(line, "{comma}{id}:{}", short_hash(key));
    }
    line
}

/// The first characters of a hash of the key. Keys are 256 random bits, so the hash reveals nothing of them.
fn short_hash(key: &Key) -> String {
    let digest = Sha256::new().chain_update(b"anteroom key print 1").chain_update(&*key.bytes).finalize();
    let mut hash = hex::encode(digest);
    hash.truncate(SHORT_HASH_CHARS);
    hash
}

fn clip(text: &str) -> String {
    text.chars().take(200).collect()
}
