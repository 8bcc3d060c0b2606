//! Who is asked, and who may switch. Two phases where something must be waited for: first fetch and test, then, at the right
//! moment, switch; so that nobody is interrupted for a download.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use muster_protocol::ids::BundlePath;
use muster_protocol::message::up::BundleRef;
use muster_protocol::trust::Consent;

use super::facts::Facts;
use super::hindrance::Hindrance;
use super::look::{Look, Part, Row};
use super::{Assignment, HAND_OUT_MAX, Moment};
use crate::rollout::draw::draw;
use crate::rollout::{Asked, Member, Plan, Progress, Timing};

/// Where a row stands in the draw, and which it is.
type Drawn = Reverse<(u64, usize)>;

impl<'a> Look<'a> {
    /// What the devices' states mean for each other, once this look has observed them.
    pub(super) fn facts(&self) -> Facts<'a> {
        Facts::gather(self.rollout, self.view, self.now, &self.rows)
    }

    /// What stands in the way of each row that waits, but for what depends on who is asked before it.
    pub(super) fn reach(&self, open: usize, facts: &Facts<'a>) -> Vec<Option<Hindrance<'a>>> {
        let of =
            |row: &Row<'a>| (row.within(open) == Some(Part::Waiting)).then(|| facts.reaching(row)).flatten();
        self.rows.iter().map(of).collect()
    }

    /// Finishes what has begun before it asks more; answers what is left of the caps.
    pub(super) fn hand_out(
        &mut self,
        open: usize,
        reach: &[Option<Hindrance<'a>>],
        mut facts: Facts<'a>,
    ) -> Facts<'a> {
        let before = self.out.assign.len();
        if facts.rollout_stands().is_some() {
            return facts;
        }
        let mut begun = self.drawn(open, |_, row, part| {
            part == Part::Ready
                || part.is_exposed()
                    && row.member().is_some_and(|member| is_on_its_stone(row, &member.progress))
        });
        while let Some(Reverse((_, row))) = begun.pop() {
            if self.out.assign.len() - before >= HAND_OUT_MAX {
                break;
            }
            self.go_on(row, &mut facts);
        }
        if facts.is_full(true).is_none() {
            self.ask(open, reach, &mut facts, before);
        }
        if self.out.assign.len() - before >= HAND_OUT_MAX {
            self.look_at(self.now);
        }
        facts
    }

    fn ask(&mut self, open: usize, reach: &[Option<Hindrance<'a>>], facts: &mut Facts<'a>, before: usize) {
        let mut waiting = self.drawn(open, |i, _, part| part == Part::Waiting && reach[i].is_none());
        while let Some(Reverse((_, i))) = waiting.pop() {
            if facts.is_full(true).is_some() || self.out.assign.len() - before >= HAND_OUT_MAX {
                break;
            }
            let row = &self.rows[i];
            let (Some(device), Some(member)) = (row.device, row.member()) else { continue };
            if facts.limits(row, true).is_some() {
                continue;
            }
            // Where it is on its way back to; what it ran; or, if it has not come so far, what it was told to run.
            let bundle = &self.rollout.bundle;
            let mut ran = [&device.way_back, &device.current, &device.wish].into_iter().flatten();
            // Whoever ran the bundle before anybody asked keeps it, whatever becomes of the rollout.
            let from = ran.find(|ran| *ran != bundle).or(device.current.as_ref()).cloned();
            let attempts = member.attempts.saturating_add(1);
            self.hand(i, facts, from, attempts, true);
        }
    }

    /// Rows of the open stages that pass, first of the draw first: a heap, because caps mostly end it after a few.
    fn drawn(&self, open: usize, pass: impl Fn(usize, &Row<'a>, Part) -> bool) -> BinaryHeap<Drawn> {
        let bundle = &self.rollout.bundle.sha256;
        let rows = self.rows.iter().enumerate();
        rows.filter(|(i, row)| row.within(open).is_some_and(|part| pass(*i, row, part)))
            .map(|(i, row)| Reverse((draw(bundle, row.id), i)))
            .collect()
    }

    /// Lets a device switch that is ready, or asks one for its next version that has reached its stepping stone.
    fn go_on(&mut self, i: usize, facts: &mut Facts<'a>) {
        let row = &self.rows[i];
        let (Some(device), Some(member)) = (row.device, row.member()) else { return };
        let attempts = member.attempts;
        if is_on_its_stone(row, &member.progress) {
            let from = member.progress.asked().and_then(|asked| asked.from.clone());
            // Whoever is in flight stays so; one that waited takes a place again.
            let has_place = member.progress.is_in_flight() || facts.limits(row, false).is_none();
            if has_place && facts.reaching(row).is_none() {
                self.hand(i, facts, from, attempts, false);
            }
            return;
        }
        if facts.permitting(row).is_some() {
            return;
        }
        let Progress::Ready { asked, .. } = &member.progress else { return };
        let asked = asked.clone();
        let until = self.until(facts, row);
        let consent = facts.consent(&device.site);
        let bundle = asked.via.clone().unwrap_or_else(|| self.rollout.bundle.clone());
        self.rows[i].become_(Progress::Permitted { asked, since: self.now, until });
        facts.hand(&self.rows[i], false, false);
        self.order(i, bundle, until.map_or(Moment::Now, Moment::Until), consent);
    }

    /// Asks a device: to switch at once where nothing need be waited for, otherwise to fetch and test first.
    fn hand(&mut self, i: usize, facts: &mut Facts<'a>, from: Option<BundleRef>, attempts: u8, is_new: bool) {
        let row = &self.rows[i];
        let (Some(device), Some(member)) = (row.device, row.member()) else { return };
        let via = hop(&self.rollout.plan, device.current.as_ref());
        let consent = facts.consent(&device.site);
        let at_once = consent == Consent::NotNeeded && facts.moment(row).is_none();
        let until = self.until(facts, row);
        let was_in_flight = member.progress.is_in_flight();
        let stage = member.stage;
        let bundle = via.cloned().unwrap_or_else(|| self.rollout.bundle.clone());
        let asked = Asked { at: self.now, from, via: via.cloned() };
        let (progress, permit) = if at_once {
            let permit = until.map_or(Moment::Now, Moment::Until);
            (Progress::Permitted { asked, since: self.now, until }, permit)
        } else {
            (Progress::Offered { asked }, Moment::Hold)
        };
        self.rows[i].set(Member { stage, attempts, progress });
        facts.hand(&self.rows[i], was_in_flight, is_new);
        self.order(i, bundle, permit, consent);
    }

    fn until(&self, facts: &Facts<'a>, row: &Row<'a>) -> Option<muster_protocol::time::Timestamp> {
        match self.rollout.plan.timing {
            Timing::AsSitesAllow => row.device.and_then(|device| facts.window_end(&device.site)),
            Timing::IgnoreWindows => None,
        }
    }

    fn order(&mut self, row: usize, bundle: BundleRef, permit: Moment, consent: Consent) {
        let device = self.rows[row].id.clone();
        self.out.assign.push(Assignment { device, bundle: Some(bundle), permit, consent });
    }
}

/// Whether it runs the version on the way that it was asked for.
pub(in crate::rollout) fn is_on_its_stone(row: &Row<'_>, progress: &Progress) -> bool {
    let via = progress.asked().and_then(|asked| asked.via.as_ref());
    progress.activated().is_none()
        && !matches!(progress, Progress::Failed { .. } | Progress::Reverted { .. })
        && via.is_some_and(|via| row.device.is_some_and(|device| device.current.as_ref() == Some(via)))
}

/// The stepping stone that a device must go over first.
fn hop<'a>(plan: &'a Plan, current: Option<&BundleRef>) -> Option<&'a BundleRef> {
    if plan.stepping_stones.is_empty() {
        return None;
    }
    let stones: BTreeMap<&BundlePath, &BundleRef> =
        plan.stepping_stones.iter().map(|stone| (&stone.from, &stone.via)).collect();
    stones.get(&current?.path).copied()
}
