//! `[lineage]`: who is told what was made out of what.
//!
//! ```toml
//! [lineage]
//! namespace = "hospital-group"                              # under which our jobs and models are known; else "muster"
//! url = "https://marquez.hospital.example"                  # takes OpenLineage events at /api/v1/lineage; else nobody is told
//! token_file = "/etc/muster/lineage.token"                  # sent as a bearer token
//! ```

use std::path::PathBuf;

use serde::Deserialize;

use super::ConfigError;

const NAMESPACE_CHARS_MAX: usize = 200;

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LineageConfig {
    pub namespace: String,
    /// Without `/api/v1/lineage`.
    pub url: Option<String>,
    /// Read anew before each attempt, so that a token may be renewed in place.
    pub token_file: Option<PathBuf>,
}

impl Default for LineageConfig {
    fn default() -> Self {
        Self { namespace: "muster".to_owned(), url: None, token_file: None }
    }
}

impl LineageConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let Self { namespace, url, token_file } = self;
        let is_named = (1..=NAMESPACE_CHARS_MAX).contains(&namespace.chars().count());
        let is_url = |url: &String| ["http://", "https://"].iter().any(|scheme| url.starts_with(scheme));
        if !is_named || !url.as_ref().is_none_or(is_url) || (token_file.is_some() && url.is_none()) {
            return Err(ConfigError::Lineage);
        }
        Ok(())
    }
}
