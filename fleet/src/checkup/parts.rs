//! The parts of the server, each asked by what it does and not by what it remembers of itself.

use std::path::Path;
use std::time::Duration;

use muster_protocol::checkup::Finding;
use muster_protocol::ids::Digest;
use muster_protocol::time::Timestamp;

use super::{chain, judge};
use crate::blob::{BlobError, Blobs};
use crate::config::MailConfig;
use crate::fleet::Fleet;
use crate::needs::book::Book;
use crate::store::{
    Control, Store, StoreError, devices, log, mail, meta, outbox, runs, slices, stats, undelivered,
};

const DATABASE: &str = "database";
const TELEMETRY: &str = "telemetry";
const DISK: &str = "disk";
const BROKER: &str = "broker";
/// How long the fleet may need to be back at its broker.
const CONNECTED_WITHIN: Duration = Duration::from_secs(2);
/// Nobody keeps anything under it: the write that tries the database is given up.
const TRIED: &str = "doctor";
const DATABASE_NEXT: &str = "look at the disk and at who owns the data folder; the server's log says more";

/// Whether the control plane takes writes.
pub(super) async fn database(fleet: &Fleet) -> Vec<Finding> {
    vec![match try_control(&fleet.store).await {
        Ok(()) => {
            Finding::ok(DATABASE, format!("{} takes writes", fleet.config.data.join("fleet.db").display()))
        }
        Err(error) => Finding::fail(DATABASE, chain(&error), DATABASE_NEXT),
    }]
}

async fn try_control(store: &Store) -> Result<(), StoreError> {
    let mut tx = store.write().await?;
    // Dropped, and so never done.
    meta::set(&mut tx, TRIED, "").await
}

/// Whether the telemetry takes writes, and how much of it there is.
pub(super) async fn telemetry(fleet: &Fleet) -> Vec<Finding> {
    let place = match &fleet.config.telemetry.database {
        Some(_) => "the PostgreSQL database that [telemetry] names".to_owned(),
        None => fleet.config.data.join("telemetry.db").display().to_string(),
    };
    if let Err(error) = try_telemetry(&fleet.store).await {
        let next = match &fleet.config.telemetry.database {
            Some(_) => "is it up, and does it let this server in? The server's log says more",
            None => DATABASE_NEXT,
        };
        return vec![Finding::fail(TELEMETRY, format!("{place}: {}", chain(&error)), next)];
    }
    let retention = fleet.config.telemetry.retention;
    let kept = async { slices::kept(&mut fleet.store.read_telemetry().await?).await };
    let kept = match kept.await {
        Ok(kept) => {
            judge::kept(&kept.into_iter().map(|kept| (kept, kept.kind.bound(&retention))).collect::<Vec<_>>())
        }
        Err(error) => Finding::fail("retention", chain(&error), DATABASE_NEXT),
    };
    vec![Finding::ok(TELEMETRY, format!("{place} takes writes")), kept]
}

async fn try_telemetry(store: &Store) -> Result<(), StoreError> {
    let mut tx = store.write_telemetry().await?;
    let summed = stats::summed(&mut tx).await?;
    // As it was, and dropped.
    stats::set_summed(&mut tx, summed).await
}

pub(super) fn disk(fleet: &Fleet) -> Finding {
    let data = &fleet.config.data;
    match fs2::available_space(data) {
        Ok(free) => {
            let next = "free some, keep less of what boxes report ([telemetry]), or move the data folder; the bounds are \
                        [disk] warn_below_mb and fail_below_mb";
            Finding::room(DISK, &format!("where {} is", data.display()), free, fleet.config.disk.room(), next)
        }
        Err(error) => {
            let says = format!("the disk of {} cannot be measured: {error}", data.display());
            Finding::fail(DISK, says, "is it mounted? Look at 'df' and at the system's log")
        }
    }
}

/// Whether the fleet itself is connected to its broker. A server that has just started, or whose broker has, gets a moment.
pub(super) async fn broker(fleet: &Fleet) -> Vec<Finding> {
    let (place, next) = match &fleet.config.mqtt.broker {
        None => {
            ("the broker in this server".to_owned(), "start the server anew; its log says why it lost it")
        }
        Some(url) => (
            url.to_string(),
            "is it running, and do its certificates fit? The server's log says what it refuses",
        ),
    };
    let mut session = fleet.session.clone();
    let connected = tokio::time::timeout(CONNECTED_WITHIN, session.wait_for(Option::is_some)).await;
    let number = connected.ok().and_then(|seen| Some(seen.ok()?.as_ref()?.number));
    vec![match number {
        Some(number) => {
            let told = &fleet.addresses.mqtt;
            Finding::ok(BROKER, format!("connected to {place} (connection {number}); boxes are told {told}"))
        }
        None => {
            Finding::fail(BROKER, format!("not connected to {place}: no box is heard or told anything"), next)
        }
    }]
}

