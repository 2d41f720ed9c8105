//! The RFB handshake with an external desktop (RFC 6143 §7.1), of any version and maker, up to ClientInit.
//!
//! ```text
//!  viewer                                    this server                              desktop
//!                                              ◀─ version ── greeting (3.3 … 5.0)
//!                                              ── version ─▶ the newest that both know: 3.3, 3.7 or 3.8
//!                                              ◀─ types ──── 3.3: one
//!                                              ── type ────▶ VeNCrypt · None · VNC authentication · one of the viewer's
//!                                              ◀ challenge, response, result ▶ with the configured password
//!   ◀─ 3.8, one security type ──────────────── [`super::viewer_handshake`]
//!   ── ClientInit ─────────────────────────────────────────────────────────────────▶
//! ```
//!
//! So a viewer, the view-only filter and the limits of a viewer's messages always see RFB 3.8, and a desktop that cannot be used is refused before a
//! viewer is connected.

use super::{
    DesktopLogin, DialError, Duplex, ExternalMachine,
    reason::{self, clean_reason},
    security_types,
    vencrypt::{self, VencryptFault},
    viewer_handshake::{offer_none, offer_type},
    vnc_password::encrypt_challenge,
};
use crate::external::Encryption;
use anteroom_rfb::handshake::{
    CHALLENGE_RESPONSE_BYTES, PROTOCOL_VERSION, SECURITY_NONE, SECURITY_OK, SECURITY_VNC_AUTHENTICATION,
};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The versions whose handshakes differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Version {
    /// The server selects the security type.
    V3_3,
    /// The client selects it. No result for None, no reason of a failure.
    V3_7,
    /// Each type has a result, each failure a reason.
    V3_8,
}

impl Version {
    /// The newest version of a desktop with this greeting. RFC 6143 §7.1.1: versions other than 3.3, 3.7 and 3.8 behave like 3.3, except newer
    /// ones: Apple's 3.889 and RealVNC's 4 and 5. `None`: older than 3.3, or a repeater (`000.000`).
    pub(super) fn of_greeting(greeting: &[u8]) -> Option<Self> {
        let number = |digits: std::ops::Range<usize>| -> Option<u16> {
            std::str::from_utf8(greeting.get(digits)?).ok()?.parse().ok()
        };
        match (number(4..7)?, number(8..11)?) {
            (3, 3..=6) => Some(Self::V3_3),
            (3, 7) => Some(Self::V3_7),
            (3, 8..) | (4.., _) => Some(Self::V3_8),
            _ => None,
        }
    }

    fn message(self) -> &'static [u8; 12] {
        match self {
            Self::V3_3 => b"RFB 003.003\n",
            Self::V3_7 => b"RFB 003.007\n",
            Self::V3_8 => PROTOCOL_VERSION,
        }
    }
}

/// How the connection is authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Authentication {
    None,
    Vnc,
    /// User and password, inside TLS alone.
    Plain,
    /// A type that only the viewer knows.
    OfViewer(u8),
}

/// Does the handshake after the desktop's greeting. The returned stream starts with a greeting for the viewer. The caller must set a
/// timeout.
pub(super) async fn handshake(
    machine: &ExternalMachine,
    view_only: bool,
    greeting: &[u8],
    mut stream: Box<dyn Duplex>,
) -> Result<Box<dyn Duplex>, DialError> {
    let login = machine.login.as_ref();
    let version = Version::of_greeting(greeting).ok_or(DialError::UnsupportedVersion)?;
    send(&mut stream, version.message()).await?;
    let offered = read_types(&mut stream, version).await?;
    let authentication = match &machine.encryption {
        Encryption::Vencrypt(tls) => {
            if version < Version::V3_8 || !offered.contains(&security_types::VENCRYPT) {
                return Err(VencryptFault::NotOffered.into());
            }
            send(&mut stream, &[security_types::VENCRYPT]).await?;
            let has_user = login.is_some_and(|login| login.user.is_some());
            let authentication = vencrypt::select_subtype(&mut stream, has_user).await?;
            stream = Box::new(tls.connect(stream).await?);
            authentication
        }
        Encryption::None | Encryption::Tls(_) => {
            let (selected, authentication) = select_type(&offered, version, login, view_only)?;
            if version > Version::V3_3 {
                send(&mut stream, &[selected]).await?;
            }
            authentication
        }
    };
    match (authentication, login) {
        (Authentication::None, _) => {
            if version == Version::V3_8 {
                let rejected = read_result(&mut stream, version).await?;
                rejected.map_or(Ok(()), |reason| Err(DialError::Rejected { reason }))?;
            }
        }
        (Authentication::Vnc, Some(login)) => {
            let mut challenge = [0; CHALLENGE_RESPONSE_BYTES];
            stream.read_exact(&mut challenge).await.map_err(DialError::HandshakeEnded)?;
            send(&mut stream, &encrypt_challenge(&login.password, &challenge)).await?;
            accept_login(&mut stream, version).await?;
        }
        (Authentication::Plain, Some(login)) => {
            send(&mut stream, &vencrypt::plain_login(login)).await?;
            accept_login(&mut stream, version).await?;
        }
        (Authentication::Vnc, None) => {
            let adds_reason = version < Version::V3_8;
            return Ok(Box::new(offer_type(stream, SECURITY_VNC_AUTHENTICATION, adds_reason)));
        }
        (Authentication::OfViewer(security_type), _) => return Ok(Box::new(offer_type(stream, security_type, false))),
        (Authentication::Plain, None) => return Err(VencryptFault::NoCertificate.into()),
    }
    Ok(Box::new(offer_none(stream)))
}

