//! `builder.toml`: which models this builder trains, with which command, and where everything is.
//!
//! Relative paths are relative to the file. What is wrong is named with its field; nothing has a silent fallback.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_protocol::ids::{HardwareClass, ModelName};
use muster_protocol::limits::HARDWARE_CLASSES_MAX;
use muster_protocol::trust::{AgentVersion, Demands};
use serde::Deserialize;

use super::eval::Evaluator;
use super::gates::Resources;
use super::trainer::mlflow::Book;
use super::trainer::{Tool, http};
use crate::dataset::DatasetRef;

/// What a child gets of our own environment. Everything else stays here: a trainer has no business with our secrets.
const INHERITED: &[&str] = &["PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR"];
/// As many as the fleet keeps with a run.
const DATASETS_MAX: usize = 32;
const PATH_DEFAULT: &str = "/usr/local/bin:/usr/bin:/bin";

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What the fleet calls this builder.
    pub name: String,
    /// Address of the fleet server.
    #[serde(default = "default_fleet")]
    pub fleet: String,
    /// Its first line is the token of a fleet that asks who its builders are; for this user alone.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    pub work_dir: PathBuf,
    /// The delegated key that signs `auto-<model>.json`; with `sign_with`, its public half.
    pub key: PathBuf,
    /// A command that signs instead of a key file: run by `sh -c`, the bytes on stdin, 128 hexadecimal digits on stdout.
    #[serde(default)]
    pub sign_with: Option<String>,
    /// Its first line opens the key file, if that is encrypted.
    #[serde(default)]
    pub passphrase_file: Option<PathBuf>,
    /// The root that this builder trusts.
    pub root: PathBuf,
    /// The program `muster-agent`.
    pub agent: PathBuf,
    pub runtime: PathBuf,
    #[serde(default = "default_provider")]
    pub provider: String,
    /// Memory of one evaluation, MiB of address space.
    #[serde(default = "default_eval_memory")]
    pub eval_memory_mb: u64,
    #[serde(default = "default_eval_timeout")]
    pub eval_timeout_s: u64,
    /// Between two questions for a run.
    #[serde(default = "default_poll")]
    pub poll_s: f64,
    /// The fleet's address as trainers elsewhere reach it, if it is not `fleet`.
    #[serde(default)]
    pub fleet_for_trainers: Option<String>,
    /// Where runs and published versions are told.
    #[serde(default)]
    pub mlflow: Option<Book>,
    pub models: Vec<Model>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    pub model: ModelName,
    /// The trainer and its arguments, on this machine.
    #[serde(default)]
    pub command: Vec<String>,
    /// A tool that trains elsewhere, instead of `command`.
    #[serde(default)]
    pub trainer: Option<Tool>,
    /// Where the trainer is started.
    #[serde(default = "here")]
    pub cwd: PathBuf,
    /// Given to the trainer as `MUSTER_DATA`.
    pub data: PathBuf,
    /// Versions of datasets that a run is trained on: brought here, checked, and named in the trainer's request.
    #[serde(default)]
    pub datasets: Vec<DatasetRef>,
    #[serde(default = "default_timeout")]
    pub timeout_s: u64,
    /// Address space of the trainer, MiB. Numeric libraries reserve much more than they use.
    #[serde(default = "default_memory")]
    pub memory_mb: u64,
    /// How much worse than the champion on old rows is still good, in units of the primary metric.
    #[serde(default)]
    pub frozen_tolerance: f64,
    /// What boxes can carry.
    #[serde(default)]
    pub resources: Resources,
    /// Length of a pane of the bundles, world seconds; the champion's if absent.
    #[serde(default)]
    pub pane_s: Option<u64>,
    /// Classes of hardware that its bundles run on; one of them suffices.
    #[serde(default = "default_hardware")]
    pub hardware: BTreeSet<HardwareClass>,
    /// Older agents must not run its bundles.
    #[serde(default)]
    pub min_agent: Option<AgentVersion>,
    /// Added to the trainer's environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{path} could not be read")]
    Read {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} is not a builder configuration: {what}")]
    Wrong { path: String, what: String },
}

