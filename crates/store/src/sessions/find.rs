//! Finds sessions by filters, page by page.

use super::{OwnerFilter, SessionRow, SessionStateKind};
use crate::{
    Store, StoreError, UnixMs,
    conditions::Conditions,
    error::query_error,
    row_reader::{RowReader, to_sql_integer},
};
use anteroom_wire::{ProviderId, SessionId};
use sqlx::AssertSqlSafe;

/// In which states sessions are found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SessionStates {
    /// In all.
    #[default]
    All,
    /// Not ended.
    Active,
    /// Ended in any way.
    Ended,
    /// A credential is stored.
    Completed,
    /// Ended by a fault.
    Failed,
    /// Ended by their owner.
    Cancelled,
    /// Ended by a deadline.
    Expired,
}

impl SessionStates {
    /// The only state, or the only one that is left out.
    fn sql_parameters(self) -> (Option<&'static str>, Option<&'static str>) {
        let one = |state: SessionStateKind| (Some(state.as_str()), None);
        match self {
            Self::All => (None, None),
            Self::Ended => (None, Some(SessionStateKind::Active.as_str())),
            Self::Active => one(SessionStateKind::Active),
            Self::Completed => one(SessionStateKind::Completed),
            Self::Failed => one(SessionStateKind::Failed),
            Self::Cancelled => one(SessionStateKind::Cancelled),
            Self::Expired => one(SessionStateKind::Expired),
        }
    }
}

/// Selects sessions; an absent filter selects all.
#[derive(Debug, Clone, Copy)]
pub struct SessionFilter<'a> {
    /// Whose.
    pub owner: OwnerFilter<'a>,
    /// In which states.
    pub states: SessionStates,
    /// Of this provider.
    pub provider: Option<&'a ProviderId>,
    /// Started by the caller with this id or name.
    pub caller: Option<&'a str>,
    /// For the user whom the caller knows by this id.
    pub user_id: Option<&'a str>,
    /// With this text, whatever its case, in the id, the user's id, the provider, the caller's name, the machine or the reason.
    pub text: Option<&'a str>,
    /// That had not ended before this time.
    pub since_ms: Option<UnixMs>,
    /// That had been created before this time.
    pub until_ms: Option<UnixMs>,
}

impl<'a> SessionFilter<'a> {
    /// All sessions of the owner.
    pub fn of(owner: OwnerFilter<'a>) -> Self {
        Self {
            owner,
            states: SessionStates::All,
            provider: None,
            caller: None,
            user_id: None,
            text: None,
            since_ms: None,
            until_ms: None,
        }
    }

    fn conditions(&self) -> Conditions {
        let (state, other_than) = self.states.sql_parameters();
        let mut conditions = Conditions::default();
        conditions
            .require_if("caller_id = $n", self.owner.sql_parameter())
            .require_if("state = $n", state)
            .require_if("state <> $n", other_than)
            .require_if("provider = $n", self.provider.map(ProviderId::as_str))
            .require_if("user_id = $n", self.user_id)
            .require_if("caller_id IN (SELECT id FROM callers WHERE id = $n OR name = $n)", self.caller)
            .require_if("(ended_at_ms IS NULL OR ended_at_ms >= $n)", self.since_ms)
            .require_if("created_at_ms < $n", self.until_ms)
            .require_if(
                "(LOWER(id || ' ' || COALESCE(user_id, '') || ' ' || provider || ' ' || COALESCE(machine_id, '') || ' ' \
                 || COALESCE(external_machine, '') || ' ' || COALESCE(reason_code, '')) LIKE $n ESCAPE '\\' \
                 OR caller_id IN (SELECT id FROM callers WHERE LOWER(name) LIKE $n ESCAPE '\\'))",
                self.text.map(pattern_of).as_deref(),
            );
        conditions
    }
}

