//! The tables whose rows have MACs, and the columns that a MAC covers: everything that decides something.

use crate::{StoreError, connection::Connection, error::query_error};
use anteroom_vault::RowContent;
use sqlx::{AssertSqlSafe, Row, any::AnyRow};

/// A column of a covered table.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Column {
    /// TEXT.
    Text(&'static str),
    /// BIGINT.
    Number(&'static str),
    /// TEXT that a migration added to a table whose rows already had MACs. A MAC covers it with its name, and not while it is NULL, so
    /// that the MACs of the earlier rows stay valid.
    AddedText(&'static str),
    /// As [`Column::AddedText`], BIGINT.
    AddedNumber(&'static str),
}
use Column::{AddedNumber, AddedText, Number, Text};

/// A table whose rows have MACs.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    /// The first of `covered` columns are the primary key: one, or a text and a number.
    key_columns: usize,
    covered: &'static [Column],
    /// SQL: the rows that need a MAC.
    pub(crate) condition: &'static str,
}

/// The primary key of a row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key<'k> {
    /// The text, for tables with one key column.
    pub(crate) text: &'k str,
    /// The number of a timeline entry.
    pub(crate) number: Option<i64>,
}

impl<'k> From<&'k str> for Key<'k> {
    fn from(text: &'k str) -> Self {
        Self { text, number: None }
    }
}

/// Everything about a caller, except its last use, which decides nothing.
pub(crate) static CALLERS: Table = Table {
    name: "callers",
    key_columns: 1,
    covered: &[
        Text("id"),
        Text("kind"),
        Text("role"),
        Text("name"),
        Text("token_hash"),
        Text("session_id"),
        Text("scopes"),
        Text("account_id"),
        Text("parent_id"),
        Number("created_at_ms"),
        Number("expires_at_ms"),
        Number("revoked_at_ms"),
    ],
    condition: "1 = 1",
};

/// Description and address are for people. The last use decides when the browser is signed out.
pub(crate) static BROWSERS: Table = Table {
    name: "browsers",
    key_columns: 1,
    covered: &[
        Text("caller_id"),
        Text("key_hash"),
        Text("issuer"),
        Text("subject"),
        Number("confirmed_at_ms"),
        Number("last_used_at_ms"),
    ],
    condition: "1 = 1",
};

/// A used token has no MAC any more, so that it cannot be used again.
pub(crate) static LOGIN_TOKENS: Table = Table {
    name: "login_tokens",
    key_columns: 1,
    covered: &[
        Text("hash"),
        Text("kind"),
        Text("name"),
        Text("session_id"),
        Text("caller_id"),
        Number("expires_at_ms"),
    ],
    condition: "used_at_ms IS NULL",
};

/// A used ticket has no MAC any more, so that it cannot be used again.
pub(crate) static TICKETS: Table = Table {
    name: "tickets",
    key_columns: 1,
    covered: &[Text("hash"), Text("session_id"), Text("caller_id"), Text("purpose"), Number("expires_at_ms")],
    condition: "used_at_ms IS NULL",
};

pub(crate) static CONSENTS: Table = Table {
    name: "consents",
    key_columns: 1,
    covered: &[Text("caller_id"), Number("agreed_at_ms")],
    condition: "1 = 1",
};

/// The sealed bytes and the number of their key are authenticated by the seal, which is bound to the revision. A deleted credential
/// has no MAC.
pub(crate) static CREDENTIALS: Table = Table {
    name: "credentials",
    key_columns: 1,
    covered: &[
        Text("id"),
        Text("owner"),
        Text("user_id"),
        Text("provider"),
        Text("session_id"),
        Text("method"),
        Text("files"),
        Number("stored_at_ms"),
        Text("policy"),
        Number("deliver_until_ms"),
        Text("health"),
        Text("health_detail"),
        Number("checked_at_ms"),
        Number("expires_at_ms"),
        Number("revision"),
        AddedText("account"),
    ],
    condition: "deleted_at_ms IS NULL",
};