pub(super) async fn blobs(fleet: &Fleet) -> Vec<Finding> {
    let folder = fleet.config.data.join("blobs");
    vec![reachable("blobs", &fleet.blobs, Some(&folder), &folder.display().to_string()).await]
}

pub(super) async fn datasets(fleet: &Fleet) -> Vec<Finding> {
    let folder = fleet.config.data.join("datasets");
    vec![match &fleet.config.datasets.store {
        Some(store) => reachable("datasets", &fleet.datasets, None, store).await,
        None => reachable("datasets", &fleet.datasets, Some(&folder), &folder.display().to_string()).await,
    }]
}

/// Asks for something that nobody ever stored: a store that is there says so, and one that is not says that.
async fn reachable(check: &str, blobs: &Blobs, folder: Option<&Path>, place: &str) -> Finding {
    if folder.is_some_and(|folder| !folder.is_dir()) {
        return Finding::fail(
            check,
            format!("{place} is gone"),
            "restore it from a backup, or mount it, and start the server anew",
        );
    }
    match blobs.head(&Digest::of(TRIED.as_bytes())).await {
        Ok(_) => Finding::ok(check, format!("{place} answers")),
        Err(error @ (BlobError::Store { .. } | BlobError::Open { .. })) => Finding::fail(
            check,
            format!("{place}: {}", chain(&error)),
            "is it there, and do its credentials hold? See [datasets]",
        ),
        Err(error) => Finding::fail(check, chain(&error), "the server's log says more"),
    }
}

/// What waits, and for whom.
pub(super) async fn work(fleet: &Fleet, now: Timestamp) -> Vec<Finding> {
    let asked = async { counted(fleet, &mut fleet.store.read().await?, now).await };
    asked.await.unwrap_or_else(|error: StoreError| vec![Finding::fail("work", chain(&error), DATABASE_NEXT)])
}

async fn counted(fleet: &Fleet, db: &mut Control, now: Timestamp) -> Result<Vec<Finding>, StoreError> {
    let counts = devices::presence_counts(db).await?;
    let queued =
        runs::counts(db).await?.into_iter().find(|(state, _)| state == "queued").map_or(0, |(_, n)| n);
    let mut found = vec![
        judge::outbox(outbox::waiting(db).await?),
        judge::boxes(counts.online, counts.offline),
        judge::builders(fleet.attendance.last(), queued, now),
    ];
    let newest = log::last(db).await?;
    let behind = |at: Option<String>| {
        let at = at.and_then(|text| text.parse().ok()).unwrap_or(newest);
        newest.saturating_sub(at).unsigned_abs()
    };
    for hook in &fleet.config.webhooks {
        let name = &hook.name;
        let behind = behind(meta::get(db, &meta::webhook_place(name)).await?);
        let refused = undelivered::count_of(db, name).await?;
        let next = format!(
            "muster webhook undelivered {name} says why; muster webhook retry {name} ENTRY sends it again"
        );
        found.push(judge::told(&format!("webhook.{name}"), behind, refused, &next));
    }
    for list in fleet.config.mail.iter().flat_map(MailConfig::lists) {
        let book: Book = mail::get(db, list.name()).await?.unwrap_or_default();
        let check = list.project.map_or_else(|| "mail".to_owned(), |project| format!("mail.{project}"));
        found.push(judge::mailed(&check, book.trouble(), book.refused()));
    }
    if fleet.config.lineage.url.is_some() {
        let behind = behind(meta::get(db, meta::LINEAGE_PLACE).await?);
        let next = "is the server that [lineage] url names up, and does its token hold? This server's log says what it answers";
        found.push(judge::told("lineage", behind, 0, next));
    }
    Ok(found)
}

/// Who may come in at all.
pub(super) fn access(fleet: &Fleet) -> Finding {
    let says = if fleet.config.identity.is_open() {
        "open: whoever reaches this machine's loopback is the operator"
    } else {
        "whoever asks shows who they are"
    };
    Finding::ok("access", says)
}
