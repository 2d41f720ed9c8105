//! Finds credentials by filters, page by page.

use super::{CredentialRow, decode_credential_row};
use crate::{
    OwnerFilter, Store, StoreError, UnixMs, conditions::Conditions, error::query_error, row_reader::RowReader,
};
use anteroom_wire::{CredentialId, ProviderId, api::CredentialHealth};
use sqlx::AssertSqlSafe;

/// Selects credentials that were not deleted; an absent filter selects all.
#[derive(Debug, Clone, Copy)]
pub struct CredentialFilter<'a> {
    /// Whose.
    pub owner: OwnerFilter<'a>,
    /// Of the caller with this id or name.
    pub caller: Option<&'a str>,
    /// Of this provider.
    pub provider: Option<&'a ProviderId>,
    /// For the user whom the caller knows by this id.
    pub user_id: Option<&'a str>,
    /// With this health at a time.
    pub health: Option<HealthAt>,
    /// Stored at this time or later.
    pub since_ms: Option<UnixMs>,
    /// Stored before this time.
    pub until_ms: Option<UnixMs>,
}

/// A health, which depends on the time and on the date of expiry.
#[derive(Debug, Clone, Copy)]
pub struct HealthAt {
    /// The health.
    pub health: CredentialHealth,
    /// The time.
    pub now_ms: UnixMs,
    /// A credential that expires until this time is expiring.
    pub expiring_until_ms: UnixMs,
}

impl<'a> CredentialFilter<'a> {
    /// All credentials of the owner.
    pub fn of(owner: OwnerFilter<'a>) -> Self {
        Self { owner, caller: None, provider: None, user_id: None, health: None, since_ms: None, until_ms: None }
    }

    fn conditions(&self) -> Conditions {
        let mut conditions = Conditions::default();
        conditions
            .require("deleted_at_ms IS NULL")
            .require_if("owner = $n", self.owner.sql_parameter())
            .require_if("owner IN (SELECT id FROM callers WHERE id = $n OR name = $n)", self.caller)
            .require_if("provider = $n", self.provider.map(ProviderId::as_str))
            .require_if("user_id = $n", self.user_id)
            .require_if("stored_at_ms >= $n", self.since_ms)
            .require_if("stored_at_ms < $n", self.until_ms);
        if let Some(health) = self.health {
            health.require(&mut conditions);
        }
        conditions
    }
}

impl HealthAt {
    fn require(self, conditions: &mut Conditions) {
        let (now, until) = (Some(self.now_ms), Some(self.expiring_until_ms));
        match self.health {
            CredentialHealth::NeedsAuth => {
                conditions.require_if("(health = 'needs_auth' OR expires_at_ms <= $n)", now);
            }
            CredentialHealth::Expiring => {
                conditions.require("health <> 'needs_auth'").require_if("expires_at_ms > $n", now);
                conditions.require_if("expires_at_ms <= $n", until);
            }
            CredentialHealth::Valid => {
                conditions.require("health <> 'needs_auth'");
                conditions.require_if("(expires_at_ms IS NULL OR expires_at_ms > $n)", until);
            }
        }
    }
}

impl Store {
    /// Credentials that were not deleted, the newest first, at most `limit`.
    ///
    /// # Errors
    /// When the database cannot be read or has a corrupt row.
    pub async fn list_credentials(
        &self,
        filter: OwnerFilter<'_>,
        limit: u32,
    ) -> Result<Vec<CredentialRow>, StoreError> {
        self.find_credentials(&CredentialFilter::of(filter), limit, None).await
    }

    /// Credentials that the filter selects, the newest first, at most `limit`; with `before`, only older ones.
    ///
    /// # Errors
    /// When the database cannot be read or has a corrupt row.
    pub async fn find_credentials(
        &self,
        filter: &CredentialFilter<'_>,
        limit: u32,
        before: Option<&CredentialId>,
    ) -> Result<Vec<CredentialRow>, StoreError> {
        let mut conditions = filter.conditions();
        conditions.require_if("id < $n", before.map(CredentialId::as_str));
        // No input is inserted into the text.
        let text = format!("{} {} ORDER BY id DESC LIMIT {limit}", select_credentials!(""), conditions.text());
        let rows = conditions.bind(sqlx::query(AssertSqlSafe(text))).fetch_all(self.read_pool()).await;
        rows.map_err(query_error("list credentials"))?.iter().map(decode_credential_row).collect()
    }

    /// The number of credentials that the filter selects.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn count_credentials(&self, filter: &CredentialFilter<'_>) -> Result<u64, StoreError> {
        const OPERATION: &str = "count credentials";
        let conditions = filter.conditions();
        let text = format!("SELECT COUNT(*) AS credentials FROM credentials {}", conditions.text());
        let row = conditions.bind(sqlx::query(AssertSqlSafe(text))).fetch_one(self.read_pool()).await;
        RowReader::new(&row.map_err(query_error(OPERATION))?, "credentials", "credentials").number("credentials")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StoreSettings;
    use anteroom_wire::CallerId;
    use sqlx::Row;

    #[tokio::test]
    async fn filters_with_a_value_of_their_own_use_an_index() {
        let (dir, provider) = (tempfile::tempdir().unwrap(), "codex".parse().unwrap());
        let store = Store::open(&dir.path().join("anteroom.db"), StoreSettings::default()).await.unwrap();
        let owner = CallerId::from_parts(1, [0; 10]);
        let all = CredentialFilter::of(OwnerFilter::All);
        let before = CredentialId::from_parts(1, [0; 10]);
        for (index, filter) in [
            ("sqlite_autoindex_credentials_1", all),
            ("credentials_by_owner", CredentialFilter::of(OwnerFilter::Owner(&owner))),
            ("credentials_by_provider", CredentialFilter { provider: Some(&provider), ..all }),
            ("credentials_by_user", CredentialFilter { user_id: Some("ada"), ..all }),
        ] {
            let mut conditions = filter.conditions();
            conditions.require_if("id < $n", Some(before.as_str()));
            let text =
                format!("EXPLAIN QUERY PLAN SELECT * FROM credentials {} ORDER BY id DESC LIMIT 9", conditions.text());
            let rows = conditions.bind(sqlx::query(AssertSqlSafe(text))).fetch_all(store.read_pool()).await.unwrap();
            let plan: Vec<String> = rows.iter().map(|row| row.get("detail")).collect();
            // One step: it is read in the order of the list, and not sorted.
            let [step] = &plan[..] else { panic!("{index}: {plan:?}") };
            assert!(step.starts_with("SEARCH") && step.contains(index), "{index}: {plan:?}");
        }
    }
}