/// The idle deadline and the last use change with every use; the deadline bounds both.
pub(crate) static SESSIONS: Table = Table {
    name: "sessions",
    key_columns: 1,
    covered: &[
        Text("id"),
        Text("caller_id"),
        Text("user_id"),
        Text("provider"),
        Text("return_url"),
        Text("idempotency_key"),
        Text("request_hash"),
        Text("state"),
        Text("reason_code"),
        Text("reason_detail"),
        Number("epoch"),
        Number("generation"),
        Text("machine_id"),
        Text("agent_token_hash"),
        Number("claimed_generation"),
        Number("cli_started"),
        Number("created_at_ms"),
        Number("deadline_ms"),
        Number("ended_at_ms"),
        Text("credential_id"),
        Text("external_machine"),
        Text("method"),
        Text("purpose"),
        Text("used_credential_id"),
        Number("used_revision"),
        Text("renewed_credential_id"),
        Number("exit_code"),
        AddedText("settings"),
        AddedText("host_id"),
        AddedNumber("host_incarnation"),
        AddedText("placement"),
    ],
    condition: "1 = 1",
};

pub(crate) static TIMELINE: Table = Table {
    name: "timeline",
    key_columns: 2,
    covered: &[Text("session_id"), Number("number"), Number("at_ms"), Text("kind"), Text("sentence"), Text("data")],
    condition: "1 = 1",
};

/// The number of entries of each timeline.
pub(crate) static TIMELINE_HEADS: Table = Table {
    name: "timeline_heads",
    key_columns: 1,
    covered: &[Text("session_id"), Number("entries")],
    condition: "1 = 1",
};

/// Heartbeats and what a host reports with them are its own word; they change all the time and only move work between hosts.
pub(crate) static HOSTS: Table = Table {
    name: "hosts",
    key_columns: 1,
    covered: &[
        Text("id"),
        Text("name"),
        Number("incarnation"),
        Number("fenced"),
        Number("fenced_at_ms"),
        Text("fenced_by"),
        Number("draining"),
        Text("zone"),
        Text("labels"),
        Text("certificate"),
        Number("joined_at_ms"),
        Number("left_at_ms"),
    ],
    condition: "1 = 1",
};

/// The table whose rows got MACs later than the others.
pub(crate) static SESSIONS_ONLY: [&Table; 1] = [&SESSIONS];

/// All tables whose rows have MACs.
pub(crate) static ALL: [&Table; 10] = [
    &CALLERS,
    &BROWSERS,
    &LOGIN_TOKENS,
    &TICKETS,
    &CONSENTS,
    &CREDENTIALS,
    &SESSIONS,
    &TIMELINE,
    &TIMELINE_HEADS,
    &HOSTS,
];

impl Column {
    fn name(self) -> &'static str {
        match self {
            Text(name) | Number(name) | AddedText(name) | AddedNumber(name) => name,
        }
    }
}

impl Table {
    /// `SELECT` of the covered columns and the MAC.
    pub(crate) fn select(&self, rest: &str) -> String {
        let columns: Vec<_> = self.covered.iter().map(|column| column.name()).collect();
        format!("SELECT {}, mac FROM {} {rest}", columns.join(", "), self.name)
    }

    /// SQL for the row with the key in the first parameters.
    fn where_key(&self) -> String {
        let is = |(number, column): (usize, &Column)| format!("{} = ${}", column.name(), number + 1);
        let keys: Vec<_> = self.covered.iter().take(self.key_columns).enumerate().map(is).collect();
        format!("WHERE {}", keys.join(" AND "))
    }

    /// SQL for the rows after the key in the first parameters, in the order of keys.
    pub(crate) fn where_after(&self, limit: u32) -> String {
        let keys: Vec<_> = self.covered.iter().take(self.key_columns).map(|column| column.name()).collect();
        let parameters = if self.key_columns == 1 { "$1" } else { "$1, $2" };
        let keys = keys.join(", ");
        format!("WHERE ({keys}) > ({parameters}) AND {} ORDER BY {keys} LIMIT {limit}", self.condition)
    }

    /// The covered content of a row, and its MAC.
    pub(crate) fn content_of(&self, row: &AnyRow) -> Result<(RowContent, Option<String>), StoreError> {
        let read = |source| StoreError::CorruptRow {
            table: self.name,
            row: self.key_of(row),
            // The text of sqlx names types, not values.
            why: format!("{source}"),
        };
        let mut content = RowContent::new(self.name);
        for column in self.covered {
            content = match column {
                Text(name) => content.text(row.try_get::<Option<String>, _>(*name).map_err(read)?.as_deref()),
                Number(name) => content.number(row.try_get::<Option<i64>, _>(*name).map_err(read)?),
                AddedText(name) => match row.try_get::<Option<String>, _>(*name).map_err(read)? {
                    Some(text) => content.text(Some(name)).text(Some(&text)),
                    None => content,
                },
                AddedNumber(name) => match row.try_get::<Option<i64>, _>(*name).map_err(read)? {
                    Some(number) => content.text(Some(name)).number(Some(number)),
                    None => content,
                },
            };
        }
        Ok((content, row.try_get("mac").map_err(read)?))
    }

