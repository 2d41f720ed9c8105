//! Tables as a whole, with columns in the order of their names and rows in the order of their keys: two databases with the same rows
//! have the same digests, whatever wrote them.

use super::DatabaseFile;
use crate::{StoreError, error::query_error};
use futures_util::TryStreamExt;
use sha2::{Digest, Sha256};
use sqlx::{
    AssertSqlSafe, Row, TypeInfo, ValueRef,
    any::{AnyRow, AnyTypeInfoKind},
};

/// The rows of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableContents {
    /// Its name.
    pub name: String,
    /// How many.
    pub rows: u64,
    /// The digest of all of them, hexadecimal.
    pub sha256: String,
}

/// A value as it is stored.
enum Value {
    Null,
    Number(i64),
    Text(String),
    Bytes(Vec<u8>),
}

/// The columns of a table in the order of their names, and its primary key.
struct Columns {
    names: Vec<String>,
    key: Vec<String>,
}

impl DatabaseFile {
    /// The number and the digest of the rows of each table, in the order of names.
    ///
    /// # Errors
    /// A table cannot be read, or has a value that this program cannot have written.
    pub async fn tables(&mut self) -> Result<Vec<TableContents>, StoreError> {
        const TABLES: &str = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name";
        let mut tables = Vec::new();
        for row in self.fetch(TABLES, "list its tables").await? {
            let name: String = row.try_get(0).map_err(query_error("list its tables"))?;
            tables.push(self.contents_of(name).await?);
        }
        Ok(tables)
    }

    async fn contents_of(&mut self, table: String) -> Result<TableContents, StoreError> {
        let failed = query_error("read a table");
        let Columns { names, key } = self.columns_of(&table).await?;
        let text = format!("SELECT {} FROM {} ORDER BY {}", quoted(&names), quote(&table), quoted(&key));
        let mut digest = Sha256::new();
        names.iter().for_each(|name| feed(&mut digest, b'c', name.as_bytes()));
        let mut rows = 0;
        let mut stream = sqlx::query(AssertSqlSafe(text)).fetch(&mut self.connection);
        while let Some(row) = stream.try_next().await.map_err(failed)? {
            for column in 0..names.len() {
                match value(&row, column).map_err(failed)? {
                    Value::Null => feed(&mut digest, b'n', b""),
                    Value::Number(number) => feed(&mut digest, b'i', &number.to_be_bytes()),
                    Value::Text(text) => feed(&mut digest, b't', text.as_bytes()),
                    Value::Bytes(bytes) => feed(&mut digest, b'b', &bytes),
                }
            }
            rows += 1;
        }
        drop(stream);
        Ok(TableContents { name: table, rows, sha256: hex::encode(digest.finalize()) })
    }

    async fn columns_of(&mut self, table: &str) -> Result<Columns, StoreError> {
        let failed = query_error("list the columns of a table");
        let rows = sqlx::query("SELECT name, pk FROM pragma_table_info($1) ORDER BY name").bind(table.to_owned());
        let rows = rows.fetch_all(&mut self.connection).await.map_err(failed)?;
        let (mut names, mut key) = (Vec::new(), Vec::new());
        for row in &rows {
            let (name, place): (String, i64) = (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
            if place > 0 {
                key.push((place, name.clone()));
            }
            names.push(name);
        }
        key.sort();
        let key: Vec<String> = key.into_iter().map(|(_, name)| name).collect();
        Ok(Columns { key: if key.is_empty() { names.clone() } else { key }, names })
    }
}

fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| quote(name)).collect::<Vec<_>>().join(", ")
}

fn value(row: &AnyRow, column: usize) -> Result<Value, sqlx::Error> {
    let raw = row.try_get_raw(column)?;
    if raw.is_null() {
        return Ok(Value::Null);
    }
    let kind = raw.type_info().kind();
    Ok(match kind {
        AnyTypeInfoKind::Null => Value::Null,
        AnyTypeInfoKind::Text => Value::Text(row.try_get(column)?),
        AnyTypeInfoKind::Blob => Value::Bytes(row.try_get(column)?),
        AnyTypeInfoKind::SmallInt | AnyTypeInfoKind::Integer | AnyTypeInfoKind::BigInt => {
            Value::Number(row.try_get(column)?)
        }
        AnyTypeInfoKind::Bool | AnyTypeInfoKind::Real | AnyTypeInfoKind::Double => {
            let why = format!("a value of the type {}, which no table has", raw.type_info().name());
            return Err(sqlx::Error::Decode(why.into()));
        }
    })
}

/// Kind and length precede the bytes, so that no two rows are the same text.
fn feed(digest: &mut Sha256, kind: u8, bytes: &[u8]) {
    digest.update([kind]);
    digest.update((bytes.len() as u64).to_be_bytes());
    digest.update(bytes);
}
