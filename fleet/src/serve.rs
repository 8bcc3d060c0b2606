//! The server, wired together once: every hand and deed gets what it needs, starts, and ends in the right order.
//!
//! ```text
//!   lock ─▶ store ─▶ keys ─▶ broker ─▶ link ─▶ say · ingest · deliver · tasks · upkeep ─▶ http ─▶ ready
//!   stop:   http, then everything that writes, then the broker, then the store
//! ```
//! A kill at any point is a stop too: what was committed is there, what was not was never acknowledged.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::addresses::{Addresses, DataDirError, DataLock};
use crate::admission::Admission;
use crate::blob::{BlobError, Blobs};
use crate::broker::{Broker, BrokerError, Insider};
use crate::catalogue::Catalogue;
use crate::clock::Clocks;
use crate::config::{Config, ConfigError};
use crate::deliver::Deliver;
use crate::fleet::Fleet;
use crate::ingest::Ingest;
use crate::intake::Intake;
use crate::link::{Link, LinkConfig};
use crate::mint::{self, MintError};
use crate::orders::Orders;
use crate::pki::{Pki, PkiError};
use crate::say::Say;
use crate::signer::{Signer, SignerError};
use crate::store::{Store, StoreError, devices};
use crate::tasks::{self, Tasks};

/// How often expiring signatures are looked for.
const UPKEEP: Duration = Duration::from_hours(1);
/// How long requests may take to end once we stop.
const HTTP_GRACE: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("the configuration cannot be used")]
    Config(#[from] ConfigError),
    #[error("the data folder cannot be used")]
    Data(#[from] DataDirError),
    #[error("the database cannot be used")]
    Store(#[from] StoreError),
    #[error("the blob store cannot be used")]
    Blob(#[from] BlobError),
    #[error("the online keys cannot be used")]
    Signer(#[from] SignerError),
    #[error("the certificates cannot be used")]
    Pki(#[from] PkiError),
    #[error("no secret for the broker")]
    Mint(#[from] MintError),
    #[error("the broker failed")]
    Broker(#[from] BrokerError),
    #[error("cannot listen on {address}; is the port taken? Set [http] listen to another")]
    Listen {
        address: std::net::SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("a part of the server ended by itself; see the log")]
    Ended,
}

/// Serves until `stop` is cancelled; says that it is ready when everything listens.
pub async fn run(
    config: Config,
    stop: CancellationToken,
    ready: oneshot::Sender<Arc<Fleet>>,
) -> Result<(), ServeError> {
    config.check()?;
    let _lock = DataLock::take(&config.data)?;
    let store = Store::open(&config.data).await?;
    let served = serve(config, store.clone(), stop, ready).await;
    store.close().await;
    served
}

async fn serve(
    config: Config,
    store: Store,
    stop: CancellationToken,
    ready: oneshot::Sender<Arc<Fleet>>,
) -> Result<(), ServeError> {
    let clocks = Clocks::new(config.world);
    let signer = Arc::new(Signer::open(&config.data.join("keys"))?);
    let pki = Arc::new(Pki::open(&config.data.join("pki"), &config.names, clocks.trust.now())?);
    let admission = Admission::new();
    let blobs = Blobs::open(&config.data.join("blobs"))?;
    let catalogue = Catalogue::default();
    let orders = Orders::new(signer.clone(), catalogue.clone(), clocks);
    let intake = Arc::new(Intake::new(store.clone(), blobs.clone(), signer.clone(), catalogue, clocks));
    everybody_offline(&store, clocks).await?;

    let insider = insider()?;
    let mut broker = Broker::start(config.mqtt.listen, &insider).await?;
    let http = TcpListener::bind(config.http)
        .await
        .map_err(|source| ServeError::Listen { address: config.http, source })?;
    let http_address =
        http.local_addr().map_err(|source| ServeError::Listen { address: config.http, source })?;

    let (link, publisher, incoming) = Link::new(LinkConfig { broker: broker.address(), insider });
    let ingest = Ingest::new(store.clone(), publisher.clone(), clocks);
    let counters = ingest.counters();
    let quit = stop.child_token();
    let mut parts = JoinSet::new();
    parts.spawn(link.run(quit.clone()));
    parts.spawn(Say::new(store.clone(), publisher.clone(), incoming.session).run(quit.clone()));
    parts.spawn(ingest.run(incoming.messages, quit.clone()));
    parts.spawn(Deliver::new(store.clone(), blobs.clone(), publisher).run(incoming.wants, quit.clone()));
    parts.spawn(upkeep(store.clone(), intake.clone(), orders.clone(), quit.clone()));
    let own = Tasks { store: store.clone(), blobs: blobs.clone(), orders: orders.clone(), clocks };
    parts.spawn(tasks::run(own, quit.clone()));

    let addresses = Addresses::new(http_address, broker.address());
    addresses.write(&config.data)?;
    tracing::info!(online = %signer.online_key(), order = %signer.order_key(), "name these public keys in root.json");
    tracing::info!(http = addresses.http, mqtt = addresses.mqtt, data = %config.data.display(), "the fleet server is up");
    let fleet = Arc::new(Fleet {
        store,
        blobs,
        intake,
        orders,
        signer,
        pki,
        admission,
        clocks,
        ingest: counters,
        config,
        addresses,
        stop: quit.clone(),
    });
    // Whoever started us may not care to know.
    drop(ready.send(fleet.clone()));
    let closing = quit.clone();
    let server =
        axum::serve(http, crate::http::router(fleet)).with_graceful_shutdown(closing.cancelled_owned());
    let mut server = std::pin::pin!(server.into_future());
    let ended = tokio::select! {
        // What we end ourselves ends because of this, and must not be taken for a failure.
        biased;
        () = stop.cancelled() => Ok(()),
        _ = &mut server => Err(ServeError::Ended),
        _ = parts.join_next() => Err(ServeError::Ended),
        error = broker.stopped() => return Err(error.into()),
    };
    quit.cancel();
    if ended.is_ok() && tokio::time::timeout(HTTP_GRACE, server).await.is_err() {
        tracing::warn!("some requests did not end in time and were cut off");
    }
    while parts.join_next().await.is_some() {}
    broker.shutdown().await;
    ended
}

/// A fresh secret for our own client; it never leaves the process.
fn insider() -> Result<Insider, MintError> {
    let client_id = format!("fleet-{}", hex::encode(mint::random()?));
    Ok(Insider { client_id, password: hex::encode(mint::random()?) })
}

/// A broker that has just started has no clients, whatever the database remembers.
async fn everybody_offline(store: &Store, clocks: Clocks) -> Result<(), StoreError> {
    let mut tx = store.write().await?;
    devices::all_offline(&mut tx, clocks.trust.now()).await?;
    tx.commit().await
}

/// Signs anew what would expire.
async fn upkeep(store: Store, intake: Arc<Intake>, orders: Orders, stop: CancellationToken) {
    loop {
        // The index first: orders are checked against it.
        if let Err(error) = intake.resign_due().await {
            tracing::error!(error = &error as &dyn std::error::Error, "the index could not be signed anew");
        }
        loop {
            match orders.resign_due(&store).await {
                Ok(0) => break,
                Ok(renewed) => tracing::info!(renewed, "orders were signed anew"),
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "orders could not be signed anew"
                    );
                    break;
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(UPKEEP) => {}
        }
    }
}
