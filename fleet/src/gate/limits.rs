//! What a gate asks for, and how its chance of a false alarm is divided among the layers.

use serde::{Deserialize, Serialize};

use super::Layer;

/// What the gate asks for; the owner may change each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GateLimits {
    /// Share of installs that fails on a healthy fleet.
    pub install_failure_baseline: f64,
    /// Share of devices that leave the bundle by themselves, after they had it, on a healthy fleet.
    pub revert_baseline: f64,
    /// Runtime failures per device-hour on a healthy fleet (a failure is an hour in which the model failed to answer).
    pub runtime_failures_per_hour_baseline: f64,
    /// Chance that a healthy bundle is stopped, over the whole rollout and all layers together. Each layer has a fixed
    /// share of it, see [`GateLimits::alpha_of`].
    pub alpha: f64,
    /// Slowest tolerated 95th percentile, milliseconds.
    pub latency_p95_ms_max: f64,
    /// Requests a device must have answered before its latency counts; 0 where nobody may be calling it.
    pub latency_requests_min: u64,
    /// Labelled predictions a device must have before its error counts; 0 where no labels come back. Labels that come
    /// all the same can still condemn the bundle.
    pub labels_min: u64,
    /// Devices that must have so many labels; `None` for every device that runs the bundle.
    pub labelled_devices_min: Option<u32>,
    /// Tolerated rise of the loss, as a share of the loss of the bundle before.
    pub error_margin: f64,
    /// Devices of one hardware class with the same failure code that stop the bundle without further arithmetic; 0 to
    /// leave that to the statistics.
    pub same_failures_max: u32,
    /// Tolerated share of answers that differ from the bundle before, measured beside it; `None` to not ask.
    pub shadow_disagreement_max: Option<f64>,
    /// Shadow answers a device must have before its disagreement counts.
    pub shadow_requests_min: u64,
    /// Tolerated rise of the 95th percentile over devices without the bundle, milliseconds; `None` to not ask.
    pub latency_rise_ms_max: Option<f64>,
    /// Tolerated rise of the memory in use over devices without the bundle, MiB; `None` to not ask.
    pub memory_rise_mib_max: Option<f64>,
    /// Tolerated rise of the temperature over devices without the bundle, degrees Celsius; `None` to not ask.
    pub temperature_rise_c_max: Option<f64>,
    /// Hours unheard after which a device that runs the bundle is suspected; 0 to not ask.
    pub silence_after_h: f64,
    /// How often a healthy device falls silent, per hour: never less is assumed, however quiet the controls are.
    pub silences_per_hour_baseline: f64,
    /// Hardware classes that must each have a device that lives with the bundle, at most; 0 to not ask.
    pub coverage_classes_max: u32,
}

impl Default for GateLimits {
    fn default() -> Self {
        Self {
            install_failure_baseline: 0.02,
            revert_baseline: 0.02,
            runtime_failures_per_hour_baseline: 0.005,
            alpha: 0.05,
            latency_p95_ms_max: 100.0,
            latency_requests_min: 50,
            labels_min: 200,
            labelled_devices_min: None,
            error_margin: 0.05,
            same_failures_max: 2,
            shadow_disagreement_max: None,
            shadow_requests_min: 200,
            latency_rise_ms_max: None,
            memory_rise_mib_max: None,
            temperature_rise_c_max: None,
            silence_after_h: 1.0,
            silences_per_hour_baseline: 0.001,
            coverage_classes_max: 8,
        }
    }
}

impl GateLimits {
    /// The layer's share of the chance of a false alarm: fixed beforehand, so that no layer's luck pays for another.
    /// `None` for layers that make no statistical claim.
    pub fn alpha_of(&self, layer: Layer) -> Option<f64> {
        let percent = match layer {
            Layer::Install => 35.0,
            Layer::Reverts => 20.0,
            Layer::Runtime => 15.0,
            Layer::Silence => 10.0,
            Layer::PairedError | Layer::Shadow => 5.0,
            Layer::LatencyRise | Layer::MemoryRise | Layer::TemperatureRise => 10.0 / 3.0,
            Layer::HardStop | Layer::Latency | Layer::Coverage => return None,
        };
        Some(self.alpha * percent / 100.0)
    }
}
