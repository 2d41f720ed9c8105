//! The current health of a credential, computed from the stored health and the time. Pure.

use crate::unix_time::{UnixMs, format_rfc3339};
use anteroom_store::{CredentialRow, HealthKind};
use anteroom_wire::api::CredentialHealth;

const CONFIRMED: &str = "The tool confirmed the credential when it was stored.";

/// The health at `now` and the reason for it. A credential that expires within `expiring_ms` is expiring.
pub fn derive_current_health(row: &CredentialRow, now: UnixMs, expiring_ms: UnixMs) -> (CredentialHealth, String) {
    let stored_detail = || row.health_detail.clone();
    match (row.health, row.expires_at_ms) {
        (HealthKind::NeedsAuth, _) => (
            CredentialHealth::NeedsAuth,
            stored_detail().unwrap_or_else(|| "The tool rejected the credential when it was checked.".to_owned()),
        ),
        (HealthKind::Valid | HealthKind::Expiring, Some(expires_at)) if expires_at <= now => (
            CredentialHealth::NeedsAuth,
            format!("It expired at {}, according to its file.", format_rfc3339(expires_at)),
        ),
        (HealthKind::Valid | HealthKind::Expiring, Some(expires_at)) if expires_at - now <= expiring_ms => (
            CredentialHealth::Expiring,
            format!("It expires at {}, according to its file.", format_rfc3339(expires_at)),
        ),
        (HealthKind::Valid | HealthKind::Expiring, _) => {
            (CredentialHealth::Valid, stored_detail().unwrap_or_else(|| CONFIRMED.to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anteroom_store::DeletionPolicy;
    use anteroom_vault::KeyId;
    use anteroom_wire::{CallerId, CredentialId, SessionId};

    fn row(health: HealthKind, health_detail: Option<&str>, expires_at_ms: Option<u64>) -> CredentialRow {
        CredentialRow {
            id: CredentialId::from_parts(1, [1; 10]),
            owner: CallerId::from_parts(1, [1; 10]),
            user_id: None,
            provider: "codex".parse().unwrap(),
            session: SessionId::from_parts(1, [1; 10]),
            method: None,
            key_id: KeyId(1),
            files: Vec::new(),
            stored_at_ms: 1,
            deleted_at_ms: None,
            deletion_policy: DeletionPolicy::ByOwner,
            health,
            health_detail: health_detail.map(str::to_owned),
            checked_at_ms: 1,
            expires_at_ms,
            account: None,
            revision: 1,
        }
    }

    #[test]
    fn current_health_is_the_worse_of_stored_health_and_expiry() {
        use CredentialHealth::{Expiring, NeedsAuth, Valid};
        let (now, soon) = (1_000_000, 1_000);
        for (health, expires_at, expected) in [
            (HealthKind::Valid, None, Valid),
            (HealthKind::Valid, Some(now + soon + 1), Valid),
            (HealthKind::Valid, Some(now + soon), Expiring),
            (HealthKind::Valid, Some(now + 1), Expiring),
            (HealthKind::Valid, Some(now), NeedsAuth),
            (HealthKind::Valid, Some(0), NeedsAuth),
            (HealthKind::NeedsAuth, Some(now + 10 * soon), NeedsAuth),
            (HealthKind::NeedsAuth, None, NeedsAuth),
            // Reported as expiring once; the setting has changed since.
            (HealthKind::Expiring, Some(now + 2 * soon), Valid),
            (HealthKind::Expiring, Some(now + 1), Expiring),
        ] {
            let (current, detail) = derive_current_health(&row(health, None, expires_at), now, soon);
            assert_eq!(current, expected, "{health:?} {expires_at:?}");
            assert!(!detail.is_empty());
        }
    }

    #[test]
    fn the_stored_detail_is_shown_unless_the_credential_has_expired() {
        let detail =
            |health, expires_at| derive_current_health(&row(health, Some("Its output: no."), expires_at), 10, 5).1;
        assert_eq!(detail(HealthKind::NeedsAuth, None), "Its output: no.");
        assert_eq!(detail(HealthKind::Valid, None), "Its output: no.");
        assert!(detail(HealthKind::Valid, Some(3)).starts_with("It expired at 1970-01-01T00:00:00.003Z"));
        assert_eq!(derive_current_health(&row(HealthKind::Valid, None, None), 10, 5).1, CONFIRMED);
    }
}
