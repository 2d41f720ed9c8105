//! A PKCS#11 token (a hardware security module, a smart card, `SoftHSM`) whose AES key wraps the keys of the key file.
//!
//! ```text
//!  token: AES-256 key, not extractable ── AES-GCM (associated data: the number of the key) ──▶ keys in the key file
//! ```
//!
//! The token is used when the key file is read or changed, not for each record: its keys are then in the server's memory.

use crate::KeyId;
use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    error::{Error, RvError},
    mechanism::{Mechanism, aead::GcmParams},
    object::{Attribute, KeyType, ObjectClass, ObjectHandle},
    session::{Session, UserType},
    slot::TokenInfo,
    types::AuthPin,
};
use std::{fs::File, io, io::Read, os::unix::fs::MetadataExt, path::PathBuf};
use zeroize::{Zeroize, Zeroizing};

const NONCE_BYTES: usize = 12;
const TAG_BITS: u64 = 128;
/// PINs have at most 255 characters.
const PIN_BYTES_MAX: u64 = 1_024;

/// Which key of which token wraps the keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenSettings {
    /// The vendor's PKCS#11 library.
    pub module: PathBuf,
    /// The label of the token.
    pub token_label: String,
    /// The label of the AES key in it.
    pub key_label: String,
    /// A file with the user PIN, readable only by its owner.
    pub pin_file: PathBuf,
}

/// Why the token cannot be used, with the remedy.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The library cannot be loaded.
    #[error("the PKCS#11 module {path} cannot be loaded; install it, or correct vault.pkcs11_module")]
    Module {
        /// The library.
        path: PathBuf,
        /// The cause.
        source: Error,
    },
    /// There is no token with the label.
    #[error("there is no PKCS#11 token with the label {label:?}; connect it, or correct vault.pkcs11_token_label")]
    TokenMissing {
        /// The label.
        label: String,
    },
    /// The file with the PIN cannot be used.
    #[error(
        "the PIN file {path} cannot be used; it must be a file of one line that only its owner can read (mode 0600 or 0400)"
    )]
    PinFile {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The PIN is wrong.
    #[error("the PKCS#11 token {label:?} rejects the PIN in {path}; correct the file before the token locks itself")]
    WrongPin {
        /// The label of the token.
        label: String,
        /// The file.
        path: PathBuf,
    },
    /// The PIN is locked after too many wrong attempts.
    #[error("the PIN of the PKCS#11 token {label:?} is locked; unlock it with the token's security officer PIN")]
    PinLocked {
        /// The label of the token.
        label: String,
    },
    /// A wrong PIN would lock the token, and a service that is started again and again would send it.
    #[error(
        "one attempt is left before the PIN of the PKCS#11 token {label:?} is locked, so {path} was not tried; check the file, and sign in \
         to the token once with another program"
    )]
    LastAttempt {
        /// The label of the token.
        label: String,
        /// The file.
        path: PathBuf,
    },
    /// The token has no such key, or several.
    #[error(
        "the PKCS#11 token {token:?} has {count} AES keys with the label {key:?}, expected one; create it, or correct \
         vault.pkcs11_key_label"
    )]
    KeyMissing {
        /// The label of the token.
        token: String,
        /// The label of the key.
        key: String,
        /// How many there are.
        count: usize,
    },
    /// The token cannot unwrap a key.
    #[error(
        "the PKCS#11 token cannot unwrap key {key}: it was wrapped by another key of a token, or changed; restore the key file or the \
         token's key from its backup"
    )]
    NotUnwrapped {
        /// The number of the key.
        key: KeyId,
        /// The cause; none if the bytes are too few.
        source: Option<Error>,
    },
    /// The library reports another error.
    #[error("the PKCS#11 token failed to {operation}; look at the log of its library")]
    Failed {
        /// What failed, a verb phrase.
        operation: &'static str,
        /// The cause.
        source: Error,
    },
    /// The operating system returned no random bytes for a nonce.
    #[error("the operating system returned no random bytes for a nonce")]
    NoRandomness,
}

/// An open session with a token. Dropping it closes the session.
pub(crate) struct Token {
    session: Session,
    key: ObjectHandle,
    // Dropped last: it unloads the library.
    _module: Pkcs11,
}

