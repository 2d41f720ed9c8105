//! Whether a credential can be used now: from what is stored and the time. Pure.

use crate::clock::{UnixMs, rfc3339};
use anteroom_store::{CredentialRow, Health};
use anteroom_wire::api::CredentialHealth;

const SIGNED_IN: &str = "The tool confirmed the credential at sign-in.";

/// How it stands at `now`, and what that was concluded from. One that ends within `expiring_ms` is expiring.
pub fn current_health(row: &CredentialRow, now: UnixMs, expiring_ms: UnixMs) -> (CredentialHealth, String) {
    let told = || row.health_detail.clone();
    match (row.health, row.expires_at_ms) {
        (Health::NeedsAuth, _) => (
            CredentialHealth::NeedsAuth,
            told().unwrap_or_else(|| "The tool did not agree when it was asked.".to_owned()),
        ),
        (Health::Valid | Health::Expiring, Some(end)) if end <= now => {
            (CredentialHealth::NeedsAuth, format!("It ended at {}, as it says itself.", rfc3339(end)))
        }
        (Health::Valid | Health::Expiring, Some(end)) if end - now <= expiring_ms => {
            (CredentialHealth::Expiring, format!("It ends at {}, as it says itself.", rfc3339(end)))
        }
        (Health::Valid | Health::Expiring, _) => {
            (CredentialHealth::Valid, told().unwrap_or_else(|| SIGNED_IN.to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anteroom_store::Retention;
    use anteroom_vault::KeyId;
    use anteroom_wire::{CallerId, CredentialId, SessionId};

    fn row(health: Health, health_detail: Option<&str>, expires_at_ms: Option<u64>) -> CredentialRow {
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
            retention: Retention::UntilDeleted,
            health,
            health_detail: health_detail.map(str::to_owned),
            checked_at_ms: 1,
            expires_at_ms,
            revision: 1,
        }
    }

    #[test]
    fn the_worse_of_what_the_tool_said_and_what_the_time_says_counts() {
        use CredentialHealth::{Expiring, NeedsAuth, Valid};
        let (now, soon) = (1_000_000, 1_000);
        for (health, ends, expected) in [
            (Health::Valid, None, Valid),
            (Health::Valid, Some(now + soon + 1), Valid),
            (Health::Valid, Some(now + soon), Expiring),
            (Health::Valid, Some(now + 1), Expiring),
            (Health::Valid, Some(now), NeedsAuth),
            (Health::Valid, Some(0), NeedsAuth),
            (Health::NeedsAuth, Some(now + 10 * soon), NeedsAuth),
            (Health::NeedsAuth, None, NeedsAuth),
            // Told once that it ends; by now the setting is another.
            (Health::Expiring, Some(now + 2 * soon), Valid),
            (Health::Expiring, Some(now + 1), Expiring),
        ] {
            let (found, detail) = current_health(&row(health, None, ends), now, soon);
            assert_eq!(found, expected, "{health:?} {ends:?}");
            assert!(!detail.is_empty());
        }
    }

    #[test]
    fn what_the_tool_said_is_told_unless_the_time_overrules_it() {
        let said = |health, ends| current_health(&row(health, Some("It said: no."), ends), 10, 5).1;
        assert_eq!(said(Health::NeedsAuth, None), "It said: no.");
        assert_eq!(said(Health::Valid, None), "It said: no.");
        assert!(said(Health::Valid, Some(3)).starts_with("It ended at 1970-01-01T00:00:00.003Z"));
        assert_eq!(current_health(&row(Health::Valid, None, None), 10, 5).1, SIGNED_IN);
    }
}
