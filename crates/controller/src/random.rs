//! Random ids and tokens from the operating system.

use anteroom_wire::Secret;

/// Random bytes from the operating system.
///
/// # Panics
/// When the operating system provides no random bytes: no token would be secret.
#[allow(clippy::expect_used, reason = "without random bytes no token is secret, so the process must stop")]
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut out = [0u8; N];
    getrandom::fill(&mut out).expect("the operating system provides random bytes");
    out
}

/// A new id of any kind: `id::<SessionId>(SessionId::from_parts)`.
pub fn random_id<T>(from_parts: fn(u64, [u8; 10]) -> T) -> T {
    from_parts(crate::unix_time::now_unix_ms(), random_bytes())
}

/// 256 bits as 64 hex digits, after a prefix that names its kind (`ant_` for API tokens, so that secret scanners find it).
pub fn random_token(prefix: &str) -> Secret {
    Secret::new(format!("{prefix}{}", hex::encode(random_bytes::<32>())))
}
