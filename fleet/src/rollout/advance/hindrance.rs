//! What stands in a device's way, and what people are told of it. A hindrance is found as data, for each device of a fleet;
//! its sentence is written only where somebody reads it.

use muster_protocol::ids::{RolloutId, SiteName};
use muster_protocol::time::Timestamp;

use super::look::Row;
use crate::rollout::calendar::Zone;
use crate::rollout::reason::Code;
use crate::rollout::view::{Claim, OPT_OUT};
use crate::rollout::{Cause, Freeze, Lease, Member, Rollout};

/// The first thing that stands in a device's way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::rollout) enum Hindrance<'a> {
    Proposed,
    Scheduled { start: Timestamp },
    Paused { reason: &'a str },
    Held { cause: &'a Cause },
    Stopped { how: &'static str },
    SupersededRollout { by: &'a RolloutId },
    Unheard,
    Yanked,
    Revoked { reason: &'a str },
    LaterStage { own: &'a str, open: &'a str },
    Frozen { freeze: &'a Freeze },
    Offline,
    Unanswered,
    Behind { rollout: &'a RolloutId },
    Window { activation: bool, zone: &'a Zone, opens: Option<Timestamp> },
    Lease { lease: &'a Lease, site: Option<&'a SiteName>, zone: Option<&'a Zone> },
    Partner { name: &'a str, why: &'static str },
    BusyElsewhere,
    InFlight { now: usize, max: u32 },
    SiteInFlight { site: &'a SiteName, now: usize, max: u32 },
    Rate { max: u32, next: Option<Timestamp> },
    Exposure { max: f64 },
}

/// Why a device that waits, or is left out, cannot be asked until that changes.
pub(in crate::rollout) fn exclusion(rollout: &Rollout, row: &Row<'_>, member: &Member) -> Option<Cause> {
    let Some(device) = row.device else {
        return Some(Code::NotAMember.cause("it is no member of the fleet any more"));
    };
    if let Claim::Superseded { rollout } = &device.claim {
        return Some(Code::Superseded.cause(format!("{rollout} took it")));
    }
    if !rollout.plan.selector.matches(&device.traits(row.id)) {
        return Some(Code::LeftCohort.cause("it does not match the rollout's selector any more"));
    }
    if device.has(OPT_OUT) {
        let (tag, value) = OPT_OUT;
        return Some(Code::OptedOut.cause(format!("its tag {tag}={value} keeps it out of rollouts")));
    }
    if let Some(cause) = &device.unfit {
        return Some(Code::Unfit.cause(format!("it is not eligible: {}", cause.sentence)));
    }
    // Who is tried again by a person's will has failed before.
    let is_retried = rollout.retried.is_some() && member.attempts > 0;
    match &device.bad {
        Some(cause) if !is_retried => {
            Some(Code::BadListed.cause(format!("the bundle failed there before: {}", cause.sentence)))
        }
        Some(_) | None => None,
    }
}

impl Hindrance<'_> {
    pub(in crate::rollout) fn code(&self) -> Code {
        match self {
            Self::Proposed => Code::Proposed,
            Self::Scheduled { .. } => Code::Scheduled,
            Self::Paused { .. } => Code::Paused,
            Self::Held { .. } => Code::Held,
            Self::Stopped { .. } => Code::Stopped,
            Self::SupersededRollout { .. } => Code::Superseded,
            Self::Unheard => Code::Evidence,
            Self::Yanked => Code::BundleYanked,
            Self::Revoked { .. } => Code::BundleRevoked,
            Self::LaterStage { .. } => Code::LaterStage,
            Self::Frozen { .. } => Code::Frozen,
            Self::Offline => Code::Offline,
            Self::Unanswered => Code::Unanswered,
            Self::Behind { .. } => Code::Behind,
            Self::Window { activation: true, .. } => Code::ActivationWindow,
            Self::Window { activation: false, .. } => Code::DownloadWindow,
            Self::Lease { .. } => Code::Lease,
            Self::Partner { .. } => Code::Partner,
            Self::BusyElsewhere => Code::BusyElsewhere,
            Self::InFlight { .. } => Code::InFlight,
            Self::SiteInFlight { .. } => Code::SiteInFlight,
            Self::Rate { .. } => Code::Rate,
            Self::Exposure { .. } => Code::Exposure,
        }
    }

    pub(in crate::rollout) fn sentence(&self, now: Timestamp) -> String {
        match self {
            Self::Proposed => "the rollout waits for approval".to_owned(),
            Self::Scheduled { start } => format!("the rollout starts at {start}"),
            Self::Paused { reason: "" } => "the rollout is paused".to_owned(),
            Self::Paused { reason } => format!("the rollout is paused: {reason}"),
            Self::Held { cause } => format!("the rollout is held: {}", cause.sentence),
            Self::Stopped { how } => format!("the rollout was {how} before its turn"),
            Self::SupersededRollout { by } => format!("{by} took the rollout's place"),
            Self::Unheard => {
                "telemetry cannot be read, so a gate would not see what the bundle does".to_owned()
            }
            Self::Yanked => "the catalogue no longer lists the bundle".to_owned(),
            Self::Revoked { reason } => format!("the bundle is revoked: {reason}"),
            Self::LaterStage { own, open } => {
                format!("belongs to stage '{own}'; stage '{open}' must pass its gate first")
            }
            Self::Frozen { freeze } => {
                let what = if freeze.sites.is_some() { "its site" } else { "the fleet" };
                format!("{what} is frozen by {}: {}", freeze.by, freeze.reason)
            }
            Self::Offline => "is offline".to_owned(),
            Self::Unanswered => "was told to go back and has not answered yet".to_owned(),
            Self::Behind { rollout } => format!("behind rollout {rollout}"),
            Self::Window { activation, zone, opens } => {
                let what = if *activation { "window" } else { "download window" };
                match opens {
                    Some(opens) => format!("waits for its site's {what} at {}", zone.clock(*opens, now)),
                    None => format!("waits for its site's {what}, which never opens"),
                }
            }
            Self::Lease { lease, site, zone } => {
                let whom = site.map_or(String::new(), |site| format!(" on site {site}"));
                let until = zone.cloned().unwrap_or_default().clock(lease.until, now);
                format!("held by lease '{}' of {}{whom} until {until}", lease.reason, lease.owner)
            }
            Self::Partner { name, why } => format!("its redundancy partner {name} {why}"),
            Self::BusyElsewhere => "is being changed for another slot".to_owned(),
            Self::InFlight { now, max } => format!("in flight: {now} of {max}"),
            Self::SiteInFlight { site, now, max } => format!("in flight at {site}: {now} of {max}"),
            Self::Rate { max, .. } => format!("rate: {max} an hour"),
            Self::Exposure { max } => format!("the stage's exposure budget of {max} device-hours is spent"),
        }
    }

    /// What happens next, or what a person can do.
    pub(in crate::rollout) fn next(&self) -> &'static str {
        match self {
            Self::Proposed => "approve the rollout",
            Self::Scheduled { .. } | Self::LaterStage { .. } => "is asked when its stage opens",
            Self::Paused { .. } => "resume the rollout",
            Self::Held { .. } => "decide on the rollout: resume, promote, abort or roll back",
            Self::Stopped { .. } | Self::SupersededRollout { .. } => "nothing",
            Self::Unheard => "goes on when the telemetry database answers",
            Self::Yanked => "publish the bundle again, or abort",
            Self::Revoked { .. } => "is left alone; start a rollout of another bundle",
            Self::Frozen { .. } => "goes on when the freeze is lifted",
            Self::Offline => "is asked when it comes online",
            Self::Unanswered => "is asked again once it has answered",
            Self::Behind { .. } => "is asked when that one ends",
            Self::Window { opens: None, .. } => "change the site's windows",
            Self::Window { activation: true, .. } => "switches when the window opens",
            Self::Window { activation: false, .. } => "is asked when the window opens",
            Self::Lease { .. } => "switches when the lease ends or is released",
            Self::Partner { .. } => "switches when its partner is well again",
            Self::BusyElsewhere => "switches after that",
            Self::InFlight { .. } | Self::SiteInFlight { .. } => "is next when a place becomes free",
            Self::Rate { .. } => "is asked when the hour allows",
            Self::Exposure { .. } => "is asked when the stage's gate has passed",
        }
    }

    /// When time alone may take it away.
    pub(super) fn until(&self) -> Option<Timestamp> {
        match self {
            Self::Scheduled { start } => Some(*start),
            Self::Window { opens, .. } => *opens,
            Self::Lease { lease, .. } => Some(lease.until),
            Self::Rate { next, .. } => *next,
            Self::Proposed
            | Self::Paused { .. }
            | Self::Held { .. }
            | Self::Stopped { .. }
            | Self::SupersededRollout { .. }
            | Self::Unheard
            | Self::Yanked
            | Self::Revoked { .. }
            | Self::LaterStage { .. }
            | Self::Frozen { .. }
            | Self::Offline
            | Self::Unanswered
            | Self::Behind { .. }
            | Self::Partner { .. }
            | Self::BusyElsewhere
            | Self::InFlight { .. }
            | Self::SiteInFlight { .. }
            | Self::Exposure { .. } => None,
        }
    }
}
