//! The certificate and the key with which a host identifies itself to others: in files.

use super::{authority::certificate_validity, host_of};
use anteroom_wire::HostId;
use rustls::{
    RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};
use zeroize::Zeroizing;

/// Permissions that the key's file must not have: of others, and writing for its group.
const FORBIDDEN_MODE: u32 = 0o027;

/// Where certificate and key are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityFiles {
    /// The host's certificate and those between it and the authority's, PEM.
    pub certificate: PathBuf,
    /// The host's key, PEM.
    pub key: PathBuf,
    /// The certificates of the authority, PEM.
    pub authority: PathBuf,
}

/// Why a host cannot identify itself.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file cannot be read or written.
    #[error("{path}: {source}", path = .path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A file has not what it should have.
    #[error("{path}: {what}", path = .path.display())]
    Content {
        /// Which one.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Other users can read the key.
    #[error("{path}: others can read this key (mode {mode:04o}): set its mode to 0600", path = .path.display())]
    ReadableKey {
        /// Which file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
}

/// A host's certificate with its key, and the authority's certificates.
#[derive(Clone)]
pub struct PeerIdentity {
    /// The host that the certificate names.
    pub host: HostId,
    /// The begin of the certificate's validity, milliseconds since 1970.
    pub begins_at_ms: u64,
    /// Its end, milliseconds since 1970.
    pub ends_at_ms: u64,
    pub(crate) certified: Arc<CertifiedKey>,
    pub(crate) roots: Arc<RootCertStore>,
}

impl PeerIdentity {
    /// When the certificate is to be renewed, milliseconds since 1970: after two thirds of its life.
    pub fn renew_at_ms(&self) -> u64 {
        self.begins_at_ms.saturating_add(self.ends_at_ms.saturating_sub(self.begins_at_ms) / 3 * 2)
    }

    /// The host's certificate and those between it and the authority's.
    pub fn certificate(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }
}

impl IdentityFiles {
    /// Those in the state directory, which `anteroom host join` writes.
    pub fn in_state_dir(state: &Path) -> Self {
        let dir = state.join("cluster");
        Self {
            certificate: dir.join("certificate.pem"),
            key: dir.join("key.pem"),
            authority: dir.join("authority.pem"),
        }
    }

    /// Whether there is a certificate.
    pub fn exist(&self) -> bool {
        self.certificate.exists()
    }

    /// Writes the files, the certificate last: it makes the others count. The directory is made.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write(&self, key_pem: &str, chain_pem: &str, authority_pem: &str) -> Result<(), IdentityError> {
        if let Some(dir) = self.key.parent() {
            fs::create_dir_all(dir).map_err(|source| IdentityError::File { path: dir.to_owned(), source })?;
        }
        for (path, text) in [(&self.key, key_pem), (&self.authority, authority_pem), (&self.certificate, chain_pem)] {
            replace(path, text).map_err(|source| IdentityError::File { path: path.clone(), source })?;
        }
        Ok(())
    }

    /// Reads the files.
    ///
    /// # Errors
    /// The file and what is wrong with it.
    pub fn read(&self) -> Result<PeerIdentity, IdentityError> {
        let chain = read_certificates(&self.certificate)?;
        let content = |path: &Path, what: &str| IdentityError::Content { path: path.to_owned(), what: what.to_owned() };
        let own = chain.first().ok_or_else(|| content(&self.certificate, "there is no certificate in it"))?;
        let host = host_of(own).ok_or_else(|| {
            content(&self.certificate, "the certificate has not exactly one name, the URI `host:<id>`")
        })?;
        let (begins_at_ms, ends_at_ms) = certificate_validity(own)
            .ok_or_else(|| content(&self.certificate, "the certificate is not well formed"))?;
        let mut roots = RootCertStore::empty();
        for certificate in read_certificates(&self.authority)? {
            roots.add(certificate).map_err(|error| content(&self.authority, &error.to_string()))?;
        }
        let key = read_key(&self.key)?;
        let signing = ring::default_provider().key_provider.load_private_key(key);
        let certified = CertifiedKey::new(chain, signing.map_err(|error| content(&self.key, &error.to_string()))?);
        certified.keys_match().map_err(|_| content(&self.key, "the key is not the certificate's"))?;
        Ok(PeerIdentity { host, begins_at_ms, ends_at_ms, certified: Arc::new(certified), roots: Arc::new(roots) })
    }
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let text = fs::read(path).map_err(|source| IdentityError::File { path: path.to_owned(), source })?;
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    parsed.map_err(|error| IdentityError::Content { path: path.to_owned(), what: error.to_string() })
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, IdentityError> {
    let unreadable = |source| IdentityError::File { path: path.to_owned(), source };
    let mode = fs::metadata(path).map_err(unreadable)?.mode() & 0o777;
    if mode & FORBIDDEN_MODE != 0 {
        return Err(IdentityError::ReadableKey { path: path.to_owned(), mode });
    }
    let text = Zeroizing::new(fs::read(path).map_err(unreadable)?);
    PrivateKeyDer::from_pem_slice(&text)
        .map_err(|_| IdentityError::Content { path: path.to_owned(), what: "there is no key in it".to_owned() })
}

/// Replaces a file by one that only this user can read, complete or not at all.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    match fs::remove_file(&part) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&part, path)
}
