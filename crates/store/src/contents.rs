//! Tables as a whole, with columns in the order of their names and rows in the order of their keys: two databases with the same rows
//! have the same digests, whatever wrote them, and whether they are SQLite or PostgreSQL.

use crate::{StoreError, dialect::Dialect, error::query_error};
use futures_util::TryStreamExt;
use sha2::{Digest, Sha256};
use sqlx::{
    AnyConnection, AssertSqlSafe, Row, TypeInfo, ValueRef,
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
#[derive(Debug)]
pub(crate) enum Value {
    Null,
    Number(i64),
    Text(String),
    Bytes(Vec<u8>),
}

/// The type of a column; no table has another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Number,
    Text,
    Bytes,
}

/// A column of a table.
#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// Its place in the primary key, from 1; 0: it is no part of it.
    key_place: i64,
}

/// A table: its columns in the order of their names.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) columns: Vec<Column>,
}

/// A database as a whole.
pub(crate) struct Whole<'c> {
    pub(crate) connection: &'c mut AnyConnection,
    pub(crate) dialect: Dialect,
}

/// The tables of a file, in the order of their names.
pub(crate) async fn tables_of_file(connection: &mut AnyConnection) -> Result<Vec<Table>, StoreError> {
    const TABLES: &str =
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name";
    let failed = query_error("list its tables");
    let mut tables = Vec::new();
    for row in sqlx::query(TABLES).fetch_all(&mut *connection).await.map_err(failed)? {
        let name: String = row.try_get(0).map_err(failed)?;
        let columns = sqlx::query("SELECT name, type, pk FROM pragma_table_info($1) ORDER BY name").bind(name.clone());
        let columns = columns.fetch_all(&mut *connection).await.map_err(failed)?;
        let columns = columns.iter().map(column).collect::<Result<_, _>>().map_err(failed)?;
        tables.push(Table { name, columns });
    }
    Ok(tables)
}

fn column(row: &AnyRow) -> Result<Column, sqlx::Error> {
    let (name, kind): (String, String) = (row.try_get(0)?, row.try_get(1)?);
    let kind = match kind.as_str() {
        "BIGINT" => Kind::Number,
        "TEXT" => Kind::Text,
        "BYTEA" => Kind::Bytes,
        other => {
            let why = format!("the column {name} has the type {other}, which no table has");
            return Err(sqlx::Error::Decode(why.into()));
        }
    };
    Ok(Column { name, kind, key_place: row.try_get(2)? })
}

impl Table {
    /// Reads all rows in the order of their keys.
    pub(crate) fn select(&self, dialect: Dialect) -> String {
        let mut key: Vec<&Column> = self.columns.iter().filter(|column| column.key_place > 0).collect();
        key.sort_by_key(|column| column.key_place);
        if key.is_empty() {
            key = self.columns.iter().collect();
        }
        let order = |column: &&Column| {
            let byte_by_byte = if column.kind == Kind::Text { dialect.compare_bytes() } else { "" };
            quote(&column.name) + byte_by_byte
        };
        let order: Vec<String> = key.iter().map(order).collect();
        format!("SELECT {} FROM {} ORDER BY {}", self.column_names(), quote(&self.name), order.join(", "))
    }

    /// The names of its columns for a statement.
    pub(crate) fn column_names(&self) -> String {
        self.columns.iter().map(|column| quote(&column.name)).collect::<Vec<_>>().join(", ")
    }

    /// The values of a row that [`Table::select`] has read.
    pub(crate) fn values(&self, row: &AnyRow) -> Result<Vec<Value>, sqlx::Error> {
        self.columns.iter().enumerate().map(|(number, column)| value(row, number, column)).collect()
    }
}

/// The digest of a table while its rows are read.
pub(crate) struct Contents {
    digest: Sha256,
    rows: u64,
}

impl Contents {
    pub(crate) fn of(table: &Table) -> Self {
        let mut digest = Sha256::new();
        table.columns.iter().for_each(|column| feed(&mut digest, b'c', column.name.as_bytes()));
        Self { digest, rows: 0 }
    }

    pub(crate) fn add(&mut self, values: &[Value]) {
        for value in values {
            match value {
                Value::Null => feed(&mut self.digest, b'n', b""),
                Value::Number(number) => feed(&mut self.digest, b'i', &number.to_be_bytes()),
                Value::Text(text) => feed(&mut self.digest, b't', text.as_bytes()),
                Value::Bytes(bytes) => feed(&mut self.digest, b'b', bytes),
            }
        }
        self.rows += 1;
    }

    pub(crate) fn finish(self, table: &Table) -> TableContents {
        TableContents { name: table.name.clone(), rows: self.rows, sha256: hex::encode(self.digest.finalize()) }
    }
}

impl Whole<'_> {
    /// The number and the digest of the rows of a table.
    pub(crate) async fn contents(&mut self, table: &Table) -> Result<TableContents, StoreError> {
        let failed = |source| StoreError::Table { table: table.name.clone(), operation: "read", source };
        let mut contents = Contents::of(table);
        let text = table.select(self.dialect);
        let mut rows = sqlx::query(AssertSqlSafe(text)).fetch(&mut *self.connection);
        while let Some(row) = rows.try_next().await.map_err(failed)? {
            contents.add(&table.values(&row).map_err(failed)?);
        }
        Ok(contents.finish(table))
    }
}

pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn value(row: &AnyRow, number: usize, column: &Column) -> Result<Value, sqlx::Error> {
    let raw = row.try_get_raw(number)?;
    if raw.is_null() {
        return Ok(Value::Null);
    }
    let kind = raw.type_info().kind();
    match (column.kind, kind) {
        (Kind::Text, AnyTypeInfoKind::Text) => row.try_get(number).map(Value::Text),
        (Kind::Bytes, AnyTypeInfoKind::Blob) => row.try_get(number).map(Value::Bytes),
        (Kind::Number, AnyTypeInfoKind::SmallInt | AnyTypeInfoKind::Integer | AnyTypeInfoKind::BigInt) => {
            row.try_get(number).map(Value::Number)
        }
        _ => {
            let why = format!("the column {} has a value of the type {}", column.name, raw.type_info().name());
            Err(sqlx::Error::Decode(why.into()))
        }
    }
}

/// Kind and length precede the bytes, so that no two rows are the same text.
fn feed(digest: &mut Sha256, kind: u8, bytes: &[u8]) {
    digest.update([kind]);
    digest.update((bytes.len() as u64).to_be_bytes());
    digest.update(bytes);
}
