//! Telemetry in either of two databases, by one text: an SQLite file, or PostgreSQL where a fleet has outgrown the file.
//!
//! Statements keep to what both understand; where they must differ, [`Flavour`] says which it is. [`on`] runs the same
//! expression on either connection, because sqlx's types name the database.
//!
//! One writer here as there: what ingest remembers between batches is true only while nobody else writes.

use std::path::Path;
use std::time::Duration;

use muster_protocol::ids::DeviceId;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{PgConnection, QueryBuilder, Sqlite, SqliteConnection};

use super::open::Database;
use super::{Result, StoreError};
use crate::config::PostgresUrl;

const READERS: u32 = 4;
/// As long as callers wait for the file.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(30);
/// A consistent view; nobody drops a table of [`super::slices`] until it ends.
const READ: &str = "begin isolation level repeatable read, read only; lock table slices in access share mode";

/// Which of the two it is, where a statement cannot be the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flavour {
    Sqlite,
    Postgres,
}

#[derive(Clone, Debug)]
pub(super) enum TelemetryDatabase {
    Sqlite(Database),
    Postgres { writer: PgPool, readers: PgPool },
}

#[derive(Debug)]
pub(super) enum Transaction {
    Sqlite(sqlx::Transaction<'static, Sqlite>),
    Postgres(sqlx::Transaction<'static, sqlx::Postgres>),
}

/// For [`on`].
#[derive(Debug)]
pub(super) enum Connection<'a> {
    Sqlite(&'a mut SqliteConnection),
    Postgres(&'a mut PgConnection),
}

/// Runs an expression on a view's connection, whichever database it is of.
macro_rules! on {
    ($db:expr, |$sql:ident| $run:expr) => {
        match $db.sql() {
            crate::store::sql::Connection::Sqlite($sql) => $run,
            crate::store::sql::Connection::Postgres($sql) => $run,
        }
    };
}
pub(super) use on;

impl TelemetryDatabase {
    pub(super) async fn file(path: &Path) -> Result<Self> {
        Database::open(path, &sqlx::migrate!("migrations/telemetry")).await.map(Self::Sqlite)
    }

    pub(super) async fn server(server: &PostgresUrl) -> Result<Self> {
        let failed = |source| StoreError::Connect { server: server.clone(), source };
        let options: PgConnectOptions = server.as_str().parse().map_err(failed)?;
        // A plan that is kept is one for the tables as they were then: of an hour that had just begun, or of an empty fleet.
        let options = options.options([("plan_cache_mode", "force_custom_plan")]);
        let pool = |connections: u32| {
            PgPoolOptions::new().max_connections(connections).acquire_timeout(ACQUIRE_TIMEOUT)
        };
        let writer = pool(1).connect_with(options.clone()).await.map_err(failed)?;
        sqlx::migrate!("migrations/telemetry-postgres").run(&writer).await.map_err(|source| {
            StoreError::Migrate { path: server.to_string().into(), source: Box::new(source) }
        })?;
        let readers = pool(READERS).connect_with(options).await.map_err(failed)?;
        Ok(Self::Postgres { writer, readers })
    }

    pub(super) async fn read(&self) -> Result<Transaction> {
        match self {
            Self::Sqlite(file) => file.read().await.map(Transaction::Sqlite),
            Self::Postgres { readers, .. } => {
                let begun = readers.begin_with(READ).await;
                begun.map(Transaction::Postgres).map_err(StoreError::query("beginning to read telemetry"))
            }
        }
    }

    pub(super) async fn write(&self) -> Result<Transaction> {
        match self {
            Self::Sqlite(file) => file.write().await.map(Transaction::Sqlite),
            Self::Postgres { writer, .. } => {
                let begun = writer.begin().await;
                begun.map(Transaction::Postgres).map_err(StoreError::query("beginning to write telemetry"))
            }
        }
    }

    pub(super) async fn close(&self) {
        match self {
            Self::Sqlite(file) => file.close().await,
            Self::Postgres { writer, readers } => {
                readers.close().await;
                writer.close().await;
            }
        }
    }
}

impl Transaction {
    pub(super) fn connection(&mut self) -> Connection<'_> {
        match self {
            Self::Sqlite(tx) => Connection::Sqlite(tx),
            Self::Postgres(tx) => Connection::Postgres(tx),
        }
    }

    pub(super) fn flavour(&self) -> Flavour {
        match self {
            Self::Sqlite(_) => Flavour::Sqlite,
            Self::Postgres(_) => Flavour::Postgres,
        }
    }

    pub(super) async fn commit(self) -> std::result::Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(tx) => tx.commit().await,
            Self::Postgres(tx) => tx.commit().await,
        }
    }
}

/// Narrows a question to these devices.
pub(super) fn among<DB>(ask: &mut QueryBuilder<DB>, devices: &[&DeviceId])
where
    DB: sqlx::Database,
    for<'a> &'a str: sqlx::Encode<'a, DB> + sqlx::Type<DB>,
{
    ask.push(" and device in (");
    let mut names = ask.separated(", ");
    for device in devices {
        names.push_bind(device.as_str());
    }
    names.push_unseparated(")");
}
