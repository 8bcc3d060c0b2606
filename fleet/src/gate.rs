//! The question between two stages, with three answers.
//!
//! ```text
//!   evidence of the devices that ─▶ hard stop        a broken bundle needs no arithmetic
//!   run it, and of those that       install          one outcome a device           ┐ tests that stay
//!   do not                          runtime          failures per device-hour       │ valid however often
//!                                   silence          who went dark, beside the rest ┘ one looks
//!                                   latency          a limit
//!                                   latency, memory, temperature rise   beside devices without it
//!                                   paired error     on the same patients
//!                                   shadow           answers beside the bundle before
//!                                   coverage         every kind of box has been heard
//!                                        └─▶ worst of: fail · insufficient · pass
//! ```
//! *Fail* may be said at any moment. *Pass* is said only when every layer that is asked has enough evidence; no data is
//! never green. A layer that is not asked says so and neither holds up nor vouches. The unit is the device, not the
//! request. What each layer computes, and from which source, stands in `docs/gates.md`.
//!
//! Pure: evidence in, verdict with its arithmetic out; [`recompute`] gives the same again from the same.

pub mod coverage;
pub mod distributions;
pub mod eprocess;
pub mod error;
pub mod evidence;
pub mod hard;
mod inputs;
pub mod install;
pub mod latency;
pub mod limits;
pub mod power;
#[cfg(test)]
mod properties;
pub mod reverts;
mod runtime;
pub mod shadow;
pub mod silence;
#[cfg(test)]
mod validity;
pub mod vitals;

use std::collections::BTreeMap;

use muster_protocol::ids::DeviceId;
use muster_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

pub use evidence::{
    Control, DeviceEvidence, Evidence, Exposed, Inputs, Install, PairedDay, Shadow, Shift, Silence, Stratum,
    Unexposed, Vitals,
};
pub use limits::GateLimits;
pub use power::{Harm, decidable, power, upper_bound_95};

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
    /// Is there proof that the bundle itself is broken?
    HardStop,
    /// Did the bundle install and activate?
    Install,
    /// Do those that got it keep it?
    Reverts,
    /// Does it keep answering?
    Runtime,
    /// Are its devices still heard, as often as those without it?
    Silence,
    /// Does it answer in time?
    Latency,
    /// Does it answer as fast as before, beside devices without it?
    LatencyRise,
    MemoryRise,
    TemperatureRise,
    /// Is it right, on the same patients, as often as the bundle before it?
    PairedError,
    /// Does it answer like the bundle before it, on the same inputs?
    Shadow,
    /// Has every kind of box been heard?
    Coverage,
}

impl Layer {
    /// As clients and causes (`gate_…`) name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::HardStop => "hard_stop",
            Self::Install => "install",
            Self::Reverts => "reverts",
            Self::Runtime => "runtime",
            Self::Silence => "silence",
            Self::Latency => "latency",
            Self::LatencyRise => "latency_rise",
            Self::MemoryRise => "memory_rise",
            Self::TemperatureRise => "temperature_rise",
            Self::PairedError => "paired_error",
            Self::Shadow => "shadow",
            Self::Coverage => "coverage",
        }
    }
}

/// One layer's answer with what it was computed from, so that anybody can check it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerVerdict {
    pub layer: Layer,
    pub verdict: Verdict,
    /// Whether it has a say. A layer that the plan does not ask, or that has nothing to compare with, has none.
    #[serde(default = "yes")]
    pub applies: bool,
    /// The test by name.
    #[serde(default)]
    pub test: String,
    /// The numbers that went into it.
    #[serde(default)]
    pub inputs: BTreeMap<String, f64>,
    /// The chance of a false alarm that it may spend over the whole rollout.
    #[serde(default)]
    pub alpha: Option<f64>,
    /// The measured value, in the unit that `sentence` names.
    pub measured: Option<f64>,
    pub limit: Option<f64>,
    /// Where the true value lies, as far as the evidence says.
    #[serde(default)]
    pub interval: Option<(f64, f64)>,
    /// What is still possible: with so little evidence the true value could be as bad as this (95 %).
    #[serde(default)]
    pub bound: Option<f64>,
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
    /// The chance of a false alarm of all layers together.
    #[serde(default)]
    pub alpha: f64,
    pub layers: Vec<LayerVerdict>,
}

/// The evidence in one order, whatever order it came in: sums of fractions depend on it.
pub(crate) struct Case<'a> {
    pub(crate) exposed: Vec<&'a Exposed>,
    pub(crate) controls: Vec<&'a Unexposed>,
    pub(crate) strata: &'a [String],
    pub(crate) limits: &'a GateLimits,
}

/// Asks every layer. The order of the devices does not matter.
pub fn judge(evidence: &Evidence, limits: &GateLimits, now: Timestamp) -> GateReport {
    let case = Case::of(evidence, limits);
    let layers = vec![
        hard::judge(&case),
        install::judge(&case),
        reverts::judge(&case),
        runtime::judge(&case),
        silence::judge(&case),
        latency::judge(&case),
        vitals::judge(&case, Layer::LatencyRise),
        vitals::judge(&case, Layer::MemoryRise),
        vitals::judge(&case, Layer::TemperatureRise),
        error::judge(&case),
        shadow::judge(&case),
        coverage::judge(&case),
    ];
    let asked = layers.iter().filter(|layer| layer.applies);
    let verdict = asked.map(|layer| layer.verdict).max().unwrap_or(Verdict::Insufficient);
    GateReport { asked_at: now, verdict, alpha: limits.alpha, layers }
}

