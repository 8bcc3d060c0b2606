//! `[identity]`: whether operators prove who they are, and how.
//!
//! ```toml
//! [identity]
//! mode = "required"                          # or "open": whoever reaches the loopback address is the operator
//! url = "https://fleet.hospital.example"     # how browsers reach this server, where that is not its own address
//! [identity.oidc]                            # optional: log in with the hospital's accounts
//! name = "Hospital login"
//! issuer = "https://login.hospital.example/realms/clinic"
//! client_id = "muster"
//! client_secret_file = "/etc/muster/oidc-secret"
//! groups_claim = "groups"
//! [[identity.oidc.roles]]
//! group = "ml-operators"
//! project = "default"
//! role = "operator"
//! ```

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

use super::{ConfigError, is_this_machine};
use crate::identity::{ProjectName, Role};

/// Rules by which groups become roles.
const RULES_MAX: usize = 500;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdentityConfig {
    pub mode: Mode,
    /// How browsers reach this server: scheme, host and port, nothing after them.
    pub url: Option<String>,
    pub oidc: Option<OidcConfig>,
}

/// Whether operators prove who they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Whoever reaches the server is the operator; on loopback only.
    #[default]
    Open,
    Required,
}

/// An identity provider.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OidcConfig {
    /// What the button says.
    #[serde(default = "name")]
    pub name: String,
    pub issuer: String,
    pub client_id: String,
    pub client_secret_file: Option<PathBuf>,
    /// Beside `openid` and `profile`.
    #[serde(default)]
    pub scopes: Vec<String>,
    #[serde(default = "groups")]
    pub groups_claim: String,
    #[serde(default)]
    pub roles: Vec<GroupRole>,
}

/// Who is in the group has the role in the project.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupRole {
    pub group: String,
    pub project: ProjectName,
    pub role: Role,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Identity {
    mode: Mode,
    url: Option<String>,
    oidc: Option<OidcConfig>,
}

impl From<Identity> for IdentityConfig {
    fn from(file: Identity) -> Self {
        let url = file.url.map(|url| url.trim_end_matches('/').to_owned());
        Self { mode: file.mode, url, oidc: file.oidc }
    }
}

fn name() -> String {
    "Single sign-on".to_owned()
}

fn groups() -> String {
    "groups".to_owned()
}

impl IdentityConfig {
    pub fn is_open(&self) -> bool {
        self.mode == Mode::Open
    }

    /// The name and port that browsers use, if they do not use the server's own address.
    pub fn host(&self) -> Option<&str> {
        let url = self.url.as_deref()?;
        url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))
    }

    pub(super) fn check(&self, http: SocketAddr) -> Result<(), ConfigError> {
        let beyond = !http.ip().is_loopback();
        if beyond && self.is_open() {
            return Err(ConfigError::Exposed { address: http });
        }
        match (&self.url, self.host()) {
            (None, _) if beyond => return Err(ConfigError::NoUrl { address: http }),
            (None, _) => {}
            (Some(url), Some(host)) => {
                let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
                let plain = url.starts_with("http://");
                let broken = host.is_empty() || host.len() > 240 || host.contains(['/', '?', '#', '@']);
                if broken || (plain && (beyond || !is_this_machine(name))) {
                    return Err(ConfigError::Url(url.chars().take(200).collect()));
                }
            }
            (Some(url), None) => return Err(ConfigError::Url(url.chars().take(200).collect())),
        }
        self.oidc.as_ref().map_or(Ok(()), OidcConfig::check)
    }
}

impl OidcConfig {
    fn check(&self) -> Result<(), ConfigError> {
        let host =
            self.issuer.strip_prefix("http://").map(|rest| rest.split(['/', ':']).next().unwrap_or_default());
        let safe = self.issuer.starts_with("https://") || host.is_some_and(is_this_machine);
        if safe && !self.client_id.is_empty() && self.roles.len() <= RULES_MAX {
            Ok(())
        } else {
            Err(ConfigError::Oidc)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_this_machine_people_prove_who_they_are_and_nothing_travels_in_the_clear() {
        let check = |mode: Mode, url: Option<&str>, listen: &str, good: bool| {
            let config = IdentityConfig { mode, url: url.map(str::to_owned), oidc: None };
            assert_eq!(config.check(listen.parse().unwrap()).is_ok(), good, "{config:?} {listen}");
        };
        check(Mode::Open, None, "127.0.0.1:8480", true);
        check(Mode::Required, None, "127.0.0.1:8480", true);
        check(Mode::Open, None, "0.0.0.0:8480", false);
        check(Mode::Open, Some("https://fleet.example"), "0.0.0.0:8480", false);
        check(Mode::Required, None, "0.0.0.0:8480", false);
        check(Mode::Required, Some("http://fleet.example"), "0.0.0.0:8480", false);
        check(Mode::Required, Some("https://fleet.example"), "0.0.0.0:8480", true);
        check(Mode::Required, Some("https://fleet.example/muster"), "0.0.0.0:8480", false);
        check(Mode::Required, Some("http://localhost:5173"), "127.0.0.1:8480", true);
        check(Mode::Required, Some("ftp://fleet.example"), "127.0.0.1:8480", false);
    }

    #[test]
    fn providers_are_reached_by_tls_or_on_this_machine() {
        let check = |issuer: &str, good: bool| {
            let text = format!("issuer = '{issuer}'\nclient_id = 'muster'");
            let config: OidcConfig = toml::from_str(&text).unwrap();
            assert_eq!(config.check().is_ok(), good, "{issuer}");
        };
        check("https://login.example/realms/x", true);
        check("http://127.0.0.1:4000", true);
        check("http://localhost:4000/", true);
        check("http://login.example", false);
        check("http://127.0.0.1.example", false);
    }
}
