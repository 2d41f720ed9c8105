//! Reading the columns of a row. Values that this program cannot have written are errors that name the column, never panics.

use crate::{StoreError, UnixMs};
use sqlx::{Decode, Row, Type, any::AnyRow};
use std::{fmt::Display, str::FromStr};

/// Reads the columns of one row.
pub(crate) struct RowReader<'r> {
    row: &'r AnyRow,
    table: &'static str,
    key: String,
}

impl<'r> RowReader<'r> {
    /// Reads `row` of `table`; the column `key` names it in errors.
    pub(crate) fn new(row: &'r AnyRow, table: &'static str, key: &str) -> Self {
        let key = row.try_get::<String, _>(key).unwrap_or_else(|_| "without a key".to_owned());
        Self { row, table, key }
    }

    /// The error for this row.
    pub(crate) fn corrupt_row_error(&self, why: impl Into<String>) -> StoreError {
        StoreError::CorruptRow { table: self.table, row: self.key.clone(), why: why.into() }
    }

    fn get<T>(&self, column: &str) -> Result<T, StoreError>
    where
        T: Decode<'r, sqlx::Any> + Type<sqlx::Any>,
    {
        // The text of sqlx names types, not values.
        self.row.try_get(column).map_err(|error| self.corrupt_row_error(format!("{column}: {error}")))
    }

    pub(crate) fn text(&self, column: &str) -> Result<String, StoreError> {
        self.get(column)
    }

    pub(crate) fn text_or_null(&self, column: &str) -> Result<Option<String>, StoreError> {
        self.get(column)
    }

    pub(crate) fn bytes_or_null(&self, column: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.get(column)
    }

    /// A text that must parse as a `T`.
    pub(crate) fn parsed<T: FromStr<Err: Display>>(&self, column: &str) -> Result<T, StoreError> {
        self.text(column)?.parse().map_err(|error| self.corrupt_row_error(format!("{column}: {error}")))
    }

    /// A text that must parse as a `T`, or null.
    pub(crate) fn parsed_or_null<T: FromStr<Err: Display>>(&self, column: &str) -> Result<Option<T>, StoreError> {
        let text = self.text_or_null(column)?;
        text.map(|text| text.parse().map_err(|error| self.corrupt_row_error(format!("{column}: {error}")))).transpose()
    }

    /// A number that fits `T`.
    pub(crate) fn number<T: TryFrom<i64>>(&self, column: &str) -> Result<T, StoreError> {
        let number: i64 = self.get(column)?;
        T::try_from(number).map_err(|_| self.corrupt_row_error(format!("{column}: {number} is out of range")))
    }

    /// A number that fits `T`, or null.
    pub(crate) fn number_or_null<T: TryFrom<i64>>(&self, column: &str) -> Result<Option<T>, StoreError> {
        let number: Option<i64> = self.get(column)?;
        number
            .map(|number| {
                T::try_from(number).map_err(|_| self.corrupt_row_error(format!("{column}: {number} is out of range")))
            })
            .transpose()
    }
}

/// A time or count as a database integer; values beyond 63 bits (292 million years) are capped.
pub(crate) fn to_sql_integer(number: UnixMs) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
