//! The ways back. Rolling back: everybody who was told goes back. Aborting: who has not switched stays, who runs it keeps it.
//! Neither waits for a device that is away: its order waits for it.

use super::look::{Look, Row};
use super::{Assignment, Moment, Transition};
use crate::gate;
use crate::rollout::reason::Code;
use crate::rollout::view::DeviceView;
use crate::rollout::{Cause, Progress};
use muster_protocol::message::up::BundleRef;
use muster_protocol::trust::Consent;

/// Orders back in one look; the rest follow at once.
const GO_BACK_MAX: usize = 1000;

impl Look<'_> {
    pub(super) fn roll_back(&mut self, cause: &Cause) {
        let at = self.now;
        if self.bring_back(Progress::is_exposed) {
            self.out.transition = Some(Transition::RolledBack { at, cause: cause.clone() });
        }
    }

    pub(super) fn abort(&mut self) {
        let is_on_its_way = |progress: &Progress| {
            matches!(progress, Progress::Offered { .. } | Progress::Ready { .. } | Progress::Permitted { .. })
        };
        if self.bring_back(is_on_its_way) {
            self.out.transition = Some(Transition::Aborted { at: self.now });
        }
    }

    /// Tells those to go back whom it concerns; answers whether everybody who is there has.
    fn bring_back(&mut self, concerns: impl Fn(&Progress) -> bool) -> bool {
        let (mut told, mut left, mut returning, mut away) = (0, 0, 0, 0);
        for i in 0..self.rows.len() {
            let row = &self.rows[i];
            let Some(progress) = row.member().map(|member| &member.progress) else { continue };
            if concerns(progress) {
                if told == GO_BACK_MAX {
                    left += 1;
                    continue;
                }
                told += 1;
                self.send_back(i);
            } else if let (Progress::Returning { to, .. }, Some(device)) = (progress, row.device) {
                // Still ours: then the order back could not be made yet, and is owed.
                let is_ours = device.is_still_of(self.rollout);
                if has_returned(device, to.as_ref()) {
                    self.rows[i].become_(Progress::Returned { at: self.now });
                } else if !is_ours && device.wish != *to {
                    self.leave(i);
                }
            }
            let row = &self.rows[i];
            let Some(Progress::Returning { to, .. }) = row.member().map(|member| &member.progress) else {
                continue;
            };
            // Whoever is away finds its order when it comes; but only if that has been made.
            let is_told = row.device.is_none_or(|device| device.wish == *to);
            if row.is_online() || !is_told { returning += 1 } else { away += 1 }
        }
        if left > 0 {
            self.look_at(self.now);
        }
        if returning + left > 0 {
            let sentence = format!("{} to prove what they ran before", gate::devices(returning + left));
            self.wait(Code::Returning, sentence, returning + left);
        }
        if away > 0 {
            self.wait(Code::Offline, format!("{} away; the order waits for them", gate::devices(away)), away);
        }
        returning + left == 0
    }

    fn send_back(&mut self, i: usize) {
        let row = &self.rows[i];
        let Some(asked) = row.member().and_then(|member| member.progress.asked()).cloned() else { return };
        let to = asked.from.clone();
        if is_somebody_elses(row, &self.rollout.bundle, to.as_ref(), asked.via.as_ref()) {
            self.leave(i);
            return;
        }
        // It ran this bundle before it was asked.
        if to.as_ref() == Some(&self.rollout.bundle) {
            self.rows[i].become_(Progress::Returned { at: self.now });
            return;
        }
        let device = row.id.clone();
        self.out.assign.push(Assignment {
            device,
            bundle: to.clone(),
            permit: Moment::Now,
            consent: Consent::NotNeeded,
        });
        self.rows[i].become_(Progress::Returning { at: self.now, to });
    }

    fn leave(&mut self, i: usize) {
        let cause = Code::Superseded.cause("its order comes from elsewhere now, and is left alone");
        self.rows[i].become_(Progress::Excluded { at: self.now, cause });
    }
}

/// Whether the device's order wants neither what this rollout asked for nor what the device had before.
fn is_somebody_elses(
    row: &Row<'_>,
    bundle: &BundleRef,
    from: Option<&BundleRef>,
    via: Option<&BundleRef>,
) -> bool {
    let Some(device) = row.device else { return false };
    let wish = device.wish.as_ref();
    wish != Some(bundle) && wish != from && (via.is_none() || wish != via)
}

fn has_returned(device: &DeviceView, to: Option<&BundleRef>) -> bool {
    device.wish.as_ref() == to && device.current.as_ref() == to
}
