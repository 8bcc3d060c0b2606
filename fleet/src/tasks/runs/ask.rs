//! What asks for retraining without any alarm: the owner's calendar, and labels that have come in.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_protocol::ids::ModelName;
use muster_protocol::time::Timestamp;

use super::super::{TaskError, Tasks};
use super::{Asked, Proposed, propose};
use crate::clock::Moment;
use crate::retrain::{Policy, Run, Why};
use crate::store::{LIMIT_MAX, Page, bundles, heads, meta, policies, runs};

/// Real time between two looks: labels are sums over the whole fleet, and no schedule is finer than a minute.
const EVERY: Duration = Duration::from_secs(5);
/// The newest bundles of a model, whose labels count.
const BUNDLES: u32 = 5;
/// Labels count from the model's first ones on, if it was never trained here.
const EVER: i64 = 0;

/// Looks at policies that have a calendar or wait for labels, now and then.
#[derive(Debug, Default)]
pub struct Asker {
    looked: Option<Timestamp>,
    /// Why the labels of a model were refused a run last; they ask at every look, and that is said once.
    refused: BTreeMap<ModelName, String>,
}

impl Asker {
    /// Answers when a schedule is due next.
    pub async fn look(&mut self, tasks: &Tasks) -> Result<Option<Timestamp>, TaskError> {
        let moment = tasks.clocks.moment();
        if self.looked.is_some_and(|looked| moment.at.since(looked) < EVERY && looked <= moment.at) {
            return Ok(None);
        }
        self.looked = Some(moment.at);
        let found = policies::list::<Policy>(&mut tasks.store.read().await?, &Page::first(LIMIT_MAX)).await?;
        let mut soonest: Option<Timestamp> = None;
        for (_, policy) in found {
            let next = scheduled(tasks, &policy.document, moment).await?;
            soonest = [soonest, next].into_iter().flatten().min();
            self.volume(tasks, &policy.document, moment).await?;
        }
        Ok(soonest)
    }

    async fn volume(&mut self, tasks: &Tasks, policy: &Policy, moment: Moment) -> Result<(), TaskError> {
        let Some(wanted) = policy.volume.filter(|_| policy.enabled) else { return Ok(()) };
        let (rows, labels) = news(tasks, &policy.model).await?;
        if labels < wanted {
            self.refused.remove(&policy.model);
            return Ok(());
        }
        let mut tx = tasks.store.write().await?;
        let refused_before = self.refused.get(&policy.model).map(String::as_str);
        let asked = Asked { refused_before, ..asked(policy, Why::Volume { labels }, rows) };
        match propose(&mut tx, asked, moment).await? {
            Proposed::Run { .. } => {
                self.refused.remove(&policy.model);
            }
            Proposed::Refused { cause } => {
                self.refused.insert(policy.model.clone(), cause.code);
            }
            Proposed::RefusedAsBefore => return Ok(()),
        }
        tx.commit().await?;
        Ok(())
    }
}

/// Asks if the schedule has come due since the last look; what was missed is caught up in one jump.
async fn scheduled(tasks: &Tasks, policy: &Policy, moment: Moment) -> Result<Option<Timestamp>, TaskError> {
    let Some(schedule) = &policy.schedule else { return Ok(None) };
    let key = format!("schedule.{}", policy.model);
    let cursor = meta::get(&mut tasks.store.read().await?, &key).await?;
    // A policy that is new counts from now: what was due before it was written is nobody's wish.
    let cursor: Option<Timestamp> = cursor.and_then(|cursor| cursor.parse().ok());
    let next = cursor.and_then(|cursor| schedule.next(&policy.model, cursor));
    if let (Some(_), Some(next)) = (cursor, next)
        && next > moment.world_at
    {
        return Ok(Some(next));
    }
    let rows = news(tasks, &policy.model).await?.0;
    let mut tx = tasks.store.write().await?;
    if let Some(due) = next {
        let why = Why::Schedule { due };
        let asked = asked(policy, why, rows);
        propose(&mut tx, asked, moment).await?;
    } else if cursor.is_some() {
        // The crontab names a day that never comes.
        return Ok(None);
    }
    meta::set(&mut tx, &key, &moment.world_at.to_string()).await?;
    tx.commit().await?;
    Ok(schedule.next(&policy.model, moment.world_at))
}

fn asked(policy: &Policy, why: Why, rows: u64) -> Asked<'_> {
    Asked { model: &policy.model, why, policy: Some(policy), refused_before: None, new_rows: Some(rows) }
}

/// Rows and labels since the model's last run, whole days: what is counted is kept by the day.
async fn news(tasks: &Tasks, model: &ModelName) -> Result<(u64, u64), TaskError> {
    let mut db = tasks.store.read().await?;
    let last = runs::list::<Run>(&mut db, Some(model), None, &Page::first(1)).await?;
    let since = last.first().map_or_else(|| Timestamp::from_seconds(EVER), |run| run.document.created);
    let known = bundles::list(&mut db, Some(model), &Page::first(BUNDLES)).await?;
    drop(db);
    let mut telemetry = tasks.store.read_telemetry().await?;
    let (mut rows, mut labels) = (0_u64, 0_u64);
    for bundle in known {
        let seen = heads::predictions(&mut telemetry, &bundle.sha256, since, LIMIT_MAX).await?;
        rows = seen.iter().fold(rows, |sum, (_, rows)| sum.saturating_add(*rows));
        let came = heads::labels(&mut telemetry, &bundle.sha256, since, LIMIT_MAX).await?;
        labels = came.iter().fold(labels, |sum, day| sum.saturating_add(day.n));
    }
    Ok((rows, labels))
}

/// Rows that a bundle has answered since then.
pub(crate) async fn rows_since(
    tasks: &Tasks,
    bundle: &muster_protocol::ids::Digest,
    since: Timestamp,
) -> Result<u64, TaskError> {
    let mut telemetry = tasks.store.read_telemetry().await?;
    let seen = heads::predictions(&mut telemetry, bundle, since, LIMIT_MAX).await?;
    Ok(seen.iter().fold(0, |sum, (_, rows)| sum.saturating_add(*rows)))
}
