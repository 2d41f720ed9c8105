//! The password of an external desktop, from the configuration, and VNC authentication (RFC 6143 §7.2.2).

use anteroom_rfb::handshake::CHALLENGE_RESPONSE_BYTES;
use anteroom_wire::Secret;
use des::{
    Des,
    cipher::{BlockCipherEncrypt, KeyInit},
};

/// The bytes of a password that VNC authentication uses; all servers and viewers ignore the rest.
const USED_BYTES: usize = 8;
const BLOCK_BYTES: usize = 8;

/// How this server signs in at a desktop, so that viewers need not.
#[derive(Debug, Clone)]
pub struct DesktopLogin {
    /// For HTTP Basic at a WebSocket server, and for VeNCrypt's `X509Plain`; VNC authentication has no user.
    pub user: Option<String>,
    /// The password.
    pub password: Secret,
}

/// The response to a challenge: each half of it encrypted with DES, whose key is the password with the bits of each byte reversed.
pub(super) fn encrypt_challenge(
    password: &Secret,
    challenge: &[u8; CHALLENGE_RESPONSE_BYTES],
) -> [u8; CHALLENGE_RESPONSE_BYTES] {
    let mut key = zeroize::Zeroizing::new([0; USED_BYTES]);
    for (to, from) in key.iter_mut().zip(password.expose().bytes()) {
        *to = from.reverse_bits();
    }
    let cipher = Des::new((&*key).into());
    let mut response = *challenge;
    let (blocks, _) = response.as_chunks_mut::<BLOCK_BYTES>();
    for block in blocks {
        cipher.encrypt_block(block.into());
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `password` with the challenge 0…15, as noVNC's own DES encrypts it (`core/crypto/des.js`).
    #[test]
    fn challenge_is_encrypted_as_viewers_do_it_with_the_first_eight_bytes() {
        let challenge = std::array::from_fn(|at| u8::try_from(at).unwrap());
        let encrypt = |password: &str| encrypt_challenge(&Secret::new(password.to_owned()), &challenge);
        let whole = encrypt("password");
        assert_eq!(hex::encode(whole), NOVNC_RESPONSE);
        assert_eq!(encrypt("password and more"), whole);
        assert_ne!(encrypt("passwor"), whole);
        assert_ne!(encrypt(""), whole);
    }

    const NOVNC_RESPONSE: &str = "b866924125c8eebb9debc1db61c538e2";
}
