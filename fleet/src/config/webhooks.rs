//! `[[webhooks]]`: who is told what happens.
//!
//! ```toml
//! [[webhooks]]
//! name = "on-call"                                      # under which its undelivered events are found
//! url = "https://alerts.hospital.example/muster"
//! secret_file = "/etc/muster/on-call.secret"            # whsec_… or 16 bytes and more: signs what is sent
//! events = ["rollout", "incident", "run"]               # kinds, or what kinds begin with; this is the default
//! ```

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::Deserialize;

use super::ConfigError;

const HOOKS_MAX: usize = 16;
const EVENTS_MAX: usize = 32;
const NAME_CHARS_MAX: usize = 40;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    pub name: String,
    pub url: String,
    /// Read anew before each attempt, so that a secret may be changed in place.
    pub secret_file: PathBuf,
    #[serde(default = "usual")]
    pub events: Vec<String>,
}

fn usual() -> Vec<String> {
    ["rollout", "incident", "run"].map(str::to_owned).to_vec()
}

impl WebhookConfig {
    /// Whether it is told of this kind of log entry: `rollout` takes `rollout.held`, and `rollout.held` takes itself.
    pub fn wants(&self, kind: &str) -> bool {
        self.events.iter().any(|event| {
            kind.strip_prefix(event.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    }

    /// Where it goes, without what may be a secret.
    pub fn place(&self) -> String {
        let Ok(mut url) = reqwest::Url::parse(&self.url) else { return String::new() };
        url.set_query(None);
        url.set_password(None).ok();
        url.set_username("").ok();
        url.to_string()
    }

    pub(super) fn check_all(hooks: &[Self]) -> Result<(), ConfigError> {
        let names: BTreeSet<&str> = hooks.iter().map(|hook| hook.name.as_str()).collect();
        if hooks.len() > HOOKS_MAX || names.len() != hooks.len() {
            return Err(ConfigError::Webhooks);
        }
        hooks.iter().try_for_each(Self::check)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let Self { name, url, secret_file: _, events } = self;
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let is_named = (1..=NAME_CHARS_MAX).contains(&name.len()) && name.bytes().all(plain);
        let is_url = reqwest::Url::parse(url).is_ok_and(|url| {
            let is_here = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
            url.scheme() == "https" || (url.scheme() == "http" && is_here)
        });
        let is_asked =
            (1..=EVENTS_MAX).contains(&events.len()) && events.iter().all(|event| !event.is_empty());
        if is_named && is_url && is_asked { Ok(()) } else { Err(ConfigError::Webhook(name.clone())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(url: &str, events: &[&str]) -> WebhookConfig {
        let events = events.iter().map(|&event| event.to_owned()).collect();
        WebhookConfig { name: "on-call".to_owned(), url: url.to_owned(), secret_file: "s".into(), events }
    }

    #[test]
    fn kinds_are_asked_for_whole_or_by_what_they_begin_with() {
        let hook = hook("https://x.example", &["rollout", "run.failed"]);
        let check = |kind, expect| assert_eq!(hook.wants(kind), expect, "{kind}");
        check("rollout.held", true);
        check("rollouts.held", false);
        check("run.failed", true);
        check("run.failed_twice", false);
        check("run.succeeded", false);
    }

    #[test]
    fn what_leaves_the_machine_is_encrypted_and_every_hook_has_its_name() {
        let check = |url, expect| assert_eq!(hook(url, &["run"]).check().is_ok(), expect, "{url}");
        check("https://alerts.example/muster?key=1", true);
        check("http://127.0.0.1:9000/hook", true);
        check("http://alerts.example", false);
        check("alerts.example", false);
        assert!(hook("https://x.example", &[]).check().is_err());
        let twice = vec![hook("https://x.example", &["run"]), hook("https://y.example", &["run"])];
        assert!(WebhookConfig::check_all(&twice).is_err());
        assert_eq!(hook("https://a:b@x.example/h?key=1", &["run"]).place(), "https://x.example/h");
    }
}
