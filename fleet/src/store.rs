//! The database: what the fleet knows. The only place with SQL in it.
//!
//! ```text
//!   fleet.db       control plane: devices, identities, catalogue, orders, rollouts, runs, the log, the outbox     Control, ControlTx
//!   telemetry.db   reports, rollups, windows of counts, matured labels                                Telemetry, TelemetryTx
//! ```
//! Telemetry may stand in PostgreSQL instead ([`sql`]).
//!
//! One aggregate a file; functions take a connection, so that a deed that writes several of them does so at once, and
//! return domain types: a row never leaves this folder. What leaves the process with a commit goes through
//! [`outbox`]; whoever waits for news is told by [`Changes`] after the commit, never before.
//!
//! Never decides anything. The two files do not share transactions; whoever writes both makes repeats harmless.

pub mod aliases;
pub mod answers;
pub mod bad_bundles;
pub mod bundles;
pub mod captures;
pub mod certificates;
mod changes;
pub mod cohorts;
mod convert;
pub mod datasets;
pub mod devices;
mod documents;
pub mod enrolments;
mod error;
pub mod events;
pub mod forecasts;
pub mod freezes;
pub mod glances;
pub mod handbacks;
pub mod heads;
pub mod health;
pub mod identities;
pub mod incidents;
pub mod journal;
pub mod labels;
pub mod leases;
pub mod log;
pub mod logins;
pub mod mail;
pub mod meta;
pub mod notes;
mod open;
pub mod orders;
pub mod outbox;
mod page;
pub mod panes;
pub mod people;
pub mod policies;
pub mod positions;
pub mod projects;
pub mod reports;
pub mod rollouts;
pub mod rollups;
mod rows;
pub mod runs;
pub mod seats;
pub mod sessions;
pub mod shadows;
pub mod sites;
pub mod slices;
pub mod sources;
mod sql;
pub mod stats;
pub mod tags;
pub mod tokens;
pub mod triggers;
pub mod trust_files;
pub mod undelivered;
pub mod watches;
pub mod windows;

use std::ops::{Deref, DerefMut};
use std::path::Path;

use muster_protocol::ids::DeviceId;
use sqlx::{Sqlite, SqliteConnection, Transaction};
use tokio_util::task::TaskTracker;

pub use changes::{Changes, Touched, Whom};
pub use documents::{Saved, Versioned};
pub use error::StoreError;
pub use page::{LIMIT_MAX, NewestFirst, Page};

use crate::audit::Seen;
use crate::config::PostgresUrl;
use open::Database;
use sql::TelemetryDatabase;

pub type Result<T> = std::result::Result<T, StoreError>;

/// More than any box counts between two reports: so no box can make a sum overflow.
pub const COUNT_MAX: u64 = u32::MAX as u64;

/// Both databases. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    control: Database,
    telemetry: TelemetryDatabase,
    changes: Changes,
    /// Those under way; whoever began one may be gone.
    commits: TaskTracker,
}

