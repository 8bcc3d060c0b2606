//! The codes of every sentence that says why a device, or a rollout, is where it is. Machines compare codes; people read
//! the sentence beside it.

use super::Cause;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident => $text:literal,)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Code {
            $($(#[$doc])* $name,)*
        }

        impl Code {
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

codes! {
    // The rollout as a whole.
    /// Approvals are missing.
    Proposed => "proposed",
    /// Its time has not come.
    Scheduled => "scheduled",
    /// A person paused it.
    Paused => "paused",
    /// It stopped and asks a person.
    Held => "held",
    /// It was aborted or rolled back before the device's turn.
    Stopped => "stopped",
    /// A newer rollout took its place.
    Superseded => "superseded",
    /// The catalogue no longer lists the bundle.
    BundleYanked => "bundle_yanked",
    /// The bundle is revoked.
    BundleRevoked => "bundle_revoked",
    /// No device matches.
    EmptyCohort => "empty_cohort",

    // Left out, with the cause.
    /// Nobody is left whom the open stages could ask.
    Excluded => "excluded",
    /// The bundle can never run there: wrong hardware, an agent too old.
    Unfit => "unfit",
    /// The bundle failed there before.
    BadListed => "bad_listed",
    /// The selector does not match it any more.
    LeftCohort => "left_cohort",
    /// It is no member of the fleet any more.
    NotAMember => "not_a_member",
    /// It carries the tag that keeps it out of rollouts.
    OptedOut => "opted_out",
    /// It began to match too late for this plan.
    Late => "late",

    // Not asked yet, or not permitted yet.
    /// A stage before its own must pass first.
    LaterStage => "later_stage",
    /// A freeze lies on its site or on the fleet.
    Frozen => "frozen",
    Offline => "offline",
    /// It was told to go back and has not answered that yet.
    Unanswered => "unanswered",
    /// Another rollout goes first.
    Behind => "behind",
    /// The site's download window is closed.
    DownloadWindow => "download_window",
    /// The site's activation window is closed.
    ActivationWindow => "activation_window",
    /// Somebody said "not now".
    Lease => "lease",
    /// A box of its redundancy group is being changed, or is down.
    Partner => "partner",
    /// It is being interrupted for another slot.
    BusyElsewhere => "busy_elsewhere",
    /// The plan's places in flight are taken.
    InFlight => "in_flight_cap",
    /// The site's places in flight are taken.
    SiteInFlight => "site_in_flight_cap",
    /// As many were asked in this hour as the plan allows.
    Rate => "rate",
    /// The stage has spent its exposure budget; its gate gives it a new one.
    Exposure => "exposure_budget",
    /// Nothing hinders it: it is asked next.
    Queued => "queued",

    // Asked.
    /// It has not answered yet.
    Asked => "asked",
    /// It fetches, verifies or tests.
    Working => "working",
    /// It refuses its order.
    OrderRefused => "order_refused",
    /// It told of a failure that the next look counts.
    Failing => "failing",
    /// Somebody at the box must agree.
    Consent => "consent",
    /// It runs a version on the way, and is asked for the next.
    SteppingStone => "stepping_stone",
    /// It has it and may switch.
    Permitted => "permitted",

    // It has it, or had it.
    Baking => "baking",
    /// It has it and is not heard.
    Silent => "silent",
    Done => "done",
    InstallFailed => "install_failed",
    Reverted => "reverted",
    Returning => "returning",
    Returned => "returned",

    // What the rollout waits for, beside the above.
    /// Devices that were asked and have not proved it.
    Installing => "installing",
    /// The gate needs more evidence.
    Evidence => "evidence",

    // Causes of a transition.
    /// Too many devices could not run it.
    QuorumLost => "quorum_lost",
    /// The gate could not be decided by the stage's deadline.
    Undecided => "undecided",
    /// A completed rollout lost its quorum afterwards.
    Reopened => "reopened",
    /// It was there, and did not install it in time.
    InstallDeadline => "install_deadline",
}

impl Code {
    pub fn cause(self, sentence: impl Into<String>) -> Cause {
        Cause::new(self.as_str(), sentence)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_codes_are_alike() {
        let texts: BTreeSet<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(texts.len(), Code::ALL.len());
    }
}
