//! VeNCrypt: RFB's security type for TLS (number 19). TLS is ended here, so that viewers need not know it.
//!
//! Subtypes without a certificate (`TLSNone`, `TLSVnc`) are not used: any computer between the hosts could answer in the desktop's place.

use super::{DesktopLogin, handshake::Authentication, tls::TlsFault};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use zeroize::Zeroizing;

const VENCRYPT_VERSION: [u8; 2] = [0, 2];
const X509_NONE: u32 = 260;
const X509_VNC: u32 = 261;
const X509_PLAIN: u32 = 262;

/// Why a desktop's VeNCrypt handshake failed. The sentence contains no address.
#[derive(Debug, thiserror::Error)]
pub enum VencryptFault {
    /// It does not offer VeNCrypt, or an older RFB than 3.8.
    #[error("it does not offer VeNCrypt")]
    NotOffered,
    /// It offers VeNCrypt without a certificate, or with a user name and none is configured.
    #[error("it offers neither X509None nor X509Vnc")]
    NoCertificate,
    /// It rejected the connection or VeNCrypt's version.
    #[error("it rejected the VeNCrypt handshake")]
    Rejected,
    /// The stream ended.
    #[error("it closed during the VeNCrypt handshake")]
    Closed(#[from] io::Error),
    /// TLS failed.
    #[error(transparent)]
    Tls(#[from] TlsFault),
}

/// Agrees on a subtype with a certificate, after VeNCrypt was selected; returns the authentication that follows inside TLS. `has_user`: a user
/// and a password are configured.
pub(super) async fn select_subtype<S>(stream: &mut S, has_user: bool) -> Result<Authentication, VencryptFault>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut newest = [0; 2];
    stream.read_exact(&mut newest).await?;
    if newest < VENCRYPT_VERSION {
        return Err(VencryptFault::Rejected);
    }
    stream.write_all(&VENCRYPT_VERSION).await?;
    if stream.read_u8().await? != 0 {
        return Err(VencryptFault::Rejected);
    }
    let mut subtypes = Vec::new();
    for _ in 0..stream.read_u8().await? {
        subtypes.push(stream.read_u32().await?);
    }
    let known = [
        (X509_NONE, Authentication::None, true),
        (X509_VNC, Authentication::Vnc, true),
        (X509_PLAIN, Authentication::Plain, has_user),
    ];
    let (subtype, authentication, _) = known
        .into_iter()
        .find(|(subtype, _, is_usable)| *is_usable && subtypes.contains(subtype))
        .ok_or(VencryptFault::NoCertificate)?;
    stream.write_u32(subtype).await?;
    match stream.read_u8().await? {
        1 => Ok(authentication),
        _ => Err(VencryptFault::Rejected),
    }
}

/// The message of `X509Plain`: the lengths of user and password, then both.
pub(super) fn plain_login(login: &DesktopLogin) -> Zeroizing<Vec<u8>> {
    let (user, password) = (login.user.as_deref().unwrap_or(""), login.password.expose());
    let length = |text: &str| u32::try_from(text.len()).unwrap_or(0).to_be_bytes();
    // One allocation, so that no copy of the password stays behind.
    let mut message = Zeroizing::new(Vec::with_capacity(8 + user.len() + password.len()));
    message.extend(length(user));
    message.extend(length(password));
    message.extend(user.as_bytes());
    message.extend(password.as_bytes());
    message
}
