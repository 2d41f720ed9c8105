//! Copies all rows from one database to another, and compares what arrived.

use crate::{
    StoreError, TableContents,
    contents::{Contents, Kind, Table, Value, Whole, quote},
};
use futures_util::TryStreamExt;
use sqlx::{AssertSqlSafe, any::AnyArguments, query::Query};

/// The most rows, values and bytes of one statement.
const ROWS_MAX: usize = 100;
const VALUES_MAX: usize = 3_000;
const BYTES_MAX: usize = 1 << 20;

/// Copies the rows of these tables, which are empty in `to` and have the same columns. Both sides are in a transaction of the caller.
/// Returns what both have now.
///
/// # Errors
/// A table cannot be read or written, or differs after it was copied.
pub(crate) async fn copy_tables(
    from: &mut Whole<'_>,
    to: &mut Whole<'_>,
    tables: &[Table],
) -> Result<Vec<TableContents>, StoreError> {
    let mut copied = Vec::with_capacity(tables.len());
    for table in tables {
        copied.push(copy_table(from, to, table).await?);
    }
    for original in &copied {
        let Some(table) = tables.iter().find(|table| table.name == original.name) else { continue };
        if to.contents(table).await? != *original {
            return Err(StoreError::CopyDiffers { table: table.name.clone() });
        }
    }
    Ok(copied)
}

async fn copy_table(from: &mut Whole<'_>, to: &mut Whole<'_>, table: &Table) -> Result<TableContents, StoreError> {
    let failed = |source| StoreError::Table { table: table.name.clone(), operation: "copy", source };
    let mut contents = Contents::of(table);
    let rows_max = (VALUES_MAX / table.columns.len().max(1)).clamp(1, ROWS_MAX);
    let (mut batch, mut bytes) = (Vec::new(), 0);
    let mut rows = sqlx::query(AssertSqlSafe(table.select(from.dialect))).fetch(&mut *from.connection);
    while let Some(row) = rows.try_next().await.map_err(failed)? {
        let values = table.values(&row).map_err(failed)?;
        contents.add(&values);
        bytes += values.iter().map(size).sum::<usize>();
        batch.push(values);
        if batch.len() >= rows_max || bytes >= BYTES_MAX {
            insert(to, table, std::mem::take(&mut batch)).await.map_err(failed)?;
            bytes = 0;
        }
    }
    if !batch.is_empty() {
        insert(to, table, batch).await.map_err(failed)?;
    }
    Ok(contents.finish(table))
}

async fn insert(to: &mut Whole<'_>, table: &Table, rows: Vec<Vec<Value>>) -> Result<(), sqlx::Error> {
    let count = table.columns.len();
    let row = |number: usize| {
        let parameters: Vec<String> = (1..=count).map(|column| format!("${}", number * count + column)).collect();
        format!("({})", parameters.join(", "))
    };
    let places: Vec<String> = (0..rows.len()).map(row).collect();
    let text = format!("INSERT INTO {} ({}) VALUES {}", quote(&table.name), table.column_names(), places.join(", "));
    let mut query = sqlx::query(AssertSqlSafe(text));
    for values in rows {
        for (value, column) in values.into_iter().zip(&table.columns) {
            query = bind(query, value, column.kind);
        }
    }
    query.execute(&mut *to.connection).await.map(drop)
}

/// A parameter without a value needs a type, too.
fn bind<'q>(query: Query<'q, sqlx::Any, AnyArguments>, value: Value, kind: Kind) -> Query<'q, sqlx::Any, AnyArguments> {
    match (value, kind) {
        (Value::Number(number), _) => query.bind(number),
        (Value::Text(text), _) => query.bind(text),
        (Value::Bytes(bytes), _) => query.bind(bytes),
        (Value::Null, Kind::Number) => query.bind(None::<i64>),
        (Value::Null, Kind::Text) => query.bind(None::<String>),
        (Value::Null, Kind::Bytes) => query.bind(None::<Vec<u8>>),
    }
}

fn size(value: &Value) -> usize {
    match value {
        Value::Null | Value::Number(_) => 8,
        Value::Text(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
    }
}