/// The offered security types, at least one.
pub(super) async fn read_types<S>(stream: &mut S, version: Version) -> Result<Vec<u8>, DialError>
where
    S: AsyncRead + Unpin,
{
    if version == Version::V3_3 {
        let number = stream.read_u32().await.map_err(DialError::HandshakeEnded)?;
        return match u8::try_from(number) {
            Ok(0) => Err(DialError::Rejected { reason: read_reason(stream).await }),
            Ok(number) => Ok(vec![number]),
            Err(_) => Err(DialError::InvalidHandshake),
        };
    }
    let count = stream.read_u8().await.map_err(DialError::HandshakeEnded)?;
    if count == 0 {
        return Err(DialError::Rejected { reason: read_reason(stream).await });
    }
    let mut types = vec![0; usize::from(count)];
    stream.read_exact(&mut types).await.map_err(DialError::HandshakeEnded)?;
    Ok(types)
}

/// The type to select: nothing to authenticate, a password, or one that the viewer's page asks for.
fn select_type(
    offered: &[u8],
    version: Version,
    login: Option<&DesktopLogin>,
    view_only: bool,
) -> Result<(u8, Authentication), DialError> {
    if offered.contains(&SECURITY_NONE) {
        return Ok((SECURITY_NONE, Authentication::None));
    }
    if offered.contains(&SECURITY_VNC_AUTHENTICATION) {
        return Ok((SECURITY_VNC_AUTHENTICATION, Authentication::Vnc));
    }
    let of_viewer = offered.iter().copied().find(|number| security_types::OF_VIEWERS.contains(number));
    match of_viewer {
        // The view-only filter cannot tell where the viewer's answer ends, and a configured password is not for the viewer.
        Some(number) if version == Version::V3_8 && login.is_none() && !view_only => {
            Ok((number, Authentication::OfViewer(number)))
        }
        Some(_) | None => Err(DialError::SecurityUnsupported { offered: offered.to_vec() }),
    }
}

async fn accept_login<S: AsyncRead + Unpin>(stream: &mut S, version: Version) -> Result<(), DialError> {
    match read_result(stream, version).await? {
        None => Ok(()),
        Some(reason) => Err(DialError::PasswordRejected { reason }),
    }
}

/// Reads a SecurityResult: `None`, or the reason of the failure.
pub(super) async fn read_result<S>(stream: &mut S, version: Version) -> Result<Option<String>, DialError>
where
    S: AsyncRead + Unpin,
{
    let mut result = [0; SECURITY_OK.len()];
    stream.read_exact(&mut result).await.map_err(DialError::HandshakeEnded)?;
    if result == SECURITY_OK {
        return Ok(None);
    }
    Ok(Some(if version == Version::V3_8 { read_reason(stream).await } else { String::new() }))
}

/// Reads a reason; empty if there is none. Many servers close after it, or send none at all.
async fn read_reason<S: AsyncRead + Unpin>(stream: &mut S) -> String {
    let reading = async {
        let length = stream.read_u32().await?;
        let mut bytes = Vec::new();
        let limit = u64::from(length).min(reason::READ_BYTES_MAX);
        (&mut *stream).take(limit).read_to_end(&mut bytes).await?;
        Ok::<_, io::Error>(bytes)
    };
    reading.await.map_or_else(|_| String::new(), |bytes| clean_reason(&bytes))
}

async fn send<S: AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) -> Result<(), DialError> {
    let sending = async {
        stream.write_all(bytes).await?;
        stream.flush().await
    };
    sending.await.map_err(DialError::HandshakeEnded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_greeting_has_its_version() {
        for (greeting, version) in [
            ("RFB 003.003\n", Some(Version::V3_3)),
            ("RFB 003.005\n", Some(Version::V3_3)),
            ("RFB 003.006\n", Some(Version::V3_3)),
            ("RFB 003.007\n", Some(Version::V3_7)),
            ("RFB 003.008\n", Some(Version::V3_8)),
            ("RFB 003.889\n", Some(Version::V3_8)),
            ("RFB 004.001\n", Some(Version::V3_8)),
            ("RFB 005.000\n", Some(Version::V3_8)),
            ("RFB 000.000\n", None),
            ("RFB 002.009\n", None),
        ] {
            assert_eq!(Version::of_greeting(greeting.as_bytes()), version, "{greeting}");
        }
    }
}
