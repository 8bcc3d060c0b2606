//! `[mail]`: who is told by mail what needs a person.
//!
//! ```toml
//! [mail]
//! relay = "smtps://muster@smtp.hospital.example"    # or smtp://, with STARTTLS; the port if it is not the usual one
//! password_file = "/etc/muster/smtp.password"       # of the user before the last '@', if there is one
//! ca = "/etc/muster/hospital-ca.pem"                # who signed the relay's certificate, where this machine knows them not
//! from = "Muster <muster@hospital.example>"
//! to = ["ml-on-call@hospital.example"]              # told of everything
//! group_s = 300                                     # what comes within so many seconds is one mail
//! remind_hours = 24                                 # what still stands is said again
//! zone = "Europe/Berlin"                            # of quiet hours, and of the times in a mail
//! quiet = ["daily 21:00-06:30", "sat-sun 00:00-24:00"]    # nothing but what is urgent is sent then
//! [[mail.projects]]                                 # told of what the project's viewers see
//! project = "er"
//! to = ["er-on-call@hospital.example"]
//! ```

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use lettre::message::Mailbox;
use rustls::pki_types::ServerName;
use serde::Deserialize;

use super::{ConfigError, is_this_machine};
use crate::identity::ProjectName;
use crate::needs::book::Rules;
use crate::rollout::calendar::{Hours, WINDOWS_MAX, Window, Zone};

/// People of one list.
const PEOPLE_MAX: usize = 32;
const PROJECTS_MAX: usize = 64;
const GROUP_S_MAX: u64 = 3600;
const REMIND_HOURS_MAX: u64 = 31 * 24;
const USER_BYTES_MAX: usize = 200;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MailConfig {
    pub relay: RelayUrl,
    /// Read anew for each mail, so that it may be changed in place.
    pub password_file: Option<PathBuf>,
    /// PEM of the authorities that may have signed the relay's certificate; else those of this machine.
    pub ca: Option<PathBuf>,
    pub from: Mailbox,
    /// Told of everything.
    #[serde(default)]
    pub to: Vec<Mailbox>,
    #[serde(default)]
    pub projects: Vec<ProjectMail>,
    #[serde(default = "group_s")]
    pub group_s: u64,
    #[serde(default = "remind_hours")]
    pub remind_hours: u64,
    #[serde(default)]
    pub zone: Zone,
    /// Windows as sites and policies have them.
    #[serde(default)]
    pub quiet: Vec<Window>,
}

/// Who is told of one project.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProjectMail {
    pub project: ProjectName,
    pub to: Vec<Mailbox>,
}

/// People who are told the same.
#[derive(Clone, Copy, Debug)]
pub struct MailList<'a> {
    /// Of everything, if absent.
    pub project: Option<&'a ProjectName>,
    pub to: &'a [Mailbox],
}

/// `smtps://user@host:port` or `smtp://…`, without a password.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct RelayUrl {
    pub wrapped: Wrapped,
    pub user: Option<String>,
    pub host: String,
    pub port: u16,
}

/// When TLS begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrapped {
    /// At once: `smtps`.
    AtOnce,
    /// When the relay was asked for it: `smtp` with STARTTLS.
    Asked,
}

fn group_s() -> u64 {
    300
}

fn remind_hours() -> u64 {
    24
}

impl MailConfig {
    /// Everybody first, then each project.
    pub fn lists(&self) -> impl Iterator<Item = MailList<'_>> {
        let all = MailList { project: None, to: &self.to };
        let each = self.projects.iter().map(|of| MailList { project: Some(&of.project), to: &of.to });
        (!self.to.is_empty()).then_some(all).into_iter().chain(each)
    }

    pub fn rules(&self) -> Rules {
        Rules {
            group: Duration::from_secs(self.group_s),
            remind: Duration::from_secs(self.remind_hours.saturating_mul(3600)),
            quiet: Hours { windows: self.quiet.clone() },
            zone: self.zone.clone(),
        }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let wrong = |what| Err(ConfigError::Mail(what));
        let projects: BTreeSet<&ProjectName> = self.projects.iter().map(|of| &of.project).collect();
        if projects.len() != self.projects.len() || projects.len() > PROJECTS_MAX {
            return wrong("each project once, and 64 at most");
        }
        if self.lists().next().is_none() {
            return wrong("name somebody in to, or in [[mail.projects]]");
        }
        if self.lists().any(|list| !(1..=PEOPLE_MAX).contains(&list.to.len())) {
            return wrong("a list has 1 to 32 people");
        }
        if !self.lists().flat_map(|list| list.to).chain([&self.from]).all(is_plain) {
            return wrong("addresses are of ASCII, and names have no control characters");
        }
        if self.relay.user.is_some() != self.password_file.is_some() {
            return wrong("a user in relay and a password_file belong together");
        }
        if self.ca.is_some() && !self.relay.is_encrypted(true) {
            return wrong("ca has no meaning without TLS");
        }
        if self.group_s > GROUP_S_MAX {
            return wrong("group_s is 3600 at most");
        }
        if !(1..=REMIND_HOURS_MAX).contains(&self.remind_hours) {
            return wrong("remind_hours is from 1 to 744");
        }
        if self.quiet.len() > WINDOWS_MAX {
            return wrong("there are 32 quiet windows at most");
        }
        Ok(())
    }
}

impl<'a> MailList<'a> {
    /// Under which its book is kept: `*`, which is no project's name, for everything.
    pub fn name(&self) -> &'a str {
        self.project.map_or("*", ProjectName::as_str)
    }
}

