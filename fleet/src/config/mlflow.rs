//! `[mlflow]`: whose registry may ask for a retraining.
//!
//! ```toml
//! [mlflow]
//! secret_file = "/etc/muster/mlflow-webhook.secret"        # the webhook's secret, at least 16 characters
//! models = [
//!   { name = "er-candidates", model = "deterioration" },                        # each new version
//!   { name = "beds", model = "beds", alias = "approved" },                      # whichever version gets this alias
//! ]
//! ```

use std::collections::BTreeSet;
use std::path::PathBuf;

use muster_protocol::ids::ModelName;
use serde::Deserialize;

use super::ConfigError;

/// What a builder that tells `MLflow` of its bundles sets itself: to be asked by it would never end.
const OUR_ALIAS: &str = "challenger";
const MODELS_MAX: usize = 1000;
const NAME_CHARS_MAX: usize = 256;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MlflowConfig {
    /// Read anew for each message, so that it may be replaced in place.
    pub secret_file: PathBuf,
    pub models: Vec<Registered>,
}

/// A registered model there, and what it is here.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registered {
    pub name: String,
    pub model: ModelName,
    /// Only a version that gets this alias asks; without it, each new one does.
    #[serde(default)]
    pub alias: Option<String>,
}

impl MlflowConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let names: BTreeSet<&str> = self.models.iter().map(|registered| registered.name.as_str()).collect();
        let is_named = |name: &str| (1..=NAME_CHARS_MAX).contains(&name.chars().count());
        let are_right = self.models.iter().all(|registered| {
            let alias = registered.alias.as_deref();
            is_named(&registered.name) && alias.is_none_or(|alias| is_named(alias) && alias != OUR_ALIAS)
        });
        let are_some = (1..=MODELS_MAX).contains(&self.models.len());
        if are_some && are_right && names.len() == self.models.len() {
            Ok(())
        } else {
            Err(ConfigError::Mlflow)
        }
    }

    pub fn find(&self, name: &str) -> Option<&Registered> {
        self.models.iter().find(|registered| registered.name == name)
    }
}