    /// The key of a row, for people.
    pub(crate) fn key_of(&self, row: &AnyRow) -> String {
        match self.key_parts(row) {
            (text, None) => text,
            (text, Some(number)) => format!("{text} {number}"),
        }
    }

    /// The key of a row.
    pub(crate) fn key_parts(&self, row: &AnyRow) -> (String, Option<i64>) {
        let text = self.covered.first().and_then(|column| row.try_get::<String, _>(column.name()).ok());
        let number = match self.covered.get(1) {
            Some(column) if self.key_columns == 2 => row.try_get(column.name()).ok(),
            Some(_) | None => None,
        };
        (text.unwrap_or_default(), number)
    }

    /// The number in a key, for tables whose keys have one.
    pub(crate) fn number_of_key(&self, number: Option<i64>) -> Option<i64> {
        (self.key_columns == 2).then_some(number.unwrap_or(0))
    }

    /// Reads the covered columns and the MAC of a row.
    pub(crate) async fn fetch(&self, connection: &mut Connection, key: Key<'_>) -> Result<Option<AnyRow>, StoreError> {
        let text = self.select(&self.where_key());
        let query = sqlx::query(AssertSqlSafe(text)).bind(key.text);
        let query = key.number.into_iter().fold(query, |query, number| query.bind(number));
        query.fetch_optional(connection).await.map_err(query_error("read a row with its MAC"))
    }

    /// Writes the MAC of this row.
    pub(crate) async fn write_mac(
        &self,
        connection: &mut Connection,
        row: &AnyRow,
        mac: &str,
    ) -> Result<(), StoreError> {
        let (text, number) = self.key_parts(row);
        let parameter = self.key_columns + 1;
        let update = format!("UPDATE {} SET mac = ${parameter} {}", self.name, self.where_key());
        let query = sqlx::query(AssertSqlSafe(update)).bind(text);
        let query = number.into_iter().fold(query, |query, number| query.bind(number));
        query.bind(mac.to_owned()).execute(connection).await.map_err(query_error("write the MAC of a row"))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Store, StoreSettings};
    use std::collections::BTreeSet;

    /// A new column is covered, or listed here with the reason.
    #[tokio::test]
    async fn every_column_of_a_covered_table_is_covered_or_has_a_reason() {
        const NOT_COVERED: &[(&str, &str)] = &[
            ("callers last_used_at_ms", "decides nothing"),
            ("browsers description", "for people"),
            ("browsers address", "for people"),
            ("login_tokens used_at_ms", "a used one has no MAC"),
            ("tickets used_at_ms", "a used one has no MAC"),
            ("credentials sealed", "authenticated by the seal"),
            ("credentials key_id", "authenticated by the seal"),
            ("sessions last_used_at_ms", "bounded by the deadline"),
            ("sessions idle_deadline_ms", "bounded by the deadline"),
            ("credentials deleted_at_ms", "a deleted one has no MAC"),
            ("hosts heartbeat_at_ms", "delays a fence at most"),
            ("hosts heartbeats", "delays a fence at most"),
            ("hosts report", "for people"),
            ("sessions queued_at_ms", "an order only"),
            ("sessions fair_class", "an order only"),
            ("sessions fair_rank", "an order only"),
        ];
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("a.db"), StoreSettings::default()).await.unwrap();
        let mut found = BTreeSet::new();
        for table in ALL {
            let rows = sqlx::query("SELECT name FROM pragma_table_info($1)").bind(table.name);
            for row in rows.fetch_all(store.read_pool()).await.unwrap() {
                let column: String = row.try_get("name").unwrap();
                if column != "mac" && !table.covered.iter().any(|covered| covered.name() == column) {
                    found.insert(format!("{} {column}", table.name));
                }
            }
        }
        let listed = NOT_COVERED.iter().map(|(column, _)| (*column).to_owned()).collect();
        assert_eq!(found, listed);
    }
}
