//! Finds sessions by filters, page by page.

use super::{OwnerFilter, SessionRow, SessionStateKind};
use crate::{
    Store, StoreError, UnixMs,
    error::query_error,
    row_reader::{RowReader, to_sql_integer},
};
use anteroom_wire::{ProviderId, SessionId};

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
    /// The only state, and the only state that is left out.
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
        let (state, other_than) = filter.states.sql_parameters();
        let rows = sqlx::query(select!(
            "WHERE ($1 IS NULL OR caller_id = $1) AND ($2 IS NULL OR id < $2) AND ($3 IS NULL OR state = $3) \
             AND ($4 IS NULL OR state <> $4) AND ($5 IS NULL OR provider = $5) AND ($6 IS NULL OR user_id = $6) \
             AND ($7 IS NULL OR caller_id = $7 OR caller_id IN (SELECT id FROM callers WHERE name = $7)) \
             AND ($8 IS NULL OR ended_at_ms IS NULL OR ended_at_ms >= $8) AND ($9 IS NULL OR created_at_ms < $9) \
             AND ($10 IS NULL OR LOWER(id || ' ' || COALESCE(user_id, '') || ' ' || provider || ' ' || COALESCE(machine_id, '') || ' ' \
             || COALESCE(external_machine, '') || ' ' || COALESCE(reason_code, '')) LIKE $10 ESCAPE '\\' \
             OR caller_id IN (SELECT id FROM callers WHERE LOWER(name) LIKE $10 ESCAPE '\\')) \
             ORDER BY id DESC LIMIT $11"
        ))
        .bind(filter.owner.sql_parameter())
        .bind(before.map(SessionId::as_str))
        .bind(state)
        .bind(other_than)
        .bind(filter.provider.map(ProviderId::as_str))
        .bind(filter.user_id)
        .bind(filter.caller)
        .bind(filter.since_ms.map(to_sql_integer))
        .bind(filter.until_ms.map(to_sql_integer))
        .bind(filter.text.map(pattern_of))
        .bind(i64::from(limit))
        .fetch_all(self.read_pool())
        .await
        .map_err(query_error("find sessions"))?;
        self.decode_valid(&rows)
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

    #[test]
    fn wildcards_of_a_searched_text_have_no_meaning() {
        assert_eq!(pattern_of("Ada"), "%ada%");
        assert_eq!(pattern_of(r"50%_\"), r"%50\%\_\\%");
    }
}