fn is_plain(mailbox: &Mailbox) -> bool {
    let address: &str = mailbox.email.as_ref();
    address.is_ascii() && mailbox.name.as_ref().is_none_or(|name| !name.chars().any(char::is_control))
}

impl RelayUrl {
    /// Whether what is said to it is encrypted. Within this machine STARTTLS is asked for only where it is said whom to trust:
    /// a mail program there has a certificate of its own making, if any.
    pub fn is_encrypted(&self, has_ca: bool) -> bool {
        match self.wrapped {
            Wrapped::AtOnce => true,
            Wrapped::Asked => has_ca || !is_this_machine(&self.host),
        }
    }
}

impl FromStr for RelayUrl {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let wrong = || {
            ConfigError::Relay(text.split('@').next_back().unwrap_or_default().chars().take(200).collect())
        };
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        let wrapped = match scheme {
            "smtps" => Wrapped::AtOnce,
            "smtp" => Wrapped::Asked,
            _other => return Err(wrong()),
        };
        // Users of hospitals have an '@' in their names.
        let (user, place) = match rest.rsplit_once('@') {
            Some((user, place)) => (Some(user.to_owned()), place),
            None => (None, rest),
        };
        let plain = |user: &String| {
            (1..=USER_BYTES_MAX).contains(&user.len())
                && user.bytes().all(|byte| byte.is_ascii_graphic() && !b":%".contains(&byte))
        };
        if !user.as_ref().is_none_or(plain) {
            return Err(wrong());
        }
        let place = place.trim_end_matches('/');
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') => (host, Some(port)),
            Some(_) => return Err(wrong()),
            None => (place, None),
        };
        if ServerName::try_from(host).is_err() {
            return Err(wrong());
        }
        let port = match (port, wrapped) {
            (Some(port), _) => port.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)?,
            (None, Wrapped::AtOnce) => 465,
            (None, Wrapped::Asked) if is_this_machine(host) => 25,
            (None, Wrapped::Asked) => 587,
        };
        Ok(Self { wrapped, user, host: host.to_owned(), port })
    }
}

impl TryFrom<String> for RelayUrl {
    type Error = ConfigError;

    fn try_from(text: String) -> Result<Self, ConfigError> {
        text.parse()
    }
}

/// Without the user: for whoever may look.
impl fmt::Display for RelayUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.wrapped {
            Wrapped::AtOnce => "smtps",
            Wrapped::Asked => "smtp",
        };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relays() {
        let check = |text: &str, user: Option<&str>, shown: &str, encrypted: bool| {
            let relay: RelayUrl = text.parse().unwrap();
            assert_eq!((relay.user.as_deref(), relay.to_string().as_str()), (user, shown), "{text}");
            assert_eq!(relay.is_encrypted(false), encrypted, "{text}");
        };
        check("smtps://smtp.example", None, "smtps://smtp.example:465", true);
        check("smtps://muster@smtp.example", Some("muster"), "smtps://smtp.example:465", true);
        check(
            "smtp://m@uni.example@smtp.example:2525/",
            Some("m@uni.example"),
            "smtp://smtp.example:2525",
            true,
        );
        check("smtp://smtp.example", None, "smtp://smtp.example:587", true);
        check("smtp://localhost", None, "smtp://localhost:25", false);
        check("smtp://127.0.0.1:2525", None, "smtp://127.0.0.1:2525", false);
        for wrong in [
            "smtp.example",
            "http://smtp.example",
            "smtps://",
            "smtps://a:secret@smtp.example",
            "smtps://a%40b@smtp.example",
            "smtps://a\r\nb@smtp.example",
            "smtps://@smtp.example",
            "smtps://smtp.example:0",
            "smtps://smtp.example:x",
            "smtps://smtp example",
            "smtps://[fd00::1]:465",
        ] {
            let error = wrong.parse::<RelayUrl>().unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn what_is_missing_or_too_much_is_said() {
        let base = "relay = 'smtp://localhost'\nfrom = 'Muster <m@x.example>'\n";
        let check = |text: &str, says: &str| {
            let parsed: Result<MailConfig, _> = toml::from_str(&format!("{base}{text}"));
            let error = match parsed {
                Ok(config) => match config.check() {
                    Ok(()) => String::new(),
                    Err(error) => error.to_string(),
                },
                Err(error) => error.to_string(),
            };
            assert!(if says.is_empty() { error.is_empty() } else { error.contains(says) }, "{text}: {error}");
        };
        check("to = ['Ada <ada@x.example>', 'ben@x.example']", "");
        check("quiet = ['daily 21:00-06:30']\nzone = 'Europe/Berlin'\nto = ['a@x.example']", "");
        check("[[projects]]\nproject = 'er'\nto = ['a@x.example']", "");
        check("", "name somebody");
        check("to = ['nobody']", "nobody");
        check("to = ['a@x.example, b@x.example']", "a@x.example");
        check("to = ['jürgen@x.example']", "ASCII");
        check("to = [\"\\\"Ada\\r\\nBcc: x\\\" <a@x.example>\"]", "Invalid input");
        check("to = ['a@x.example']\npassword_file = 'p'", "belong together");
        check("to = ['a@x.example']\nca = 'ca.pem'", "");
        check("to = ['a@x.example']\ngroup_s = 3601", "group_s");
        check("to = ['a@x.example']\nremind_hours = 0", "remind_hours");
        check("to = ['a@x.example']\nquiet = ['always']", "always");
        check("to = ['a@x.example']\nzone = 'Mars/Olympus'", "Mars/Olympus");
        check("[[projects]]\nproject = 'er'\nto = []", "1 to 32");
        let twice = "[[projects]]\nproject = 'er'\nto = ['a@x.example']\n".repeat(2);
        check(&twice, "each project once");
    }
}
