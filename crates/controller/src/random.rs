//! Chance: ids and tokens, from the operating system.

use anteroom_wire::Secret;
use sha2::{Digest, Sha256};

/// Random bytes from the operating system.
///
/// # Panics
/// When the operating system has none to give: nothing that follows would be safe.
#[allow(clippy::expect_used, reason = "without randomness no token is a secret; stopping is the only honest answer")]
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut out = [0u8; N];
    getrandom::fill(&mut out).expect("the operating system gives random bytes");
    out
}

/// A new id of any kind: `id::<SessionId>(SessionId::from_parts)`.
pub fn id<T>(from_parts: fn(u64, [u8; 10]) -> T) -> T {
    from_parts(crate::clock::now(), bytes())
}

/// 256 bits as 64 hex digits, behind a prefix that says what it is (`ant_` for API tokens, so that secret scanners find it).
pub fn token(prefix: &str) -> Secret {
    Secret::new(format!("{prefix}{}", hex(&bytes::<32>())))
}

/// SHA-256 of a token as hex: what the database holds instead of it. A random 256-bit token needs no salt.
pub fn token_hash(token: &str) -> String {
    hex(&Sha256::digest(token.as_bytes()))
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}
