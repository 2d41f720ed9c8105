//! Connections on which statements run, whatever the database. All statements of this crate go through here.

use crate::{
    dialect::Dialect,
    postgres::pool::{Lease, Pool},
};
use futures_util::{StreamExt, future::BoxFuture, stream::BoxStream};
use sqlx::{
    Any, AnyPool, Either, Error, Execute, Executor, SqlStr, Transaction,
    any::{AnyQueryResult, AnyRow, AnyStatement, AnyTypeInfo},
    pool::PoolConnection,
};
use std::time::Duration;

/// A connection, or a transaction on one.
#[derive(Debug)]
pub(crate) enum Connection {
    /// A reading connection of SQLite.
    Sqlite(PoolConnection<Any>),
    /// A write transaction of SQLite.
    SqliteTransaction(Transaction<'static, Any>),
    /// A connection of PostgreSQL, with a transaction or not.
    Postgres(Lease),
}

impl Connection {
    pub(crate) fn dialect(&self) -> Dialect {
        match self {
            Self::Sqlite(_) | Self::SqliteTransaction(_) => Dialect::Sqlite,
            Self::Postgres(_) => Dialect::Postgres,
        }
    }

    /// Commits the transaction.
    pub(crate) async fn commit(self) -> Result<(), Error> {
        match self {
            Self::SqliteTransaction(transaction) => transaction.commit().await,
            Self::Postgres(lease) => lease.commit().await,
            // Each of its statements was committed.
            Self::Sqlite(_) => Ok(()),
        }
    }
}

type Rows<'e> = BoxStream<'e, Result<Either<AnyQueryResult, AnyRow>, Error>>;

impl<'c> Executor<'c> for &'c mut Connection {
    type Database = Any;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> Rows<'e>
    where
        'c: 'e,
        E: 'q + Execute<'q, Any>,
    {
        match self {
            Connection::Sqlite(connection) => (&mut **connection).fetch_many(query),
            Connection::SqliteTransaction(transaction) => (&mut **transaction).fetch_many(query),
            Connection::Postgres(lease) => lease.fetch_many(query),
        }
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<AnyRow>, Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Any>,
    {
        match self {
            Connection::Sqlite(connection) => (&mut **connection).fetch_optional(query),
            Connection::SqliteTransaction(transaction) => (&mut **transaction).fetch_optional(query),
            Connection::Postgres(lease) => Box::pin(lease.fetch_optional(query)),
        }
    }

    fn prepare_with<'e>(self, sql: SqlStr, parameters: &'e [AnyTypeInfo]) -> BoxFuture<'e, Result<AnyStatement, Error>>
    where
        'c: 'e,
    {
        match self {
            Connection::Sqlite(connection) => (&mut **connection).prepare_with(sql, parameters),
            Connection::SqliteTransaction(transaction) => (&mut **transaction).prepare_with(sql, parameters),
            Connection::Postgres(lease) => lease.connection().prepare_with(sql, parameters),
        }
    }
}

/// The connections for statements that only read.
#[derive(Debug)]
pub(crate) enum Readers {
    Sqlite(AnyPool),
    Postgres(Pool),
}

impl Readers {
    /// A connection, as soon as one is free.
    pub(crate) async fn acquire(&self) -> Result<Connection, Error> {
        Ok(match self {
            Self::Sqlite(pool) => Connection::Sqlite(pool.acquire().await?),
            Self::Postgres(pool) => Connection::Postgres(pool.acquire().await?),
        })
    }

    /// How long ago a database of PostgreSQL answered last.
    pub(crate) fn answered_ago(&self) -> Option<Duration> {
        match self {
            Self::Sqlite(_) => None,
            Self::Postgres(pool) => Some(pool.answered_ago()),
        }
    }

    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite(pool) => pool.close().await,
            Self::Postgres(pool) => pool.close().await,
        }
    }
}

impl<'p> Executor<'p> for &'p Readers {
    type Database = Any;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> Rows<'e>
    where
        'p: 'e,
        E: 'q + Execute<'q, Any>,
    {
        match self {
            Readers::Sqlite(pool) => pool.fetch_many(query),
            Readers::Postgres(pool) => {
                let rows = async move {
                    match pool.acquire().await {
                        Ok(mut lease) => lease.fetch_all_steps(query).await,
                        Err(error) => vec![Err(error)],
                    }
                };
                futures_util::stream::once(rows).flat_map(futures_util::stream::iter).boxed()
            }
        }
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<AnyRow>, Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Any>,
    {
        match self {
            Readers::Sqlite(pool) => pool.fetch_optional(query),
            Readers::Postgres(pool) => Box::pin(async move { pool.acquire().await?.fetch_optional(query).await }),
        }
    }

    fn prepare_with<'e>(self, sql: SqlStr, parameters: &'e [AnyTypeInfo]) -> BoxFuture<'e, Result<AnyStatement, Error>>
    where
        'p: 'e,
    {
        Box::pin(async move { self.acquire().await?.prepare_with(sql, parameters).await })
    }
}
