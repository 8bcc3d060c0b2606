//! What can go wrong with a database, with what we were doing.

use std::path::PathBuf;

use crate::config::PostgresUrl;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot open the database {}; check that the folder is writable and the disk is not full", path.display())]
    Open {
        path: PathBuf,
        #[source]
        source: sqlx::Error,
    },
    #[error(
        "cannot connect to {server}; check that it runs, and that this server's user may make tables there"
    )]
    Connect {
        server: PostgresUrl,
        #[source]
        source: sqlx::Error,
    },
    #[error("cannot bring the tables of {} up to date; it may be from a newer version", path.display())]
    Migrate {
        path: PathBuf,
        #[source]
        source: Box<sqlx::migrate::MigrateError>,
    },
    #[error("the database failed while {doing}")]
    Query {
        doing: &'static str,
        #[source]
        source: sqlx::Error,
    },
    #[error("a commit was cut off; see what became of it")]
    CutOff(#[source] tokio::task::JoinError),
    #[error("what was committed cannot be brought to the disk through {}; check the disk", path.display())]
    Persist {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the database holds a {what} that cannot be read: {reason}")]
    Corrupt { what: &'static str, reason: String },
    #[error("a {what} cannot be written down")]
    Encode {
        what: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl StoreError {
    /// Trying again later may help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Query { source, .. } => {
                let code = source.as_database_error().and_then(sqlx::error::DatabaseError::code);
                matches!(source, sqlx::Error::PoolTimedOut | sqlx::Error::Io(_))
                    || code.is_some_and(|code| passes(&code))
            }
            Self::Open { .. }
            | Self::Connect { .. }
            | Self::Migrate { .. }
            | Self::CutOff(_)
            | Self::Persist { .. }
            | Self::Corrupt { .. }
            | Self::Encode { .. } => false,
        }
    }

    pub(super) fn query(doing: &'static str) -> impl Fn(sqlx::Error) -> Self {
        move |source| Self::Query { doing, source }
    }

    pub(super) fn corrupt(what: &'static str, reason: &dyn std::fmt::Display) -> Self {
        Self::Corrupt { what, reason: reason.to_string() }
    }
}

/// SQLite is busy or locked; PostgreSQL has lost the connection, is shutting down, or asks to repeat the transaction.
fn passes(code: &str) -> bool {
    code == "5"
        || code == "6"
        || (code.len() == 5 && ["08", "40", "53", "57P"].iter().any(|class| code.starts_with(class)))
}