/// A consistent view of the control plane.
#[derive(Debug)]
pub struct Control(Transaction<'static, Sqlite>);

/// A write to the control plane: all of it or, if dropped, nothing. There is one at a time.
#[derive(Debug)]
pub struct ControlTx {
    control: Control,
    changes: Changes,
    commits: TaskTracker,
    logged: Option<Seen>,
    says: bool,
    touched: Touched,
}

/// A consistent view of the telemetry.
#[derive(Debug)]
pub struct Telemetry(sql::Transaction);

/// A write to the telemetry: all of it or, if dropped, nothing. There is one at a time.
#[derive(Debug)]
pub struct TelemetryTx {
    telemetry: Telemetry,
    changes: Changes,
    commits: TaskTracker,
    touched: Touched,
}

impl Store {
    /// Opens the databases in `dir`, makes them if there are none, and brings their tables up to date.
    pub async fn open(dir: &Path) -> Result<Self> {
        Self::open_with(dir, None).await
    }

    /// As [`Self::open`], with telemetry in a PostgreSQL database if one is named.
    pub async fn open_with(dir: &Path, telemetry: Option<&PostgresUrl>) -> Result<Self> {
        let control = Database::open(&dir.join("fleet.db"), &sqlx::migrate!("migrations/control")).await?;
        let telemetry = match telemetry {
            None => TelemetryDatabase::file(&dir.join("telemetry.db")).await?,
            Some(server) => TelemetryDatabase::server(server).await?,
        };
        let store = Self { control, telemetry, changes: Changes::default(), commits: TaskTracker::new() };
        log::link_old(&store).await?;
        Ok(store)
    }

    pub async fn read(&self) -> Result<Control> {
        Ok(Control(self.control.read().await?))
    }

    pub async fn write(&self) -> Result<ControlTx> {
        let control = Control(self.control.write().await?);
        Ok(ControlTx {
            control,
            changes: self.changes.clone(),
            commits: self.commits.clone(),
            logged: None,
            says: false,
            touched: Touched::default(),
        })
    }

    pub async fn read_telemetry(&self) -> Result<Telemetry> {
        Ok(Telemetry(self.telemetry.read().await?))
    }

    pub async fn write_telemetry(&self) -> Result<TelemetryTx> {
        let telemetry = Telemetry(self.telemetry.write().await?);
        Ok(TelemetryTx {
            telemetry,
            changes: self.changes.clone(),
            commits: self.commits.clone(),
            touched: Touched::default(),
        })
    }

    /// Waits until a power cut cannot take back what was committed to the control plane. For what must not be undone once
    /// somebody was told of it; everything else is said again after a loss.
    pub async fn persist(&self) -> Result<()> {
        self.control.persist().await
    }

    /// Who is told what after each commit.
    pub fn changes(&self) -> &Changes {
        &self.changes
    }

    /// Waits for what is going on and closes the files.
    pub async fn close(&self) {
        self.commits.close();
        self.commits.wait().await;
        self.control.close().await;
        self.telemetry.close().await;
    }
}

impl ControlTx {
    pub async fn commit(self) -> Result<()> {
        let Self { control, changes, commits, logged, says, touched } = self;
        let commit = async move {
            control.0.commit().await.map_err(StoreError::query("committing to the control plane"))?;
            changes.committed(logged.map(|newest| newest.id), says, touched);
            Ok::<(), StoreError>(())
        };
        to_its_end(&commits, commit).await
    }

    /// How often an identity was written. While this stays the same, what one writer read of identities is what the next
    /// would read: writers take turns, and the server has its data to itself.
    pub fn identities_written(&self) -> u64 {
        self.changes.identities_written()
    }

    /// Entries were appended to the log, up to this one.
    fn logged(&mut self, newest: Seen) {
        self.logged = Some(newest);
    }

    /// A message is to leave with the commit.
    fn says(&mut self) {
        self.says = true;
    }

    /// What the rollout engine knows of the device may have changed.
    fn touch(&mut self, device: &DeviceId) {
        self.touched.devices.add(device);
    }

    /// What the rollout engine knows that the device has shown may have changed.
    fn shows(&mut self, device: &DeviceId) {
        self.touched.evidence.add(device);
    }

    fn touch_everybody(&mut self) {
        self.touched.devices = Whom::Anybody;
    }

    fn touch_sites(&mut self) {
        self.touched.sites = true;
    }
}

impl TelemetryTx {
    pub async fn commit(self) -> Result<()> {
        let Self { telemetry, changes, commits, touched } = self;
        let commit = async move {
            telemetry.0.commit().await.map_err(StoreError::query("committing telemetry"))?;
            changes.committed(None, false, touched);
            Ok::<(), StoreError>(())
        };
        to_its_end(&commits, commit).await
    }

    /// What the rollout engine knows that the device has shown may have changed.
    fn touch(&mut self, device: &DeviceId) {
        self.touched.evidence.add(device);
    }
}

/// A commit that has begun comes to its end, also if nobody waits for it any more: the database would end it all the same,
/// and who must hear of it would not. Nor may they be told early: what they look at before it is over is as it was.
async fn to_its_end(
    commits: &TaskTracker,
    commit: impl Future<Output = Result<()>> + Send + 'static,
) -> Result<()> {
    commits.spawn(commit).await.map_err(StoreError::CutOff)?
}

impl Control {
    fn sql(&mut self) -> &mut SqliteConnection {
        &mut self.0
    }
}

impl Telemetry {
    fn sql(&mut self) -> sql::Connection<'_> {
        self.0.connection()
    }

    fn flavour(&self) -> sql::Flavour {
        self.0.flavour()
    }
}

impl Deref for ControlTx {
    type Target = Control;

    fn deref(&self) -> &Control {
        &self.control
    }
}

impl DerefMut for ControlTx {
    fn deref_mut(&mut self) -> &mut Control {
        &mut self.control
    }
}

impl Deref for TelemetryTx {
    type Target = Telemetry;

    fn deref(&self) -> &Telemetry {
        &self.telemetry
    }
}

impl DerefMut for TelemetryTx {
    fn deref_mut(&mut self) -> &mut Telemetry {
        &mut self.telemetry
    }
}
