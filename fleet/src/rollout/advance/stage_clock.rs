//! The stage's own clock: it stands while a freeze keeps somebody waiting, while a person has paused the rollout, and
//! while the windows of those who are waited for are closed.

use std::collections::BTreeSet;
use std::time::Duration;

use muster_protocol::ids::SiteName;
use muster_protocol::time::Timestamp;

use super::ClockChange;
use super::facts::Facts;
use super::look::{Look, Part};
use super::observe::open_between;
use crate::rollout::{Phase, StagePlan, StageRecord};

impl Look<'_> {
    /// Stops the clock when a freeze begins to keep somebody waiting, and lets it go on when none does any more.
    pub(super) fn keep_clock(&mut self, open: usize, facts: &Facts<'_>) {
        let stands = self.rollout.record().is_some_and(StageRecord::is_stopped);
        let frozen = !self.view.freezes.is_empty()
            && self.pending_sites(open).into_iter().any(|site| facts.freeze_of(site).is_some());
        self.out.clock = match (stands, frozen) {
            (false, true) => Some(ClockChange::Stops { at: self.now }),
            (true, false) => Some(ClockChange::GoesOn { at: self.now }),
            (true, true) | (false, false) => None,
        };
    }

    /// Whether the stage has used its time up; if not, when to ask again.
    pub(super) fn is_overdue(&mut self, open: usize) -> bool {
        let Some(record) = self.rollout.record() else { return false };
        let deadline = self.rollout.plan.stages.get(open).map(StagePlan::deadline).unwrap_or_default();
        let spans = record.counted(self.now);
        let counted: Duration = spans.iter().map(|&(from, until)| until.since(from)).sum();
        if counted < deadline {
            self.look_at(self.now.plus(deadline.saturating_sub(counted)));
            return false;
        }
        // Time has passed enough; but was anybody's window open?
        let sites = self.pending_sites(open);
        let open_at = |site: &SiteName| -> Duration {
            let of = |&(from, until): &(Timestamp, Timestamp)| {
                open_between(self.rollout, self.view.sites.get(site), from, until, |site| {
                    &site.rules.activation
                })
            };
            spans.iter().map(of).sum()
        };
        let mut longest = if sites.is_empty() { counted } else { Duration::ZERO };
        for site in sites {
            longest = longest.max(open_at(site));
            if longest >= deadline {
                break;
            }
        }
        if longest < deadline {
            self.look_at(self.now.plus(deadline.saturating_sub(longest).max(Duration::from_secs(1))));
        }
        longest >= deadline && matches!(self.rollout.phase, Phase::Running { .. })
    }

    /// The sites of those who are waited for.
    fn pending_sites(&self, open: usize) -> BTreeSet<&SiteName> {
        let mut sites = BTreeSet::new();
        for row in &self.rows {
            if row.within(open).is_some_and(Part::is_pending) {
                sites.extend(row.device.map(|device| &*device.site));
            }
        }
        sites
    }
}
