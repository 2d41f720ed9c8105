//! Ids: a prefix for the kind, then 26 characters of lower-case Crockford base32
//! (128 bits: 48 bits of time in milliseconds, 80 random bits, the layout of a ULID, so that ids sort by age).
//!
//! This crate does no I/O, so the caller passes the time and the random bytes ([`SessionId::from_parts`]).

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const LEN: usize = 26;
/// Characters of the time: the first 50 of 130 bits, of which two are always zero.
const TIME_LEN: usize = 10;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {article}: expected {prefix:?} and 26 characters of 0-9 a-z without i l o u", text = self.shown)]
pub struct MalformedId {
    article: &'static str,
    prefix: &'static str,
    shown: String,
}

fn encode(mut value: u128) -> String {
    let mut out = [0u8; LEN];
    for slot in out.iter_mut().rev() {
        *slot = ALPHABET[(value & 31) as usize];
        value >>= 5;
    }
    out.iter().map(|&b| char::from(b)).collect()
}

/// The time in an id without its prefix, milliseconds since 1970.
fn unix_ms(body: &str) -> u64 {
    let digit = |byte: u8| ALPHABET.iter().position(|&symbol| symbol == byte).unwrap_or_default() as u64;
    body.bytes().take(TIME_LEN).fold(0, |value, byte| (value << 5) | digit(byte))
}

fn well_formed(body: &str) -> bool {
    // 26 × 5 = 130 bits: the first character carries only three, so it is 0 to 7.
    body.len() == LEN && body.bytes().all(|b| ALPHABET.contains(&b)) && body.as_bytes()[0] <= b'7'
}

macro_rules! id {
    ($name:ident, $prefix:literal, $article:literal, $doc:literal) => {
        #[doc = $doc]
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        #[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
        #[cfg_attr(feature = "utoipa", schema(value_type = String))]
        pub struct $name(String);

        impl $name {
            /// The prefix of every such id.
            pub const PREFIX: &'static str = $prefix;

            /// A new id from the time (milliseconds since 1970; 48 bits are kept) and 10 random bytes.
            pub fn from_parts(unix_ms: u64, random: [u8; 10]) -> Self {
                let random = random.iter().fold(0u128, |acc, &b| (acc << 8) | u128::from(b));
                let time = u128::from(unix_ms & 0xffff_ffff_ffff);
                Self(format!("{}{}", $prefix, encode((time << 80) | random)))
            }

            /// The time from which it was made, milliseconds since 1970.
            pub fn unix_ms(&self) -> u64 {
                unix_ms(&self.0[$prefix.len()..])
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = MalformedId;
            fn from_str(text: &str) -> Result<Self, MalformedId> {
                match text.strip_prefix($prefix) {
                    Some(body) if well_formed(body) => Ok(Self(text.to_owned())),
                    Some(_) | None => {
                        Err(MalformedId { article: $article, prefix: $prefix, shown: text.chars().take(40).collect() })
                    }
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = MalformedId;
            fn try_from(text: String) -> Result<Self, MalformedId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(SessionId, "ses_", "a session id", "One user signing one tool in.");
id!(MachineId, "mac_", "a machine id", "One machine: one keeper and its VMM. A restarted session gets a new one.");
id!(CredentialId, "crd_", "a credential id", "One sealed credential.");
id!(MessageId, "msg_", "a message id", "One webhook message; the same id for each attempt.");
id!(HostId, "hst_", "a host id", "One host of a cluster: one server process with its machines.");
id!(
    CallerId,
    "cal_",
    "a caller id",
    "A caller of the API: a backend with its token, an operator, or a viewer of one session."
);

/// A provider's name in the API: 1 to 40 of `a-z 0-9 _`, beginning with a letter (`codex`, `claude_code`).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "utoipa", schema(value_type = String))]
pub struct ProviderId(String);

/// Why a text is not a provider's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a provider id: expected 1 to 40 of a-z, 0-9 and _, beginning with a letter")]
pub struct MalformedProviderId(String);

impl ProviderId {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ProviderId {
    type Err = MalformedProviderId;
    fn from_str(text: &str) -> Result<Self, MalformedProviderId> {
        let is_valid = (1..=40).contains(&text.len())
            && text.as_bytes()[0].is_ascii_lowercase()
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if is_valid { Ok(Self(text.to_owned())) } else { Err(MalformedProviderId(text.chars().take(60).collect())) }
    }
}

impl TryFrom<String> for ProviderId {
    type Error = MalformedProviderId;
    fn try_from(text: String) -> Result<Self, MalformedProviderId> {
        text.parse()
    }
}

impl From<ProviderId> for String {
    fn from(id: ProviderId) -> String {
        id.0
    }
}

impl fmt::Display for ProviderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ProviderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_round_trips_and_sorts_by_age() {
        let old = SessionId::from_parts(1, [0xff; 10]);
        let young = SessionId::from_parts(2, [0; 10]);
        assert!(old < young);
        assert_eq!(old.as_str().parse::<SessionId>().unwrap(), old);
        assert_eq!(old.as_str().len(), 30);
        for at_ms in [0, 1, 1_790_000_000_123, 0xffff_ffff_ffff] {
            assert_eq!(SessionId::from_parts(at_ms, [0xff; 10]).unix_ms(), at_ms);
        }
    }

    #[test]
    fn a_malformed_id_is_rejected() {
        let good = SessionId::from_parts(7, [7; 10]).to_string();
        for bad in
            ["", "ses_", "ses_../../etc/passwd", "mac_00000000000000000000000000", "ses_80000000000000000000000000"]
        {
            assert!(bad.parse::<SessionId>().is_err(), "{bad}");
        }
        assert!(good.to_uppercase().parse::<SessionId>().is_err());
        assert!(format!("{good}0").parse::<SessionId>().is_err());
    }

    #[test]
    fn a_provider_id_has_only_plain_characters() {
        assert!("claude_code".parse::<ProviderId>().is_ok());
        for bad in ["", "Codex", "1x", "a-b", "a/b", "a b"] {
            assert!(bad.parse::<ProviderId>().is_err(), "{bad}");
        }
    }
}