impl Config {
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: shown.clone(), source })?;
        let folder = std::path::absolute(path).ok().and_then(|path| path.parent().map(Path::to_owned));
        Self::parse(&text, &folder.unwrap_or_default())
            .map_err(|what| ConfigError::Wrong { path: shown, what })
    }

    fn parse(text: &str, folder: &Path) -> Result<Self, String> {
        let mut config: Self =
            toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        config.check()?;
        let paths =
            [&mut config.work_dir, &mut config.key, &mut config.root, &mut config.agent, &mut config.runtime];
        let paths = paths.into_iter().chain(&mut config.passphrase_file).chain(&mut config.token_file);
        let of_models = config.models.iter_mut().flat_map(|model| [&mut model.cwd, &mut model.data]);
        for path in paths.chain(of_models) {
            // Joining an absolute path yields that path.
            *path = folder.join(&path);
        }
        config
            .models
            .iter_mut()
            .filter_map(|model| model.trainer.as_mut())
            .for_each(|tool| tool.locate(folder));
        if let Some(file) = config.mlflow.as_mut().and_then(|book| book.token_file.as_mut()) {
            *file = folder.join(&*file);
        }
        Ok(config)
    }

    pub fn evaluator(&self) -> Evaluator {
        Evaluator {
            agent: self.agent.clone(),
            runtime: self.runtime.clone(),
            provider: self.provider.clone(),
            memory_mb: self.eval_memory_mb,
            wall: Duration::from_secs(self.eval_timeout_s),
            env: inherited(),
        }
    }

    pub fn model(&self, name: &ModelName) -> Option<&Model> {
        self.models.iter().find(|model| model.model == *name)
    }

    fn check(&self) -> Result<(), String> {
        if self.name.is_empty() || self.name.len() > 64 || self.name.chars().any(char::is_control) {
            return Err("name: use 1 to 64 printable characters".to_owned());
        }
        if self.sign_with.is_some() && self.passphrase_file.is_some() {
            return Err("passphrase_file: sign_with has no key file that it could open".to_owned());
        }
        if let Some(book) = &self.mlflow {
            http::address(&book.url).map_err(|what| format!("mlflow: {what}"))?;
        }
        if self.models.is_empty() {
            return Err("models: name at least one, as [[models]]".to_owned());
        }
        if !(0.05..=3600.0).contains(&self.poll_s) {
            return Err("poll_s: use 0.05 to 3600 seconds".to_owned());
        }
        if self.eval_timeout_s == 0 {
            return Err("eval_timeout_s: must not be 0".to_owned());
        }
        for (at, model) in self.models.iter().enumerate() {
            let name = &model.model;
            match (&model.trainer, model.command.first().is_none_or(String::is_empty)) {
                (None, true) => return Err(format!("models: '{name}' has no command and no trainer")),
                (Some(_), false) => {
                    return Err(format!("models: '{name}' has a command and a trainer; one of them trains"));
                }
                (Some(tool), true) => tool.check().map_err(|what| format!("models: '{name}': {what}"))?,
                (None, false) => {}
            }
            if model.timeout_s == 0 || model.memory_mb == 0 {
                return Err(format!("models: '{name}' needs a timeout_s and a memory_mb above 0"));
            }
            if !model.frozen_tolerance.is_finite() || model.frozen_tolerance < 0.0 {
                return Err(format!("models: the frozen_tolerance of '{name}' must be 0 or more"));
            }
            if model.datasets.len() > DATASETS_MAX {
                return Err(format!("models: '{name}' names more than {DATASETS_MAX} datasets"));
            }
            if model.hardware.is_empty() || model.hardware.len() > HARDWARE_CLASSES_MAX {
                return Err(format!(
                    "models: '{name}' needs 1 to {HARDWARE_CLASSES_MAX} classes of hardware"
                ));
            }
            if self.models[..at].iter().any(|other| other.model == *name) {
                return Err(format!("models: '{name}' is there twice"));
            }
        }
        Ok(())
    }
}

impl Model {
    /// What its bundles ask of a box.
    pub fn demands(&self) -> Demands {
        Demands { hardware: self.hardware.clone(), min_agent: self.min_agent }
    }
}

/// The allowed part of our own environment.
pub fn inherited() -> Vec<(OsString, OsString)> {
    let mut env: Vec<(OsString, OsString)> =
        std::env::vars_os().filter(|(name, _)| INHERITED.iter().any(|allowed| name == allowed)).collect();
    if !env.iter().any(|(name, _)| name == "PATH") {
        env.push(("PATH".into(), PATH_DEFAULT.into()));
    }
    env
}

fn default_fleet() -> String {
    crate::client::DEFAULT_SERVER.to_owned()
}
fn default_provider() -> String {
    "auto".to_owned()
}
fn default_eval_memory() -> u64 {
    8192
}
fn default_eval_timeout() -> u64 {
    300
}
fn default_poll() -> f64 {
    2.0
}
fn default_timeout() -> u64 {
    3600
}
fn default_memory() -> u64 {
    8192
}
fn default_hardware() -> BTreeSet<HardwareClass> {
    super::publish::DEFAULT_HARDWARE.parse().into_iter().collect()
}
fn here() -> PathBuf {
    PathBuf::from(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        name = "builder-1"
        work_dir = "work"
        key = "/etc/muster/builder.key"
        root = "root.json"
        agent = "muster-agent"
        runtime = "runtime"
        [[models]]
        model = "er"
        command = ["python3", "train.py"]
        data = "warehouse"
    "#;

    #[test]
    fn paths_are_relative_to_the_file() {
        let config = Config::parse(GOOD, Path::new("/srv")).unwrap();
        assert_eq!(config.work_dir, Path::new("/srv/work"));
        assert_eq!(config.key, Path::new("/etc/muster/builder.key"));
        assert_eq!(config.models[0].data, Path::new("/srv/warehouse"));
        assert_eq!(config.fleet, "http://127.0.0.1:8480");
        assert!(config.models[0].demands().hardware.iter().map(HardwareClass::as_str).eq(["x86_64-cpu"]));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let check = |from: &str, to: &str, expect: &str| {
            let error = Config::parse(&GOOD.replace(from, to), Path::new("/")).unwrap_err();
            assert!(error.contains(expect), "{error}");
        };
        check("name = \"builder-1\"", "name = \"\"", "name: use 1 to 64");
        check("name = \"builder-1\"", "", "missing field `name`");
        check("root = \"root.json\"", "root = \"r\"\ncolour = 1", "unknown field `colour`");
        check("[\"python3\", \"train.py\"]", "[]", "'er' has no command");
        check("\"er\"", "\"ER\"", "is not a model name");
        check("data = \"warehouse\"", "data = \"w\"\nfrozen_tolerance = -1.0", "must be 0 or more");
        check("data = \"warehouse\"", "data = \"w\"\ndatasets = [\"er@x\"]", "is no version");
        check("data = \"warehouse\"", "data = \"w\"\ntimeout_s = 0", "needs a timeout_s");
        check("data = \"warehouse\"", "data = \"w\"\nhardware = [\"X 1\"]", "X 1");
        check("data = \"warehouse\"", "data = \"w\"\nhardware = []", "classes of hardware");
        check(
            "root = \"root.json\"",
            "root = \"r\"\nsign_with = \"s\"\npassphrase_file = \"p\"",
            "no key file",
        );
    }
}
