//! Creates and migrates the schema; rejects a database of a newer program.
//!
//! `meta` holds the version. Each migration and its new version are one transaction, so an interrupted migration has no effect.

use crate::{
    StoreError,
    dialect::Dialect,
    error::query_error,
    readable_from::{require_readable, write_readable_from},
};
use sqlx::{AnyConnection, AssertSqlSafe, Connection, Row};

/// One migration: the SQL for all databases, then the SQL only for one (the syntax of triggers differs between databases).
struct Migration {
    tables: &'static str,
    sqlite: &'static str,
    postgres: &'static str,
}

/// Migration `n` (from 1) leads from version `n - 1` to version `n`. A released migration is never changed.
const MIGRATIONS: &[Migration] = &[
    Migration {
        tables: include_str!("../migrations/0001_tables.sql"),
        sqlite: include_str!("../migrations/0001_triggers.sqlite.sql"),
        postgres: "",
    },
    Migration { tables: include_str!("../migrations/0002_external_machines.sql"), sqlite: "", postgres: "" },
    Migration {
        tables: include_str!("../migrations/0003_credentials_over_time.sql"),
        sqlite: include_str!("../migrations/0003_triggers.sqlite.sql"),
        postgres: "",
    },
    Migration {
        tables: include_str!("../migrations/0004_carried_by_a_message.sql"),
        sqlite: include_str!("../migrations/0004_triggers.sqlite.sql"),
        postgres: "",
    },
    Migration {
        tables: include_str!("../migrations/0005_names.sql"),
        sqlite: include_str!("../migrations/0005_names.sqlite.sql"),
        postgres: "",
    },
    Migration { tables: "", sqlite: include_str!("../migrations/0006_end_reasons.sqlite.sql"), postgres: "" },
    Migration {
        tables: "",
        sqlite: include_str!("../migrations/0007_callers.sqlite.sql"),
        postgres: include_str!("../migrations/0007_callers.postgres.sql"),
    },
    Migration { tables: "", sqlite: include_str!("../migrations/0008_erasure.sqlite.sql"), postgres: "" },
    Migration { tables: include_str!("../migrations/0009_browsers.sql"), sqlite: "", postgres: "" },
    Migration { tables: include_str!("../migrations/0010_consents.sql"), sqlite: "", postgres: "" },
    Migration { tables: include_str!("../migrations/0011_agent_token_index.sql"), sqlite: "", postgres: "" },
    Migration {
        tables: include_str!("../migrations/0012_row_macs.sql"),
        sqlite: include_str!("../migrations/0012_row_macs.sqlite.sql"),
        postgres: "",
    },
    Migration {
        tables: include_str!("../migrations/0013_session_macs.sql"),
        sqlite: include_str!("../migrations/0013_session_macs.sqlite.sql"),
        postgres: "",
    },
    Migration { tables: include_str!("../migrations/0014_credential_account.sql"), sqlite: "", postgres: "" },
    Migration {
        tables: include_str!("../migrations/0015_session_settings.sql"),
        sqlite: include_str!("../migrations/0015_session_settings.sqlite.sql"),
        postgres: "",
    },
    Migration { tables: include_str!("../migrations/0016_list_indices.sql"), sqlite: "", postgres: "" },
    Migration {
        tables: include_str!("../migrations/0017_webhook_receivers.sql"),
        sqlite: "",
        postgres: include_str!("../migrations/0017_triggers.postgres.sql"),
    },
    Migration {
        tables: include_str!("../migrations/0018_hosts.sql"),
        sqlite: include_str!("../migrations/0018_hosts.sqlite.sql"),
        postgres: include_str!("../migrations/0018_hosts.postgres.sql"),
    },
    Migration { tables: include_str!("../migrations/0019_cluster_authority.sql"), sqlite: "", postgres: "" },
    Migration { tables: include_str!("../migrations/0020_credential_turns.sql"), sqlite: "", postgres: "" },
];

/// The schema version that this program reads and writes.
pub const SCHEMA_VERSION: u32 = 20;

const _: () = assert!(MIGRATIONS.len() == SCHEMA_VERSION as usize, "one migration for each version");

const VERSION_KEY: &str = "schema_version";

