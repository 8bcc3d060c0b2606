//! The running server as its doors see it: every hand and deed they may use, in one place.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::addresses::Addresses;
use crate::admission::Admission;
use crate::attendance::Attendance;
use crate::blob::Blobs;
use crate::clock::Clocks;
use crate::config::Config;
use crate::ingest::IngestCounters;
use crate::intake::Intake;
use crate::link::Session;
use crate::orders::Orders;
use crate::pki::Pki;
use crate::registrar::Registrar;
use crate::roster::Board;
use crate::signer::Signer;
use crate::smtp::Relay;
use crate::store::Store;

/// What the doors work with.
#[derive(Clone, Debug)]
pub struct Fleet {
    pub store: Store,
    pub blobs: Blobs,
    /// Files of datasets.
    pub datasets: Blobs,
    pub intake: Arc<Intake>,
    pub orders: Orders,
    /// Rollouts that can still change something, as the engine last saw them.
    pub board: Board,
    pub signer: Arc<Signer>,
    pub pki: Arc<Pki>,
    pub admission: Admission,
    pub registrar: Arc<Registrar>,
    pub clocks: Clocks,
    pub ingest: Arc<IngestCounters>,
    /// The present connection to the broker; nothing while there is none.
    pub session: watch::Receiver<Option<Session>>,
    /// Builders that asked for work.
    pub attendance: Attendance,
    pub config: Config,
    /// Of [mail], if anybody is mailed.
    pub relay: Option<Arc<Relay>>,
    /// Where we really listen.
    pub addresses: Addresses,
    /// Long answers, such as event streams, end when this is cancelled.
    pub stop: CancellationToken,
}

impl Fleet {
    /// Address of the dashboard for browsers, without a slash at its end.
    pub fn dashboard(&self) -> &str {
        self.config.identity.url.as_deref().unwrap_or(&self.addresses.http)
    }
}