/// A pattern of `LIKE … ESCAPE '\'` for texts that contain `text`, in lower case.
fn pattern_of(text: &str) -> String {
    let mut pattern = String::from("%");
    for char in text.to_lowercase().chars() {
        if matches!(char, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(char);
    }
    pattern + "%"
}

impl Store {
    /// Sessions that the filter selects, the newest first, at most `limit`; with `before`, only older ones. Rows that were changed outside of
    /// this program are left out.
    ///
    /// # Errors
    /// When the database cannot be read or has a corrupt row.
    pub async fn find_sessions(
        &self,
        filter: &SessionFilter<'_>,
        limit: u32,
        before: Option<&SessionId>,
    ) -> Result<Vec<SessionRow>, StoreError> {
        let mut conditions = filter.conditions();
        conditions.require_if("id < $n", before.map(SessionId::as_str));
        // No input is inserted into the text.
        let text = format!("{} {} ORDER BY id DESC LIMIT {limit}", select!(""), conditions.text());
        let rows = conditions.bind(sqlx::query(AssertSqlSafe(text))).fetch_all(self.read_pool()).await;
        self.decode_valid(&rows.map_err(query_error("find sessions"))?)
    }

    /// The number of sessions that the filter selects, those whose rows were changed outside of this program included.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn count_sessions(&self, filter: &SessionFilter<'_>) -> Result<u64, StoreError> {
        const OPERATION: &str = "count sessions";
        let conditions = filter.conditions();
        let text = format!("SELECT COUNT(*) AS sessions FROM sessions {}", conditions.text());
        let row = conditions.bind(sqlx::query(AssertSqlSafe(text))).fetch_one(self.read_pool()).await;
        RowReader::new(&row.map_err(query_error(OPERATION))?, "sessions", "sessions").number("sessions")
    }

    /// The number of sessions that ended at this time or later, by outcome.
    ///
    /// # Errors
    /// When the database cannot be read or has a corrupt row.
    pub async fn count_ended_sessions(&self, since_ms: UnixMs) -> Result<EndedSessions, StoreError> {
        const OPERATION: &str = "count the ended sessions";
        let rows = sqlx::query(
            "SELECT state, COUNT(*) AS sessions, COUNT(CASE WHEN purpose = 'sign_in' THEN 1 END) AS sign_ins FROM sessions \
             WHERE state <> 'active' AND ended_at_ms >= $1 GROUP BY state",
        )
        .bind(to_sql_integer(since_ms))
        .fetch_all(self.read_pool())
        .await
        .map_err(query_error(OPERATION))?;
        let mut counts = EndedSessions::default();
        for row in &rows {
            let reader = RowReader::new(row, "sessions", "state");
            let count = reader.number("sign_ins")?;
            counts.uses += reader.number::<u64>("sessions")?.saturating_sub(count);
            match reader.parsed::<SessionStateKind>("state")? {
                SessionStateKind::Completed => counts.completed = count,
                SessionStateKind::Failed => counts.failed = count,
                SessionStateKind::Cancelled => counts.cancelled = count,
                SessionStateKind::Expired => counts.expired = count,
                SessionStateKind::Active => {}
            }
        }
        Ok(counts)
    }
}

/// Numbers of ended sessions: sign-ins by their end, and uses of stored credentials.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EndedSessions {
    /// A credential is stored.
    pub completed: u64,
    /// Ended by a fault.
    pub failed: u64,
    /// Ended by their owner.
    pub cancelled: u64,
    /// Ended by a deadline.
    pub expired: u64,
    /// Used a stored credential, whatever their end: not part of the other numbers.
    pub uses: u64,
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
        let all = SessionFilter::of(OwnerFilter::All);
        let before = SessionId::from_parts(1, [0; 10]);
        for (index, filter) in [
            ("sqlite_autoindex_sessions_1", all),
            ("sessions_by_owner", SessionFilter::of(OwnerFilter::Owner(&owner))),
            ("sessions_by_state_in_order", SessionFilter { states: SessionStates::Active, ..all }),
            ("sessions_by_provider", SessionFilter { provider: Some(&provider), ..all }),
            ("sessions_by_user", SessionFilter { user_id: Some("ada"), ..all }),
        ] {
            let mut conditions = filter.conditions();
            conditions.require_if("id < $n", Some(before.as_str()));
            let text =
                format!("EXPLAIN QUERY PLAN SELECT * FROM sessions {} ORDER BY id DESC LIMIT 9", conditions.text());
            let rows = conditions.bind(sqlx::query(AssertSqlSafe(text))).fetch_all(store.read_pool()).await.unwrap();
            let plan: Vec<String> = rows.iter().map(|row| row.get("detail")).collect();
            // One step: it is read in the order of the list, and not sorted.
            let [step] = &plan[..] else { panic!("{index}: {plan:?}") };
            assert!(step.starts_with("SEARCH") && step.contains(index), "{index}: {plan:?}");
        }
    }

    #[test]
    fn wildcards_of_a_searched_text_have_no_meaning() {
        assert_eq!(pattern_of("Ada"), "%ada%");
        assert_eq!(pattern_of(r"50%_\"), r"%50\%\_\\%");
    }
}
