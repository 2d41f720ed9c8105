//! The columns that MACs of rows cover.

use crate::row_macs::{attacked, run};
use sqlx::Row;

/// Columns whose change is not noticed by the MAC; `row_macs/tables.rs` has the reasons.
const NOT_COVERED: [&str; 14] = [
    "callers last_used_at_ms",
    "browsers description",
    "browsers address",
    "login_tokens used_at_ms",
    "tickets used_at_ms",
    "sessions last_used_at_ms",
    "sessions idle_deadline_ms",
    "sessions queued_at_ms",
    "sessions fair_class",
    "sessions fair_rank",
    "credentials sealed",
    "credentials key_id",
    "credentials deleted_at_ms",
    "mac",
];

const TABLES: [&str; 9] = [
    "callers",
    "browsers",
    "login_tokens",
    "tickets",
    "consents",
    "credentials",
    "sessions",
    "timeline",
    "timeline_heads",
];

#[tokio::test]
async fn every_column_that_decides_something_is_covered() {
    let (fixture, mut sql, _) = attacked().await;
    assert_eq!(fixture.store.check_rows().await.unwrap().tampered, 0, "{:?}", fixture.store.tampered_rows());
    let mut changed = 0;
    for table in TABLES {
        run(&mut sql, &format!("CREATE TABLE copy AS SELECT rowid AS row_number, * FROM {table}")).await;
        let columns = sqlx::query("SELECT name, type FROM pragma_table_info($1)").bind(table);
        for column in columns.fetch_all(&mut sql).await.unwrap() {
            let (name, kind): (String, String) = (column.get("name"), column.get("type"));
            if NOT_COVERED.contains(&name.as_str()) || NOT_COVERED.contains(&format!("{table} {name}").as_str()) {
                continue;
            }
            let value = if kind == "TEXT" {
                format!("COALESCE({name}, '') || 'x'")
            } else {
                format!("COALESCE({name}, 0) + 1")
            };
            let last = format!("rowid = (SELECT MAX(rowid) FROM {table})");
            assert_eq!(run(&mut sql, &format!("UPDATE {table} SET {name} = {value} WHERE {last}")).await, 1);
            let checked = fixture.store.check_rows().await.unwrap();
            assert!(checked.tampered > 0, "{table} {name}");
            let restore =
                format!("UPDATE {table} SET {name} = (SELECT {name} FROM copy WHERE row_number = {table}.rowid)");
            run(&mut sql, &restore).await;
            assert_eq!(fixture.store.check_rows().await.unwrap().tampered, 0, "{table} {name} was restored");
            changed += 1;
        }
        // A copy under another key, and a row that never had a MAC.
        for mac in ["mac", "NULL"] {
            let columns = sqlx::query("SELECT name FROM pragma_table_info($1)").bind(table);
            let columns: Vec<String> =
                columns.fetch_all(&mut sql).await.unwrap().iter().map(|row| row.get("name")).collect();
            let values: Vec<_> = columns
                .iter()
                .enumerate()
                .map(|(index, name)| match name.as_str() {
                    "mac" => mac.to_owned(),
                    // They are unique.
                    "token_hash" | "session_id" => format!("COALESCE({name}, '') || 'x'"),
                    _ if index == 0 => format!("{name} || 'x'"),
                    _ => name.clone(),
                })
                .collect();
            let insert = format!(
                "INSERT INTO {table} ({}) SELECT {} FROM {table} WHERE rowid = (SELECT MAX(rowid) FROM {table})",
                columns.join(", "),
                values.join(", ")
            );
            assert_eq!(run(&mut sql, &insert).await, 1);
            assert!(fixture.store.check_rows().await.unwrap().tampered > 0, "{table}: an inserted row");
            run(&mut sql, &format!("DELETE FROM {table} WHERE rowid NOT IN (SELECT row_number FROM copy)")).await;
        }
        run(&mut sql, "DROP TABLE copy").await;
        assert_eq!(fixture.store.check_rows().await.unwrap().tampered, 0, "{table}");
    }
    assert!(changed > 70, "{changed} columns");
}
