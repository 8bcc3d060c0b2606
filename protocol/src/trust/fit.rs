//! Whether a bundle fits a box: what the publisher signs beside the bundle's hash, held against what the box is.
//!
//! It stands in the catalogue and not in the manifest, because a box must know before it downloads anything, and because
//! even a stolen fleet server must not be able to order a bundle onto hardware that its publisher did not name.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ids::HardwareClass;
use crate::limits::HARDWARE_CLASSES_MAX;
use crate::message::Capabilities;

/// A release of the agent, `MAJOR.MINOR.PATCH`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AgentVersion {
    major: u64,
    minor: u64,
    patch: u64,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a version of the agent: write MAJOR.MINOR.PATCH, such as 0.3.0")]
pub struct AgentVersionError(String);

/// What the publisher demands of a box, from the target's `custom` field.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Demands {
    /// The box must be of one of these classes; none means any.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub hardware: BTreeSet<HardwareClass>,
    /// Older agents must not run it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_agent: Option<AgentVersion>,
}

/// What a box is, as far as the catalogue may ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fitness {
    pub hardware: BTreeSet<HardwareClass>,
    pub agent: AgentVersion,
}

/// Why a bundle does not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    #[error("it runs on {needs} only, and this box is {has}")]
    Hardware { needs: String, has: String },
    #[error("it needs agent {needs} or newer, and this is {has}")]
    Agent { needs: AgentVersion, has: AgentVersion },
    /// What is demanded cannot be understood, so it cannot be met.
    #[error("the catalogue demands something of the box that cannot be read: {0}")]
    Unreadable(String),
}

impl Demands {
    /// Reads them out of a target's `custom`; everything else in it is left alone.
    pub fn of(custom: &Value) -> Result<Self, Unfit> {
        if custom.is_null() {
            return Ok(Self::default());
        }
        let demands: Self =
            serde_json::from_value(custom.clone()).map_err(|error| Unfit::Unreadable(error.to_string()))?;
        if demands.hardware.len() > HARDWARE_CLASSES_MAX {
            let found = demands.hardware.len();
            return Err(Unfit::Unreadable(format!(
                "{found} hardware classes, more than {HARDWARE_CLASSES_MAX}"
            )));
        }
        Ok(demands)
    }

    pub fn met_by(&self, fitness: &Fitness) -> Result<(), Unfit> {
        if !self.hardware.is_empty() && self.hardware.is_disjoint(&fitness.hardware) {
            return Err(Unfit::Hardware { needs: listed(&self.hardware), has: listed(&fitness.hardware) });
        }
        match self.min_agent {
            Some(needs) if needs > fitness.agent => Err(Unfit::Agent { needs, has: fitness.agent }),
            Some(_) | None => Ok(()),
        }
    }
}

impl Fitness {
    /// `x86_64`, `x86_64-cpu`, and for every device that OpenVINO sees `x86_64-openvino` and `x86_64-openvino-gpu`.
    pub fn of(capabilities: &Capabilities, agent: AgentVersion) -> Self {
        let arch = &capabilities.arch;
        let mut names = vec![arch.clone(), format!("{arch}-cpu")];
        for device in &capabilities.devices {
            names.push(format!("{arch}-openvino"));
            // `GPU.0` and `GPU.1` are one class.
            let kind = device.split('.').next().unwrap_or_default().to_ascii_lowercase();
            names.push(format!("{arch}-openvino-{kind}"));
        }
        // A name that is no class is nothing that a catalogue could ask for.
        let hardware = names.iter().filter_map(|name| name.parse().ok()).collect();
        Self { hardware, agent }
    }
}

impl FromStr for AgentVersion {
    type Err = AgentVersionError;

    fn from_str(text: &str) -> Result<Self, AgentVersionError> {
        let wrong = || AgentVersionError(text.chars().take(40).collect());
        let number = |part: &str| {
            // No leading zero: two texts of one version would be two demands to whoever compares what was signed.
            let plain = part.bytes().all(|b| b.is_ascii_digit()) && (part == "0" || !part.starts_with('0'));
            if plain { part.parse().ok() } else { None }
        };
        let parts: Option<Vec<u64>> = text.split('.').map(number).collect();
        match parts.as_deref() {
            Some(&[major, minor, patch]) => Ok(Self { major, minor, patch }),
            Some(_) | None => Err(wrong()),
        }
    }
}

impl TryFrom<String> for AgentVersion {
    type Error = AgentVersionError;

    fn try_from(text: String) -> Result<Self, AgentVersionError> {
        text.parse()
    }
}

impl From<AgentVersion> for String {
    fn from(version: AgentVersion) -> String {
        version.to_string()
    }
}

impl fmt::Display for AgentVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

fn listed(classes: &BTreeSet<HardwareClass>) -> String {
    classes.iter().map(HardwareClass::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(custom: &Value, expect: &str) {
        let devices = vec!["CPU".to_owned(), "GPU.0".to_owned()];
        let capabilities = Capabilities { arch: "x86_64".to_owned(), devices, ..Capabilities::default() };
        let fitness = Fitness::of(&capabilities, "0.3.0".parse().unwrap());
        let found = match Demands::of(custom).and_then(|demands| demands.met_by(&fitness)) {
            Ok(()) => "fits",
            Err(Unfit::Hardware { .. }) => "hardware",
            Err(Unfit::Agent { .. }) => "agent",
            Err(Unfit::Unreadable(_)) => "unreadable",
        };
        assert_eq!(found, expect, "{custom}");
    }

    #[test]
    fn demands_are_met_or_named() {
        check(&Value::Null, "fits");
        check(&json!({"model": "er", "since": 4}), "fits");
        check(&json!({"hardware": ["x86_64"]}), "fits");
        check(&json!({"hardware": ["aarch64-cpu", "x86_64-openvino-gpu"]}), "fits");
        check(&json!({"hardware": ["x86_64-openvino-npu"]}), "hardware");
        check(&json!({"min_agent": "0.3.0"}), "fits");
        check(&json!({"min_agent": "0.10.0"}), "agent");
        check(&json!({"hardware": ["X 1"]}), "unreadable");
        check(&json!({"hardware": "x86_64"}), "unreadable");
        check(&json!({"min_agent": "newest"}), "unreadable");
    }

    #[test]
    fn versions() {
        let check = |text: &str, valid: bool| {
            assert_eq!(text.parse::<AgentVersion>().is_ok_and(|v| v.to_string() == text), valid, "{text}");
        };
        check("0.1.0", true);
        for wrong in ["", "1", "1.2", "1.2.3.4", "1.2.x", "1.2.+3", "1.2.-3", "1..3"] {
            check(wrong, false);
        }
        for wrong in ["01.2.3", "1.02.3", "1.2.00"] {
            assert!(wrong.parse::<AgentVersion>().is_err(), "{wrong}");
        }
    }
}
