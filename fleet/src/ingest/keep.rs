//! Closes rollups and lets go of what is too much or too old. Runs between two batches: there is one writer.

use std::time::Duration;

use super::book::Book;
use crate::clock::Moment;
use crate::rollup::{Retention, Step};
use crate::store::{Store, StoreError, health, labels, reports, rollups, shadows, slices, sources, stats};

/// Reports that are still on their way when a span ends are waited for; what is later than this is added to what is there.
const GRACE: Duration = Duration::from_secs(10);
/// Sums of hours and days are bounded by months of the world's time; a look a day is enough.
const TRIM_EVERY: Duration = Duration::from_hours(24);

#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) retention: Retention,
    /// Start of the span that is open.
    span: Option<muster_protocol::time::Timestamp>,
}

impl Keeper {
    pub(super) fn new(retention: Retention) -> Self {
        Self { retention, span: None }
    }

    /// Whether a span has ended since rollups were last closed.
    pub(super) fn is_due(&self, moment: Moment) -> bool {
        self.span != Some(span(moment))
    }

    /// Everything that is open into the database, in one transaction, and then retention. Returns how many panes do not fit
    /// those before them.
    pub(super) async fn close(
        &mut self,
        store: &Store,
        book: &mut Book,
        moment: Moment,
    ) -> Result<u64, StoreError> {
        let closing = book.closing();
        let mut tx = store.write_telemetry().await?;
        rollups::add(&mut tx, closing.rollups, closing.last_id).await?;
        sources::remember(&mut tx, &closing.positions, moment.at).await?;
        reports::remember_health(&mut tx, closing.health.iter().map(|(id, health)| (*id, health))).await?;
        let unfit =
            if book.owes() { closing.owed.write(&mut tx, closing.last_id, moment.at).await? } else { 0 };
        tx.commit().await?;
        book.closed();
        self.span = Some(span(moment));
        let mut tx = store.write_telemetry().await?;
        let dropped = slices::retain(&mut tx, &self.retention, moment.at).await?;
        if slices::trim_due(&mut tx, moment.at, TRIM_EVERY).await? {
            stats::trim(&mut tx, moment.world_at).await?;
            health::trim(&mut tx, moment.world_at).await?;
            labels::trim(&mut tx, moment.world_at).await?;
            shadows::trim(&mut tx, moment.world_at).await?;
        }
        tx.commit().await?;
        if dropped > 0 {
            tracing::info!(dropped, "tables of telemetry that are too old or too much were dropped");
        }
        Ok(unfit)
    }
}

fn span(moment: Moment) -> muster_protocol::time::Timestamp {
    moment.at.minus(GRACE).floor_to(Step::FiveMinutes.span())
}
