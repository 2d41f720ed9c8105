//! Invitations: what a machine needs to ask a host for its first certificate.
//!
//! ```text
//!  arj_ BASE64URL( version 1 · id 10 · end 8 · MAC 32 · fingerprint 32 · addresses )
//!                  └──────── the secret ────────┘
//! ```

use super::{Authority, Fingerprint};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use std::fmt;
use zeroize::Zeroizing;

/// How long an invitation is valid, seconds.
pub const INVITATION_S_MAX: u64 = 15 * 60;
/// The begin of every invitation.
const PREFIX: &str = "arj_";
const VERSION: u8 = 1;
const ID_BYTES: usize = 10;
const END_BYTES: usize = 8;
const MAC_BYTES: usize = 32;
const SECRET_BYTES: usize = ID_BYTES + END_BYTES + MAC_BYTES;
const FINGERPRINT_BYTES: usize = 32;
/// The most bytes of an invitation's text.
const TEXT_BYTES_MAX: usize = 2_048;

/// An invitation.
#[derive(Clone)]
pub struct Invitation {
    /// What authenticates the machine that joins.
    pub secret: InvitationSecret,
    /// The authority: the machine that joins talks to nothing else.
    pub authority: Fingerprint,
    /// The address of the host that invites, as `https://host:port`.
    pub peer_url: String,
}

/// The secret part of an invitation.
#[derive(Clone, PartialEq, Eq)]
pub struct InvitationSecret(Zeroizing<[u8; SECRET_BYTES]>);

/// A text that is no invitation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the invitation is not complete: copy all of what `anteroom host invite` printed")]
pub struct MalformedInvitation;

/// Shows no secret.
impl fmt::Debug for InvitationSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InvitationSecret")
    }
}

/// Shows no secret.
impl fmt::Debug for Invitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invitation").field("authority", &self.authority).field("peer_url", &self.peer_url).finish()
    }
}

impl Invitation {
    /// A new invitation to the host at this address; `id` is random.
    pub fn new(authority: &Authority, id: [u8; ID_BYTES], now_ms: u64, peer_url: String) -> Self {
        let ends_at_ms = now_ms.saturating_add(INVITATION_S_MAX * 1_000);
        let mut bytes = Zeroizing::new([0; SECRET_BYTES]);
        bytes[..ID_BYTES].copy_from_slice(&id);
        bytes[ID_BYTES..ID_BYTES + END_BYTES].copy_from_slice(&ends_at_ms.to_be_bytes());
        let mac = ring::hmac::sign(&authority.invitation_key(), &bytes[..ID_BYTES + END_BYTES]);
        bytes[ID_BYTES + END_BYTES..].copy_from_slice(mac.as_ref());
        Self { secret: InvitationSecret(bytes), authority: authority.fingerprint(), peer_url }
    }

    /// The text for the machine that joins.
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new(vec![VERSION]);
        bytes.extend_from_slice(self.secret.0.as_slice());
        bytes.extend_from_slice(self.authority.as_bytes());
        bytes.extend_from_slice(self.peer_url.as_bytes());
        Zeroizing::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(&*bytes)))
    }

    /// Reads the text of an invitation.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(text: &str) -> Result<Self, MalformedInvitation> {
        let body = text.trim().strip_prefix(PREFIX).filter(|body| body.len() <= TEXT_BYTES_MAX);
        let bytes =
            Zeroizing::new(URL_SAFE_NO_PAD.decode(body.ok_or(MalformedInvitation)?).map_err(|_| MalformedInvitation)?);
        let (version, rest) = bytes.split_first().ok_or(MalformedInvitation)?;
        let (secret, rest) = rest.split_first_chunk::<SECRET_BYTES>().ok_or(MalformedInvitation)?;
        let (authority, url) = rest.split_first_chunk::<FINGERPRINT_BYTES>().ok_or(MalformedInvitation)?;
        let peer_url = String::from_utf8(url.to_vec()).map_err(|_| MalformedInvitation)?;
        if *version != VERSION || !peer_url.starts_with("https://") {
            return Err(MalformedInvitation);
        }
        Ok(Self { secret: InvitationSecret(Zeroizing::new(*secret)), authority: (*authority).into(), peer_url })
    }
}

impl InvitationSecret {
    /// As text, for the request of the machine that joins.
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(URL_SAFE_NO_PAD.encode(self.0.as_slice()))
    }

    /// Reads the text.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(text: &str) -> Result<Self, MalformedInvitation> {
        let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(text).map_err(|_| MalformedInvitation)?);
        bytes.as_slice().try_into().map(|bytes| Self(Zeroizing::new(bytes))).map_err(|_| MalformedInvitation)
    }

    /// The id, for the list of used invitations, and the end, milliseconds since 1970, of an invitation of this authority that has not ended.
    /// `None`: it is another's or has ended.
    pub fn check(&self, authority: &Authority, now_ms: u64) -> Option<(String, u64)> {
        let (signed, mac) = self.0.split_at(ID_BYTES + END_BYTES);
        ring::hmac::verify(&authority.invitation_key(), signed, mac).ok()?;
        let (id, end) = signed.split_at(ID_BYTES);
        let ends_at_ms = u64::from_be_bytes(end.try_into().ok()?);
        (now_ms < ends_at_ms).then(|| (hex::encode(id), ends_at_ms))
    }
}