/// Migrates the database to [`SCHEMA_VERSION`].
pub(crate) async fn migrate(connection: &mut AnyConnection, dialect: Dialect) -> Result<(), StoreError> {
    loop {
        let failed = |version| move |source| StoreError::Migrate { version, source };
        let mut transaction =
            connection.begin_with(AssertSqlSafe(dialect.begin_migration())).await.map_err(failed(SCHEMA_VERSION))?;
        let meta =
            dialect.migration("CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL)");
        sqlx::raw_sql(AssertSqlSafe(meta)).execute(&mut *transaction).await.map_err(failed(SCHEMA_VERSION))?;
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
            return require_readable(&mut transaction, found).await;
        }
        let Some(migration) = MIGRATIONS.get(found as usize) else { return Ok(()) };
        let next = found + 1;
        let for_one = match dialect {
            Dialect::Sqlite => migration.sqlite,
            Dialect::Postgres => migration.postgres,
        };
        for text in [migration.tables, for_one] {
            let text = dialect.migration(text);
            sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut *transaction).await.map_err(failed(next))?;
        }
        sqlx::query(
            "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        )
        .bind(VERSION_KEY)
        .bind(next.to_string())
        .execute(&mut *transaction)
        .await
        .map_err(failed(next))?;
        if next == SCHEMA_VERSION {
            write_readable_from(&mut transaction).await.map_err(failed(next))?;
        }
        transaction.commit().await.map_err(failed(next))?;
    }
}

/// The version of the schema; 0: it has no tables.
pub(crate) async fn schema_version(connection: &mut AnyConnection, dialect: Dialect) -> Result<u32, StoreError> {
    let failed = query_error("read the version of its schema");
    let exists: i64 =
        sqlx::query_scalar(dialect.count_tables_named_meta()).fetch_one(&mut *connection).await.map_err(failed)?;
    if exists == 0 {
        return Ok(0);
    }
    let text = "SELECT value FROM meta WHERE key = $1";
    let text: Option<String> =
        sqlx::query_scalar(text).bind(VERSION_KEY).fetch_optional(connection).await.map_err(failed)?;
    text.map_or(Ok(0), version_of)
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
        CallerKind, HealthKind, TicketPurpose, callers::RoleKind, deletion_policy::PolicyKind,
        login_tokens::LoginTokenKind, purpose::PurposeKind, sessions::SessionStateKind,
    };

    /// A `CHECK` that differs from its enum would reject a value that the program writes, or accept one that it cannot read.
    #[test]
    fn sql_check_constraints_list_exactly_the_values_of_the_enums() {
        fn check(column: &str, values: impl Iterator<Item = &'static str>) -> String {
            let values: Vec<_> = values.map(|value| format!("'{value}'")).collect();
            format!("CHECK ({column} IN ({}))", values.join(", "))
        }
        let texts = MIGRATIONS.iter().flat_map(|migration| [migration.tables, migration.sqlite]);
        let text: String = texts.collect();
        for expected in [
            check("state", SessionStateKind::ALL.iter().map(|value| value.as_str())),
            check("kind", CallerKind::ALL.iter().map(|value| value.as_str())),
            check("role", RoleKind::ALL.iter().map(|value| value.as_str())),
            check("kind", LoginTokenKind::ALL.iter().map(|value| value.as_str())),
            check("purpose", TicketPurpose::ALL.iter().map(|value| value.as_str())),
            check("purpose", PurposeKind::ALL.iter().map(|value| value.as_str())),
            check("policy", PolicyKind::ALL.iter().map(|value| value.as_str())),
            check("health", HealthKind::ALL.iter().map(|value| value.as_str())),
        ] {
            assert!(text.contains(&expected), "no {expected} in the migrations");
        }
        // Three of them are superseded: the kinds of `passes`, the first kinds of `login_tokens` and the first roles.
        let is_list = |line: &&str| line.contains("CHECK (") && !line.contains("CHECK ((") && line.contains(" IN ('");
        assert_eq!(text.lines().filter(is_list).count(), 11, "a list in the migrations that is not compared here");
    }

    /// The types that PostgreSQL and SQLite have in common and that sqlx's `Any` supports.
    #[test]
    fn columns_have_only_types_that_both_databases_support() {
        let text: String = MIGRATIONS.iter().map(|migration| migration.tables).collect();
        for line in text.lines().filter(|line| line.starts_with("    ")).map(str::trim) {
            let mut words = line.split([' ', ',']).filter(|word| !word.is_empty());
            let (Some(name), Some(kind)) = (words.next(), words.next()) else { continue };
            if name.chars().all(|c| c.is_ascii_lowercase() || c == '_') {
                assert!(["TEXT", "BIGINT", "BYTEA"].contains(&kind), "{line}");
            }
        }
    }
}
