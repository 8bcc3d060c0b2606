//! The truth of a bundle, which neither fleet nor box is told: it can only be found out by running it.

use muster_protocol::ids::Digest;
use muster_protocol::message::up::BundleRef;

use crate::rng::fact;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Nature {
    Good,
    /// Its golden outputs differ there.
    FailsItsTest,
    /// It cannot be switched to there.
    FailsToActivate,
    /// It answers for some hours, and then fails to.
    FailsLate,
    /// It answers otherwise, and worse, than the one before it.
    Wrong,
    /// It answers after half a second.
    Slow,
    /// It needs more memory, and heats the box.
    Hot,
    /// Some time after its activation the box is silent for ever.
    Bricks,
    /// The box goes back by itself.
    Reverts,
}

pub(crate) const NATURES: [Nature; 9] = [
    Nature::Good,
    Nature::FailsItsTest,
    Nature::FailsToActivate,
    Nature::FailsLate,
    Nature::Wrong,
    Nature::Slow,
    Nature::Hot,
    Nature::Bricks,
    Nature::Reverts,
];

/// A bundle: bad in one way, on a share of the boxes.
#[derive(Clone, Debug)]
pub(crate) struct Kind {
    pub(crate) bundle: BundleRef,
    pub(crate) nature: Nature,
    pub(crate) share_percent: u64,
    /// Who can run it at all: every hardware class but this one.
    pub(crate) unfit: Option<&'static str>,
}

impl Kind {
    pub(crate) fn new(version: &str, nature: Nature, share_percent: u64) -> Self {
        Self { bundle: bundle(version), nature, share_percent, unfit: None }
    }

    /// How it behaves on the box with this number: the same however often it is asked.
    pub(crate) fn on(&self, seed: u64, number: usize) -> Nature {
        let bytes = self.bundle.sha256.as_bytes();
        let luck = fact(seed, &[u64::from(bytes[0]) << 8 | u64::from(bytes[1]), number as u64]);
        if luck % 100 < self.share_percent { self.nature } else { Nature::Good }
    }
}

pub(crate) fn bundle(version: &str) -> BundleRef {
    BundleRef {
        path: format!("bundles/beds/{version}.json").parse().unwrap(),
        sha256: Digest::of(version.as_bytes()),
    }
}