impl Token {
    /// Loads the library, signs in to the token and finds the key.
    pub(crate) fn open(settings: &TokenSettings) -> Result<Self, TokenError> {
        let pin = read_pin(settings)?;
        let module_error = |source| TokenError::Module { path: settings.module.clone(), source };
        let module = Pkcs11::new(&settings.module).map_err(module_error)?;
        match module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
            Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
            Err(error) => return Err(module_error(error)),
        }
        let session = open_session(&module, settings)?;
        sign_in(&session, settings, &pin)?;
        let key = find_key(&session, settings)?;
        Ok(Self { session, key, _module: module })
    }

    /// Nonce, ciphertext and tag of a key.
    pub(crate) fn wrap_key(&self, id: KeyId, key: &[u8]) -> Result<Vec<u8>, TokenError> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(|_| TokenError::NoRandomness)?;
        let mut wrapped = nonce.to_vec();
        let data = associated_data(id);
        let failed = |source| TokenError::Failed { operation: "wrap a key", source };
        let parameters = GcmParams::new(&mut nonce, &data, TAG_BITS.into()).map_err(failed)?;
        let sealed = self.session.encrypt(&Mechanism::AesGcm(parameters), self.key, key).map_err(failed)?;
        wrapped.extend_from_slice(&sealed);
        Ok(wrapped)
    }

    /// The key of [`Token::wrap_key`].
    pub(crate) fn unwrap_key(&self, id: KeyId, wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>, TokenError> {
        let (nonce, sealed) =
            wrapped.split_first_chunk::<NONCE_BYTES>().ok_or(TokenError::NotUnwrapped { key: id, source: None })?;
        let (mut nonce, data) = (*nonce, associated_data(id));
        let failed = |source| TokenError::NotUnwrapped { key: id, source: Some(source) };
        let parameters = GcmParams::new(&mut nonce, &data, TAG_BITS.into()).map_err(failed)?;
        self.session.decrypt(&Mechanism::AesGcm(parameters), self.key, sealed).map(Zeroizing::new).map_err(failed)
    }
}

fn associated_data(id: KeyId) -> Vec<u8> {
    format!("anteroom key {id}").into_bytes()
}

fn open_session(module: &Pkcs11, settings: &TokenSettings) -> Result<Session, TokenError> {
    let failed = |source| TokenError::Failed { operation: "list its slots", source };
    for slot in module.get_slots_with_token().map_err(failed)? {
        let token = module.get_token_info(slot).map_err(failed)?;
        if token.label() == settings.token_label {
            require_attempts_left(&token, settings)?;
            let opened = module.open_ro_session(slot);
            return opened.map_err(|source| TokenError::Failed { operation: "open a session", source });
        }
    }
    Err(TokenError::TokenMissing { label: settings.token_label.clone() })
}

fn require_attempts_left(token: &TokenInfo, settings: &TokenSettings) -> Result<(), TokenError> {
    let label = settings.token_label.clone();
    if token.user_pin_locked() {
        return Err(TokenError::PinLocked { label });
    }
    if token.user_pin_final_try() {
        return Err(TokenError::LastAttempt { label, path: settings.pin_file.clone() });
    }
    Ok(())
}

fn sign_in(session: &Session, settings: &TokenSettings, pin: &AuthPin) -> Result<(), TokenError> {
    let label = settings.token_label.clone();
    match session.login(UserType::User, Some(pin)) {
        Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
        Err(Error::Pkcs11(RvError::PinLocked, _)) => Err(TokenError::PinLocked { label }),
        Err(Error::Pkcs11(RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange, _)) => {
            Err(TokenError::WrongPin { label, path: settings.pin_file.clone() })
        }
        Err(source) => Err(TokenError::Failed { operation: "sign in", source }),
    }
}

fn find_key(session: &Session, settings: &TokenSettings) -> Result<ObjectHandle, TokenError> {
    let template = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::AES),
        Attribute::Label(settings.key_label.clone().into_bytes()),
    ];
    let found = session.find_objects(&template);
    match found.map_err(|source| TokenError::Failed { operation: "find the key", source })?.as_slice() {
        [key] => Ok(*key),
        keys => Err(TokenError::KeyMissing {
            token: settings.token_label.clone(),
            key: settings.key_label.clone(),
            count: keys.len(),
        }),
    }
}

fn read_pin(settings: &TokenSettings) -> Result<AuthPin, TokenError> {
    let failed = |source| TokenError::PinFile { path: settings.pin_file.clone(), source };
    let mut file = File::open(&settings.pin_file).map_err(failed)?;
    if file.metadata().map_err(failed)?.mode() & 0o037 != 0 {
        return Err(failed(io::Error::other("other users can access it; run chmod 600")));
    }
    let mut text = String::new();
    (&mut file).take(PIN_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
    let pin: Box<str> = text.trim_end_matches(['\n', '\r']).into();
    text.zeroize();
    if pin.is_empty() || pin.contains('\n') {
        return Err(failed(io::Error::other("it does not have exactly one line")));
    }
    Ok(AuthPin::new(pin))
}
