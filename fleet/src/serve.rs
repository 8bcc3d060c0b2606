//! The server, wired together once: every hand and deed gets what it needs, starts, and ends in the right order.
//!
//! ```text
//!   lock ─▶ store ─▶ keys ─▶ admission ─▶ broker ─▶ link ─▶ say · ingest · deliver · tasks · upkeep ─▶ door · http ─▶ ready
//!   stop:   door and http, then everything that writes, then the broker, then the store
//! ```
//! A kill at any point is a stop too: what was committed is there, what was not was never acknowledged.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::addresses::{Addresses, DataDirError, DataLock};
use crate::admission::Admission;
use crate::attendance::Attendance;
use crate::blob::{BlobError, Blobs, Remote, RemoteError};
use crate::broker::{Broker, BrokerError, Insider, hook};
use crate::catalogue::{Catalogue, CatalogueError};
use crate::clock::Clocks;
use crate::config::{BrokerUrl, Config, ConfigError};
use crate::deliver::Deliver;
use crate::door::{Door, DoorError};
use crate::fleet::Fleet;
use crate::hooks::{Sender, WebhookError};
use crate::ingest::Ingest;
use crate::intake::Intake;
use crate::link::{Link, Way};
use crate::mail::{self, MailError, Mailer};
use crate::mint::{self, MintError};
use crate::openlineage::{LineageError, Teller};
use crate::orders::Orders;
use crate::otlp::{OtlpError, Push};
use crate::pki::{Pki, PkiError};
use crate::registrar::{self, Places, Registrar, RegistrarError};
use crate::roster::Board;
use crate::say::Say;
use crate::setup::{self, SetupError};
use crate::signer::{Signer, SignerError};
use crate::smtp::{Relay, SmtpError};
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
    #[error("the datasets' store cannot be used")]
    Datasets(#[from] RemoteError),
    #[error("the online keys cannot be used")]
    Signer(#[from] SignerError),
    #[error("what was published cannot be used")]
    Catalogue(#[from] CatalogueError),
    #[error("the certificates cannot be used")]
    Pki(#[from] PkiError),
    #[error("the list of revoked certificates cannot be written")]
    Revoked(#[from] RegistrarError),
    #[error("[mqtt] ca {} cannot be read", path.display())]
    BrokerCa {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("no secret for the broker")]
    Mint(#[from] MintError),
    #[error("boxes cannot come in")]
    Door(#[from] DoorError),
    #[error("the broker failed")]
    Broker(#[from] BrokerError),
    #[error("cannot listen on {address}; is the port taken? Set [http] listen to another")]
    Listen {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("lineage events cannot be sent to the server that [lineage] names")]
    Lineage(#[from] LineageError),
    #[error("events cannot be sent to a webhook")]
    Webhook(#[from] WebhookError),
    #[error("nobody can be mailed as [mail] says")]
    Smtp(#[from] SmtpError),
    #[error("what people were told by mail cannot be read")]
    Mail(#[from] MailError),
    #[error("figures cannot be sent to the collector that [telemetry] otlp names")]
    Otlp(#[from] OtlpError),
    #[error("nobody could make the first account")]
    Setup(#[from] SetupError),
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
    let store = Store::open_with(&config.data, config.telemetry.database.as_ref()).await?;
    let served = serve(config, store.clone(), stop, ready).await;
    store.close().await;
    served
}

#[expect(clippy::too_many_lines, reason = "the parts of a server, in the order in which they begin")]
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
    let datasets = datasets(&config)?;
    let catalogue = Catalogue::default();
    refuse_offline_keys(&store, &catalogue, &signer).await?;
    let orders = Orders::new(signer.clone(), catalogue.clone(), clocks);
    let intake =
        Arc::new(Intake::new(store.clone(), blobs.clone(), signer.clone(), pki.clone(), catalogue, clocks));
    everybody_offline(&store, clocks).await?;
    admission.replace(registrar::members(&store).await?);
    registrar::write_list(&store, &pki, clocks.trust.now()).await?;

    let (mut broker, way, public) = pipe(&config, &pki, &admission).await?;
    let (http, http_address) = listen(config.http).await?;
    let door = Door::listen(config.door.listen, &pki).await?;
    let places =
        Places { door: config.door.public(&config.names, door.address().port()), mqtt: public.to_string() };
    let registrar =
        Arc::new(Registrar::new(store.clone(), pki.clone(), admission.clone(), clocks, places.clone()));

    let (link, publisher, incoming) = Link::new(way);
    let retention = config.telemetry.retention;
    let ingest = Ingest::new(store.clone(), publisher.clone(), clocks, registrar.retired(), retention);
    let counters = ingest.counters();
    let quit = stop.child_token();
    let mut parts = JoinSet::new();
    parts.spawn(link.run(quit.clone()));
    let session = incoming.session.clone();
    parts.spawn(Say::new(store.clone(), publisher.clone(), incoming.session).run(quit.clone()));
    parts.spawn(ingest.run(incoming.messages, quit.clone()));
    parts.spawn(Deliver::new(store.clone(), blobs.clone(), publisher).run(incoming.wants, quit.clone()));
    let care = Upkeep {
        store: store.clone(),
        intake: intake.clone(),
        orders: orders.clone(),
        pki: pki.clone(),
        clocks,
    };
    parts.spawn(care.run(quit.clone()));
    parts.spawn(hook::run(config.mqtt.on_crl.clone(), pki.crl_written(), quit.clone()));
    parts.spawn(registrar.clone().run(quit.clone()));
    parts.spawn(door.run(registrar.clone(), clocks.trust, quit.clone()));
    let board = Board::default();
    let own = Tasks {
        store: store.clone(),
        blobs: blobs.clone(),
        orders: orders.clone(),
        clocks,
        board: board.clone(),
    };
    parts.spawn(tasks::run(own, quit.clone()));

    let addresses = Addresses::new(http_address, &places.mqtt, &places.door);
    addresses.write(&config.data)?;
    if config.identity.is_open() {
        tracing::info!("[identity] mode is open: whoever reaches the HTTP address is the operator");
    } else {
        let url = config.identity.url.as_deref().unwrap_or(&addresses.http);
        if let Some(link) = setup::link(&store, url, clocks.trust.now()).await? {
            setup::print(&link);
        }
    }
    tracing::info!(online = %signer.online_key(), order = %signer.order_key(), "name these public keys in root.json");
    tracing::info!(http = addresses.http, door = addresses.door, mqtt = addresses.mqtt, data = %config.data.display(), "the fleet server is up");
    let relay = match &config.mail {
        None => None,
        Some(mail) => {
            let name = config.names.first().map_or("localhost", String::as_str);
            Some(Arc::new(Relay::new(mail, name)?))
        }
    };
    let fleet = Arc::new(Fleet {
        store,
        blobs,
        datasets,
        intake,
        orders,
        board,
        signer,
        pki,
        admission,
        registrar,
        clocks,
        ingest: counters,
        session,
        attendance: Attendance::default(),
        config,
        relay,
        addresses,
        stop: quit.clone(),
    });
    if let Some(collector) = &fleet.config.telemetry.otlp {
        let push = Push::new(collector.clone(), fleet.clone())?;
        parts.spawn(push.run(quit.clone()));
    }
    if let Some(teller) = Teller::new(&fleet.config.lineage, fleet.clone())? {
        parts.spawn(teller.run(quit.clone()));
    }
    for hook in &fleet.config.webhooks {
        parts.spawn(Sender::new(hook.clone(), fleet.clone())?.run(quit.clone()));
    }
    mail::forget_others(&fleet).await?;
    if let (Some(config), Some(relay)) = (&fleet.config.mail, &fleet.relay) {
        parts.spawn(Mailer::new(config.clone(), relay.clone(), fleet.clone()).run(quit.clone()));
    }
    // Whoever started us may not care to know.
    drop(ready.send(fleet.clone()));
    let closing = quit.clone();
    let router = crate::http::router(fleet).into_make_service_with_connect_info::<SocketAddr>();
    let server = axum::serve(http, router).with_graceful_shutdown(closing.cancelled_owned());
    let mut server = std::pin::pin!(server.into_future());
    let ended = tokio::select! {
        // What we end ourselves ends because of this, and must not be taken for a failure.
        biased;
        () = stop.cancelled() => Ok(()),
        _ = &mut server => Err(ServeError::Ended),
        _ = parts.join_next() => Err(ServeError::Ended),
        error = stopped(&mut broker) => return Err(error.into()),
    };
    quit.cancel();
    if ended.is_ok() && tokio::time::timeout(HTTP_GRACE, server).await.is_err() {
        tracing::warn!("some requests did not end in time and were cut off");
    }
    while parts.join_next().await.is_some() {}
    if let Some(broker) = broker {
        broker.shutdown().await;
    }
    ended
}

/// A root or targets key on this machine is a key stolen: better no server than one that keeps it. A key that the root
/// does not name is only told of, because the next root may be about to name it.
async fn refuse_offline_keys(
    store: &Store,
    catalogue: &Catalogue,
    signer: &Signer,
) -> Result<(), ServeError> {
    let Some(trusted) = catalogue.published(&mut store.read().await?).await? else { return Ok(()) };
    signer.refuse_offline(&trusted)?;
    if let Err(error) = signer.check(&trusted) {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "nothing can be signed until a root names this key"
        );
    }
    Ok(())
}

fn datasets(config: &Config) -> Result<Blobs, RemoteError> {
    let place = match &config.datasets.store {
        Some(store) => store.clone(),
        None => config.data.join("datasets").display().to_string(),
    };
    Blobs::remote(&Remote { place, options: config.datasets.options.clone() })
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ServeError> {
    let failed = |source| ServeError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let real = listener.local_addr().map_err(failed)?;
    Ok((listener, real))
}

/// The broker inside, or the way to the one elsewhere; and where boxes find it.
async fn pipe(
    config: &Config,
    pki: &Arc<Pki>,
    admission: &Admission,
) -> Result<(Option<Broker>, Way, BrokerUrl), ServeError> {
    let mqtt = &config.mqtt;
    let Some(BrokerUrl { host, port }) = mqtt.broker.clone() else {
        let insider = insider()?;
        let broker = Broker::start(mqtt.listen, &insider, pki.clone(), admission.clone()).await?;
        let public = mqtt.public(&config.names, broker.address().port());
        let way = Way::Inside { broker: broker.inside(), insider };
        return Ok((Some(broker), way, public));
    };
    let ca = match &mqtt.ca {
        None => None,
        Some(path) => Some(
            std::fs::read_to_string(path)
                .map_err(|source| ServeError::BrokerCa { path: path.clone(), source })?,
        ),
    };
    if mqtt.on_crl.is_empty() {
        tracing::warn!(
            "[mqtt] on_crl is not set: the external broker will not learn which certificates are revoked"
        );
    }
    let tls = pki.client_config(ca.as_deref())?;
    let way = Way::Outside { host, port, client_id: pki.fleet_client_name(), tls };
    Ok((None, way, mqtt.public(&config.names, port)))
}

/// Returns when the broker inside ends by itself.
async fn stopped(broker: &mut Option<Broker>) -> BrokerError {
    match broker {
        Some(broker) => broker.stopped().await,
        None => std::future::pending().await,
    }
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

/// Renews what would expire.
struct Upkeep {
    store: Store,
    intake: Arc<Intake>,
    orders: Orders,
    pki: Arc<Pki>,
    clocks: Clocks,
}

impl Upkeep {
    async fn run(self, stop: CancellationToken) {
        loop {
            // The index first: orders are checked against it.
            if let Err(error) = self.intake.resign_due().await {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the index could not be signed anew"
                );
            }
            self.orders().await;
            if let Err(error) = self.certificates() {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "certificates could not be renewed"
                );
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(UPKEEP) => {}
            }
        }
    }

    async fn orders(&self) {
        match self.orders.resign_due(&self.store).await {
            Ok(0) => {}
            Ok(renewed) => tracing::info!(renewed, "orders were signed anew"),
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "orders could not be signed anew");
            }
        }
    }

    fn certificates(&self) -> Result<(), PkiError> {
        let now = self.clocks.trust.now();
        if self.pki.renew_server(now)? {
            tracing::info!("the server's certificate was renewed");
        }
        if self.pki.renew_client(now)? {
            tracing::info!("the certificate of the fleet's own client was renewed");
        }
        for name in self.pki.retire(now)? {
            tracing::info!(name, "an authority of devices was forgotten: all that it signed has expired");
        }
        for (name, expires) in self.pki.ending(now) {
            tracing::warn!(name, %expires, "a certificate authority ends; replace it: muster-fleet ca --help");
        }
        Ok(())
    }
}
