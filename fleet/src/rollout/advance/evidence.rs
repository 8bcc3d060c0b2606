//! What the gate is shown: every exposed device, and others of the cohort that do not run the bundle, so that what happens to
//! everybody is not blamed on it.

use std::collections::{BTreeMap, BTreeSet};

use muster_protocol::ids::DeviceId;
use muster_protocol::time::Timestamp;

use super::Decision;
use super::look::{Look, Part, Row, hours};
use crate::gate::{self, Control, DeviceEvidence, Evidence, GateReport, Install, Silence, Stratum};
use crate::rollout::mark::mark;
use crate::rollout::view::DeviceView;
use crate::rollout::{Member, Progress};

/// Devices that do not run the bundle, shown to a gate.
const CONTROLS_MAX: usize = 500;
/// Of them, most from the sites of those that run it: what befalls a site befalls both.
const NEAR_MAX: usize = 400;
/// Exposed devices whose evidence a decision keeps beside its report.
pub(super) const KEPT_MAX: usize = 500;

impl Look<'_> {
    pub(super) fn judge(&mut self, open: usize) -> (Evidence, GateReport) {
        let limits = self.rollout.plan.stages.get(open).map(|plan| plan.gate.clone()).unwrap_or_default();
        let evidence = self.evidence(open);
        let report = gate::judge(&evidence, &limits, self.now);
        self.out.gate = Some(report.clone());
        (evidence, report)
    }

    /// Keeps what a transition was decided from.
    pub(super) fn decided(&mut self, evidence: &Evidence, report: &GateReport) {
        let kept = (evidence.exposed.len() <= KEPT_MAX).then(|| evidence.clone());
        self.out.decision = Some(Decision { at: self.now, report: report.clone(), evidence: kept });
    }

    fn evidence(&self, open: usize) -> Evidence {
        let exposed: Vec<_> = self
            .rows
            .iter()
            .filter_map(|row| {
                row.within(open).filter(|part| part.is_exposed())?;
                let member = row.member()?;
                let stratum = row.device.map_or_else(Stratum::unknown, DeviceView::stratum);
                Some((row.id.clone(), stratum, self.shown(row, member)))
            })
            .collect();
        if exposed.is_empty() {
            return Evidence::default();
        }
        let (controls, strata) = self.others(open, &exposed);
        Evidence { exposed, controls, strata }
    }

    fn shown(&self, row: &Row<'_>, member: &Member) -> DeviceEvidence {
        let progress = &member.progress;
        let shown = row.device.map(|device| DeviceEvidence::clone(&device.evidence)).unwrap_or_default();
        let before = progress.from().filter(|from| **from != self.rollout.bundle);
        let paired = if before.is_some() { shown.paired.or(Some(Vec::new())) } else { None };
        // Going back by itself costs the hour it happened in.
        let reverted = f64::from(u8::from(matches!(progress, Progress::Reverted { .. })));
        // Exposure is time lived with the bundle, called or not; a box that is away shows nothing.
        let lived = progress.activated().filter(|_| row.is_online()).map(|at| hours(self.now.since(at)));
        let failure = match progress {
            Progress::Failed { cause, .. } | Progress::Reverted { cause, .. } => Some(cause.code.clone()),
            Progress::Waiting
            | Progress::Excluded { .. }
            | Progress::Offered { .. }
            | Progress::Ready { .. }
            | Progress::Permitted { .. }
            | Progress::Activated { .. }
            | Progress::Baked { .. }
            | Progress::Returning { .. }
            | Progress::Returned { .. } => None,
        };
        DeviceEvidence {
            install: install(progress),
            hours: shown.hours.max(reverted).max(lived.unwrap_or(0.0)),
            failed_hours: shown.failed_hours + reverted,
            paired,
            failure,
            silence: progress.activated().map(|at| self.silence(row.device, at)).unwrap_or_default(),
            ..shown
        }
    }

    /// How long it could have been heard since `from`, and how long it has not been. Of one that a person has set apart neither
    /// is known: it may speak, and is not listened to.
    fn silence(&self, device: Option<&DeviceView>, from: Timestamp) -> Silence {
        if device.is_some_and(|device| device.quarantined) {
            return Silence::default();
        }
        let since = device.map_or(from, |device| device.presence_since.max(from));
        let is_silent = device.is_none_or(|device| !device.online);
        Silence {
            hours_at_risk: hours(self.now.since(from)),
            silent_hours: is_silent.then(|| hours(self.now.since(since))),
        }
    }

    /// Of those that do not run the bundle, some to compare with; of the open stages, the hardware classes.
    fn others(
        &self,
        open: usize,
        exposed: &[(DeviceId, Stratum, DeviceEvidence)],
    ) -> (Vec<(DeviceId, Stratum, Control)>, Vec<String>) {
        let sites = exposed.iter().filter_map(|(_, stratum, _)| stratum.site.as_ref());
        let near: BTreeSet<u64> = sites.map(|site| mark(site.as_str())).collect();
        let (mut here, mut elsewhere) = (Vec::new(), Vec::new());
        let mut classes: BTreeMap<u64, &str> = BTreeMap::new();
        for row in &self.rows {
            let (Some(device), Some(part)) = (row.device, row.part()) else { continue };
            if row.within(open).is_some_and(|part| part != Part::Excluded) {
                classes.entry(row.hardware_mark()).or_insert_with(|| device.hardware.telling());
            }
            if part.is_exposed() || row.runs_it() {
                continue;
            }
            if near.contains(&row.site_mark()) {
                here.push((row.id, device));
            } else {
                elsewhere.push((row.id, device));
            }
        }
        let here = thinned(&here, if elsewhere.is_empty() { CONTROLS_MAX } else { NEAR_MAX });
        let elsewhere = thinned(&elsewhere, CONTROLS_MAX - here.len());
        let opened = self.rollout.record().and_then(|record| record.opened).unwrap_or(self.now);
        let controls = here.into_iter().chain(elsewhere).map(|(id, device)| {
            let silence = self.silence(Some(device), opened);
            let control = Control { silence, vitals: device.evidence.vitals };
            (id.clone(), device.stratum(), control)
        });
        let mut strata: Vec<String> = classes.into_values().map(str::to_owned).collect();
        strata.sort();
        (controls.collect(), strata)
    }
}

/// At most `max` of them, taken evenly: ids are random, so every site and class keeps its share.
fn thinned<'a>(all: &[(&'a DeviceId, &'a DeviceView)], max: usize) -> Vec<(&'a DeviceId, &'a DeviceView)> {
    let step = all.len().div_ceil(max.max(1)).max(1);
    all.iter().step_by(step).take(max).copied().collect()
}

fn install(progress: &Progress) -> Install {
    match progress {
        Progress::Waiting
        | Progress::Excluded { .. }
        | Progress::Offered { .. }
        | Progress::Ready { .. }
        | Progress::Permitted { .. } => Install::Pending,
        Progress::Failed { .. } => Install::Failed,
        Progress::Activated { .. }
        | Progress::Baked { .. }
        | Progress::Reverted { .. }
        | Progress::Returning { .. }
        | Progress::Returned { .. } => Install::Succeeded,
    }
}
