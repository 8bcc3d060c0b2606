//! One SQLite file: a single writer, several readers, a write-ahead log between them.
//!
//! A single writer connection makes every writer wait its turn in our own fair queue; SQLite's busy handler would let
//! them race and starve.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Sqlite, SqlitePool, Transaction};

use super::StoreError;

const READERS: u32 = 4;
/// How long a caller queues for a connection before it is told that the database is overloaded.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(30);
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub(super) struct Database {
    writer: SqlitePool,
    readers: SqlitePool,
    /// The write-ahead log's file.
    log: PathBuf,
}

impl Database {
    pub(super) async fn open(path: &Path, migrations: &Migrator) -> Result<Self, StoreError> {
        let failed = |source| StoreError::Open { path: PathBuf::from(path), source };
        // NORMAL: a power cut may take the last commits with it but never tears the file. Devices keep what was not
        // acknowledged, and what we acknowledged and lost they show again in their next state.
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT);
        let pool = |connections: u32| {
            SqlitePoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(ACQUIRE_TIMEOUT)
                .idle_timeout(None)
                .max_lifetime(None)
        };
        let writer = pool(1).connect_with(options.clone()).await.map_err(failed)?;
        migrations
            .run(&writer)
            .await
            .map_err(|source| StoreError::Migrate { path: PathBuf::from(path), source: Box::new(source) })?;
        let readers = pool(READERS).connect_with(options.pragma("query_only", "on")).await.map_err(failed)?;
        let mut log = path.as_os_str().to_owned();
        log.push("-wal");
        Ok(Self { writer, readers, log: log.into() })
    }

    pub(super) async fn read(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        self.readers.begin().await.map_err(StoreError::query("beginning to read"))
    }

    pub(super) async fn write(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        self.writer.begin_with("begin immediate").await.map_err(StoreError::query("beginning to write"))
    }

    /// Waits until the disk has everything that was committed: all of it is in the log or was checkpointed from it. Not by
    /// a checkpoint, which a reader can hold up.
    pub(super) async fn persist(&self) -> Result<(), StoreError> {
        let path = self.log.clone();
        let synced = tokio::task::spawn_blocking(move || sync(&path));
        let failed = |source| StoreError::Persist { path: self.log.clone(), source };
        synced.await.map_err(|error| failed(error.into()))?.map_err(failed)
    }

    pub(super) async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// SQLite locks the database's file and never its log, so that closing this handle frees no lock of its.
fn sync(log: &Path) -> std::io::Result<()> {
    match File::open(log) {
        Ok(file) => file.sync_data()?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    log.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}
