//! Making the schema and bringing it up to date; refusing one that a newer program wrote.
//!
//! `meta` holds the version. Each step and its new version are one transaction, so a step that is interrupted did not happen.

use crate::StoreError;
use sqlx::{AnyConnection, Connection, Row};

/// One step: the text for every database, then the one for SQLite (triggers are written differently everywhere).
struct Step {
    tables: &'static str,
    sqlite: &'static str,
}

/// Step `n` (from 1) leads from version `n - 1` to version `n`. A step that was released is never changed.
const STEPS: &[Step] = &[
    Step {
        tables: include_str!("../migrations/0001_tables.sql"),
        sqlite: include_str!("../migrations/0001_triggers.sqlite.sql"),
    },
    Step { tables: include_str!("../migrations/0002_external_machines.sql"), sqlite: "" },
    Step {
        tables: include_str!("../migrations/0003_credentials_over_time.sql"),
        sqlite: include_str!("../migrations/0003_triggers.sqlite.sql"),
    },
    Step {
        tables: include_str!("../migrations/0004_carried_by_a_message.sql"),
        sqlite: include_str!("../migrations/0004_triggers.sqlite.sql"),
    },
    Step {
        tables: include_str!("../migrations/0005_names.sql"),
        sqlite: include_str!("../migrations/0005_names.sqlite.sql"),
    },
];

/// The schema version that this program reads and writes.
pub const SCHEMA_VERSION: u32 = 5;

const _: () = assert!(STEPS.len() == SCHEMA_VERSION as usize, "one step for each version");

const VERSION_KEY: &str = "schema_version";

/// Brings the database to [`SCHEMA_VERSION`]. `begin` starts a transaction that may write.
pub(crate) async fn migrate(connection: &mut AnyConnection, begin: &'static str) -> Result<(), StoreError> {
    loop {
        let failed = |version| move |source| StoreError::Migrate { version, source };
        let mut transaction = connection.begin_with(begin).await.map_err(failed(SCHEMA_VERSION))?;
        sqlx::raw_sql("CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL)")
            .execute(&mut *transaction)
            .await
            .map_err(failed(SCHEMA_VERSION))?;
        let row = sqlx::query("SELECT value FROM meta WHERE key = $1")
            .bind(VERSION_KEY)
            .fetch_optional(&mut *transaction)
            .await
            .map_err(failed(SCHEMA_VERSION))?;
        let found = match row {
            None => 0,
            Some(row) => version_of(row.try_get("value").map_err(failed(SCHEMA_VERSION))?)?,
        };
        if found > SCHEMA_VERSION {
            return Err(StoreError::NewerSchema { found, known: SCHEMA_VERSION });
        }
        let Some(step) = STEPS.get(found as usize) else { return Ok(()) };
        let next = found + 1;
        for text in [step.tables, step.sqlite] {
            sqlx::raw_sql(text).execute(&mut *transaction).await.map_err(failed(next))?;
        }
        sqlx::query(
            "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        )
        .bind(VERSION_KEY)
        .bind(next.to_string())
        .execute(&mut *transaction)
        .await
        .map_err(failed(next))?;
        transaction.commit().await.map_err(failed(next))?;
    }
}

fn version_of(text: String) -> Result<u32, StoreError> {
    text.parse().map_err(|_| StoreError::CorruptRow {
        table: "meta",
        row: VERSION_KEY.to_owned(),
        why: "the schema version is not a number".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Health, TicketPurpose, purpose::PurposeKind, callers::RoleKind, retention::PolicyKind, login_tokens::LoginTokenKind, sessions::State,
    };

    /// Every list of words and its column; a `CHECK` that differs would refuse a word the program uses, or accept one it cannot read.
    #[test]
    fn the_checks_are_made_of_the_programs_own_words() {
        fn check(column: &str, words: impl Iterator<Item = &'static str>) -> String {
            let words: Vec<_> = words.map(|word| format!("'{word}'")).collect();
            format!("CHECK ({column} IN ({}))", words.join(", "))
        }
        let text: String = STEPS.iter().map(|step| step.tables).collect();
        for expected in [
            check("state", State::ALL.iter().map(|word| word.as_str())),
            check("role", RoleKind::ALL.iter().map(|word| word.as_str())),
            check("kind", LoginTokenKind::ALL.iter().map(|word| word.as_str())),
            check("purpose", TicketPurpose::ALL.iter().map(|word| word.as_str())),
            check("purpose", PurposeKind::ALL.iter().map(|word| word.as_str())),
            check("policy", PolicyKind::ALL.iter().map(|word| word.as_str())),
            check("health", Health::ALL.iter().map(|word| word.as_str())),
        ] {
            assert!(text.contains(&expected), "no {expected} in the migrations");
        }
        // One of them is superseded: the kinds of `passes`, which became `login_tokens`.
        assert_eq!(text.matches(" IN ('").count(), 8, "a list in the migrations that is not compared here");
    }

    /// PostgreSQL's and SQLite's common ground, and what sqlx's `Any` can carry.
    #[test]
    fn columns_have_only_types_that_both_databases_have() {
        let text: String = STEPS.iter().map(|step| step.tables).collect();
        for line in text.lines().filter(|line| line.starts_with("    ")).map(str::trim) {
            let mut words = line.split([' ', ',']).filter(|word| !word.is_empty());
            let (Some(name), Some(kind)) = (words.next(), words.next()) else { continue };
            if name.chars().all(|c| c.is_ascii_lowercase() || c == '_') {
                assert!(["TEXT", "BIGINT", "BYTEA"].contains(&kind), "{line}");
            }
        }
    }
}
