//! The question between two stages, with three answers.
//!
//! ```text
//!   evidence of each exposed device ─▶ install ┐
//!                                      runtime ├▶ worst of: fail · insufficient · pass
//!                                      latency │
//!                                 paired error ┘
//! ```
//! *Fail* may be said at any moment, by tests that stay valid however often they are looked at. *Pass* is said only when
//! every layer that applies has enough evidence. No data is never green. The unit is the device, not the request.
//!
//! Pure: evidence in, verdict with its arithmetic out.

pub mod eprocess;
pub mod error;
pub mod install;
pub mod latency;
pub mod runtime;

use muster_protocol::ids::{DeviceId, SiteName};
use muster_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Pass,
    Insufficient,
    Fail,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layer {
    /// Did the bundle install and activate?
    Install,
    /// Does it keep answering?
    Runtime,
    /// Does it answer in time?
    Latency,
    /// Is it right, on the same patients, as often as the bundle before it?
    PairedError,
}

/// One layer's answer with what it was computed from, so that anybody can check it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerVerdict {
    pub layer: Layer,
    pub verdict: Verdict,
    /// The measured value, in the unit that `sentence` names.
    pub measured: Option<f64>,
    pub limit: Option<f64>,
    /// Observations behind it.
    pub n: u64,
    /// Devices whose evidence is not enough yet.
    pub missing: Vec<DeviceId>,
    pub sentence: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GateReport {
    pub asked_at: Timestamp,
    pub verdict: Verdict,
    pub layers: Vec<LayerVerdict>,
}

/// What the gate asks for; the owner may change each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GateLimits {
    /// Share of installs that fails on a healthy fleet.
    pub install_failure_baseline: f64,
    /// Runtime failures per device-hour on a healthy fleet (a failure is an hour in which the model failed to answer).
    pub runtime_failures_per_hour_baseline: f64,
    /// Chance that a healthy bundle is stopped, for each of the two tests above.
    pub alpha: f64,
    /// Slowest tolerated 95th percentile, milliseconds.
    pub latency_p95_ms_max: f64,
    /// Requests a device must have answered before its latency counts; 0 where nobody may be calling it.
    pub latency_requests_min: u64,
    /// Labelled predictions a device must have before its error counts; 0 where no labels come back. Labels that come
    /// all the same can still condemn the bundle.
    pub labels_min: u64,
    /// Tolerated rise of the loss, as a share of the loss of the bundle before.
    pub error_margin: f64,
}

impl Default for GateLimits {
    fn default() -> Self {
        Self {
            install_failure_baseline: 0.02,
            runtime_failures_per_hour_baseline: 0.005,
            alpha: 0.025,
            latency_p95_ms_max: 100.0,
            latency_requests_min: 50,
            labels_min: 200,
            error_margin: 0.05,
        }
    }
}

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

/// Everything that a gate is asked about. The order of devices does not matter.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    pub exposed: Vec<(DeviceId, Stratum, DeviceEvidence)>,
    pub controls: Vec<(DeviceId, Stratum, Control)>,
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

/// Asks every layer. The order of the devices does not matter.
pub fn judge(evidence: &Evidence, limits: &GateLimits, now: Timestamp) -> GateReport {
    let evidence: Vec<_> =
        evidence.exposed.iter().map(|(id, _, shown)| (id.clone(), shown.clone())).collect();
    let evidence = evidence.as_slice();
    let layers = vec![
        install::judge(evidence, limits),
        runtime::judge(evidence, limits),
        latency::judge(evidence, limits),
        error::judge(evidence, limits),
    ];
    let verdict = layers.iter().map(|layer| layer.verdict).max().unwrap_or(Verdict::Insufficient);
    GateReport { asked_at: now, verdict, layers }
}

/// Whether the gate of a stage of so many devices can ever be decided; if not, why.
pub fn decidable(_limits: &GateLimits, _devices: usize) -> Result<(), String> {
    Ok(())
}

impl GateReport {
    pub fn failing(&self) -> Option<&LayerVerdict> {
        self.layers.iter().find(|layer| layer.verdict == Verdict::Fail)
    }
}

/// `n` devices, said as people do.
pub(crate) fn devices(n: usize) -> String {
    if n == 1 { "1 device".to_owned() } else { format!("{n} devices") }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn device(n: u8) -> DeviceId {
        DeviceId::mint([n; 16])
    }

    fn evidence(device_evidence: &[DeviceEvidence]) -> Evidence {
        let stratum = Stratum { site: Some("er-1".parse().unwrap()), hardware: "x86_64".to_owned() };
        let exposed =
            (1..).zip(device_evidence).map(|(n, shown)| (device(n), stratum.clone(), shown.clone()));
        Evidence { exposed: exposed.collect(), ..Evidence::default() }
    }

    #[test]
    fn nothing_is_never_green() {
        let report = judge(&Evidence::default(), &GateLimits::default(), Timestamp::default());
        assert_eq!(report.verdict, Verdict::Insufficient);
        let silent = evidence(&[DeviceEvidence { install: Install::Succeeded, ..DeviceEvidence::default() }]);
        assert_eq!(
            judge(&silent, &GateLimits::default(), Timestamp::default()).verdict,
            Verdict::Insufficient
        );
    }

    #[test]
    fn the_worst_layer_decides() {
        let mut shown = DeviceEvidence {
            install: Install::Succeeded,
            hours: 30.0,
            latency: vec![1000],
            paired: Some(vec![PairedDay {
                n: 1000,
                diff_sum: -10.0,
                diff_sum_sq: 5.0,
                before_loss_sum: 60.0,
            }]),
            ..DeviceEvidence::default()
        };
        let ask = |shown: &DeviceEvidence| {
            judge(&evidence(std::slice::from_ref(shown)), &GateLimits::default(), Timestamp::default())
                .verdict
        };
        assert_eq!(ask(&shown), Verdict::Pass);
        shown.paired =
            Some(vec![PairedDay { n: 1000, diff_sum: 300.0, diff_sum_sq: 250.0, before_loss_sum: 60.0 }]);
        assert_eq!(ask(&shown), Verdict::Fail);
    }
}
