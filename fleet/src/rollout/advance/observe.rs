//! Members follow what their devices prove. Nothing here forgets a failure, except when a person asks to try again.

use std::time::Duration;

use muster_protocol::message::up::BundleRef;
use muster_protocol::time::Timestamp;

use super::hindrance::exclusion;
use super::look::{Look, Row};
use crate::rollout::calendar::Hours;
use crate::rollout::reason::Code;
use crate::rollout::view::{Claim, DeviceView, Doing};
use crate::rollout::{Asked, Cause, Member, Progress, Rollout, SiteView, StagePlan, Timing};

/// A box that switched at the last moment of its permit has so long to tell before a partner of it may be permitted.
const PERMIT_GRACE: Duration = Duration::from_mins(10);

/// What one look makes of one member.
enum Step {
    Stays,
    /// It stays, and time alone may change that.
    StaysUntil(Timestamp),
    Becomes(Progress),
    /// It becomes that, and its order goes back to what it ran before.
    GoesBack(Asked, Progress),
    /// It was never told what it was asked.
    Untold,
}

impl Look<'_> {
    pub(super) fn observe(&mut self, open: usize) {
        for i in 0..self.rows.len() {
            let row = &self.rows[i];
            let Some(member) = row.member() else { continue };
            match self.step(row, member) {
                Step::Stays => {}
                Step::StaysUntil(time) => self.look_at(time),
                Step::Becomes(Progress::Waiting) => self.wait_again(i, open),
                Step::Becomes(progress) => self.rows[i].become_(progress),
                Step::GoesBack(asked, progress) => {
                    self.rows[i].become_(progress);
                    self.tell_to_go_back(i, &asked);
                }
                Step::Untold => self.wait_as_before(i),
            }
        }
    }

    /// Never ahead of what has been proven: in its own stage, or in the one that is open now.
    fn wait_again(&mut self, row: usize, open: usize) {
        if let Some(member) = self.rows[row].member() {
            let Member { stage, attempts, .. } = *member;
            self.rows[row].set(Member { stage: stage.max(open), attempts, progress: Progress::Waiting });
        }
    }

    /// As if it had not been asked, unless something keeps it out by now.
    fn wait_as_before(&mut self, row: usize) {
        let Some(member) = self.rows[row].member() else { return };
        let (stage, attempts) = (member.stage, member.attempts.saturating_sub(1));
        let mut before = Member { stage, attempts, progress: Progress::Waiting };
        if let Some(cause) = exclusion(self.rollout, &self.rows[row], &before) {
            before.progress = Progress::Excluded { at: self.now, cause };
        }
        self.rows[row].set(before);
    }

    fn step(&self, row: &Row<'_>, member: &Member) -> Step {
        match &member.progress {
            Progress::Waiting => match exclusion(self.rollout, row, member) {
                Some(cause) => Step::Becomes(Progress::Excluded { at: self.now, cause }),
                None => Step::Stays,
            },
            Progress::Excluded { cause, .. } => self.excluded(row, member, cause),
            Progress::Offered { asked }
            | Progress::Ready { asked, .. }
            | Progress::Permitted { asked, .. } => {
                let Some(device) = row.device else {
                    let cause = Code::NotAMember.cause("it is no member of the fleet any more");
                    return Step::Becomes(Progress::Excluded { at: self.now, cause });
                };
                if let Some(cause) = self.withdrawn(row, member) {
                    return Step::GoesBack(asked.clone(), Progress::Excluded { at: self.now, cause });
                }
                self.asked(row, device, &member.progress, asked)
            }
            Progress::Activated { asked, at } => match row.device {
                Some(device) => self.activated(device, member, asked, *at),
                None => Step::Stays,
            },
            Progress::Baked { asked, activated, .. } => match row.device {
                Some(device) => self.left_it(device, asked, *activated).unwrap_or(Step::Stays),
                None => Step::Stays,
            },
            Progress::Failed { at, .. } => {
                let again = self.rollout.retried.is_some_and(|retried| *at < retried);
                if again && member.attempts < self.rollout.plan.attempts_max {
                    Step::Becomes(Progress::Waiting)
                } else {
                    Step::Stays
                }
            }
            // Where the order back could not be made, it is owed: said here, it would be news in every look.
            Progress::Reverted { .. } | Progress::Returning { .. } | Progress::Returned { .. } => Step::Stays,
        }
    }

    fn excluded(&self, row: &Row<'_>, member: &Member, cause: &Cause) -> Step {
        let for_good = [Code::Superseded, Code::Late].iter().any(|code| code.as_str() == cause.code);
        if for_good {
            return Step::Stays;
        }
        match exclusion(self.rollout, row, member) {
            None => Step::Becomes(Progress::Waiting),
            Some(now) if now.code == cause.code => Step::Stays,
            Some(cause) => Step::Becomes(Progress::Excluded { at: self.now, cause }),
        }
    }

    /// Why what it was offered is taken back: it left the cohort before it was permitted to switch. What is permitted may be
    /// happening, and what failed there is not forgotten for it.
    fn withdrawn(&self, row: &Row<'_>, member: &Member) -> Option<Cause> {
        let may_be = match &member.progress {
            Progress::Offered { .. } | Progress::Ready { .. } => true,
            Progress::Waiting
            | Progress::Excluded { .. }
            | Progress::Permitted { .. }
            | Progress::Activated { .. }
            | Progress::Baked { .. }
            | Progress::Failed { .. }
            | Progress::Reverted { .. }
            | Progress::Returning { .. }
            | Progress::Returned { .. } => false,
        };
        let left = [Code::LeftCohort.as_str(), Code::OptedOut.as_str()];
        exclusion(self.rollout, row, member).filter(|cause| may_be && left.contains(&cause.code.as_str()))
    }

    fn asked(&self, row: &Row<'_>, device: &DeviceView, progress: &Progress, asked: &Asked) -> Step {
        let (bundle, now) = (&self.rollout.bundle, self.now);
        let target = asked.via.as_ref().unwrap_or(bundle);
        if device.current.as_ref() == Some(bundle) {
            return Step::Becomes(Progress::Activated { asked: asked.clone(), at: now });
        }
        if let Claim::Superseded { rollout } = &device.claim
            && !row.wishes(bundle, Some(asked))
        {
            return Step::Becomes(Progress::Excluded { at: now, cause: superseded(rollout.as_str()) });
        }
        if let Some(cause) = device.doing.failure_of(target) {
            let progress = Progress::Failed { asked: asked.clone(), at: now, cause: cause.clone() };
            return Step::GoesBack(asked.clone(), progress);
        }
        if !device.online {
            let gives_up =
                device.presence_since.max(asked.at).plus(Duration::from_secs(self.rollout.plan.patience_s));
            return if now >= gives_up {
                Step::GoesBack(asked.clone(), Progress::Waiting)
            } else {
                Step::StaysUntil(gives_up)
            };
        }
        let has_it = matches!(&device.doing, Doing::Ready { bundle, .. } if bundle == target);
        match progress {
            Progress::Offered { .. } if has_it => {
                Step::Becomes(Progress::Ready { asked: asked.clone(), since: now })
            }
            Progress::Offered { .. } => self.in_time(device, asked, asked.at, |site| &site.rules.download),
            Progress::Permitted { until: Some(until), .. } if now >= until.plus(PERMIT_GRACE) => {
                Step::Becomes(if has_it {
                    Progress::Ready { asked: asked.clone(), since: now }
                } else {
                    Progress::Offered { asked: asked.clone() }
                })
            }
            // Somebody at the box, or its application, lets it wait: that is nobody's failure.
            Progress::Permitted { since, until, .. } if has_it => {
                self.waits_at_the_box(asked, *since, *until)
            }
            Progress::Permitted { since, until, .. } => {
                let step = self.in_time(device, asked, *since, |site| &site.rules.activation);
                match (step, until) {
                    (Step::StaysUntil(time), Some(until)) => {
                        Step::StaysUntil(time.min(until.plus(PERMIT_GRACE)))
                    }
                    (step, _) => step,
                }
            }
            Progress::Ready { .. }
            | Progress::Waiting
            | Progress::Excluded { .. }
            | Progress::Activated { .. }
            | Progress::Baked { .. }
            | Progress::Failed { .. }
            | Progress::Reverted { .. }
            | Progress::Returning { .. }
            | Progress::Returned { .. } => Step::Stays,
        }
    }

    /// The install deadline begins anew while the box waits, seldom enough that nothing is written at each look.
    fn waits_at_the_box(&self, asked: &Asked, since: Timestamp, until: Option<Timestamp>) -> Step {
        let renew = since.plus(Duration::from_secs(self.rollout.plan.install_deadline_s / 2).max(SECOND));
        if self.now >= renew {
            return Step::Becomes(Progress::Permitted { asked: asked.clone(), since: self.now, until });
        }
        Step::StaysUntil(until.map_or(renew, |until| renew.min(until.plus(PERMIT_GRACE))))
    }

    /// Whether it is still within its install deadline: only time counts in which it was there and its window was open.
    fn in_time(
        &self,
        device: &DeviceView,
        asked: &Asked,
        since: Timestamp,
        hours: impl Fn(&SiteView) -> &Hours,
    ) -> Step {
        if asked.via.is_some() && device.current == asked.via {
            // It is on its stepping stone and waits for us.
            return Step::Stays;
        }
        let deadline = Duration::from_secs(self.rollout.plan.install_deadline_s);
        let from = since.max(device.presence_since);
        if device.is_untold(asked, asked.via.as_ref().unwrap_or(&self.rollout.bundle)) {
            // It has failed nothing. It is asked anew so early that an order that is made late leaves it half of its time.
            let anew = from.plus((deadline / 2).max(SECOND));
            return if self.now < anew { Step::StaysUntil(anew) } else { Step::Untold };
        }
        if self.now.since(from) < deadline {
            return Step::StaysUntil(from.plus(deadline));
        }
        let open = open_between(self.rollout, self.view.sites.get(&device.site), from, self.now, hours);
        if open < deadline {
            return Step::StaysUntil(self.now.plus(deadline.saturating_sub(open).max(SECOND)));
        }
        let waited = super::span(self.rollout.plan.install_deadline_s);
        let mut sentence = format!("it was there for {waited} and did not install it");
        if let Doing::Refusing { cause } = &device.doing {
            sentence = format!("it refuses its order: {}", cause.sentence);
        }
        let cause = Code::InstallDeadline.cause(sentence);
        Step::GoesBack(asked.clone(), Progress::Failed { asked: asked.clone(), at: self.now, cause })
    }

    fn activated(&self, device: &DeviceView, member: &Member, asked: &Asked, at: Timestamp) -> Step {
        if let Some(step) = self.left_it(device, asked, at) {
            return step;
        }
        let runs_it = device.current.as_ref() == Some(&self.rollout.bundle);
        let bake = self.rollout.plan.stages.get(member.stage).map(StagePlan::bake).unwrap_or_default();
        let baked = at.plus(bake);
        if self.now < baked {
            Step::StaysUntil(baked)
        } else if runs_it && device.online {
            Step::Becomes(Progress::Baked { asked: asked.clone(), activated: at, at: self.now })
        } else {
            Step::Stays
        }
    }

    /// Leaving the bundle while we still wish it takes success back; a box that has just started again and is loading it
    /// has not left it, and neither has one that a newer rollout has taken.
    fn left_it(&self, device: &DeviceView, asked: &Asked, activated: Timestamp) -> Option<Step> {
        let bundle: &BundleRef = &self.rollout.bundle;
        if device.current.as_ref() == Some(bundle) {
            return None;
        }
        if device.wish.as_ref() != Some(bundle) {
            return match &device.claim {
                Claim::Superseded { rollout } => Some(Step::Becomes(Progress::Excluded {
                    at: self.now,
                    cause: superseded(rollout.as_str()),
                })),
                Claim::Free | Claim::Behind { .. } => None,
            };
        }
        if device.doing.is_about(bundle) {
            return None;
        }
        let told = device.doing.failure_of(bundle).cloned();
        let cause = told.unwrap_or_else(|| Code::Reverted.cause("it went back by itself"));
        let progress = Progress::Reverted { asked: asked.clone(), activated, at: self.now, cause };
        Some(Step::GoesBack(asked.clone(), progress))
    }
}

const SECOND: Duration = Duration::from_secs(1);

fn superseded(by: &str) -> Cause {
    Code::Superseded.cause(format!("{by} took it"))
}

/// How much of the time between two moments a site's windows were open.
pub(super) fn open_between(
    rollout: &Rollout,
    site: Option<&SiteView>,
    from: Timestamp,
    until: Timestamp,
    hours: impl Fn(&SiteView) -> &Hours,
) -> Duration {
    match (rollout.plan.timing, site) {
        (Timing::IgnoreWindows, _) | (Timing::AsSitesAllow, None) => until.since(from),
        (Timing::AsSitesAllow, Some(site)) => hours(site).open_between(&site.rules.zone, from, until),
    }
}
