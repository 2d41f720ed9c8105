//! Reads the expiry of a credential from its file.

use crate::unix_time::UnixMs;
use anteroom_wire::provider::{CredentialRules, ExpiresAt, TimeFormat};
use serde_json::Value;

/// The expiry from the validated file. `None`: the provider defines none, or the value is not a valid time.
pub fn read_expires_at(rules: &CredentialRules, bytes: &[u8]) -> Option<UnixMs> {
    let ExpiresAt { pointer, unit } = rules.expires_at.as_ref()?;
    let value: Value = serde_json::from_slice(bytes).ok()?;
    let found = value.pointer(pointer)?;
    match unit {
        TimeFormat::UnixMs => count(found),
        TimeFormat::UnixS => count(found)?.checked_mul(1_000),
        TimeFormat::Rfc3339 => {
            let time: jiff::Timestamp = found.as_str()?.parse().ok()?;
            u64::try_from(time.as_millisecond()).ok()
        }
    }
}

/// Parses a count of seconds or milliseconds from a number or text. Tools in JavaScript and Python also write fractions.
fn count(value: &Value) -> Option<u64> {
    const COUNT_MAX: f64 = 9e15;
    let fraction = match value {
        Value::Number(number) => number.as_u64().map_or_else(|| number.as_f64(), |_| None),
        Value::String(text) => return text.parse().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    match fraction {
        None => value.as_u64(),
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is between 0 and 9e15")]
        Some(fraction) if (0.0..COUNT_MAX).contains(&fraction) => Some(fraction as u64),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(unit: TimeFormat, json: &str) -> Option<u64> {
        let expires_at = Some(ExpiresAt { pointer: "/oauth/until".into(), unit });
        expires_at_of(CredentialRules { expires_at, ..CredentialRules::default() }, json)
    }

    fn expires_at_of(rules: CredentialRules, json: &str) -> Option<u64> {
        read_expires_at(&rules, json.as_bytes())
    }

    #[test]
    fn every_time_unit_is_parsed_and_invalid_values_are_ignored() {
        use TimeFormat::{Rfc3339, UnixMs, UnixS};
        for (unit, json, expected) in [
            (UnixMs, r#"{"oauth":{"until":1800000000123}}"#, Some(1_800_000_000_123)),
            (UnixMs, r#"{"oauth":{"until":1800000000123.7}}"#, Some(1_800_000_000_123)),
            (UnixS, r#"{"oauth":{"until":1800000000}}"#, Some(1_800_000_000_000)),
            (UnixS, r#"{"oauth":{"until":"1800000000"}}"#, Some(1_800_000_000_000)),
            (Rfc3339, r#"{"oauth":{"until":"2027-01-15T09:00:00+01:00"}}"#, Some(1_800_000_000_000)),
            (UnixMs, r#"{"oauth":{"until":-5}}"#, None),
            (UnixMs, r#"{"oauth":{"until":1e300}}"#, None),
            (UnixS, r#"{"oauth":{"until":18446744073709551615}}"#, None),
            (UnixS, r#"{"oauth":{"until":null}}"#, None),
            (UnixS, r#"{"oauth":{}}"#, None),
            (Rfc3339, r#"{"oauth":{"until":"tomorrow"}}"#, None),
            (Rfc3339, "not JSON", None),
        ] {
            assert_eq!(end(unit, json), expected, "{unit:?} {json}");
        }
        assert_eq!(expires_at_of(CredentialRules::default(), r#"{"oauth":{"until":1}}"#), None);
    }
}
