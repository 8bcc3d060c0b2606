//! Takes in what devices say: a batch is judged while the one before it is written.
//!
//! ```text
//!   broker ─▶ link ─▶ up to 500 at once ─▶ decode ─▶ judge ─▶ control commit ─▶ write ─▶ telemetry commit ─▶ acks ─▶ broker
//!                                             │        │            └ the book is brought up to date
//!                                             │        └ needs what only the telemetry knows: waits for the batch before
//!                                             └ malformed: counted, named in the log now and then
//!   every five minutes: rollups, positions ─▶ telemetry commit ─▶ what is too much or too old is dropped
//! ```
//! Batches grow with the load: what came while one was being written is the next, and nobody waits for a batch to fill.
//! Two are under way at most, one being judged and one being written, and they are written in the order they came.
//!
//! An acknowledgement is sent only after both commits. The control plane commits first; if the telemetry then fails, its
//! events and states are known already when they come again. A batch that fails takes with it the book, and what was judged
//! by that book: both batches are taken in again, one after the other.
//!
//! Only members are listened to, by the register and not by the broker: a broker may be someone else's, and its list of
//! revoked certificates late. Never trusts a device further than its own rows.

mod book;
mod decode;
mod flight;
mod keep;
mod owed;
mod take;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use muster_protocol::ids::{BootId, DeviceId};
use muster_protocol::message::{Ack, Message as _, VERSION};
use muster_protocol::topic::{Down, Topic};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::clock::{Clocks, Moment};
use crate::enrolment::StandingName;
use crate::link::{Delivery, Inbound, Outbound, Publisher, Unoffered};
use crate::rollup::Retention;
use crate::store::stats::Sums;
use crate::store::{Store, StoreError};
use book::{Book, Page};
use decode::Fact;
use flight::{Acks, Batch, Flight, Greetings, Judged, Landing, Writing};
use keep::Keeper;
use take::{Heard, Members, Taken, Windows};

const BATCH: usize = 500;
/// How often it is asked whether rollups are to be closed.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Tries of one batch before it is given up; devices then send it again.
const TRIES: u32 = 3;
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// Malformed messages, and strangers, are named in the server's log at most once in this time.
const NAMING_PAUSE: Duration = Duration::from_secs(10);

/// What went through, for `/metrics`.
#[derive(Debug, Default)]
pub struct IngestCounters {
    pub messages: AtomicU64,
    pub batches: AtomicU64,
    /// Repeats of what was committed before.
    pub duplicates: AtomicU64,
    /// Messages that came before one that is still missing.
    pub gaps: AtomicU64,
    pub malformed: AtomicU64,
    /// Messages of devices that are no members, or never said hello.
    pub strangers: AtomicU64,
    /// Reports of devices that are set apart, left on the box.
    pub held_back: AtomicU64,
    /// Panes whose bundle or streams are not known here.
    pub unfit_panes: AtomicU64,
    /// Reports that were kept.
    pub reports: AtomicU64,
    /// Messages that wait to be taken in, as of the last batch.
    pub waiting: AtomicU64,
    /// Rollups that are not written yet.
    pub open_rollups: AtomicU64,
    served: watch::Sender<Served>,
}

/// What reports told of requests, by slot and model.
type Served = BTreeMap<(String, String), Sums>;

/// Slots and models that are counted apart; what comes beyond them is counted as `other`.
const SERVED_MAX: usize = 50;

impl IngestCounters {
    /// What models answered as reports told it, by slot and model.
    pub fn served(&self) -> BTreeMap<(String, String), Sums> {
        self.served.borrow().clone()
    }

    fn serve(&self, told: Vec<((String, String), Sums)>) {
        self.served.send_modify(|served| {
            for (of, sums) in told {
                let is_apart = served.contains_key(&of) || served.len() < SERVED_MAX;
                let of = if is_apart { of } else { ("other".to_owned(), "other".to_owned()) };
                served.entry(of).or_default().merge(&sums);
            }
        });
    }
}

#[derive(Debug)]
pub struct Ingest {
    store: Store,
    publisher: Publisher,
    clocks: Clocks,
    counters: Arc<IngestCounters>,
    windows: Windows,
    /// None until the first batch, or after a failure; nothing is under way then, and it is read from the database.
    book: Option<Book>,
    heard: Heard,
    keeper: Keeper,
    flight: Flight,
    /// Told when a key was retired.
    retired: Arc<Notify>,
    malformed_named: Option<tokio::time::Instant>,
    stranger_named: Option<tokio::time::Instant>,
}

/// Whether more messages wait than are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    Light,
    Heavy,
}

/// Acknowledgements on their way out, one for each boot of a device: a newer one says all that an older one did.
type Unsaid = BTreeMap<(DeviceId, BootId), Ack>;

/// Whose positions moved, or should be told again.
type Touched = BTreeSet<(DeviceId, BootId)>;

