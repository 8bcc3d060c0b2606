//! Raw inserts: what the database alone can do with the same bytes.

use std::path::Path;

use muster_fleet::config::PostgresUrl;
use muster_fleet::link::Inbound;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection as _, QueryBuilder};

/// Rows of one statement.
const CHUNK: usize = 500;

pub(crate) enum Raw {
    Sqlite(SqliteConnection, i64),
    Postgres(PgConnection, i64),
}

macro_rules! insert {
    ($connection:expr, $next:expr, $batch:expr) => {{
        let mut tx = $connection.begin().await.unwrap();
        for chunk in $batch.chunks(CHUNK) {
            let mut add = QueryBuilder::new("insert into raw (id, device, sequence, payload) ");
            add.push_values(chunk, |mut row, message| {
                *$next += 1;
                row.push_bind(*$next)
                    .push_bind(message.device.as_str())
                    .push_bind(*$next)
                    .push_bind(&message.payload[..]);
            });
            add.build().execute(&mut *tx).await.unwrap();
        }
        tx.commit().await.unwrap();
    }};
}

impl Raw {
    pub(crate) async fn open(dir: &Path, url: Option<&PostgresUrl>) -> Self {
        let unique = "create unique index raw_key on raw (device, sequence)";
        if let Some(url) = url {
            let mut connection = url.as_str().parse::<PgConnectOptions>().unwrap().connect().await.unwrap();
            let table = "create table raw (id bigint primary key, device text not null, sequence bigint not null, \
                         payload bytea not null)";
            sqlx::query(table).execute(&mut connection).await.unwrap();
            sqlx::query(unique).execute(&mut connection).await.unwrap();
            return Self::Postgres(connection, 0);
        }
        // As the store opens its files.
        let options = SqliteConnectOptions::new()
            .filename(dir.join("raw.db"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal);
        let mut connection = options.connect().await.unwrap();
        let table = "create table raw (id integer primary key, device text not null, sequence bigint not null, \
                     payload blob not null)";
        sqlx::query(table).execute(&mut connection).await.unwrap();
        sqlx::query(unique).execute(&mut connection).await.unwrap();
        Self::Sqlite(connection, 0)
    }

    pub(crate) async fn insert(&mut self, batch: &[Inbound]) {
        match self {
            Self::Sqlite(connection, next) => insert!(connection, next, batch),
            Self::Postgres(connection, next) => insert!(connection, next, batch),
        }
    }
}