/// How a report and its recomputation disagree.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum Differs {
    #[error("the report says {said:?}, its evidence says {computed:?}")]
    Verdict { said: Verdict, computed: Verdict },
    #[error("layer '{layer}' is not what its evidence gives: computed '{computed}'")]
    Layer { layer: &'static str, computed: String },
    #[error(
        "the report has {said} layers, this version computes {computed}; verify it with the version that wrote it"
    )]
    Layers { said: usize, computed: usize },
    #[error("the report's error budget is {said}, its limits say {computed}")]
    Budget { said: f64, computed: f64 },
}

/// Judges the evidence again and compares every number with the report's.
pub fn recompute(evidence: &Evidence, limits: &GateLimits, report: &GateReport) -> Result<(), Differs> {
    let computed = judge(evidence, limits, report.asked_at);
    if report.layers.len() != computed.layers.len() {
        return Err(Differs::Layers { said: report.layers.len(), computed: computed.layers.len() });
    }
    for (said, computed) in report.layers.iter().zip(&computed.layers) {
        if said != computed {
            return Err(Differs::Layer { layer: computed.layer.name(), computed: computed.sentence.clone() });
        }
    }
    if report.alpha.to_bits() != computed.alpha.to_bits() {
        return Err(Differs::Budget { said: report.alpha, computed: computed.alpha });
    }
    if report.verdict != computed.verdict {
        return Err(Differs::Verdict { said: report.verdict, computed: computed.verdict });
    }
    Ok(())
}

impl GateReport {
    pub fn failing(&self) -> Option<&LayerVerdict> {
        self.layers.iter().find(|layer| layer.applies && layer.verdict == Verdict::Fail)
    }

    /// The layers that keep it from passing for lack of evidence.
    pub fn insufficient(&self) -> impl Iterator<Item = &LayerVerdict> {
        self.layers.iter().filter(|layer| layer.applies && layer.verdict == Verdict::Insufficient)
    }
}

impl<'a> Case<'a> {
    pub(crate) fn of(evidence: &'a Evidence, limits: &'a GateLimits) -> Self {
        let mut exposed: Vec<_> = evidence.exposed.iter().collect();
        exposed.sort_by(|a, b| a.0.cmp(&b.0));
        let mut controls: Vec<_> = evidence.controls.iter().collect();
        controls.sort_by(|a, b| a.0.cmp(&b.0));
        Self { exposed, controls, strata: &evidence.strata, limits }
    }

    /// Devices on which the bundle was activated.
    pub(crate) fn running(&self) -> impl Iterator<Item = &'a Exposed> {
        self.exposed.iter().copied().filter(|(_, _, shown)| shown.install == Install::Succeeded)
    }
}

impl LayerVerdict {
    /// Nothing known yet.
    pub(crate) fn of(layer: Layer, test: &str, limits: &GateLimits) -> Self {
        Self {
            layer,
            verdict: Verdict::Insufficient,
            applies: true,
            test: test.to_owned(),
            inputs: BTreeMap::new(),
            alpha: limits.alpha_of(layer),
            measured: None,
            limit: None,
            interval: None,
            bound: None,
            n: 0,
            missing: Vec::new(),
            sentence: String::new(),
        }
    }

    /// It has no say, and `why` tells so: it neither holds up nor vouches, and is never shown green.
    pub(crate) fn not_asked(self, why: &str) -> Self {
        Self { applies: false, verdict: Verdict::Pass, sentence: why.to_owned(), ..self }
    }

    pub(crate) fn with_inputs(self, inputs: &[(&str, f64)]) -> Self {
        let inputs = inputs.iter().map(|&(name, value)| (name.to_owned(), storable(value)));
        Self { inputs: inputs.collect(), ..self }
    }
}

fn yes() -> bool {
    true
}

/// JSON has no infinity: the largest number stands for it.
pub(crate) fn storable(value: f64) -> f64 {
    if value.is_nan() { 0.0 } else { value.clamp(-f64::MAX, f64::MAX) }
}

#[expect(clippy::cast_precision_loss, reason = "counts of devices and answers stay far below 2^53")]
pub(crate) fn as_f64(n: u64) -> f64 {
    n as f64
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

    /// One layer's answer on these devices.
    pub(crate) fn ask(layer: Layer, shown: &[DeviceEvidence], limits: &GateLimits) -> LayerVerdict {
        answer(layer, &evidence(shown), limits)
    }

    pub(crate) fn answer(layer: Layer, evidence: &Evidence, limits: &GateLimits) -> LayerVerdict {
        let report = judge(evidence, limits, Timestamp::default());
        report.layers.into_iter().find(|verdict| verdict.layer == layer).unwrap()
    }

    pub(crate) fn evidence(device_evidence: &[DeviceEvidence]) -> Evidence {
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