impl Ingest {
    pub fn new(
        store: Store,
        publisher: Publisher,
        clocks: Clocks,
        retired: Arc<Notify>,
        retention: Retention,
    ) -> Self {
        Self {
            store,
            publisher,
            clocks,
            counters: Arc::new(IngestCounters::default()),
            windows: Windows::default(),
            book: None,
            heard: Heard::default(),
            keeper: Keeper::new(retention),
            flight: Flight::default(),
            retired,
            malformed_named: None,
            stranger_named: None,
        }
    }

    pub fn counters(&self) -> Arc<IngestCounters> {
        self.counters.clone()
    }

    pub async fn run(mut self, mut messages: mpsc::Receiver<Inbound>, stop: CancellationToken) {
        let mut came = Vec::with_capacity(BATCH);
        let mut unsaid = Unsaid::new();
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.acknowledge(&mut unsaid);
            let acks = tokio::select! {
                () = stop.cancelled() => break,
                () = self.publisher.room(), if !unsaid.is_empty() => continue,
                landing = self.flight.land(), if !self.flight.is_empty() => self.landed(landing).await,
                _ = look.tick() => self.keep().await,
                count = messages.recv_many(&mut came, BATCH) => {
                    if count == 0 {
                        break;
                    }
                    self.counters.waiting.store(messages.len() as u64, Ordering::Relaxed);
                    let load = if messages.is_empty() { Load::Light } else { Load::Heavy };
                    let acks = self.take_in(&came, load).await;
                    came.clear();
                    acks
                }
            };
            unsaid.extend(acks.into_iter().map(|(device, ack)| ((device, ack.boot.clone()), ack)));
        }
        let acks = self.settle().await;
        unsaid.extend(acks.into_iter().map(|(device, ack)| ((device, ack.boot.clone()), ack)));
        self.acknowledge(&mut unsaid);
    }

    /// Judges a batch while the one before is written, and sends it off once that has landed: all of it is committed, or
    /// none. Returns what may be acknowledged by now.
    pub async fn take_in(&mut self, messages: &[Inbound], load: Load) -> Vec<(DeviceId, Ack)> {
        count(&self.counters.messages, messages.len());
        count(&self.counters.batches, 1);
        let facts = messages.iter().filter_map(|inbound| self.decode(inbound)).collect();
        let mut batch = Batch { facts, load, greetings: Greetings::New };
        let judged = self.judge(&mut batch).await;
        match (self.flight.land().await, judged) {
            (Landing::Safe(acks), Ok(judged)) => {
                let counters = self.counters();
                self.flight.launch(batch, judged, counters).await;
                acks
            }
            (landing, judged) => {
                // It may have begun the transaction that is needed now.
                drop(judged);
                let mut acks = self.landed(landing).await;
                acks.extend(self.take_again(batch).await);
                acks
            }
        }
    }

    /// Waits for what is under way. Returns what may be acknowledged by now.
    pub async fn settle(&mut self) -> Vec<(DeviceId, Ack)> {
        let landing = self.flight.land().await;
        self.landed(landing).await
    }

    /// Closes rollups if it is time, and drops what is too much or too old. Returns what may be acknowledged by now.
    pub async fn keep(&mut self) -> Vec<(DeviceId, Ack)> {
        let moment = self.clocks.moment();
        let full = self.book.as_ref().is_some_and(Book::is_full);
        if !full && !self.keeper.is_due(moment) {
            return Vec::new();
        }
        let acks = self.settle().await;
        if let Err(error) = self.close(moment).await {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "rollups cannot be written; trying again"
            );
        }
        acks
    }

    async fn close(&mut self, moment: Moment) -> Result<(), StoreError> {
        let mut book = self.book().await?;
        let unfit = self.keeper.close(&self.store, &mut book, moment).await?;
        self.counters.unfit_panes.fetch_add(unfit, Ordering::Relaxed);
        self.book = Some(book);
        Ok(())
    }

    /// The memory, taken out; whoever fails with it does not put it back, and it is read anew.
    async fn book(&mut self) -> Result<Book, StoreError> {
        match self.book.take() {
            Some(book) => Ok(book),
            None => Book::open(&mut self.store.read_telemetry().await?).await,
        }
    }

    async fn landed(&mut self, landing: Landing) -> Acks {
        match landing {
            Landing::Safe(acks) => acks,
            Landing::Failed(batch) => {
                self.book = None;
                match batch {
                    Some(batch) => self.take_again(batch).await,
                    None => Acks::new(),
                }
            }
        }
    }

    /// Takes in what could not be judged or written, with nothing else under way.
    async fn take_again(&mut self, mut batch: Batch) -> Acks {
        for attempt in 1..=TRIES {
            match self.commit(&mut batch).await {
                Ok(acks) => return acks,
                Err(error) if error.is_transient() && attempt < TRIES => {
                    tokio::time::sleep(RETRY_PAUSE * attempt).await;
                }
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        messages = batch.facts.len(),
                        "cannot take messages in; devices will repeat them"
                    );
                    break;
                }
            }
        }
        Acks::new()
    }

    async fn commit(&mut self, batch: &mut Batch) -> Result<Acks, StoreError> {
        let judged = self.judge(batch).await?;
        let written = judged.write(&self.counters).await;
        if written.is_err() {
            self.book = None;
        }
        written
    }

    fn decode(&mut self, inbound: &Inbound) -> Option<(DeviceId, Fact)> {
        match Fact::decode(inbound.up, &inbound.payload) {
            Ok(fact) => Some((inbound.device.clone(), fact)),
            Err(error) => {
                count(&self.counters.malformed, 1);
                if is_time(&mut self.malformed_named) {
                    let kind = inbound.up.as_str();
                    tracing::warn!(device.id = %inbound.device, kind, error = &error as &dyn std::error::Error, "a message that cannot be read");
                }
                None
            }
        }
    }

    /// All facts in their order. What they do to the control plane is committed; the book has what they add to the telemetry,
    /// before it is written.
    async fn judge(&mut self, batch: &mut Batch) -> Result<Judged, StoreError> {
        let mut book = self.book().await?;
        let moment = self.clocks.moment();
        let mut control = self.store.write().await?;
        let mut writing = Writing::later(&self.store);
        let mut touched = Touched::new();
        let everybody: BTreeSet<&DeviceId> = batch.facts.iter().map(|(device, _)| device).collect();
        let mut members = Members::look_up(&mut control, &everybody, &mut self.heard, moment.at).await?;
        let mut page = Page::new(&book, moment.at, batch.load);
        let (mut retired, mut stranger) = (false, None);
        for (device, fact) in &batch.facts {
            let mut taker = take::Taker {
                control: &mut control,
                telemetry: &mut writing,
                counters: &self.counters,
                windows: &mut self.windows,
                heard: &self.heard,
                members: &mut members,
                book: &book,
                page: &mut page,
                greetings: batch.greetings,
                clocks: self.clocks,
                retired: &mut retired,
                moment,
            };
            match taker.take(device, fact).await? {
                Taken::Acknowledge(boot) => {
                    touched.insert((device.clone(), boot));
                }
                Taken::Silently => {}
                Taken::NotAMember(standing) => stranger = Some((device, standing)),
            }
        }
        let mut served = Vec::new();
        for ((slot, bundle), sums) in page.served() {
            let model = self.windows.model(&mut control, &bundle).await?;
            served.push(((slot.to_string(), model), sums));
        }
        let safe = page.safe(&book, &mut control, &touched).await?;
        let mut acks = Acks::with_capacity(touched.len());
        for (device, boot) in touched {
            let of_boot = safe.get(&(device.clone(), boot.clone())).copied().unwrap_or_default();
            let ack = Ack {
                v: VERSION,
                event: of_boot.event,
                state: of_boot.state,
                report: page.position(&book, &mut writing, &device, &boot).await?,
                boot,
            };
            acks.push((device, ack));
        }
        control.commit().await?;
        batch.greetings = Greetings::Known;
        self.heard.note(members, moment.at);
        if retired {
            self.retired.notify_one();
        }
        if let Some((device, standing)) = stranger
            && is_time(&mut self.stranger_named)
        {
            let state = standing.map_or("unknown", StandingName::as_str);
            tracing::warn!(device.id = %device, state, "a device that is no member speaks, and is not listened to");
        }
        let entries = page.entries(&mut book);
        book.take_over(page, moment.at);
        self.counters.open_rollups.store(book.open_rollups() as u64, Ordering::Relaxed);
        self.book = Some(book);
        Ok(Judged { writing, entries, acks, served, received: moment.at })
    }

    /// Says what there is room for. It never waits: the connection that makes room may be waiting for us to take messages
    /// in, and neither would ever go on.
    fn acknowledge(&self, unsaid: &mut Unsaid) {
        while let Some(((device, boot), ack)) = unsaid.pop_first() {
            let message = Outbound {
                topic: Topic::Down(device.clone(), Down::Ack),
                payload: Bytes::from(ack.to_json()),
                delivery: Delivery::Fleeting,
            };
            match self.publisher.offer(message) {
                Ok(()) => {}
                Err(Unoffered::Full) => {
                    unsaid.insert((device, boot), ack);
                    return;
                }
                Err(Unoffered::Closed) => {
                    tracing::debug!("acknowledgements were not sent; the devices repeat themselves");
                    unsaid.clear();
                }
            }
        }
    }
}

/// Whether what may be named now and then may be named now.
fn is_time(named: &mut Option<tokio::time::Instant>) -> bool {
    let now = tokio::time::Instant::now();
    let due = named.is_none_or(|named| now.duration_since(named) >= NAMING_PAUSE);
    if due {
        *named = Some(now);
    }
    due
}

fn count(counter: &AtomicU64, by: usize) {
    counter.fetch_add(by as u64, Ordering::Relaxed);
}
