//! What a gate is asked about: the devices that run the bundle, and those of the cohort that do not.

use muster_protocol::ids::{DeviceId, Digest, SiteName};
use serde::{Deserialize, Serialize};

/// What one device has shown of the bundle under test. What is empty or `None` was not seen: it is never taken for good.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceEvidence {
    pub install: Install,
    /// Device-hours of exposure since activation, world time.
    pub hours: f64,
    /// Of those, hours in which the model failed to answer or went back by itself.
    pub failed_hours: f64,
    /// Requests by [`muster_protocol::message::report::LATENCY_BOUNDS_US`].
    pub latency: Vec<u64>,
    /// Labelled predictions, by world day; `None` where the slot had no bundle before.
    pub paired: Option<Vec<PairedDay>>,
    /// The code of its failed install or of why it went back.
    pub failure: Option<String>,
    pub silence: Silence,
    pub vitals: Vitals,
    pub shadow: Option<Shadow>,
    pub inputs: Inputs,
}

/// Whether it is still heard. Only time since its activation (for a control: since the stage opened) counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Silence {
    /// Hours in which it could have fallen silent.
    pub hours_at_risk: f64,
    /// Hours since it was last heard, if it is silent now.
    pub silent_hours: Option<f64>,
}

/// How the box changed: the median before against the median since (of activation; for a control: of the stage's opening).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Vitals {
    /// 95th percentile of the answers, milliseconds.
    pub latency_ms: Option<Shift>,
    pub memory_mib: Option<Shift>,
    pub temperature_c: Option<Shift>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Shift {
    pub before: f64,
    pub since: f64,
}

/// The candidate beside the champion on the same live inputs, without answering.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Shadow {
    pub n: u64,
    /// Answers that differ by more than the bundle's own tolerance.
    pub disagreed: u64,
}

/// Whether the device's inputs are still those of the time before: what is measured on drifted inputs says little.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Inputs {
    #[default]
    Unknown,
    Quiet,
    Drifting,
}

/// A device of the cohort that does not run the bundle: what happens to it happens without the bundle's doing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Control {
    pub silence: Silence,
    pub vitals: Vitals,
}

/// Where a device stands beside others like it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Stratum {
    /// `None` for a device that is in no view any more.
    pub site: Option<SiteName>,
    /// Its most telling hardware class; empty if it has told none.
    pub hardware: String,
}

impl Stratum {
    /// Of a device that is in no view any more.
    pub fn unknown() -> Self {
        Self { site: None, hardware: String::new() }
    }
}

/// A device that was asked to run the bundle.
pub type Exposed = (DeviceId, Stratum, DeviceEvidence);
/// A device of the cohort that was not.
pub type Unexposed = (DeviceId, Stratum, Control);

/// Everything that a gate is asked about. The order of devices does not matter.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    pub exposed: Vec<Exposed>,
    pub controls: Vec<Unexposed>,
    /// Hardware classes of the stage's whole cohort: each must be among those that have baked.
    pub strata: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Install {
    #[default]
    Pending,
    Succeeded,
    Failed,
}

/// Sums over one world day of one device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PairedDay {
    pub n: u64,
    /// Sum of loss(new) − loss(before).
    pub diff_sum: f64,
    pub diff_sum_sq: f64,
    pub before_loss_sum: f64,
}

impl Evidence {
    /// A digest of the evidence that does not depend on the order of the devices: it ties a report to what was judged.
    pub fn digest(&self) -> Result<Digest, serde_json::Error> {
        let mut sorted = self.clone();
        sorted.exposed.sort_by(|a, b| a.0.cmp(&b.0));
        sorted.controls.sort_by(|a, b| a.0.cmp(&b.0));
        sorted.strata.sort();
        serde_json::to_vec(&sorted).map(|bytes| Digest::of(&bytes))
    }
}

impl Silence {
    /// Whether anything is known of it at all.
    pub fn is_known(&self) -> bool {
        self.hours_at_risk > 0.0 || self.silent_hours.is_some()
    }
}
